"""A user's arrays or data set as a table of images, which is known by its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...space.errors import UserError
from .arrays import ArrayTable, image_pixels, is_tensor, stack_pixels, to_array
from .columns import columns_table, name_classes
from .hugging_face import is_dataset
from .table import CHUNK, Encoded, ImageTable, Indices

#: Images that are read twice, to see whether they stay the same.
READ_TWICE = 16
_LABELS = "labels must be whole numbers from 0 to classes − 1"


@dataclass(frozen=True, repr=False)
class DatasetTable:
    """An :class:`~effnas.evaluate.data.table.ImageTable` that equals another one of the same content.

    Args:
        table: the images.
        kind: what was given, for people.
        digest: of the images, labels and names of the classes.
    """

    table: ImageTable = field(compare=False)
    kind: str = field(compare=False)
    digest: str

    @property
    def labels(self) -> Indices:
        """(N,), from 0."""
        return self.table.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels; empty where the part only numbers them."""
        return self.table.classes

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        """``(name for people, encoded image)`` of each row."""
        return self.table.fetch(rows)

    def __repr__(self) -> str:
        """What checkpoints and studies know it by."""
        return f"<{len(self.labels)} images {self.digest}>"


def read_dataset(
    given: Any, part: str, classes: tuple[str, ...] | None, image: str | None, label: str | None
) -> DatasetTable:
    """Read labels and content of one part; as :class:`~effnas.evaluate.data.dataset_images.DatasetImages` takes it.

    Args:
        given: the part; a table that was read before stays as it is.
        part: ``train`` or ``test``.
        classes: the requested names, or those of the training part; None: the part's own.
        image, label: columns of a ``datasets.Dataset``; None finds them.

    Raises:
        UserError: it is nothing of that kind, or its images or labels do not fit.
    """
    where = f"data.{part}"
    if isinstance(given, DatasetTable):
        return given
    if is_dataset(given):
        if given.format["type"] == "custom":
            raise UserError(
                f"{where}: the transform of a datasets.Dataset is not applied; apply it with map(…), or remove it "
                "with reset_format()"
            )
        table: ImageTable = columns_table(given, part, image, label, where, classes)
        content = _digest(encoded for rows in _chunks(len(table.labels)) for _, encoded in table.fetch(rows))
        return _hash_table(table, "datasets.Dataset", content)
    for column, value in (("image", image), ("label", label)):
        if value is not None:
            raise UserError(
                f"data.{column}={value} names a column, but only a datasets.Dataset has columns; leave it out"
            )

    def named(labels: Indices, own: tuple[str, ...] | None = None) -> tuple[str, ...]:
        if not len(labels):
            raise UserError(f"{where}: no images in it")
        return name_classes(labels, None if classes else own, classes, part, f"{where}: {_LABELS}", where)

    if isinstance(given, tuple) and len(given) == 2:
        images, labels = given
        if not isinstance(images, list | tuple):
            return _read_arrays(images, labels, where, named)
        numbers = _read_labels(labels, len(images), where)
        return _read_items(list(zip(images, numbers.tolist(), strict=True)), type(images).__name__, where, named)
    if isinstance(given, str | Mapping) or not all(hasattr(type(given), has) for has in ("__getitem__", "__len__")):
        raise UserError(
            f"{where} must be a pair (images, labels), a map-style data set (with __len__ and __getitem__) or a "
            f"datasets.Dataset, got {type(given).__name__}"
        )
    if isinstance(given, np.ndarray) or is_tensor(given):
        raise UserError(f"{where}: labels are missing; give a pair (images, labels), got {type(given).__name__}")
    return _read_items(given, type(given).__name__, where, named)


_Named = Callable[..., tuple[str, ...]]


# -- arrays and tensors ----------------------------------------------------------------------------------


def _read_arrays(images: Any, labels: Any, where: str, named: _Named) -> DatasetTable:
    pixels = stack_pixels(images, f"{where}: images")
    numbers = _read_labels(labels, len(pixels), where)
    return _hash_table(ArrayTable(pixels, numbers, named(numbers)), type(images).__name__, _digest(pixels))


def _read_labels(labels: Any, count: int, where: str) -> Indices:
    try:
        array = to_array(labels)
    except ValueError:  # lists of different lengths
        raise UserError(f"{where}: {_LABELS}, one per image, got lists of different lengths") from None
    if array.ndim != 1:
        raise UserError(f"{where}: {_LABELS}, one per image, got the shape {array.shape}")
    if len(array) != count:
        raise UserError(f"{where}: there must be one label per image, got {count} images and {len(array)} labels")
    if array.dtype.kind not in "iu" and count:
        raise UserError(f"{where}: {_LABELS}, got {array.dtype}")
    return array.astype(np.int64)


# -- map-style data sets -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Items:
    """The pairs of a map-style data set, read anew each time."""

    dataset: Any
    where: str
    labels: Indices
    classes: tuple[str, ...]

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return [(f"row {row}", _read_item(self.dataset, int(row), self.where)[0]) for row in rows]


def _read_items(dataset: Any, kind: str, where: str, named: _Named) -> DatasetTable:
    labels: list[int] = []

    def images(rows: Iterable[int]) -> Iterator[Encoded]:
        for row in rows:
            image, label = _read_item(dataset, row, where)
            labels.append(label)
            yield image

    count = len(dataset)
    some = range(0, count, max(1, count // READ_TWICE))
    if _digest(images(some)) != _digest(images(some)):
        raise UserError(
            f"{where}: the data set returns different images each time it is read; remove its random augmentation and "
            "use data.flip, data.crop and training.augment instead"
        )
    labels.clear()
    content = _digest(images(range(count)))
    numbers = np.array(labels, dtype=np.int64)
    table = _Items(dataset, where, numbers, named(numbers, _own_names(dataset)))
    return _hash_table(table, kind, content)


def _read_item(dataset: Any, row: int, where: str) -> tuple[Encoded, int]:
    at = f"{where}, row {row}"
    try:
        item = dataset[row]
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"{at}: cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        shape = f"{type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else type(item).__name__
        raise UserError(f"{at}: an item must be a pair (image, label), got {shape}")
    image, label = item
    number = to_array(label)
    if number.ndim or number.dtype.kind not in "iu":
        raise UserError(f"{at}: {_LABELS}, got {label!r:.60}")
    return image if isinstance(image, Image.Image) else image_pixels(image, f"{at}: an image"), int(number)


def _own_names(dataset: Any) -> tuple[str, ...] | None:
    """As torchvision's data sets name their classes."""
    names = getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


# -- both --------------------------------------------------------------------------------------------------


def _chunks(count: int) -> list[Indices]:
    return [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _digest(images: Iterable[Encoded]) -> str:
    """Of the content, not of the way it is held."""
    digest = hashlib.sha256()
    for image in images:
        try:
            digest.update(_content(image))
        except Exception:  # unreadable: decoding will say so, and count it
            digest.update(b"unreadable")
    return digest.hexdigest()


def _content(image: Encoded) -> bytes:
    if isinstance(image, Image.Image):
        head = (image.mode, image.size, image.getpalette() if image.mode == "P" else None)
        return repr(head).encode() + image.tobytes()
    if isinstance(image, np.ndarray):
        return repr(image.shape).encode() + image.tobytes()
    return Path(image).read_bytes() if isinstance(image, str) else image or b""


def _hash_table(table: ImageTable, kind: str, content: str) -> DatasetTable:
    digest = hashlib.sha256(f"{content} {table.classes}".encode() + table.labels.tobytes())
    return DatasetTable(table, kind, digest.hexdigest()[:32])
