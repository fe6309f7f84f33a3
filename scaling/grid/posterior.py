"""What a grid tells of the shares of depth, width and resolution, beside what is known before: a posterior.

The growth of a network is u = (ln α, 2 ln β, 2 ln γ), made as long as its achieved MACs ratio says: Σ u = ln(ratio).
The accuracy is a quadratic in u, not in its shares at Σ u = ln 2 alone, so it says something of φ above 1:

    accuracy(u) = a + Σ b_d u_d − ½ Σ q_d u_d² − Σ c_de u_d u_e

Before any training, b_d is the same for all three, q_d is κ / s_d and c is 0, where s are the shares of the published
coefficients (1.2, 1.1, 1.15): then the best shares are s for any φ. Training moves b, q and c away from that. How deep
the bowl around s is (κ), how far the truth may be from it, and what the quadratic misses are not known; they are
averaged over, by how likely they make the accuracies (a mixture of Gaussian posteriors on a grid).

Pixels beyond the images' own hold nothing new, though a larger picture may suit a network better. Where their own size
is known, growth of the resolution beyond it has a coefficient e besides, of max(u_r − knee, 0), which is 0 before.

The coefficients serve a family, so what counts is the expected accuracy at φ = 1 and 2, not at φ = 1 alone. A quadratic
is not to be believed farther out: with φ = 3 among them it loses more, at φ = 3 too (benchmarks/grid_choice.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..coefficients import PAPER
from .response import Array, log_growth, shares

#: Of the family whose mean accuracy is looked for.
FAMILY = (1.0, 2.0)
#: Accuracies, as fractions: the bowl's depth, the deviation of a coefficient, what the quadratic misses of a network,
#: and the noise of a training where nothing tells it. Equally likely before.
DEPTHS = (0.002, 0.006, 0.02)
DEVIATIONS = (0.001, 0.003, 0.01, 0.03, 0.1)
MISSED = (0.0, 0.002, 0.006)
NOISES = (0.002, 0.005, 0.01, 0.02, 0.05)
#: The least deviation of what growth beyond the images' own pixels is worth less, for each unit of it.
BEYOND = 0.01
#: A standard deviation of what is not known at all: the baseline's accuracy and the gain of a doubling.
WIDE = 1.0
PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class Posterior:
    """A mixture of Gaussians over the coefficients.

    Args:
        means: of each part, shape (k, p).
        covariances: of each part, shape (k, p, p).
        weights: of the parts, shape (k,).
        missed, noise: standard deviations of what the quadratic misses of a network, and of a training, shapes (k,).
        knee: the growth of the resolution, 2 ln γ, beyond which pixels are not the images' own; infinite: not known.
    """

    means: Array
    covariances: Array
    weights: Array
    missed: Array
    noise: Array
    knee: float = math.inf

    def expect(self, mixture: Array) -> Array:
        """The expected mean accuracy of the family, (n, 3) shares → (n,)."""
        return np.asarray(self.weights @ (self.means @ family_terms(mixture, self.knee).T))

    def ahead(self, mixture: Array, other: Array) -> tuple[float, float]:
        """By how much a family of shares (3,) is ahead of another's in expectation, and the standard deviation."""
        row = family_terms(mixture[None], self.knee)[0] - family_terms(other[None], self.knee)[0]
        parts = self.means @ row
        mean = float(self.weights @ parts)
        inside = np.einsum("p,kpr,r->k", row, self.covariances, row)
        return mean, math.sqrt(max(float(self.weights @ (inside + (parts - mean) ** 2)), 0.0))


def fit_posterior(
    mixture: Array,
    accuracies: Sequence[float],
    seeds: Sequence[int],
    noise: float | None,
    ratios: Sequence[float],
    knee: float = math.inf,
) -> Posterior:
    """The posterior after these networks' trainings; after none it is what was known before.

    Args:
        mixture: shares of each different network's growth, shape (n, 3).
        accuracies: means over seeds, n of them, as fractions.
        seeds: trainings behind each mean.
        noise: standard deviation over seeds; None: not known, and averaged over, too.
        ratios: achieved ratio of each network: of MACs, or what the grid holds.
        knee: as :class:`Posterior` has it.
    """
    values, trainings = np.asarray(accuracies, np.float64), np.asarray(seeds, np.float64)
    design = terms(mixture * np.log(np.asarray(ratios, np.float64))[:, None], knee)
    parts: list[tuple[Array, Array, float, float]] = []
    likely: list[float] = []
    for depth, deviation, missed, one in product(DEPTHS, DEVIATIONS, MISSED, NOISES if noise is None else (noise,)):
        mean, prior = _before(depth, deviation)
        errors = np.maximum(one**2 / trainings + missed**2, 1e-10)
        moved = prior @ design.T
        spread = design @ moved + np.diag(errors)
        factor = np.linalg.cholesky(spread)
        away = np.linalg.solve(factor, values - design @ mean)
        likely.append(-0.5 * float(away @ away) - float(np.log(np.diag(factor)).sum()))
        gain = np.linalg.solve(factor, moved.T)
        parts.append((mean + gain.T @ away, prior - gain.T @ gain, missed, one))
    weights = np.exp(np.array(likely) - max(likely))
    means, covariances, misses, noises = (np.array(found) for found in zip(*parts, strict=True))
    return Posterior(means, covariances, weights / weights.sum(), misses, noises, knee)


def published_shares() -> Array:
    """Of the coefficients that Tan & Le found, shape (3,)."""
    result: Array = shares(log_growth(PAPER)[None])[0]
    return result


def _before(depth: float, deviation: float) -> tuple[Array, Array]:
    """Mean and covariance of the coefficients before any training, shapes (11,) and (11, 11)."""
    centre = published_shares()
    # the gain of a doubling is common to the three; κ is such that the bowl is about as deep, at a ratio of 2
    mean = np.array([0.5, *(0.05,) * 3, *(depth / math.log(2) ** 2 / centre), *(0.0,) * 4])
    own = np.array([WIDE, *(deviation,) * 3, *(deviation / centre), *(deviation / 0.3,) * 3, max(deviation, BEYOND)])
    covariance = np.diag(own**2)
    covariance[1:4, 1:4] += WIDE**2
    return mean, covariance


def terms(at: Array, knee: float = math.inf) -> Array:
    """The columns of the model, (n, 3) → (n, 11)."""
    pairs = [-at[:, i] * at[:, j] for i, j in PAIRS]
    return np.column_stack([np.ones(len(at)), at, -0.5 * at**2, *pairs, np.maximum(at[:, 2] - knee, 0.0)])


def family_terms(mixture: Array, knee: float = math.inf) -> Array:
    """The terms of the mean over the family, (n, 3) shares → (n, 11)."""
    return np.asarray(np.mean([terms(mixture * phi * math.log(2), knee) for phi in FAMILY], axis=0))
