"""Choices of settings, kept for this machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...space.files import write_text
from ..folder import cache_folder
from ..machine.settings import MEMORY_FORMATS, Settings

#: Part of the file's name: raised when the way of choosing changes.
VERSION = 2
#: Seconds that a process waits for another one that is timing.
PATIENCE = 120.0

_read: dict[str, Any] = {}


def remembered(key: str, measure: Callable[[], tuple[Settings, float]]) -> tuple[Settings, float, bool]:
    """The choice of ``key``: what the file says, or what ``measure`` finds and the file keeps from then on.

    The first choice stays; processes that want one at the same time wait for the first of them, for two that time at
    once would find each other's noise.

    Returns:
        Settings, images a second, and whether they were known.
    """
    if key in _read:
        return (*_read[key], True)
    file = cache_folder() / f"engine-v{VERSION}.json"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Timeout, OSError):  # a folder that cannot be written: nothing is kept
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{file}.lock").acquire(timeout=PATIENCE))
        found = _choice(_content(file).get(key))
        known = found is not None
        if found is None:
            found = measure()
            with contextlib.suppress(OSError):
                settings, rate = found
                _write(file, {**_content(file), key: {**vars(settings), "images_per_second": rate}})
        _read[key] = found
        return (*found, known)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: written anew
        return {}
    return content if isinstance(content, dict) else {}


def _choice(entry: Any) -> tuple[Settings, float] | None:
    """What an entry says, if it says it."""
    try:
        fields = dict(entry)
        rate = float(fields.pop("images_per_second"))
        settings = Settings(**fields)
    except (TypeError, ValueError, KeyError):
        return None
    good = settings.memory_format in MEMORY_FORMATS and settings.precision in ("fp32", "bf16")
    return (settings, rate) if good else None


def _write(file: Path, content: dict[str, Any]) -> None:
    write_text(file, json.dumps(content, indent=1, sort_keys=True) + "\n")
