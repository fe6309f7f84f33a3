"""A table of labelled images, not yet decoded: what every source of images gives."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...space.errors import UserError

log = logging.getLogger(__name__)

#: An image before decoding: the bytes of its file, the path of its file, pixels (H × W or H × W × C, uint8), or a
#: picture of Pillow's; None is a hole.
Encoded = bytes | str | npt.NDArray[np.uint8] | Image.Image | None
Indices = npt.NDArray[np.int64]

#: Rows fetched at a time: bounds the memory that encoded images take.
CHUNK = 2048

#: Names of folders, files and splits; where the test part is not there or has no labels, the validation part is taken.
PART_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}


class Unlabelled(UserError):
    """A part has no images, or none with a label, as the test part of a competition."""


class ImageTable(Protocol):
    """Labelled images of one part, not yet decoded."""

    @property
    def labels(self) -> Indices:
        """(N,), from 0."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels; empty where the part only numbers them."""
        ...

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        """``(name for people, encoded image)`` of each row."""
        ...


def find_splits(names: Iterable[str], part: str) -> list[str]:
    """Which of the names are of the part ``train`` or ``test``: those of a test part before a validation part's."""
    there = set(names)
    kinds = ("train",) if part == "train" else ("test", "val")
    return [name for kind in kinds for name in PART_NAMES[kind] if name in there]


@cache
def tell_once(text: str) -> None:
    """Warn of something about a data set, which is read in several places, once in a process."""
    log.warning("%s", text)
