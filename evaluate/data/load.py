"""From a data set's fields to images: its table, the rows, decoding, a set, the normalisation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...space.errors import UserError, check_choice
from ...space.weights.contents import Normalization
from .decode import Unreadable, decode_table, shorter_side
from .holdout import choose_rows, hold_out
from .labelled_images import LabelledImages
from .normalization import expand_to_channels, measure_normalization, normalize_set
from .pictures.survey import find_white
from .pixels import Pixels
from .renumber import check_number_of_classes, renumber
from .sets import ImageSet, MemorySet, StreamSet
from .sources import check_data, find_table
from .split import Part, Split
from .table import CHUNK, ImageTable, Indices

log = logging.getLogger(__name__)

PARTS = ("test", "heldout", "train", "all")
#: Training images that are stored larger than this are so because ``image_size`` says it.
MAX_SIZE = 256
#: Images looked at for the common size, and for the mean and standard deviation (up to twice as many).
SIZE_SAMPLE, STATISTICS_SAMPLE = 200, 10_000


def load_split(data: LabelledImages, channels: int, normalization: Normalization | None = None) -> Split:
    """Training and held-out images, both of the training part; decoded once per process for all candidates.

    Args:
        data: which images.
        channels: of the network's input: 1 or 3, or as many as the images have.
        normalization: of the weights that a training starts from; ``data.normalize`` goes before it, and where there
            is neither the training images are measured.

    Raises:
        UserError: the data is not there, not readable, or not what the fields say.
    """
    check_data(data)
    given = expand_to_channels(data.normalize, channels) or normalization
    return _load_split(replace(data, normalize=None), channels, given)


def load_test(data: LabelledImages, channels: int, normalization: Normalization | None = None) -> ImageSet | None:
    """The test part, stored and normalised as by :func:`load_split`; None where there is none, or none with labels.

    For the last measurement, but called before the first step, so that what is wrong with it is told then. A test part
    without labels is left out with a warning, and a validation part taken if there is one. A search never calls it.

    Raises:
        UserError: as :func:`load_split`.
    """
    pixels = load_split(data, channels, normalization).train.pixels
    try:
        images = _decode_test(replace(data, normalize=None), channels)
    except UserError as error:
        raise UserError(f"{error}; test=false leaves the test part out") from error
    return None if images is None else normalize_set(images, (pixels.mean, pixels.std))


def load_part(
    data: LabelledImages,
    part: str,
    channels: int,
    *,
    resolution: int,
    num_classes: int,
    classes: tuple[str, ...] | None = None,
    normalization: Normalization | None = None,
) -> Part:
    """One part, to measure a trained network on; the others need not be there.

    Args:
        data: which images.
        part: ``test``, ``heldout`` (of the training part), ``train`` (the rest of it) or ``all`` (of it).
        channels: of the network's input: 1 or 3, or as many as the images have.
        resolution: of the network's input in pixels. Where ``data.image_size`` is None, images are stored so large
            that the centre crop has it.
        num_classes: of the network. A part that only numbers its classes has as many, or those its labels need.
        classes: of the network, by name, where that is known: labels are numbered as its outputs.
        normalization: of the weights; ``data.normalize`` overrides it, and without either the training
            images are measured.

    Returns:
        Its ``classes`` may be others in number than the network's.

    Raises:
        UserError: the part is not there, not readable, not what the fields say, or has classes by other names.
    """
    check_choice("part", part, PARTS)
    check_data(data)
    plain = replace(data, normalize=None)
    found = _decode_part(plain, part, channels, resolution, num_classes, classes)
    normalization = expand_to_channels(data.normalize, channels) or normalization
    if normalization is None:
        try:
            normalization = _measure_training(plain, channels)
        except UserError as error:
            raise UserError(
                "data.normalize: not set, the weights do not say how images are normalised, and the training images "
                f"cannot be measured ({error}): set data.normalize=imagenet or [mean, std]"
            ) from error
    return replace(found, images=normalize_set(found.images, normalization))


# -- the training part: its table, its rows, decoded, measured, normalised ---------------------------------


@dataclass(frozen=True)
class _Decoded:
    """The training part and the held-out one, not yet normalised."""

    table: ImageTable
    rows: tuple[Indices, Indices]
    sets: tuple[ImageSet, ImageSet]
    unreadable: Unreadable


@lru_cache(maxsize=4)
def _load_split(data: LabelledImages, channels: int, normalization: Normalization | None) -> Split:
    found = _decode_training(data, channels)
    normalization = normalization or _measure_training(data, channels)
    train, heldout = (normalize_set(images, normalization) for images in found.sets)
    return Split(train, heldout, found.table.classes, tuple(found.unreadable.reasons))


@lru_cache(maxsize=4)
def find_common_side(data: LabelledImages) -> int | None:
    """Median shorter side in pixels of the images of the training part; None where none can be read.

    Raises:
        UserError: there is no training part.
    """
    table = _training_table(data)
    return _common_size(table, np.arange(len(table.labels)))


@lru_cache(maxsize=4)
def _decode_training(data: LabelledImages, channels: int) -> _Decoded:
    table = _training_table(data)
    rows = choose_rows(table.labels, data.limit, data.split_seed)
    parts = hold_out(table.labels, rows, data.holdout, data.split_seed)
    white = find_white(table, rows, channels, data.title) or Pixels.white
    size = data.image_size or min(MAX_SIZE, _common_size(table, rows) or MAX_SIZE)
    pixels = Pixels(channels, size, (), (), data.flip, data.crop, data.center_crop, data.interpolation, white)
    if pixels.crop >= pixels.size:
        raise UserError(f"data.crop must be less than the stored image's side, {pixels.size} pixels, got {pixels.crop}")
    (train, heldout), unreadable = _decode_sets(data, table, parts, pixels, data.title)
    return _Decoded(table, parts, (train, heldout), unreadable)


def _training_table(data: LabelledImages) -> ImageTable:
    table = find_table(data, "train")
    assert table is not None  # every source has a training part or says so
    names = table.classes
    if len(names) < 2:
        raise UserError(f"{data.title} has one class, {names[0]!r}; a classifier needs at least 2")
    check_number_of_classes(data, names)
    counts = np.bincount(table.labels, minlength=len(names))
    fewest = int(counts.argmin())
    if (few := int(counts[fewest])) < 2:
        raise UserError(
            f"{data.title}: class {names[fewest]!r} has {few} image{'s' * (few != 1)} in the training part; "
            "at least 2 are needed, one to train on and one held out"
        )
    if data.limit is not None and data.limit < 2 * len(names):
        raise UserError(
            f"data.limit must be at least {2 * len(names)}, two images for each of the {len(names)} classes, "
            f"got {data.limit}"
        )
    return table


@lru_cache(maxsize=4)
def _measure_training(data: LabelledImages, channels: int) -> Normalization:
    """Of the training images; of a large set, of some spread over it, the same in memory and streamed."""
    found = _decode_training(data, channels)
    images, rows = found.sets[0], found.rows[0]
    spread = np.arange(0, len(rows), max(1, len(rows) // STATISTICS_SAMPLE))
    chunks = (spread[start : start + CHUNK] for start in range(0, len(spread), CHUNK))

    def decode(chosen: Indices) -> Tensor:
        if isinstance(images, MemorySet):
            return images.sample(chosen)
        sample, readable = decode_table(found.table, rows[chosen], images.pixels, data.workers, found.unreadable)
        found.unreadable.check()
        return sample[readable]

    return measure_normalization(map(decode, chunks), channels, data.title)


# -- the test part, and one part for a trained network -----------------------------------------------------


@lru_cache(maxsize=4)
def _decode_test(data: LabelledImages, channels: int) -> ImageSet | None:
    found = _decode_training(data, channels)
    table = find_table(data, "test", found.table.classes)
    if table is None:
        return None
    rows = np.arange(len(table.labels))
    (images,), _ = _decode_sets(data, table, [rows], found.sets[0].pixels, f"{data.title}, test part")
    return images


@lru_cache(maxsize=2)
def _decode_part(
    data: LabelledImages, part: str, channels: int, resolution: int, num_classes: int, classes: tuple[str, ...] | None
) -> Part:
    where = f"{data.title}, {part} part"
    if part == "test":
        test = find_table(data, "test")
        if test is None:
            raise UserError(
                f"{data.title} has no test part (test or val beside train, in folders, file names or splits): "
                "part=all measures all of the training part, part=heldout the images held out of training"
            )
        table, rows = test, np.arange(len(test.labels))
    else:
        table = _training_table(data)
        rows = choose_rows(table.labels, data.limit, data.split_seed)
        if part != "all":
            rows = hold_out(table.labels, rows, data.holdout, data.split_seed)[part == "heldout"]
    table = renumber(data, table, num_classes, classes, where)
    size = data.image_size or _needed_size(data, table, rows, resolution)
    white = _find_white(data, table, rows, channels)
    pixels = Pixels(channels, size, center_crop=data.center_crop, interpolation=data.interpolation, white=white)
    (images,), unreadable = _decode_sets(data, table, [rows], pixels, where)
    return Part(images, table.classes, table, rows, unreadable)


def _find_white(data: LabelledImages, table: ImageTable, rows: Indices, channels: int) -> float:
    """Of the training part where it is there, as in a training."""
    white = find_white(table, rows, channels, data.title)
    if white is not None:
        with suppress(UserError):
            training = _training_table(data)
            rows = choose_rows(training.labels, data.limit, data.split_seed)
            white = find_white(training, rows, channels, data.title) or white
    return white or Pixels.white


def _needed_size(data: LabelledImages, table: ImageTable, rows: Indices, resolution: int) -> int:
    """Such that the centre crop has the resolution; smaller images of which all is seen stay as they are."""
    size = round(resolution / data.center_crop)
    return size if data.center_crop < 1 else min(size, _common_size(table, rows) or size)


# -- every part --------------------------------------------------------------------------------------------


def _common_size(table: ImageTable, rows: Indices) -> int | None:
    """Median shorter side in pixels of some of the images; None where none can be read."""
    sides = []
    for _, encoded in table.fetch(rows[:: max(1, len(rows) // SIZE_SAMPLE)]):
        with suppress(Exception):  # unreadable: decoding will say so, and count it
            sides.append(shorter_side(encoded))
    return int(np.median(sides)) if sides else None


def _decode_sets(
    data: LabelledImages, table: ImageTable, parts: Sequence[Indices], pixels: Pixels, where: str
) -> tuple[list[ImageSet], Unreadable]:
    """A set for each part: in memory where all of them fit, else streamed."""
    total, classes = sum(map(len, parts)), len(table.classes)
    unreadable = Unreadable(total, data.max_corrupt, where)
    if total * pixels.channels * pixels.size**2 > data.memory_mb << 20:
        return [StreamSet(table, part, classes, pixels, data.workers, unreadable) for part in parts], unreadable
    log.info("%s: decoding %s images at %d × %d pixels", where, f"{total:,}", pixels.size, pixels.size)
    decoded = [decode_table(table, part, pixels, data.workers, unreadable) for part in parts]
    unreadable.check()
    if skipped := tuple(unreadable.reasons):
        log.warning("%s: skipped %d images that cannot be read: %s", where, len(skipped), ", ".join(skipped[:5]))
    labels = [torch.from_numpy(table.labels[part]) for part in parts]
    return [
        MemorySet(images, label, classes, pixels, readable)
        for (images, readable), label in zip(decoded, labels, strict=True)
    ], unreadable
