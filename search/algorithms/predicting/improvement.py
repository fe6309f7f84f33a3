"""How much hypervolume a network is expected to add to a front, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ...optuna_private import divide_non_dominated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """The region that no point of a front dominates; m objectives, larger being better.

    Args:
        lower: corners, shape (k, m), at least the reference point.
        upper: corners, shape (k, m), infinite where a box is open.
    """

    lower: Array
    upper: Array

    def expect_gain(self, mean: Array, deviation: Array) -> Array:
        """Expected volume that each of n points adds, its coordinates being independent and normal: (n, m) → (n,).

        A point y adds to a box what lies below y in it, a product over the coordinates; so the expectation is the sum
        over boxes of ``Π E[min(y, upper) - lower, at least 0]`` (Yang et al. 2019, *Efficient computation of expected
        hypervolume improvement using box decomposition algorithms*). A coordinate that is known has deviation 0: of two
        objectives, one of them a cost, it is the integral of the expected improvement over the costs that the point
        dominates.
        """
        volumes = np.ones((len(mean), len(self.lower)))
        for column, (m, s) in enumerate(zip(mean.T, deviation.T, strict=True)):
            # a front's point bounds many boxes: each level once
            levels, place = np.unique(np.r_[self.lower[:, column], self.upper[:, column]], return_inverse=True)
            excess = _expect_excess(m, s, levels)
            low, high = np.split(place.reshape(-1), 2)
            volumes *= excess[:, low] - excess[:, high]
        return np.asarray(volumes.sum(axis=1))


def _expect_excess(mean: Array, deviation: Array, levels: Array) -> Array:
    """``E[y - level, at least 0]`` of normal y: shapes (n,), (n,), (k,) → (n, k), falling from left to right."""
    excess = np.zeros((len(mean), len(levels)))
    finite = np.isfinite(levels)
    gap = mean[:, None] - levels[finite]
    excess[:, finite] = np.maximum(gap, 0.0)
    if (deviation > 0).any():
        width = np.maximum(deviation, 1e-300)[:, None]
        ratio = np.clip(gap / width, -40.0, 40.0)  # beyond, it is the gap itself, or 0
        tail = width * (np.exp(-0.5 * ratio**2) / np.sqrt(2 * np.pi) - np.abs(ratio) * ndtr(-np.abs(ratio)))
        excess[:, finite] += np.maximum(tail, 0.0)
    return excess


def divide_region(values: Array, reference: Array) -> Boxes:
    """What the rows of ``values``, shape (n, m), leave undominated above ``reference``, shape (m,); m at least 2."""
    inside = values[(values > reference).all(axis=1)]
    if not len(inside):
        return Boxes(reference[None], np.full((1, len(reference)), np.inf))
    best, worst = divide_non_dominated(-inside, -reference)
    return Boxes(-worst, -best)
