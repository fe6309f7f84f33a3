"""What loading gives: the training part, cut in two, or one part to measure a network on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...space.network_spec import NetworkSpec
from .decode import Unreadable
from .sets import ImageSet
from .table import CHUNK, ImageTable, Indices


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

    def check(self, architecture: NetworkSpec) -> None:
        """Raise :class:`UserError` unless the architecture has as many classes as the data."""
        architecture.check_classes(len(self.classes))


@dataclass(frozen=True)
class Part:
    """Some of a data set's images, to measure a network on.

    Args:
        images: normalised as the network needs.
        classes: names, in the order of the labels; there may be some without an image.
        table, rows: where the images come from.
        unreadable: those that were left out; a streamed set meets them as it goes.
    """

    images: ImageSet
    classes: tuple[str, ...]
    table: ImageTable
    rows: Indices
    unreadable: Unreadable

    def names(self) -> Iterator[str]:
        """The file or row of each image, in the order of their batches; of a streamed set after a pass over it."""
        for start in range(0, len(self.rows), CHUNK):
            for name, _ in self.table.fetch(self.rows[start : start + CHUNK]):
                if name not in self.unreadable.reasons:
                    yield name
