"""scikit-learn's handwritten digits: installed with it, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .table import Encoded, ImageTable, Indices


@dataclass(frozen=True)
class _Digits:
    """An :class:`~effnas.evaluate.data.table.ImageTable` of grey images (N, 8, 8)."""

    images: npt.NDArray[np.uint8]
    labels: Indices
    classes: tuple[str, ...] = tuple("0123456789")

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return [(f"row {row}", self.images[row]) for row in rows]


def digits_table(part: str) -> ImageTable:
    """scikit-learn's 1,797 digits of 8 × 8 pixels; every fifth of each class, in a fixed random order, is test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))  # RandomState: the same on every NumPy, for ever
    rank = np.zeros(len(order), dtype=np.int64)
    for label in range(10):
        members = order[bunch.target[order] == label]
        rank[members] = np.arange(len(members))
    rows = np.flatnonzero((rank % 5 == 0) == (part == "test"))
    return _Digits((bunch.images[rows] * (255 / 16)).astype(np.uint8), bunch.target[rows].astype(np.int64))
