"""The response surface of a grid: accuracy as a quadratic of how depth, width and resolution share the growth.

On the constraint α·β²·γ² = 2 there are two free directions. The shares of depth, width and resolution in the logarithm
of the MACs factor, ln α : 2 ln β : 2 ln γ, add up to 1, so this is an experiment with mixtures, and the quadratic is
Scheffé's (1958, *Experiments with mixtures*): a term for each share and for each product of two. Networks that miss the
ratio of 2 are brought to it by a further term, linear in the logarithm of the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from ..coefficients import Coefficients

Array = NDArray[np.float64]

TERMS = ("depth", "width", "resolution", "depth*width", "depth*resolution", "width*resolution")
#: Networks beyond the number of terms that a fit must have: fewer leave too little to tell noise from shape.
SPARE = 4
#: Standard deviation of ln(ratio / 2) from which on the ratio gets a term.
UNEQUAL = 0.02
LEVEL = 0.95
#: Draws of the parametric bootstrap.
DRAWS = 2000


def log_growth(point: Coefficients) -> Array:
    """ln α, 2 ln β, 2 ln γ: what depth, width and resolution add to the logarithm of the MACs, shape (3,)."""
    return np.array([math.log(point.alpha), 2 * math.log(point.beta), 2 * math.log(point.gamma)])


def shares(growth: Array) -> Array:
    """Parts of depth, width and resolution in the growth, (n, 3) → (n, 3); a row's sum is 1."""
    result: Array = growth / growth.sum(axis=1, keepdims=True)
    return result


def _terms(mixture: Array, excess: Array | None) -> Array:
    """The columns of the model, shape (n, 6) or (n, 7)."""
    d, w, r = mixture.T
    columns = [d, w, r, d * w, d * r, w * r]
    return np.stack(columns if excess is None else [*columns, excess], axis=1)


@dataclass(frozen=True)
class Surface:
    """A fitted quadratic; accuracies are fractions.

    Args:
        coefficients: of :data:`TERMS`, and of ln(ratio / 2) where it has a term, shape (p,).
        covariance: theirs, shape (p, p).
        sigma: standard deviation of one training around the surface: seed noise and what the quadratic misses.
        r2: share of the weighted variance of the networks' accuracies that the surface explains.
        count: networks that were fitted.
    """

    coefficients: Array
    covariance: Array
    sigma: float
    r2: float
    count: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the residuals."""
        return self.count - len(self.coefficients)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the coefficients."""
        return (*TERMS, "ratio")[: len(self.coefficients)]

    @property
    def errors(self) -> Array:
        """Standard errors of the coefficients, shape (p,)."""
        return np.sqrt(np.diag(self.covariance))

    def rows(self, mixture: Array) -> Array:
        """The model's terms at a ratio of exactly 2, shape (n, p)."""
        return _terms(mixture, np.zeros(len(mixture)) if len(self.coefficients) > len(TERMS) else None)

    def predict(self, mixture: Array) -> tuple[Array, Array]:
        """Expected accuracy at a ratio of exactly 2 and its standard error, (n, 3) → (n,), (n,)."""
        rows = self.rows(mixture)
        return rows @ self.coefficients, np.sqrt(np.einsum("ij,jk,ik->i", rows, self.covariance, rows))

    @cached_property
    def deviations(self) -> Array:
        """Draws of the coefficients' errors: multivariate t, always the same, shape (DRAWS, p)."""
        rng = np.random.default_rng(0)
        normal = rng.multivariate_normal(np.zeros(len(self.covariance)), self.covariance, DRAWS, method="eigh")
        return np.asarray(normal / np.sqrt(rng.chisquare(self.freedom, DRAWS) / self.freedom)[:, None])

    def improvement(self, mixture: Array, best: Array) -> Array:
        """Expected improvement over the expected accuracy at ``best``, (n, 3), (3,) → (n,)."""
        ahead = self.rows(mixture) - self.rows(best[None])
        gains = ahead @ self.coefficients + self.deviations @ ahead.T
        return np.asarray(np.maximum(gains, 0.0).mean(axis=0))

    def not_below(self, mixture: Array) -> NDArray[np.bool_]:
        """Where the expected accuracy is not significantly below the highest: one-sided t-tests, one by one, (n,)."""
        rows = self.rows(mixture)
        means = rows @ self.coefficients
        behind = rows[int(np.argmax(means))] - rows
        errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", behind, self.covariance, behind), 0.0))
        result: NDArray[np.bool_] = means.max() - means <= stats.t.ppf(LEVEL, self.freedom) * errors + 1e-12
        return result

    def region(self, mixture: Array) -> NDArray[np.bool_]:
        """A set with the maximiser in it 95 % of the time, (n, 3) → (n,): where :meth:`excess` is not positive."""
        result: NDArray[np.bool_] = self.excess(mixture) <= 0
        return result

    def excess(self, mixture: Array) -> Array:
        """By how many standard errors a point is too far below another to be the maximiser, (n, 3) → (n,).

        A point is out if another is above it by more than the bootstrap says chance would put the highest of all
        others above the best one (simultaneous, as Hsu's comparisons with the best). The points that are the highest
        in 95 % of the draws are no such set: it has the maximiser too seldom (docs/coefficients.md).
        """
        rows = self.rows(mixture)
        means, errors = rows @ self.coefficients, self.deviations @ rows.T
        both = rows @ self.covariance @ rows.T
        variances = np.diag(both)
        spread = np.sqrt(np.maximum(variances[:, None] + variances - 2 * both, 1e-30))
        beyond = np.zeros(len(rows))
        for i, widths in enumerate(spread):
            others = np.abs(rows - rows[i]).max(axis=1) > 1e-9
            if others.any():
                ahead = ((means - means[i])[others] / widths[others]).max()
                chance = ((errors[:, others] - errors[:, [i]]) / widths[others]).max(axis=1)
                beyond[i] = ahead - np.quantile(chance, LEVEL)
        return beyond


