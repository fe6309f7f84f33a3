"""Which rows of the training part are used, and which of them are held out: always the same ones."""

from __future__ import annotations

import numpy as np

from .table import Indices


def choose_rows(labels: Indices, limit: int | None, seed: int) -> Indices:
    """At most ``limit`` rows, in order: two of each class, the rest in proportion to the classes.

    Each row gets a place in [0, 1) within its class, at random; the rows of the lowest places are taken, so that a
    smaller limit chooses some of what a larger one does.

    Args:
        labels: (N,), of all rows.
        limit: None: all rows.
        seed: of the random places.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    place = np.empty(len(labels))
    for members in _shuffled_classes(labels, seed):
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[:2]] = -1
    shuffled = np.random.RandomState(seed).permutation(len(labels))  # equal places: any class may win
    return np.sort(shuffled[np.argsort(place[shuffled], kind="stable")[:limit]])


def hold_out(labels: Indices, rows: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """``(train, held out)`` of ``rows``: of each class the fraction, rounded, but at least one image on either side."""
    chosen = np.zeros(len(rows), dtype=bool)
    for members in _shuffled_classes(labels[rows], seed):
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen[members[:count]] = True
    return rows[~chosen], rows[chosen]


def _shuffled_classes(labels: Indices, seed: int) -> list[Indices]:
    order = np.random.RandomState(seed).permutation(len(labels))  # RandomState: the same on every NumPy, for ever
    by_class = order[np.argsort(labels[order], kind="stable")]
    return np.split(by_class, np.cumsum(np.bincount(labels))[:-1])
