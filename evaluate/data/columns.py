"""A ``datasets.Dataset`` as a table of images: which column holds them, which the labels, and what the classes are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...space.errors import UserError
from ...space.paths import as_text
from .hugging_face import first_cause, load_datasets
from .table import Encoded, ImageTable, Indices, Unlabelled

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "target")


class _Columns:
    """An :class:`~effnas.evaluate.data.table.ImageTable` over two columns of a ``datasets.Dataset``."""

    def __init__(self, dataset: Any, image: str, labels: Indices, classes: tuple[str, ...]) -> None:
        self.labels, self.classes = labels, classes
        self._images, self._column = dataset.select_columns([image]).with_format("arrow"), image

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        items = self._images[rows.tolist()][self._column].to_pylist() if len(rows) else []
        return [_item(row, item) for row, item in zip(rows, items, strict=True)]


def _item(row: int, item: dict[str, Any] | None) -> tuple[str, Encoded]:
    data, path = (item["bytes"], item["path"]) if item else (None, None)
    if data is None:  # a file of its own; its path is its name
        return path or f"row {row}", path
    return f"row {row} ({path})" if path else f"row {row}", data


def columns_table(
    dataset: Any, part: str, image: str | None, label: str | None, where: str, classes: tuple[str, ...] | None
) -> ImageTable:
    """Find the two columns, check them, and read the labels.

    Args:
        dataset: a ``datasets.Dataset``.
        part: ``train`` or ``test``: only the training part says by its labels how many classes there are.
        image, label: columns; None finds them.
        where: the data set is, for people.
        classes: of the training part, where another part is read.

    Raises:
        Unlabelled: there are no rows, or none with a label.
        UserError: there are no such columns, or they hold something else.
    """
    kinds, datasets = dataset.features, load_datasets()
    images, labels = (
        [name for name, kind in kinds.items() if isinstance(kind, wanted)]
        for wanted in (datasets.Image, datasets.ClassLabel)
    )
    candidates = images if len(images) == 1 else IMAGE_COLUMNS, labels if len(labels) == 1 else LABEL_COLUMNS
    image, label = find_columns((image, label), candidates, kinds, where)
    if len(dataset) == 0:
        raise Unlabelled(f"{where}: no images in it")
    try:
        dataset = dataset.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    except Exception as error:  # Arrow's casts raise several kinds
        raise UserError(f"data.image: column {image!r} of {where} holds no images: {first_cause(error)}") from error
    numbers, names = _read_labels(dataset, part, label, where, classes)
    return _Columns(dataset, image, numbers, names)


def find_columns(
    given: tuple[str | None, str | None],
    candidates: tuple[Sequence[str], Sequence[str]],
    there: Iterable[str],
    where: str,
) -> tuple[str, str]:
    """The columns of the images and of the labels: those that are given, else the first candidates that are there.

    Raises:
        UserError: they are not there, or are one and the same.
    """
    columns = list(there)
    image = _find_column("image", given[0], candidates[0], columns, where)
    label = _find_column("label", given[1], candidates[1], columns, where)
    if image == label:
        raise UserError(f"data.image and data.label are the same column of {where}: {image!r}")
    return image, label


def _find_column(field: str, name: str | None, candidates: Sequence[str], columns: Sequence[str], where: str) -> str:
    kind = Unlabelled if field == "label" else UserError
    if name is None:
        name = next((candidate for candidate in candidates if candidate in columns), None)
        if name is None:
            raise kind(
                f"{where} has no {field} column that can be identified; set data.{field} to one of: "
                f"{', '.join(columns)}"
            )
    elif name not in columns:
        raise kind(f"data.{field}: {where} has no column {name!r}; it has: {', '.join(columns)}")
    return name


def _read_labels(
    dataset: Any, part: str, column: str, where: str, classes: tuple[str, ...] | None
) -> tuple[Indices, tuple[str, ...]]:
    rule = f"{where}: column {column!r} must hold a ClassLabel or whole numbers from 0 to classes − 1"
    kind = dataset.features[column]
    named = isinstance(kind, load_datasets().ClassLabel)
    if not named and not str(getattr(kind, "dtype", "")).startswith(("int", "uint")):
        raise UserError(f"{rule}, it holds {getattr(kind, 'dtype', type(kind).__name__)}")
    values = dataset.with_format("arrow")[:][column]
    if part != "train" and (values.null_count == len(values) or set(values.unique().to_pylist()) == {-1}):
        raise Unlabelled(f"{where}: column {column!r} has no labels, only {values[0]}")
    if values.null_count:
        raise UserError(f"{rule}; {values.null_count} of {len(values)} rows have no label")
    labels: Indices = values.to_numpy().astype(np.int64)
    return labels, name_classes(labels, tuple(kind.names) if named else None, classes, part, rule, where)


def name_classes(
    labels: Indices,
    own: tuple[str, ...] | None,
    classes: tuple[str, ...] | None,
    part: str,
    rule: str,
    where: str,
) -> tuple[str, ...]:
    """The names of the classes that (N,) labels number; none where a part other than the training one only has numbers.

    Args:
        labels: at least one.
        own: names that come with the labels; None: they are only numbers.
        classes: those it must have: of the training part, or as the user names them; None: its own.
        part: ``train`` or ``test``.
        rule: what labels must be, to begin a message.
        where: they are, for people.

    Raises:
        UserError: labels are out of range, leave out a number, or go by other names than those of the training part.
    """
    if own is not None and classes is not None and tuple(map(as_text, own)) != tuple(map(as_text, classes)):
        raise UserError(
            f"{where}: its classes ({', '.join(own):.60}) differ from those of the training part or data.classes "
            f"({', '.join(classes):.60})"
        )
    names = classes if own is None else own
    low, high = int(labels.min()), int(labels.max())
    if names is not None:
        if low < 0 or high >= len(names):
            raise UserError(f"{rule}; it holds {low} to {high}, and there are {len(names)} classes")
        return names
    if part != "train":
        if low < 0:
            raise UserError(f"{rule}; it holds {low} to {high}")
        return ()
    count = len(np.unique(labels))
    if low != 0 or high != count - 1:
        raise UserError(f"{rule} without gaps; it holds {count} values from {low} to {high}")
    return tuple(map(str, range(count)))
