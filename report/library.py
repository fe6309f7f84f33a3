"""Vega, Vega-Lite and Vega-Embed as one script, from the wheel of vl-convert: nothing is fetched when a page opens."""

from __future__ import annotations

import contextlib
from importlib.metadata import version

from ..space.errors import UserError
from ..space.files import write_text
from ..space.paths import cache_folder

#: What the page's own script uses.
SNIPPET = "window.vegaEmbed = vegaEmbed; window.vega = vega;"


def load_library() -> str:
    """The script, about 0.9 MB. vl-convert puts it together in some five seconds, so that it is cached.

    Raises:
        UserError: vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise UserError(
            "effnas report draws with Vega, which the package vl-convert-python carries, and it is not installed: "
            "pip install vl-convert-python"
        ) from None
    file = cache_folder() / "report" / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, ValueError):
        return file.read_text(encoding="utf-8")
    found = str(vl_convert.javascript_bundle(SNIPPET)).replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):
        write_text(file, found)
    return found
