"""Images as tensors: decoding, and the two sets a training reads (in memory, or streamed by workers)."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ...space.errors import UserError

log = logging.getLogger(__name__)

#: An image before decoding: the bytes of its file, the path of its file, or pixels (H × W, uint8); None is a hole.
Encoded = bytes | str | npt.NDArray[np.uint8] | None
Indices = npt.NDArray[np.int64]
Failure = tuple[str, str]  # which image, why

#: Rows read and decoded at a time: bounds the memory that encoded images take.
CHUNK = 2048


class ImageTable(Protocol):
    """Labelled images of one part, not yet decoded."""

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        """``(name for people, encoded image)`` of each row."""
        ...


class ImageSet(Protocol):
    """Labelled images that a model trains on or is measured on."""

    num_classes: int
    pixels: Pixels

    def __len__(self) -> int: ...

    def batches(
        self,
        batch_size: int,
        *,
        device: str | torch.device,
        shuffle: int | None = None,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: uint8 (B, C, size, size) as they are stored, and int64 (B,), on ``device``.

        Args:
            batch_size: images a batch, all shards together.
            device: where the tensors are to be.
            shuffle: seed of a random order; None: as they come.
            drop_last: leave out an incomplete last batch, unless it is the only one.
            start: batches to leave out at the beginning: where a pass goes on that was cut short.
            shard: ``(i, n)``: the i-th of n parts, as equal as can be, of every batch.

        Raises:
            UserError: more images than ``max_corrupt`` allows turn out unreadable (streamed sets only).
        """
        ...


@dataclass(frozen=True)
class Pixels:
    """What the images of a data set are: stored as ``channels`` × ``size`` × ``size`` uint8, read through a crop.

    Args:
        mean, std: of the training images, per channel, in units of 0 to 255.
        flip, crop: augmentation that suits them: horizontal flip at rate 1/2; shift by up to ``crop`` stored pixels
            each way, zeros in.
        center_crop: side of the centre square that is measured, as a fraction of the stored side.
        interpolation: ``bilinear`` or ``bicubic``, always antialiased.
    """

    channels: int
    size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    flip: bool = False
    crop: int = 0
    center_crop: float = 1.0
    interpolation: str = "bilinear"

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """Uint8 (B, C, size, size) as a model is measured on it: float32 (B, C, resolution, resolution), normalised."""
        side = images.shape[-1]
        inner = max(1, round(self.center_crop * side))
        if inner < side:
            at = (side - inner) // 2
            images = images[..., at : at + inner, at : at + inner]
        return self.normalize(resize(images, resolution, self.interpolation))

    def normalize(self, images: Tensor) -> Tensor:
        """(B, C, h, w) in units of 0 to 255 to float32 of mean 0 and standard deviation 1."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.float().sub(mean).div_(std)


def resize(images: Tensor, resolution: int, interpolation: str = "bilinear") -> Tensor:
    """(B, C, h, w) in units of 0 to 255 to (B, C, resolution, resolution), antialiased; uint8 stays so on a CPU."""
    if images.device.type != "cpu":
        images = images.float()  # on a CPU uint8 resizes three times as fast, elsewhere not at all
    if tuple(images.shape[-2:]) == (resolution, resolution):
        return images
    resized = F.interpolate(images, size=(resolution, resolution), mode=interpolation, antialias=True)
    return resized.clamp_(0, 255) if interpolation == "bicubic" and resized.is_floating_point() else resized


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


def decode(encoded: Encoded, channels: int, size: int, interpolation: str = "bilinear") -> npt.NDArray[np.uint8]:
    """One image as (channels, size, size): turned upright, shorter side to ``size``, the centre square of it.

    Grey, palette, transparent (alpha dropped), CMYK and 16-bit images (upper 8 bits) are converted.

    Raises:
        Exception: whatever Pillow says of a broken file.
    """
    with _open(encoded) as image:
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
    with _open(encoded) as image:
        return min(image.size)


def _open(encoded: Encoded) -> Image.Image:
    if encoded is None:
        raise ValueError("no image in this row")
    if isinstance(encoded, np.ndarray):
        return Image.fromarray(encoded)
    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def _decode_rows(
    table: ImageTable, rows: Indices, pixels: Pixels, pool: ThreadPoolExecutor | None = None
) -> tuple[npt.NDArray[np.uint8], list[bool], list[Failure]]:
    out = np.zeros((len(rows), pixels.channels, pixels.size, pixels.size), dtype=np.uint8)

    def one(i: int, item: tuple[str, Encoded]) -> Failure | None:
        try:
            out[i] = decode(item[1], pixels.channels, pixels.size, pixels.interpolation)
        except Exception as error:  # Pillow's readers raise anything on a broken file, SyntaxError and struct.error too
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
            return item[0], reason or type(error).__name__
        return None

    items = table.fetch(rows)
    results = list((pool.map if pool else map)(one, range(len(items)), items))
    return out, [failure is None for failure in results], [failure for failure in results if failure is not None]


def decode_all(
    table: ImageTable, rows: Indices, pixels: Pixels, workers: int, unreadable: Unreadable
) -> tuple[Tensor, Tensor]:
    """Images (N, C, size, size) uint8 and labels (N,) int64 of the rows that can be read; the others are noted."""
    images, labels = [], []
    # Pillow decodes outside the interpreter's lock, but for small images handing over costs more than it gains.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            pixel_rows, good, failures = _decode_rows(table, chunk, pixels, pool if pixels.size >= 96 else None)
            unreadable.add(failures)
            images.append(pixel_rows[good])
            labels.append(table.labels[chunk][good])
    return torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))


class MemorySet:
    """An :class:`ImageSet` held as one uint8 tensor; a copy stays on each device it was used on."""

    def __init__(self, images: Tensor, labels: Tensor, num_classes: int, pixels: Pixels) -> None:
        self.num_classes, self.pixels = num_classes, pixels
        self._copies = {torch.device("cpu"): (images, labels)}

    def __len__(self) -> int:
        return len(self._copies[torch.device("cpu")][1])

    def batches(
        self,
        batch_size: int,
        *,
        device: str | torch.device,
        shuffle: int | None = None,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`ImageSet.batches`."""
        device = torch.device(device)
        if device not in self._copies:
            images, labels = self._copies[torch.device("cpu")]
            self._copies[device] = images.to(device), labels.to(device)
        images, labels = self._copies[device]
        for rows in _batches(len(labels), batch_size, shuffle, drop_last, start, shard):
            chosen = rows.to(device)
            yield images.index_select(0, chosen), labels[chosen]


