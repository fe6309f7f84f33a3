"""The law of a family: err = c + a·M^−b, as a posterior over its constants, given a few members.

With M the members' cost and E the error at the largest of them, the law is err = E·(κ + (1 − κ)·(M/M_max)^−b), κ being
the share of E that no size removes. Members scatter around it by σ of their error, besides the noise of their
trainings. E has a flat prior and is integrated exactly; b, κ and σ are integrated on a grid. Their priors are those
that predict the larger members of published families best from four and more smaller ones, and were tested on families
that they were not made from (``benchmarks/predict.py``). The interval of a prediction holds all of it: what is not
known of the law, the scatter and the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr

from ...space.errors import UserError

Array = NDArray[np.float64]

#: Fewer members say nothing about three constants; so many are few.
FEWEST, FEW = 4, 4
#: Of an interval, by default.
LEVEL = 0.9
#: No size was tested further beyond the largest member than so many times its cost.
TESTED = 15.0


@dataclass(frozen=True)
class Prior:
    """What is known of a law before there are members: medians and spreads of families.

    Args:
        exponent: median of b.
        factor: its spread: log b has Student's t with 4 degrees of freedom and this scale.
        limit: of κ's density, proportional to κ^(limit − 1).
        scatter: median of σ, as a share of the error.
        scatter_factor: its spread: standard deviation of log σ.
    """

    exponent: float = 0.86
    factor: float = 0.35
    limit: float = 1.3
    scatter: float = 0.01
    scatter_factor: float = 0.45


#: By what the members cost: errors fall faster with activations, parameters and latency than with MACs.
PRIORS = {
    "macs": Prior(),
    "activations": Prior(exponent=1.22, factor=0.4),
    "params": Prior(exponent=1.22, factor=0.4),
    "latency": Prior(exponent=1.22, factor=0.4),
}
#: The grid of log b and κ: its ends, and its sides at first, to find where the posterior is, and then there. Twice the
#: sides change the mean errors of the benchmark by less than 0.01 points.
_EXPONENTS, _LIMITS = (math.log(0.04), math.log(4.0)), (0.003, 0.997)
_COARSE, _FINE = (48, 64), (72, 80)
#: What is less likely than the likeliest place by this factor is left out of the second.
_NOTHING = 1e-4
_SCATTERS = np.exp(np.linspace(math.log(0.002), math.log(0.1), 12))
#: Draws that stand for the posterior; the largest cost, in that of the largest member, that the equation is fitted to.
_DRAWS, _REACH = 6000, 16.0
#: Logarithm of the largest cost, and ratio of costs, that is told.
_LONG = 80.0


@dataclass(frozen=True)
class Equation:
    """err = c + a·M^−b: the error is a fraction of 1, M is in units (MACs, parameters, elements, seconds)."""

    c: float
    a: float
    b: float

    def accuracy(self, cost: float) -> float:
        """Top-1, a fraction of 1."""
        return float(1 - self.c - self.a * cost**-self.b)

    def cost(self, accuracy: float) -> float | None:
        """The cost that an accuracy needs; None: no size has it."""
        left = 1 - accuracy - self.c
        exponent = (math.log(self.a) - math.log(left)) / self.b if left > 0 else math.inf
        return math.exp(exponent) if exponent < _LONG else None

    def worthwhile(self, gain: float) -> float:
        """The cost from which doubling it gains less than ``gain``."""
        return float((self.a * (1 - 2**-self.b) / gain) ** (1 / self.b))


@dataclass(frozen=True)
class Prediction:
    """The accuracy of one member: expected by the law, and the ends of an interval."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Law:
    """A posterior: equally weighted draws, and the equation in their middle.

    Args:
        equation: fitted to the medians of the draws from the smallest member to 16 times the largest one's cost.
        largest: cost of the largest member.
        b, kappa, log_error, scatter, precision: of the draws, shape (draws,): log E has mean ``log_error`` and variance
            1/``precision``.
        noise: variance of the logarithm of the error of one training, where the members tell it; else 0.
    """

    equation: Equation
    largest: float
    b: Array
    kappa: Array
    log_error: Array
    scatter: Array
    precision: Array
    noise: float

    def predict(self, cost: float, level: float = LEVEL) -> Prediction:
        """The accuracy of a training of a member of that cost, by the equation, and an interval that holds it."""
        mean, sd = self._log_error_at(cost)
        low, high = (_quantile(mean, sd, p) for p in ((1 - level) / 2, (1 + level) / 2))
        expected = self.equation.accuracy(cost)
        # an accuracy below chance has no meaning here, above 1 none at all
        least, most = max(0.0, 1 - math.exp(high)), 1 - math.exp(low)
        return Prediction(min(max(expected, least), most), least, most)

    def needed(self, accuracy: float, level: float = LEVEL) -> tuple[float | None, float | None, float]:
        """The ends of an interval of the cost that an accuracy needs (None: no size has it), and the probability that
        some size has it.
        """
        share = (1 - accuracy) / np.exp(self.log_error)
        reached = share > self.kappa
        costs = np.full(len(share), np.inf)
        left = (share[reached] - self.kappa[reached]) / (1 - self.kappa[reached])
        costs[reached] = self.largest * np.exp(np.minimum(-np.log(left) / self.b[reached], _LONG))
        return *_ends(costs, level), float(reached.mean())

    def worthwhile(self, gain: float, level: float = LEVEL) -> tuple[float | None, float | None]:
        """The ends of an interval of the cost from which doubling it gains less than ``gain`` of accuracy."""
        falls = np.exp(self.log_error) * (1 - self.kappa) * (1 - 2**-self.b)
        return _ends(self.largest * np.exp(np.minimum(np.log(falls / gain) / self.b, _LONG)), level)

    def _log_error_at(self, cost: float) -> tuple[Array, Array]:
        mean = self.log_error + _curve(self.b, self.kappa, math.log(cost / self.largest))
        return mean, np.sqrt(self.scatter**2 + self.noise + 1 / self.precision)


