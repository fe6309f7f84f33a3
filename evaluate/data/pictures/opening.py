"""What is an image: what Pillow opens by itself, TIFF files of many bands, and arrays of NumPy."""

from __future__ import annotations

import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..table import Encoded
from .png import find_deep_colour, read_deep_colour
from .tiff import head_of, read_tags, read_tiff, turn_upright

#: Formats that Pillow has a name for but no reader, or only another program's, which would run on the user's files;
#: and one without a mark of its own.
_NO_READER = frozenset({"BUFR", "EPS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "WMF"})
_NPY = b"\x93NUMPY"
_DEEP_MODES = ("I", "F")
_ORIENTATION = 0x0112


class Head(NamedTuple):
    """What is known of an image before its pixels are read.

    Args:
        width, height: in pixels.
        bands: samples of a pixel, a palette's and a bit's as what they stand for.
        deep: samples have more than 8 bits, or are floats.
    """

    width: int
    height: int
    bands: int
    deep: bool


@cache
def image_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NO_READER)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of those formats and of arrays, with their dots, in lower case."""
    formats = image_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats) | {".npy"}


def is_image(path: str) -> bool:
    """Whether a regular file is an image, or a damaged one: its content or its name says so, in whatever case.

    A file that is called an image and cannot be opened counts as one: decoding names it, and counts it.
    """
    return os.path.splitext(path)[1].lower() in image_suffixes() or _opens(path)


def _opens(path: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_head(path, 3)
        except Image.DecompressionBombError:
            return True
        except Exception:  # Pillow's readers raise anything
            return False
    return True


def read_head(encoded: Encoded, channels: int) -> Head:
    """What there is, without reading the pixels of a file.

    Args:
        encoded: the image.
        channels: wanted: tells the two ends of an array apart.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    if isinstance(encoded, bytes | str):
        with _open_file(encoded) as file:
            magic = file.read(len(_NPY))
            if magic == _NPY:
                return _head_of_array(_load_array(encoded, channels))
            if (tags := read_tags(file)) is not None:
                return Head(*head_of(tags))
            if (size := find_deep_colour(file)) is not None:
                return Head(size[0], size[1], _grey_bands(size[2], channels), True)
    if isinstance(encoded, np.ndarray):
        return _head_of_array(encoded)
    with open_image(encoded) as image:
        bands = {"P": 3, "PA": 4}.get(image.mode) or _grey_bands(len(image.getbands()), channels)
        return Head(*image.size, bands, image.mode[0] in _DEEP_MODES)


def _grey_bands(bands: int, channels: int) -> int:
    """Two are grey and transparency, which is dropped unless two are wanted."""
    return 1 if bands == 2 != channels else bands


def read_samples(encoded: Encoded, channels: int, white: float | None = None) -> npt.NDArray[Any] | None:
    """Pixels (height, width, bands) of what is not for Pillow alone: arrays, deep colour, and many samples in a TIFF.

    Args:
        encoded: the image.
        channels: as :func:`read_head`.
        white: where it is known, its value in images of more than 8 bits.

    Returns:
        None where :func:`open_image` gives all that there is.

    Raises:
        Exception: of a broken file.
    """
    if isinstance(encoded, np.ndarray):
        return encoded if encoded.ndim == 3 and encoded.shape[-1] not in (1, 3, 4) else None
    if not isinstance(encoded, bytes | str):
        return None
    with _open_file(encoded) as file:
        if file.read(len(_NPY)) == _NPY:
            return np.array(_load_array(encoded, channels))
        if (tags := read_tags(file)) is not None:
            return read_tiff(file, tags)
        if white == 65535 or (size := find_deep_colour(file)) is None:  # of all 16 bits the upper 8 are enough
            return None
        samples = read_deep_colour(file, size)
    with open_image(encoded) as image:
        samples = turn_upright(samples, image.getexif().get(_ORIENTATION, 1))
    return samples[..., :1] if samples.shape[2] == 2 != channels else samples  # transparency is dropped


def open_image(encoded: Encoded) -> Image.Image:
    """Pillow's image, of which only the head has been read.

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


def _open_file(encoded: bytes | str) -> BinaryIO:
    return io.BytesIO(encoded) if isinstance(encoded, bytes) else Path(encoded).open("rb")


def _head_of_array(samples: npt.NDArray[Any]) -> Head:
    bands = samples.shape[2] if samples.ndim == 3 else 1
    return Head(samples.shape[1], samples.shape[0], bands, samples.dtype not in (np.uint8, np.bool_))


def _load_array(encoded: bytes | str, channels: int) -> npt.NDArray[Any]:
    """(height, width, bands), of (H, W), (H, W, C) or (C, H, W): C is the end that equals ``channels``, the last first.

    Where neither does, it is the shorter one.
    """
    array: npt.NDArray[Any]
    if isinstance(encoded, str):  # of a file only what is looked at is read
        array = np.load(encoded, mmap_mode="r", allow_pickle=False)
    else:
        array = np.load(io.BytesIO(encoded), allow_pickle=False)
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"an array of {array.dtype} of the shape {array.shape}, which is not an image's")
    if array.ndim == 2:
        return array[..., None]
    first, last = array.shape[0], array.shape[-1]
    if last != channels and (first == channels or first < last):
        array = np.moveaxis(array, 0, -1)
    return array
