"""TIFF files of many bands, or of deep colour: those that Pillow refuses, or cuts to 8 bits.

Pillow decompresses them all the same: the bytes of their samples lie in a file as the pixels of a wider grey image do,
and those of bands that lie apart as so many grey images. So a table of contents that says this is put in the place of
the file's own.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 259, 262, 274, 277
_OFFSETS, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 273, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_KEPT = (
    *(_WIDTH, _HEIGHT, _COMPRESSION, _OFFSETS, _ROWS, _COUNTS),
    *(_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS),
)
#: Compressions of samples as they are: none, LZW, Deflate (twice), PackBits, LZMA, Zstandard.
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)
#: Bytes and letters of struct by the type of a field; others are left out.
_TYPES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I")}

Tags = Mapping[int, tuple[int, ...]]


def read_tags(file: BinaryIO) -> Tags | None:
    """Whole numbers of the first image's table of contents; None where Pillow reads the file as it should be read.

    Raises:
        Exception: of a broken file.
    """
    file.seek(0)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(file.read(4))
    if order is None:
        return None
    file.seek(struct.unpack(order + "I", file.read(4))[0])
    tags = {}
    for entry in struct.iter_unpack(order + "HHI4s", file.read(12 * struct.unpack(order + "H", file.read(2))[0])):
        tag, kind, count, value = entry
        if kind not in _TYPES or count > 1 << 20:
            continue
        size, letter = _TYPES[kind]
        if size * count > 4:
            place = file.tell()
            file.seek(struct.unpack(order + "I", value)[0])
            value = file.read(size * count)
            file.seek(place)
        tags[tag] = struct.unpack(f"{order}{count}{letter}", value[: size * count])
    return tags if _is_ours(tags) else None


def _is_ours(tags: Tags) -> bool:
    samples, bits = _one(tags, _SAMPLES), tags.get(_BITS, (1,))
    if samples < 2 or len(set(bits)) > 1 or bits[0] not in (8, 16, 32, 64):
        return False
    predictor = _one(tags, _PREDICTOR)
    if _one(tags, _COMPRESSION) not in _LOSSLESS or predictor > 3 or (predictor == 3 and _TILE_WIDTH in tags):
        return False
    alpha = samples == 2 and tags.get(_EXTRA, (0,))[0] in (1, 2)
    return bits[0] > 8 or samples > 4 or (_one(tags, _PHOTOMETRIC, 1) in (0, 1) and not alpha)


def head_of(tags: Tags) -> tuple[int, int, int, bool]:
    """Width and height in pixels, bands, and whether samples have more than 8 bits."""
    return _one(tags, _WIDTH), _one(tags, _HEIGHT), _one(tags, _SAMPLES), tags[_BITS][0] > 8


def read_tiff(file: BinaryIO, tags: Tags) -> npt.NDArray[Any]:
    """The samples, (height, width, bands), turned upright.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    width, _, bands, _ = head_of(tags)
    file.seek(0)
    data = file.read()
    if _one(tags, _PLANAR) == 2:
        apart = [_read_rows(data, _of_band(tags, band), width, 1) for band in range(bands)]
        samples = np.concatenate(apart, axis=-1)
    else:
        samples = _read_rows(data, tags, width, bands)
    return turn_upright(samples, _one(tags, _ORIENTATION))


def _one(tags: Tags, tag: int, default: int = 1) -> int:
    return tags.get(tag, (default,))[0]


def _of_band(tags: Tags, band: int) -> Tags:
    """The table of contents of a band that lies apart from the others."""
    own = dict(tags)
    for tag in (_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS):
        if tag in tags:
            each = len(tags[tag]) // _one(tags, _SAMPLES)
            own[tag] = tags[tag][band * each : (band + 1) * each]
    return own


def _read_rows(data: bytes, tags: Tags, width: int, bands: int) -> npt.NDArray[Any]:
    """(height, width, bands) of samples that lie together."""
    size, order = tags[_BITS][0] // 8, "<" if data[:2] == b"II" else ">"
    dtype = np.dtype(f"{order}{ {2: 'i', 3: 'f'}.get(_one(tags, _FORMAT), 'u') }{size}")
    rows = _read_bytes(data, tags, bands * size)
    predictor, step = _one(tags, _PREDICTOR), _one(tags, _TILE_WIDTH, width)
    if predictor == 3:  # bytes are what they differ by, and those of one weight lie together, the heaviest first
        summed = np.cumsum(rows.reshape(len(rows), -1, bands), axis=1, dtype=np.uint8)
        heaviest = summed.reshape(len(rows), size, -1).swapaxes(1, 2)
        return np.ascontiguousarray(heaviest).view(dtype.newbyteorder(">")).reshape(len(rows), width, bands)
    samples = rows.view(dtype).reshape(len(rows), width, bands)
    if predictor == 2:  # samples are what they differ by from the one before, in each row of a strip or tile
        parts = [samples[:, x : x + step] for x in range(0, width, step)]
        whole = dtype.newbyteorder("=").str.replace("f", "u")
        return np.concatenate([np.cumsum(part, axis=1, dtype=whole) for part in parts], axis=1)
    return samples


def _read_bytes(data: bytes, tags: Tags, pixel: int) -> npt.NDArray[np.uint8]:
    """(height, bytes of a row), of pixels of so many bytes."""
    entries = {tag: tags[tag] for tag in _KEPT if tag in tags}
    entries |= {tag: (_one(tags, tag) * pixel,) for tag in (_WIDTH, _TILE_WIDTH) if tag in tags}
    entries |= dict.fromkeys((_PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR, _FORMAT), (1,)) | {_BITS: (8,)}
    order = "<" if data[:2] == b"II" else ">"
    tail, table = bytearray(data[8:] + bytes(len(data) % 2)), bytearray(struct.pack(order + "H", len(entries)))
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            place = 8 + len(tail)
            tail += packed
            packed = struct.pack(order + "I", place)
        table += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    head = data[:4] + struct.pack(order + "I", 8 + len(tail))
    with Image.open(io.BytesIO(head + tail + table + bytes(4)), formats=("TIFF",)) as image:
        return np.array(image)


def turn_upright(samples: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """As the tag says: mirrored, turned or both."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples[::-1] if orientation in (3, 4, 7, 8) else samples