def fit_law(
    costs: Sequence[float],
    accuracies: Sequence[float],
    *,
    runs: Sequence[int] | None = None,
    noise: float = 0.0,
    axis: str = "macs",
    prior: Prior | None = None,
) -> Law:
    """The law of members.

    Args:
        costs: of each, above 0.
        accuracies: of each, between 0 and 1.
        runs: trainings whose mean each is; None: one.
        noise: standard deviation of one training's accuracy as a share of its error; 0: unknown, part of the scatter.
        axis: what the costs are, for the prior.
        prior: in place of that of :data:`PRIORS`.

    Raises:
        UserError: fewer than 4 members of different costs.
    """
    order = np.argsort(costs, kind="stable")
    x, accuracy = np.asarray(costs, dtype=float)[order], np.asarray(accuracies, dtype=float)[order]
    if len(np.unique(x)) < FEWEST:
        raise UserError(f"a law needs at least {FEWEST} members of different {axis}, got {len(np.unique(x))}")
    y, at = np.log1p(-accuracy), np.log(x / x[-1])
    own = noise**2 / (np.ones(len(x)) if runs is None else np.asarray(runs, dtype=float)[order])
    prior = prior or PRIORS[axis]
    box = _EXPONENTS, _LIMITS
    for sides in (_COARSE, _FINE):
        log_b, grid_k = _grid(box, sides)
        rest = y - _curve(np.exp(log_b)[:, None], grid_k[:, None], at)
        weights = 1 / (_SCATTERS[:, None] ** 2 + own)  # a row a scatter
        total = weights.sum(axis=1)
        mean = rest @ weights.T / total
        squares = rest**2 @ weights.T - total * mean**2
        likelihood = 0.5 * np.log(weights).sum(axis=1) - 0.5 * np.log(total) - 0.5 * squares
        log_posterior = likelihood + _log_prior(prior, log_b, grid_k)
        posterior = np.exp(log_posterior - log_posterior.max())
        likely = posterior.max(axis=1) > _NOTHING
        box = _around(log_b[likely], box[0], sides[0]), _around(grid_k[likely], box[1], sides[1])
    chosen = _systematic(posterior.ravel())
    place, number = np.divmod(chosen, len(_SCATTERS))
    b, kappa, log_error = np.exp(log_b[place]), grid_k[place], mean[place, number]
    equation = _equation(b, kappa, log_error, x)
    return Law(equation, float(x[-1]), b, kappa, log_error, _SCATTERS[number], total[number], noise**2)


