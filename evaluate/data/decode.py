"""Encoded images to pixels, and account of those that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...space.errors import UserError
from ...space.paths import as_text
from .pictures.opening import open_image
from .pixels import Pixels
from .table import CHUNK, Encoded, ImageTable, Indices

Failure = tuple[str, str]  # which image, why


class Unreadable:
    """The images that could not be read, and how many of them are tolerated."""

    def __init__(self, total: int, limit: float, where: str) -> None:
        self.total, self.limit, self.where = total, limit, where
        self.reasons: dict[str, str] = {}

    def add(self, failures: Sequence[Failure]) -> None:
        """Note some failures; the same image counts once."""
        self.reasons.update(failures)

    def check(self) -> None:
        """Raise :class:`UserError` if there are more than the limit allows."""
        count = len(self.reasons)
        if count > self.limit * self.total:
            first = "; ".join(f"{name}: {reason}" for name, reason in list(self.reasons.items())[:5])
            raise UserError(
                f"{self.where}: {count} of {self.total} images cannot be read ({count / self.total:.1%}; "
                f"data.max_corrupt={self.limit:g} allows {self.limit:.1%}): {first}{'; …' if count > 5 else ''}"
            )


def decode_image(encoded: Encoded, channels: int, size: int, interpolation: str = "bilinear") -> npt.NDArray[np.uint8]:
    """One image as (channels, size, size): turned upright, shorter side to ``size``, the centre square of it.

    Grey, palette, transparent (alpha dropped), CMYK and 16-bit images (upper 8 bits) are converted.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    with open_image(encoded) as image:
        if min(image.size) >= 4 * size:
            image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at 1/2, 1/4 or 1/8, never below 2 × size
        ImageOps.exif_transpose(image, in_place=True)
        picture = _convert(image, channels)
    width, height = picture.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), Image.Resampling[interpolation.upper()], box=box)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def shorter_side(encoded: Encoded) -> int:
    """Shorter side in pixels, read from the head of the file alone."""
    with open_image(encoded) as image:
        return min(image.size)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def decode_rows(
    table: ImageTable, rows: Indices, pixels: Pixels, pool: ThreadPoolExecutor | None = None
) -> tuple[npt.NDArray[np.uint8], list[bool], list[Failure]]:
    """Some rows as (n, channels, size, size): zeros where one cannot be read, which of them can, and why others not."""
    out = np.zeros((len(rows), pixels.channels, pixels.size, pixels.size), dtype=np.uint8)

    def one(i: int, item: tuple[str, Encoded]) -> Failure | None:
        try:
            out[i] = decode_image(item[1], pixels.channels, pixels.size, pixels.interpolation)
        except Exception as error:  # Pillow's readers raise anything on a broken file, SyntaxError and struct.error too
            reason = (
                "not an image"
                if isinstance(error, UnidentifiedImageError)
                else as_text(" ".join(str(error).split()))[:200]
            )
            return item[0], reason or type(error).__name__
        return None

    items = table.fetch(rows)
    results = list((pool.map if pool else map)(one, range(len(items)), items))
    return out, [failure is None for failure in results], [failure for failure in results if failure is not None]


def decode_table(
    table: ImageTable, rows: Indices, pixels: Pixels, workers: int, unreadable: Unreadable
) -> tuple[Tensor, Tensor]:
    """Images (N, C, size, size) uint8 and labels (N,) int64 of the rows that can be read; the others are noted."""
    images, labels = [], []
    # Pillow decodes outside the interpreter's lock, but for small images handing over costs more than it gains.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            pixel_rows, good, failures = decode_rows(table, chunk, pixels, pool if pixels.size >= 96 else None)
            unreadable.add(failures)
            images.append(pixel_rows[good])
            labels.append(table.labels[chunk][good])
    return torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))