class StreamSet:
    """An :class:`ImageSet` too large for memory: workers decode it anew each time, and stay between epochs.

    ``skipped`` grows as unreadable images are met; ``len`` counts them still.
    """

    def __init__(
        self,
        table: ImageTable,
        rows: Indices,
        num_classes: int,
        pixels: Pixels,
        workers: int,
        unreadable: Unreadable,
    ) -> None:
        self.num_classes, self.pixels, self.unreadable = num_classes, pixels, unreadable
        self._order: list[Indices] = []  # what the loader reads next; refilled before each pass
        self._rows = rows
        self._loader: DataLoader[Any] = DataLoader(
            _Decoder(table, pixels),
            batch_size=None,  # _order holds whole batches
            sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own: the global one belongs to the model
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Unreadable images met so far, in this set and in the one split off with it."""
        return tuple(self.unreadable.reasons)

    def batches(
        self,
        batch_size: int,
        *,
        device: str | torch.device,
        shuffle: int | None = None,
        drop_last: bool = False,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`ImageSet.batches`."""
        device = torch.device(device)
        batches = _batches(len(self), batch_size, shuffle, drop_last, start, shard)
        self._order[:] = [self._rows[rows.numpy()] for rows in batches]
        for images, labels, failures in self._loader:
            self._note(failures)
            if len(labels):
                yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    def _note(self, failures: Sequence[Failure]) -> None:
        for name, reason in failures:
            if name not in self.unreadable.reasons:
                log.warning("%s cannot be read and is skipped: %s", name, reason)
        self.unreadable.add(failures)
        self.unreadable.check()


class _Decoder(Dataset[Any]):
    """Rows to ``(images, labels, failures)``, in a worker."""

    def __init__(self, table: ImageTable, pixels: Pixels) -> None:
        self.table, self.pixels = table, pixels

    def __getitem__(self, rows: Indices) -> tuple[Tensor, Tensor, list[Failure]]:
        images, good, failures = _decode_rows(self.table, rows, self.pixels)
        return torch.from_numpy(images[good]), torch.from_numpy(self.table.labels[rows][good]), failures


def _batches(
    count: int, size: int, shuffle: int | None, drop_last: bool, start: int, shard: tuple[int, int]
) -> list[Tensor]:
    if shuffle is None:
        order = torch.arange(count)
    else:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(shuffle))
    batches = list(torch.split(order, size))
    if drop_last and len(batches) > 1 and len(batches[-1]) < size:
        batches.pop()
    mine, of = shard
    return [torch.tensor_split(batch, of)[mine] for batch in batches[start:]]
