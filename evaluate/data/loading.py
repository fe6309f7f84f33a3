"""How a data set is loaded: rows are chosen, decoded once a process or streamed, and normalised."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...space.errors import UserError, check_choice
from .holdout import choose, hold_out
from .images import (
    Encoded,
    ImageSet,
    ImageTable,
    Indices,
    MemorySet,
    Pixels,
    StreamSet,
    Unreadable,
    decode_all,
    shorter_side,
)
from .normalization import Normalization, for_channels, measured, normalized
from .parts import Part, Split

if TYPE_CHECKING:
    from .image_data import ImageData

log = logging.getLogger(__name__)

PARTS = ("test", "heldout", "train", "all")
#: Training images that are stored larger than this are so because ``image_size`` says it.
MAX_SIZE = 256
#: Images looked at for the common size, and for the mean and standard deviation of a streamed set.
SIZE_SAMPLE, STATISTICS_SAMPLE = 200, 1000


def load_split(data: ImageData, channels: int, normalization: Normalization | None) -> Split:
    """As :meth:`~effnas.evaluate.data.image_data.ImageData.load`."""
    _check_channels(channels)
    return _split(replace(data, normalize=None), channels, for_channels(data.normalize, channels) or normalization)


def load_test(data: ImageData, channels: int, normalization: Normalization | None) -> ImageSet | None:
    """As :meth:`~effnas.evaluate.data.image_data.ImageData.load_test`."""
    pixels = load_split(data, channels, normalization).train.pixels
    images = _test(replace(data, normalize=None), channels)
    return None if images is None else normalized(images, (pixels.mean, pixels.std))


def load_part(
    data: ImageData,
    part: str,
    channels: int,
    *,
    resolution: int,
    num_classes: int,
    classes: tuple[str, ...] | None,
    normalization: Normalization | None,
) -> Part:
    """As :meth:`~effnas.evaluate.data.image_data.ImageData.load_part`."""
    check_choice("part", part, PARTS)
    _check_channels(channels)
    plain = replace(data, normalize=None)
    found = _part(plain, part, channels, resolution, num_classes, classes)
    normalization = for_channels(data.normalize, channels) or normalization
    if normalization is None:
        try:
            normalization = _measured(plain, channels)
        except UserError as error:
            raise UserError(
                "data.normalize: neither it nor the weights say how images are normalised, and the training images "
                f"cannot be measured ({error}): set data.normalize=imagenet or [mean, std]"
            ) from error
    return replace(found, images=normalized(found.images, normalization))


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels, the architecture takes {channels}: set space.in_channels=3")


# -- the training part -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decoded:
    """The training part and the held-out one, not yet normalised."""

    table: ImageTable
    rows: tuple[Indices, Indices]
    sets: tuple[ImageSet, ImageSet]
    unreadable: Unreadable


@lru_cache(maxsize=4)
def _split(data: ImageData, channels: int, normalization: Normalization | None) -> Split:
    found = _decoded(data, channels)
    normalization = normalization or _measured(data, channels)
    train, heldout = (normalized(images, normalization) for images in found.sets)
    return Split(train, heldout, found.table.classes, tuple(found.unreadable.reasons))


@lru_cache(maxsize=4)
def _decoded(data: ImageData, channels: int) -> _Decoded:
    table = _training_table(data)
    rows = choose(table.labels, data.limit, data.split_seed)
    parts = hold_out(table.labels, rows, data.holdout, data.split_seed)
    size = data.image_size or min(MAX_SIZE, _common_size(table, rows) or MAX_SIZE)
    pixels = Pixels(channels, size, (), (), data.flip, data.crop, data.center_crop, data.interpolation)
    if pixels.crop >= pixels.size:
        raise UserError(f"data.crop must be less than the stored image's side, {pixels.size} pixels, got {pixels.crop}")
    (train, heldout), unreadable = _sets(data, table, parts, pixels, _where(data))
    return _Decoded(table, parts, (train, heldout), unreadable)


@lru_cache(maxsize=4)
def _measured(data: ImageData, channels: int) -> Normalization:
    """Of the training images; of a streamed set, of some spread over it."""
    found = _decoded(data, channels)
    images, rows = found.sets[0], found.rows[0]
    if isinstance(images, MemorySet):
        batches: Iterator[Tensor] = (batch for batch, _ in images.batches(1024, device="cpu"))
        return measured(batches, channels, _where(data))
    spread = rows[:: max(1, len(rows) // STATISTICS_SAMPLE)]
    sample, _ = decode_all(found.table, spread, images.pixels, data.workers, found.unreadable)
    found.unreadable.check()
    return measured([sample], channels, _where(data))


def _training_table(data: ImageData) -> ImageTable:
    table = data.table("train")
    assert table is not None  # every source has a training part or says so
    where, names = _where(data), table.classes
    if len(names) < 2:
        raise UserError(f"{where} has one class, {names[0]!r}; a classifier needs at least 2")
    _check_number_of_classes(data, names)
    counts = np.bincount(table.labels, minlength=len(names))
    fewest = int(counts.argmin())
    if counts[fewest] < 2:
        raise UserError(
            f"{where}: class {names[fewest]!r} has {counts[fewest]} images in the training part; "
            "at least 2 are needed, one to train on and one held out"
        )
    if data.limit is not None and data.limit < 2 * len(names):
        raise UserError(
            f"data.limit must be at least {2 * len(names)}, two images for each of the {len(names)} classes, "
            f"got {data.limit}"
        )
    return table


@lru_cache(maxsize=4)
def _test(data: ImageData, channels: int) -> ImageSet | None:
    found = _decoded(data, channels)
    table = data.table("test", found.table.classes)
    if table is None:
        return None
    rows = np.arange(len(table.labels))
    return _sets(data, table, [rows], found.sets[0].pixels, f"{_where(data)}, test part")[0][0]


# -- one part, for a trained network ---------------------------------------------------------------------


@lru_cache(maxsize=2)
def _part(
    data: ImageData, part: str, channels: int, resolution: int, num_classes: int, classes: tuple[str, ...] | None
) -> Part:
    where = f"{_where(data)}, {part} part"
    if part == "test":
        test = data.table("test")
        if test is None:
            raise UserError(
                f"{_where(data)} has no test part (test or val beside train, in folders, file names or splits): "
                "part=all measures all of the training part, part=heldout what a training does not learn from"
            )
        table, rows = test, np.arange(len(test.labels))
    else:
        table = _training_table(data)
        rows = choose(table.labels, data.limit, data.split_seed)
        if part != "all":
            rows = hold_out(table.labels, rows, data.holdout, data.split_seed)[part == "heldout"]
    table = _numbered(data, table, num_classes, classes, where)
    size = data.image_size or _needed_size(data, table, rows, resolution)
    pixels = Pixels(channels, size, center_crop=data.center_crop, interpolation=data.interpolation)
    (images,), unreadable = _sets(data, table, [rows], pixels, where)
    return Part(images, table.classes, table, rows, unreadable)


@dataclass
class _Renumbered:
    """A table whose labels are numbered in another way."""

    table: ImageTable
    labels: Indices
    classes: tuple[str, ...]

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return self.table.fetch(rows)


def _numbered(
    data: ImageData, table: ImageTable, num_classes: int, classes: tuple[str, ...] | None, where: str
) -> ImageTable:
    """The table with its labels as a network numbers its ``classes``, as far as both go by names."""
    own, labels = table.classes, table.labels
    if not own:  # the part only numbers its classes
        needed = int(labels.max()) + 1
        count = data.num_classes or max(num_classes, needed)
        if needed > count:
            raise UserError(f"data.num_classes={count}, but the labels of {where} go to {needed - 1}, from 0")
        own = tuple(map(str, range(count)))
    else:
        _check_number_of_classes(data, own)
    if classes is None or own == classes or not (_named(own) and _named(classes)):
        same = classes is not None and len(classes) == len(own) and not _named(own)
        return _Renumbered(table, labels, classes if same and classes else own)
    strange = [name for name in own if name not in classes]
    if strange:
        raise UserError(
            f"{where}: classes that the weights do not have: {_few(strange)}; the weights have: {_few(classes)}"
        )
    at = {name: i for i, name in enumerate(classes)}
    return _Renumbered(table, np.array([at[name] for name in own])[labels], classes)


def _named(classes: Sequence[str]) -> bool:
    return tuple(classes) != tuple(map(str, range(len(classes))))


def _needed_size(data: ImageData, table: ImageTable, rows: Indices, resolution: int) -> int:
    """Such that the centre crop has the resolution; smaller images of which all is seen stay as they are."""
    size = round(resolution / data.center_crop)
    return size if data.center_crop < 1 else min(size, _common_size(table, rows) or size)


# -- both ------------------------------------------------------------------------------------------------


def _sets(
    data: ImageData, table: ImageTable, parts: Sequence[Indices], pixels: Pixels, where: str
) -> tuple[list[ImageSet], Unreadable]:
    """A set for each part: in memory where all of them fit, else streamed."""
    total, classes = sum(map(len, parts)), len(table.classes)
    unreadable = Unreadable(total, data.max_corrupt, where)
    if total * pixels.channels * pixels.size**2 > data.memory_mb << 20:
        return [StreamSet(table, part, classes, pixels, data.workers, unreadable) for part in parts], unreadable
    log.info("%s: decoding %s images at %d × %d pixels", where, f"{total:,}", pixels.size, pixels.size)
    decoded = [decode_all(table, part, pixels, data.workers, unreadable) for part in parts]
    unreadable.check()
    if skipped := tuple(unreadable.reasons):
        log.warning("%s: skipped %d images that cannot be read: %s", where, len(skipped), ", ".join(skipped[:5]))
    return [MemorySet(images, labels, classes, pixels) for images, labels in decoded], unreadable


def _where(data: ImageData) -> str:
    return data.path or data.source


def _check_number_of_classes(data: ImageData, names: Sequence[str]) -> None:
    if data.num_classes not in (None, len(names)):
        raise UserError(
            f"data.num_classes={data.num_classes}, but {_where(data)} has {len(names)} classes: {_few(names)}"
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _common_size(table: ImageTable, rows: Indices) -> int | None:
    """Median shorter side in pixels of some of the images; None where none can be read."""
    sides = []
    for _, encoded in table.fetch(rows[:: max(1, len(rows) // SIZE_SAMPLE)]):
        with suppress(Exception):  # unreadable: decoding will say so, and count it
            sides.append(shorter_side(encoded))
    return int(np.median(sides)) if sides else None
