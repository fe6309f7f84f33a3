"""What a data set is: its fields (``conf/data/*.yaml``), its three parts, and who may see which."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from torch import Tensor

from ..space.architecture import Architecture
from ..space.errors import UserError, check_choice, check_int, check_number
from .images import ImageSet, ImageTable, Indices, MemorySet, Pixels, StreamSet, Unreadable, decode_all, shorter_side
from .sources import digits_table, file_table, hub_table

__all__ = ["ImageData", "ImageSet", "Split"]


log = logging.getLogger(__name__)

SOURCES = ("digits", "files", "hub")
#: Images that are stored larger than this are so because ``image_size`` says it.
MAX_SIZE = 256
#: Images looked at for the common size, and for the mean and standard deviation of a streamed set.
SIZE_SAMPLE, STATISTICS_SAMPLE = 200, 1000


@dataclass(frozen=True)
class Split:
    """The training part, cut in two.

    Args:
        train: what candidates are trained on.
        heldout: what they are measured on during a search.
        classes: names, in the order of the labels.
        skipped: files or rows that could not be read. A streamed set decodes late: what it meets is in its ``skipped``.
    """

    train: ImageSet
    heldout: ImageSet
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def check(self, architecture: Architecture) -> None:
        """Raise :class:`UserError` unless the architecture has as many classes as the data."""
        if architecture.num_classes != len(self.classes):
            raise UserError(
                f"the data has {len(self.classes)} classes, the architecture {architecture.num_classes}: "
                f"set space.num_classes={len(self.classes)}"
            )


@dataclass(frozen=True)
class ImageData:
    """Labelled images for classification. Equal fields give equal images, splits and batches.

    Args:
        source: ``digits`` (scikit-learn's, nothing to download), ``files`` (an image folder, parquet files or
            WebDataset tars: see :func:`effnas.evaluate.sources.file_table`) or ``hub`` (a Hugging Face data set).
        path: of the files, or the hub's name (``uoft-cs/cifar10``).
        subset: of a hub data set that has several.
        image, label: columns; None finds them.
        limit: at most so many images of the training part, by class; smaller limits are within larger ones.
        holdout: fraction of the training part, of each class, that measures candidates.
        split_seed: of the choices made for ``limit`` and ``holdout``: one for all candidates, whatever their seed.
        num_classes: how many there should be; None takes what there are.
        image_size: side of the stored square in pixels; None takes the median shorter side, at most 256.
        flip: mirror training images left to right at rate 1/2.
        crop: shift training images by up to so many stored pixels each way.
        max_corrupt: fraction of unreadable images that is skipped; more is an error.
        memory_mb: larger sets are decoded on the fly.
        workers: processes that decode a streamed set; threads that decode one kept in memory.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    source: str = "digits"
    path: str | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
    limit: int | None = None
    holdout: float = 0.2
    split_seed: int = 0
    num_classes: int | None = None
    image_size: int | None = None
    flip: bool = False
    crop: int = 0
    max_corrupt: float = 0.01
    memory_mb: int = 2048
    workers: int = 2

    def __post_init__(self) -> None:
        check_choice("data.source", self.source, SOURCES)
        for name in ("path", "subset", "image", "label"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise UserError(f"data.{name} must be a text or null, got {value!r}")
        useless = {"digits": ("path", "subset", "image", "label"), "files": ("subset",), "hub": ()}[self.source]
        for name in useless:
            if getattr(self, name) is not None:
                raise UserError(
                    f"data.{name}={getattr(self, name)} says nothing to data.source={self.source}: leave it out, "
                    "or choose another source (data=folder, parquet, webdataset or hub)"
                )
        if self.source != "digits" and self.path is None:
            what = "file or folder" if self.source == "files" else "name, like uoft-cs/cifar10"
            raise UserError(f"data.path: data.source={self.source} needs one: set data.path=<{what}>")
        for name, low, high in (("limit", 4, None), ("num_classes", 2, None), ("image_size", 1, 8192)):
            if getattr(self, name) is not None:
                check_int(f"data.{name}", getattr(self, name), low, high)
        check_number("data.holdout", self.holdout, 0, 1, open_low=True, open_high=True)
        check_int("data.split_seed", self.split_seed, 0, 2**32 - 1)
        if not isinstance(self.flip, bool):
            raise UserError(f"data.flip must be true or false, got {self.flip!r}")
        check_int("data.crop", self.crop, 0)
        check_number("data.max_corrupt", self.max_corrupt, 0, 1)
        check_int("data.memory_mb", self.memory_mb, 0)
        check_int("data.workers", self.workers, 0, 256)

    def load(self, channels: int) -> Split:
        """Training and held-out images, both of the training part; decoded once a process for all candidates.

        Raises:
            UserError: the data is not there, not readable, or not what the fields say.
        """
        return _load(self, _channels(channels))[0]

    def load_test(self, channels: int) -> ImageSet:
        """The test part, normalised as the training images are. For the last measurement: a search never calls it.

        Raises:
            UserError: as :meth:`load`, or there is no test part.
        """
        return _load_test(self, _channels(channels))

    def _table(self, part: str, classes: tuple[str, ...] | None = None) -> ImageTable | None:
        if self.source == "digits":
            return digits_table(part)
        assert self.path is not None  # checked when made
        if self.source == "hub":
            return hub_table(self.path, self.subset, part, self.image, self.label, classes)
        return file_table(self.path, part, self.image, self.label, self.memory_mb << 20, classes)


def _channels(channels: int) -> int:
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels, the architecture takes {channels}: set space.in_channels=3")
    return channels


@lru_cache(maxsize=4)
def _load(data: ImageData, channels: int) -> tuple[Split, Pixels]:
    table = data._table("train")
    assert table is not None  # every source has a training part or says so
    where, classes = data.path or data.source, table.classes
    _check_classes(data, table)
    rows = _choose(table.labels, data.limit, data.split_seed)
    parts = _hold_out(table, rows, data.holdout, data.split_seed)
    pixels = Pixels(channels, data.image_size or _common_size(table, rows), flip=data.flip, crop=data.crop)
    if pixels.crop >= pixels.size:
        raise UserError(f"data.crop must be less than the stored image's side, {pixels.size} pixels, got {pixels.crop}")
    unreadable = Unreadable(len(rows), data.max_corrupt, where)
    log.info("%s: decoding %s images at %d × %d pixels", where, f"{len(rows):,}", pixels.size, pixels.size)
    sets: list[ImageSet] = []
    if _fits(data, len(rows), pixels):
        decoded = [decode_all(table, part, pixels, data.workers, unreadable) for part in parts]
        unreadable.check()
        pixels = _measure(pixels, decoded[0][0], where)
        sets += [MemorySet(images, labels, len(classes), pixels) for images, labels in decoded]
    else:
        spread = parts[0][:: max(1, len(parts[0]) // STATISTICS_SAMPLE)]
        sample, _ = decode_all(table, spread, pixels, data.workers, unreadable)
        unreadable.check()
        pixels = _measure(pixels, sample, where)
        sets += [StreamSet(table, part, len(classes), pixels, data.workers, unreadable) for part in parts]
    skipped = tuple(unreadable.reasons)
    if skipped:
        log.warning("%s: skipped %d images that cannot be read: %s", where, len(skipped), ", ".join(skipped[:5]))
    return Split(sets[0], sets[1], classes, skipped), pixels


@lru_cache(maxsize=4)
def _load_test(data: ImageData, channels: int) -> ImageSet:
    split, pixels = _load(data, channels)
    table = data._table("test", split.classes)
    where = data.path or data.source
    if table is None:
        raise UserError(f"{where} has no test part (test or val beside train, in folders, file names or splits)")
    rows, count = np.arange(len(table.labels)), len(split.classes)
    unreadable = Unreadable(len(rows), data.max_corrupt, f"{where}, test part")
    if not _fits(data, len(rows), pixels):
        return StreamSet(table, rows, count, pixels, data.workers, unreadable)
    images, labels = decode_all(table, rows, pixels, data.workers, unreadable)
    unreadable.check()
    return MemorySet(images, labels, count, pixels)


def _fits(data: ImageData, count: int, pixels: Pixels) -> bool:
    return count * pixels.channels * pixels.size**2 <= data.memory_mb << 20


def _check_classes(data: ImageData, table: ImageTable) -> None:
    where, names = data.path or data.source, table.classes
    if len(names) < 2:
        raise UserError(f"{where} has one class, {names[0]!r}; a classifier needs at least 2")
    if data.num_classes not in (None, len(names)):
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UserError(f"data.num_classes={data.num_classes}, but {where} has {len(names)} classes: {shown}")
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


def _choose(labels: Indices, limit: int | None, seed: int) -> Indices:
    """At most ``limit`` rows, in order: two of each class, the rest in proportion to the classes.

    Each row gets a place in [0, 1) within its class, at random; the rows of the lowest places are taken, so that a
    smaller limit chooses some of what a larger one does.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    place = np.empty(len(labels))
    for members in _shuffled_classes(labels, seed):
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[:2]] = -1
    shuffled = np.random.RandomState(seed).permutation(len(labels))  # equal places: any class may win
    return np.sort(shuffled[np.argsort(place[shuffled], kind="stable")[:limit]])


def _hold_out(table: ImageTable, rows: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """``(train, held out)``: of each class the fraction, rounded, but at least one image on either side."""
    labels = table.labels[rows]
    chosen = np.zeros(len(rows), dtype=bool)
    for members in _shuffled_classes(labels, seed):
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen[members[:count]] = True
    return rows[~chosen], rows[chosen]


def _shuffled_classes(labels: Indices, seed: int) -> list[Indices]:
    order = np.random.RandomState(seed).permutation(len(labels))  # RandomState: the same on every NumPy, for ever
    by_class = order[np.argsort(labels[order], kind="stable")]
    return np.split(by_class, np.cumsum(np.bincount(labels))[:-1])


def _common_size(table: ImageTable, rows: Indices) -> int:
    sides = []
    for _, encoded in table.fetch(rows[:: max(1, len(rows) // SIZE_SAMPLE)]):
        with suppress(Exception):  # unreadable: decoding will say so, and count it
            sides.append(shorter_side(encoded))
    return min(MAX_SIZE, int(np.median(sides))) if sides else MAX_SIZE


def _measure(pixels: Pixels, images: Tensor, where: str) -> Pixels:
    """With the mean and standard deviation of ``images``, exact: from counts of the 256 values."""
    if not len(images):
        raise UserError(f"{where}: none of the training images that were looked at can be read")
    counts = np.zeros((pixels.channels, 256))
    for start in range(0, len(images), 1024):
        chunk = images[start : start + 1024].numpy()
        counts += [np.bincount(chunk[:, c].ravel(), minlength=256) for c in range(pixels.channels)]
    share, values = counts / counts.sum(1, keepdims=True), np.arange(256)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    std = np.maximum(np.sqrt(variance), 1.0)  # images of one colour: no division by zero
    return replace(pixels, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
