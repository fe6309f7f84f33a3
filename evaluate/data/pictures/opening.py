"""What is an image: what Pillow opens by itself."""

from __future__ import annotations

import io
import os
import warnings
from functools import cache

import numpy as np
from PIL import Image

from ..table import Encoded

#: Formats that Pillow has a name for but no reader, or only another program's, which would run on the user's files;
#: and one without a mark of its own.
_NO_READER = frozenset({"BUFR", "EPS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "WMF"})


@cache
def image_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NO_READER)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of those formats, with their dots, in lower case."""
    formats = image_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def is_image(path: str) -> bool:
    """Whether a regular file is an image, or a damaged one: its content or its name says so, in whatever case.

    A file that is called an image and cannot be opened counts as one: decoding names it, and counts it.
    """
    return os.path.splitext(path)[1].lower() in image_suffixes() or _opens(path)


def _opens(path: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            open_image(path).close()
        except Image.DecompressionBombError:
            return True
        except Exception:  # Pillow's readers raise anything
            return False
    return True


def open_image(encoded: Encoded) -> Image.Image:
    """The image, of which only the head has been read.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    if encoded is None:
        raise ValueError("no image in this row")
    if isinstance(encoded, Image.Image):
        return encoded.copy()  # the data set may hold on to it
    if isinstance(encoded, np.ndarray):
        return Image.fromarray(encoded)
    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=image_formats())
