"""Parameter vectors as rows of level numbers, their neighbours, and what a model sees of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Rows = NDArray[np.int64]
Array = NDArray[np.float64]

#: Levels that a numeric parameter of more values is searched on.
LEVELS = 33


class Encoding:
    """Each parameter's values, numbered: a categorical's choices, a number's values or ``LEVELS`` of them.

    Args:
        distributions: by name; the columns are in this order.

    Attributes:
        space: the distributions.
        names: of the columns.
        levels: of each column.
        sizes: number of levels of each column, shape (d,).
        bends: which features are the bends of numbers, shape (f,).
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.space = dict(distributions)
        self.names = tuple(distributions)
        self.levels = tuple(_list_levels(distribution) for distribution in distributions.values())
        self.sizes = np.array([len(levels) for levels in self.levels])
        self._tables = [_make_features(levels) for levels in self.levels]
        self.bends = np.array(
            [i == 1 and table.shape[1] == 2 for table in self._tables for i in range(table.shape[1])], np.bool_
        )

    def rows(self, params: Sequence[Mapping[str, Any]]) -> Rows:
        """Level numbers, shape (n, d); a number between two levels gets the nearest."""
        rows = np.empty((len(params), len(self.names)), np.int64)
        for column, (name, space) in enumerate(self.space.items()):
            if isinstance(space, CategoricalDistribution):
                rows[:, column] = [space.to_internal_repr(vector[name]) for vector in params]
            elif len(params):
                values = np.array([vector[name] for vector in params], np.float64)
                distance = np.abs(values[:, None] - np.array(self.levels[column], np.float64))
                rows[:, column] = distance.argmin(axis=1)
        return rows

    def params(self, row: NDArray[np.int64]) -> dict[str, Any]:
        """The values of one row."""
        return {name: levels[int(i)] for name, levels, i in zip(self.names, self.levels, row, strict=True)}

    def columns(self, rows: Rows) -> dict[str, NDArray[np.int64]]:
        """Level numbers by name."""
        return {name: rows[:, i] for i, name in enumerate(self.names)}

    def features(self, rows: Rows) -> Array:
        """Shape (n, f), mean 0 over uniform levels.

        A number is itself, or its logarithm where its levels differ by a factor of 3 or more, and of more than two
        levels their bend: the square, less what the line says. Texts are one-hot.
        """
        return np.hstack([table[rows[:, i]] for i, table in enumerate(self._tables)])

    def random(self, count: int, rng: np.random.Generator) -> Rows:
        """Uniform and independent levels, shape (count, d)."""
        return rng.integers(self.sizes, size=(count, len(self.sizes)))

    def list_neighbours(self, row: NDArray[np.int64]) -> Rows:
        """All rows that differ in one level, shape (sum of sizes - d, d)."""
        return list_neighbours(row, self.sizes)

    def cross_rows(self, parents: Rows, count: int, rng: np.random.Generator) -> Rows:
        """Children of random pairs, each level from one parent or the other, shape (count, d)."""
        first, second = (parents[rng.integers(len(parents), size=count)] for _ in range(2))
        return np.where(rng.random(first.shape) < 0.5, first, second)


def list_neighbours(row: NDArray[np.int64], sizes: Sequence[int] | NDArray[np.int64]) -> Rows:
    """All rows that differ from one in one of its levels, of which there are ``sizes``: shape (sum of sizes - d, d)."""
    changes = [(i, level) for i, size in enumerate(sizes) for level in range(size) if level != row[i]]
    moves = np.repeat(row[None], len(changes), axis=0)
    moves[np.arange(len(changes)), [i for i, _ in changes]] = [level for _, level in changes]
    return moves


def _list_levels(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        values = np.geomspace(low, high, LEVELS)
    elif step is not None:
        count = round((high - low) / step) + 1
        values = low + step * np.unique(np.linspace(0, count - 1, min(count, LEVELS)).round())
    else:
        values = np.linspace(low, high, LEVELS)
    if isinstance(distribution, IntDistribution):
        return tuple(dict.fromkeys(round(float(value)) for value in values))
    return tuple(min(max(float(value), low), high) for value in values)


def _make_features(levels: Sequence[Any]) -> Array:
    """Features of each level, shape (levels, k)."""
    if not all(isinstance(level, int | float) and math.isfinite(level) for level in levels):
        return _standardise(np.eye(len(levels))[:, : 1 if len(levels) == 2 else None])
    column = np.array(levels, np.float64)
    if column.min() > 0 and column.max() / column.min() >= 3:
        column = np.log(column)
    line = _standardise(column[:, None])
    if len(levels) <= 2:
        return line
    square = line[:, 0] ** 2
    slope = (square * line[:, 0]).mean()
    return np.hstack([line, _standardise((square - slope * line[:, 0])[:, None])])


def _standardise(table: Array) -> Array:
    width = table.std(axis=0)
    return np.asarray((table - table.mean(axis=0)) / np.where(width > 1e-9, width, 1.0))
