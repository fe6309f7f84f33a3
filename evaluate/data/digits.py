"""scikit-learn's handwritten digits: installed with it, nothing to download."""

from __future__ import annotations

import numpy as np

from .arrays import ArrayTable
from .table import ImageTable

CLASSES = tuple("0123456789")


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
    images = (bunch.images[rows] * (255 / 16)).astype(np.uint8)
    return ArrayTable(images, bunch.target[rows].astype(np.int64), CLASSES)
