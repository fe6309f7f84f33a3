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
from .pictures.depth import to_uint8
from .pictures.opening import open_image, read_head, read_samples
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


def decode_image(
    encoded: Encoded, channels: int, size: int, interpolation: str = "bilinear", white: float | None = None
) -> npt.NDArray[np.uint8]:
    """One image as (channels, size, size): turned upright, shorter side to ``size``, the centre square of it.

    For 1 or 3 channels grey, palette, transparent (alpha dropped) and CMYK images are converted; for other numbers an
    image has as many bands. Samples of more than 8 bits are scaled.

    Args:
        encoded: the image.
        channels: of the network's input.
        size: side in pixels.
        interpolation: ``bilinear`` or ``bicubic``, always antialiased.
        white: value of it in images of more than 8 bits; None: by the range of this one.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    return _decode(encoded, channels, white, size, interpolation)


def decode_whole(encoded: Encoded, channels: int, white: float | None = None) -> npt.NDArray[np.uint8]:
    """One image as (channels, height, width), as :func:`decode_image` but of its own size and shape.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    return _decode(encoded, channels, white, None, "")


def _decode(
    encoded: Encoded, channels: int, white: float | None, size: int | None, interpolation: str
) -> npt.NDArray[np.uint8]:
    samples = read_samples(encoded, channels, white)
    if samples is not None:
        return _resize(_fit_bands(to_uint8(samples, white), channels), size, interpolation)
    with open_image(encoded) as image:
        if size is not None and min(image.size) >= 4 * size:
            image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at 1/2, 1/4 or 1/8, never below 2 × size
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode[0] in "IF":  # Pillow's own conversion would clip it at 255
            return _resize(_fit_bands(to_uint8(np.asarray(image)[..., None], white), channels), size, interpolation)
        return _resize(_convert(image, channels), size, interpolation)


def shorter_side(encoded: Encoded) -> int:
    """Shorter side in pixels, read from the head of the file alone."""
    head = read_head(encoded, 3)
    return min(head.width, head.height)


def _convert(image: Image.Image, channels: int) -> list[Image.Image]:
    """The picture of 1 or 3 channels, or else one of each band."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if channels in (1, 3):
        return [image.convert("L" if channels == 1 else "RGB")]
    plain = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(image.mode)
    bands = (image if plain is None else image.convert(plain)).split()
    _check_bands(len(bands), channels)
    return list(bands)


def _fit_bands(samples: npt.NDArray[np.uint8], channels: int) -> list[Image.Image]:
    """As :func:`_convert`, of samples (height, width, bands)."""
    bands = samples.shape[-1]
    if channels in (1, 3) and bands in (1, 3, 4):  # as a grey or a colour image, the fourth one transparency
        return _convert(Image.fromarray(np.ascontiguousarray(samples[..., 0] if bands == 1 else samples)), channels)
    _check_bands(bands, channels)
    return [Image.fromarray(np.ascontiguousarray(samples[..., band])) for band in range(bands)]


def _check_bands(bands: int, channels: int) -> None:
    if bands != channels:
        raise ValueError(f"an image of {bands} channels, the network takes {channels}")


def _resize(pictures: list[Image.Image], size: int | None, interpolation: str) -> npt.NDArray[np.uint8]:
    """(channels, size, size) of pictures that are one above the other; None: as large as they are."""
    width, height = pictures[0].size
    if size is not None and (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        how = Image.Resampling[interpolation.upper()]
        pictures = [picture.resize((size, size), how, box=box) for picture in pictures]
    layers = [np.asarray(picture, dtype=np.uint8) for picture in pictures]
    layers = [layer[None] if layer.ndim == 2 else layer.transpose(2, 0, 1) for layer in layers]
    return np.ascontiguousarray(np.concatenate(layers))


def decode_rows(
    table: ImageTable, rows: Indices, pixels: Pixels, pool: ThreadPoolExecutor | None = None
) -> tuple[npt.NDArray[np.uint8], list[bool], list[Failure]]:
    """Some rows as (n, channels, size, size): zeros where one cannot be read, which of them can, and why others not."""
    out = np.zeros((len(rows), pixels.channels, pixels.size, pixels.size), dtype=np.uint8)

    def one(i: int, item: tuple[str, Encoded]) -> Failure | None:
        try:
            out[i] = decode_image(item[1], pixels.channels, pixels.size, pixels.interpolation, pixels.white)
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
    """Images (N, C, size, size) uint8, and which of them (N,) could be read; others are zeros, and are noted."""
    images, readable = [], []
    # Pillow decodes outside the interpreter's lock, but for small images handing over costs more than it gains.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            pixel_rows, good, failures = decode_rows(table, chunk, pixels, pool if pixels.size >= 96 else None)
            unreadable.add(failures)
            images.append(pixel_rows)
            readable += good
    return torch.from_numpy(np.concatenate(images)), torch.tensor(readable)
