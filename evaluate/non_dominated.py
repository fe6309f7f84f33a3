"""What nothing else beats: the members of a front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(values: ArrayLike, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows no other row dominates (is at least as good everywhere and better somewhere).

    Equal rows do not dominate each other; a row with NaN is dominated. O(n log n) for two columns, else O(n × front).

    Args:
        values: shape (n, m).
        directions: ``"maximize"`` or ``"minimize"``, one per column.

    Returns:
        Boolean mask of shape (n,).

    Raises:
        ValueError: shapes or directions are wrong.
    """
    losses: NDArray[Any] = np.array(values, dtype=np.float64, ndmin=2)
    if losses.size == 0:
        return np.zeros(len(losses) if np.ndim(values) == 2 else 0, dtype=np.bool_)
    if losses.ndim != 2 or losses.shape[1] != len(directions) or not set(directions) <= {"maximize", "minimize"}:
        raise ValueError(f"values of shape {losses.shape} do not fit the directions {tuple(directions)}")
    losses *= np.where(np.array(directions) == "maximize", -1.0, 1.0)
    mask: NDArray[np.bool_] = ~np.isnan(losses).any(axis=1)
    rows = np.flatnonzero(mask)
    mask[rows] = _mark_minimal_2d(losses[rows]) if losses.shape[1] == 2 else _mark_minimal(losses[rows])
    return mask


def _mark_minimal_2d(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Sorted by the first column, a row is minimal where the second falls below that of all smaller first ones."""
    if not len(losses):
        return np.zeros(0, dtype=np.bool_)
    order = np.lexsort((losses[:, 1], losses[:, 0]))
    first, second = losses[order].T
    starts = np.flatnonzero(np.r_[True, first[1:] != first[:-1]])
    group = np.cumsum(np.r_[True, first[1:] != first[:-1]]) - 1
    best = second[starts]  # each group's smallest: the rows are sorted by it
    before = np.r_[np.inf, np.minimum.accumulate(best)[:-1]]
    open_ = (best < before) | (starts == 0)  # a first group of infinities has nothing before it
    mask = np.empty(len(losses), dtype=np.bool_)
    mask[order] = (second == best[group]) & open_[group]
    return mask


def _mark_minimal(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Any number of columns: each row of the front strikes out the rows it dominates."""
    mask = np.ones(len(losses), dtype=np.bool_)
    for row in np.lexsort(losses.T[::-1]):  # a dominating row comes before those it dominates
        if mask[row]:
            mask &= ~((losses[row] <= losses).all(axis=1) & (losses[row] < losses).any(axis=1))
    return mask
