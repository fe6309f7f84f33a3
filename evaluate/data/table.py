"""A table of labelled images, not yet decoded: what every source of images gives."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

#: An image before decoding: the bytes of its file, the path of its file, pixels (H × W or H × W × C, uint8), or a
#: picture of Pillow's; None is a hole.
Encoded = bytes | str | npt.NDArray[np.uint8] | Image.Image | None
Indices = npt.NDArray[np.int64]

#: Rows fetched at a time: bounds the memory that encoded images take.
CHUNK = 2048


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