def _curve(b: Any, kappa: Any, at: Any) -> Array:
    """log(err / E) at log(M / M_max)."""
    return np.asarray(np.log(kappa + (1 - kappa) * np.exp(-b * at)))


def _grid(box: tuple[tuple[float, float], tuple[float, float]], sides: tuple[int, int]) -> tuple[Array, Array]:
    """The middles of the cells, both coordinates flat."""
    axes = [low + (high - low) * (np.arange(n) + 0.5) / n for (low, high), n in zip(box, sides, strict=True)]
    first, second = np.meshgrid(*axes, indexing="ij")
    return first.ravel(), second.ravel()


def _around(values: Array, ends: tuple[float, float], side: int) -> tuple[float, float]:
    """The ends of the cells with these middles, and of one more on each side."""
    room = 1.5 * (ends[1] - ends[0]) / side
    return max(ends[0], float(values.min()) - room), min(ends[1], float(values.max()) + room)


def _log_prior(prior: Prior, log_b: Array, kappa: Array) -> Array:
    """Of the grid: a row an exponent and share, a column a scatter."""
    b = -2.5 * np.log1p(((log_b - math.log(prior.exponent)) / prior.factor) ** 2 / 4)
    scatter = -0.5 * (np.log(_SCATTERS / prior.scatter) / prior.scatter_factor) ** 2
    return np.asarray((b + (prior.limit - 1) * np.log(kappa))[:, None] + scatter)


def _systematic(weights: Array) -> NDArray[np.int64]:
    """Places of equally weighted draws, the same ones each time; the weights need not add up to 1."""
    sums = np.cumsum(weights)
    steps = (np.arange(_DRAWS) + 0.5) / _DRAWS * sums[-1]
    return np.asarray(np.minimum(np.searchsorted(sums, steps), len(weights) - 1))


def _equation(b: Array, kappa: Array, log_error: Array, x: Array) -> Equation:
    """The law nearest to the medians of the draws."""
    at = np.linspace(math.log(x[0] / x[-1]), math.log(_REACH), 24)
    middle = np.median(log_error[:, None] + _curve(b[:, None], kappa[:, None], at), axis=0)

    def misses(p: Array) -> Array:
        return np.asarray(p[0] + _curve(math.exp(p[1]), p[2], at) - middle)

    start = [float(np.median(log_error)), math.log(float(np.median(b))), float(np.median(kappa))]
    found = least_squares(misses, start, bounds=([-np.inf, math.log(0.02), 0.0], [np.inf, math.log(8.0), 0.999]))
    error, exponent, share = math.exp(found.x[0]), math.exp(found.x[1]), float(found.x[2])
    return Equation(error * share, error * (1 - share) * float(x[-1]) ** exponent, exponent)


def _ends(costs: Array, level: float) -> tuple[float | None, float | None]:
    """Of an interval that holds so much of the costs; None stands for infinity."""
    costs = np.sort(costs)
    low, high = (float(costs[min(int(p * len(costs)), len(costs) - 1)]) for p in ((1 - level) / 2, (1 + level) / 2))
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _quantile(mean: Array, sd: Array, p: float) -> float:
    """Of a mixture of normal distributions, by bisection."""
    low, high = float((mean - 6 * sd).min()), float((mean + 6 * sd).max())
    for _ in range(28):
        middle = (low + high) / 2
        low, high = (middle, high) if float(ndtr((middle - mean) / sd).mean()) < p else (low, middle)
    return (low + high) / 2
