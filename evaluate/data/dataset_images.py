"""Images from Python: arrays, tensors, a ``torch.utils.data.Dataset`` or a ``datasets.Dataset``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...space.errors import UserError
from .dataset_table import DatasetTable, read_dataset
from .labelled_images import LabelledImages
from .table import find_splits


@dataclass(frozen=True, repr=False)
class DatasetImages(LabelledImages):
    """Labelled images that are given as Python objects, for a search, a training or an evaluation.

    A part is a pair ``(images, labels)``: arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats
    in 0 to 1, and N whole numbers from 0; or a map-style data set, whose items are pairs ``(image, label)`` with a
    picture of Pillow's or such an array without its first axis; or a ``datasets.Dataset``. All of it is read once when
    this object is made. What was read is its identity: equal images, labels and fields make equal objects, whatever
    they were made from.

    Args:
        train: the training part, which a search and a training split by ``holdout``. A mapping (``DatasetDict``) gives
            both parts by the names of its splits.
        test: measured at the very end, or by itself; None: there is none.
        classes: names in the order of the labels; None: those of the data set, or else their numbers.
        image, label: columns of a ``datasets.Dataset``; None finds them.
        limit, holdout, split_seed, num_classes, image_size, center_crop, interpolation, normalize, flip, crop,
        max_corrupt, memory_mb, workers: as :class:`~effnas.evaluate.data.labelled_images.LabelledImages`.

    Raises:
        UserError: a part is none of these, or has images or labels that do not fit; or a field is outside its range.
    """

    train: Any = None
    test: Any = None
    classes: Sequence[str] | None = None
    image: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = {"train": self.train, "test": self.test}
        if isinstance(self.train, Mapping):
            splits = {part: next(iter(find_splits(self.train, part)), None) for part in parts}
            if not any(splits.values()):
                raise UserError(f"data.train has no split named train or test; it has: {', '.join(self.train)}")
            for part, split in splits.items():
                if split is not None and (part == "train" or self.test is None):
                    parts[part] = self.train[split]
            if splits["train"] is None:
                parts["train"] = None
        if parts["train"] is None and parts["test"] is None:
            raise UserError("give data.train or data.test: a pair (images, labels) or a data set")
        classes = _read_classes(self.classes)
        object.__setattr__(self, "classes", classes)
        for part, given in parts.items():
            table = None if given is None else read_dataset(given, part, classes, self.image, self.label)
            object.__setattr__(self, part, table)  # so that a copy with other fields need not read it again
            if classes is None and table is not None:
                classes = table.classes

    @property
    def title(self) -> str:
        """What kind of object was given."""
        table: DatasetTable = self.train or self.test
        return f"the given {table.kind}"


def _read_classes(classes: Any) -> tuple[str, ...] | None:
    if classes is None:
        return None
    rule = "data.classes must be at least 2 different names"
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise UserError(f"{rule}, got {classes!r}")
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{rule}, got {list(names)!r}")
    return names
