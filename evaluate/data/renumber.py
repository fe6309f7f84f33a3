"""Labels numbered as a network numbers its classes, as far as both go by names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...space.errors import UserError
from ...space.paths import as_text
from .labelled_images import LabelledImages
from .table import Encoded, ImageTable, Indices


@dataclass(frozen=True)
class _Renumbered:
    """A table whose labels are numbered in another way."""

    table: ImageTable
    labels: Indices
    classes: tuple[str, ...]

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return self.table.fetch(rows)


def renumber(
    data: LabelledImages, table: ImageTable, num_classes: int, classes: tuple[str, ...] | None, where: str
) -> ImageTable:
    """The table with its labels as a network numbers its ``classes``.

    Args:
        data: says how many classes there should be.
        table: of the part that is measured.
        num_classes: of the network. A part that only numbers its classes has as many, or those its labels need.
        classes: of the network, by name, where that is known.
        where: the part is, for people.

    Raises:
        UserError: there are other classes than ``data.num_classes`` says, or some that the network does not have.
    """
    own, labels = table.classes, table.labels
    if not own:  # the part only numbers its classes
        needed = int(labels.max()) + 1
        count = data.num_classes or max(num_classes, needed)
        if needed > count:
            raise UserError(f"data.num_classes={count}, but the labels of {where} run from 0 to {needed - 1}")
        own = tuple(map(str, range(count)))
    else:
        check_number_of_classes(data, own)
    own = tuple(map(as_text, own))
    classes = None if classes is None else tuple(map(as_text, classes))
    if classes is None or own == classes or not (_has_names(own) and _has_names(classes)):
        same = classes is not None and len(classes) == len(own) and not _has_names(own)
        return _Renumbered(table, labels, classes if same and classes else own)
    strange = [name for name in own if name not in classes]
    if strange:
        raise UserError(
            f"{where} has classes that the weights lack: {_few(strange)}; the weights have: {_few(classes)}"
        )
    at = {name: i for i, name in enumerate(classes)}
    return _Renumbered(table, np.array([at[name] for name in own])[labels], classes)


def check_number_of_classes(data: LabelledImages, names: Sequence[str]) -> None:
    """Raise :class:`UserError` unless there are as many classes as ``data.num_classes`` requires."""
    if data.num_classes not in (None, len(names)):
        raise UserError(
            f"data.num_classes={data.num_classes}, but {data.title} has {len(names)} classes: {_few(names)}"
        )


def _has_names(classes: Sequence[str]) -> bool:
    return tuple(classes) != tuple(map(str, range(len(classes))))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
