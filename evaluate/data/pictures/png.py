"""PNG files of 16 bits and colour, of which Pillow keeps the upper 8 bits: black where they hold 0 to 255."""

from __future__ import annotations

import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_MAGIC = b"\x89PNG\r\n\x1a\n"
#: Samples of a pixel by the kind of colour: colour, grey with transparency, colour with transparency.
_BANDS = {2: 3, 4: 2, 6: 4}


def find_deep_colour(file: BinaryIO) -> tuple[int, int, int] | None:
    """Width, height and bands of such a file; None for any other, and for interlaced ones, which Pillow reads."""
    file.seek(0)
    head = file.read(33)
    if head[:8] != _MAGIC or head[12:16] != b"IHDR" or len(head) < 33:
        return None
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:29])
    if bits != 16 or colour not in _BANDS or interlaced or not 0 < width * height < 1 << 26:
        return None
    return width, height, _BANDS[colour]


def read_deep_colour(file: BinaryIO, size: tuple[int, int, int]) -> npt.NDArray[Any]:
    """The samples, (height, width, bands) uint16.

    Raises:
        ValueError: the file is damaged.
    """
    width, height, bands = size
    row = width * bands * 2 + 1
    file.seek(8)
    inflate, data = zlib.decompressobj(), bytearray()
    while len(data) < row * height:
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            raise ValueError("image file is truncated")
        content = file.read(int.from_bytes(head[:4], "big") + 4)[:-4]
        if head[4:] == b"IDAT":
            try:
                data += inflate.decompress(content, row * height - len(data))
            except zlib.error as error:
                raise ValueError(f"damaged pixels: {error}") from None
    rows = np.frombuffer(bytes(data), np.uint8).reshape(height, row)
    if rows[:, 0].max() > 4:
        raise ValueError("damaged pixels: an unknown filter")
    raw = _undo_filters(rows[:, 1:].reshape(height, width, bands * 2), rows[:, 0])
    return raw[..., ::2] * np.uint16(256) + raw[..., 1::2]


def _undo_filters(rows: npt.NDArray[np.uint8], filters: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Bytes that are what they differ by from those left, above and between: diagonals do not depend on themselves."""
    height, width, _ = rows.shape
    out = np.zeros((height + 1, width + 1, rows.shape[2]), np.int16)
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height - 1, diagonal) + 1)
        x = diagonal - y
        left, above, between = out[y + 1, x], out[y, x + 1], out[y, x]
        to_left, to_above, to_between = abs(above - between), abs(left - between), abs(left + above - 2 * between)
        nearest = np.where(to_above <= to_between, above, between)
        nearest = np.where((to_left <= to_above) & (to_left <= to_between), left, nearest)
        guesses = (np.zeros_like(left), left, above, (left + above) >> 1, nearest)
        out[y + 1, x + 1] = (rows[y, x] + np.choose(filters[y][:, None], guesses)) & 255
    return out[1:, 1:].astype(np.uint16)