def fit_surface(
    mixture: Array, accuracies: Sequence[float], seeds: Sequence[int], noise: float | None, ratios: Sequence[float]
) -> Surface | str:
    """Weighted least squares over different networks, or the reason why there is no fit.

    The variance of a network's mean is seed noise over its seeds, and what the quadratic misses of it: that part is
    such that the residuals are as large as they should be (Paule and Mandel 1982), and never below 0.

    Args:
        mixture: shares, shape (n, 3).
        accuracies: means over seeds, n of them.
        seeds: trainings behind each mean.
        noise: standard deviation over seeds; None: not known, all the spread around the surface counts as noise.
        ratios: achieved ratio of each network: of MACs, or what the grid holds.
    """
    values, trainings = np.asarray(accuracies, np.float64), np.asarray(seeds, np.float64)
    excess = np.log(np.asarray(ratios, np.float64) / 2)
    unequal = len(values) >= len(TERMS) + 1 + SPARE and float(np.std(excess)) > UNEQUAL
    design = _terms(mixture, excess if unequal else None)
    count, terms = design.shape
    if count < terms + SPARE:
        return f"{count} different networks with a result are too few for a response surface: it needs {terms + SPARE}"
    if np.linalg.matrix_rank(design, tol=1e-6) < terms:
        return "the points do not differ enough in depth, width and resolution for a response surface"

    def weighted(missed: float) -> tuple[Array, Array, Array]:
        """Coefficients, residuals and weights for a variance that the quadratic misses."""
        weights = 1 / (missed + (1.0 if noise is None else noise**2) / trainings)
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        return np.asarray(solution, np.float64), np.asarray(values - design @ solution, np.float64), weights

    freedom = count - terms
    missed = 0.0
    if noise is not None:

        def surplus(variance: float) -> float:
            _, residuals, weights = weighted(variance)
            surplus_of: float = (weights * residuals**2).sum() - freedom
            return surplus_of

        floor = 1e-12 if noise == 0 else 0.0
        most = max(float(np.var(values)) * count, 1e-9)
        missed = float(brentq(surplus, floor, most)) if surplus(floor) > 0 > surplus(most) else floor
    solution, residuals, weights = weighted(missed)
    scale = float((weights * residuals**2).sum()) / freedom if noise is None else 1.0
    covariance = scale * np.linalg.pinv(design.T @ (design * weights[:, None]))
    center = np.average(values, weights=weights)
    total = float((weights * (values - center) ** 2).sum())
    return Surface(
        coefficients=solution,
        covariance=(covariance + covariance.T) / 2,
        sigma=math.sqrt(scale if noise is None else missed + noise**2),
        r2=1 - float((weights * residuals**2).sum()) / total if total > 0 else 0.0,
        count=count,
    )


def describe(surface: Surface) -> dict[str, Any]:
    """The numbers of ``summary.json``."""
    return {
        "coefficients": dict(zip(surface.names, surface.coefficients.tolist(), strict=True)),
        "standard_errors": dict(zip(surface.names, surface.errors.tolist(), strict=True)),
        "sigma": surface.sigma,
        "r2": surface.r2,
        "degrees_of_freedom": surface.freedom,
    }
