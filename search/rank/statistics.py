"""How well one column of numbers ranks what another one measures.

τ is Kendall's τ-b throughout: (concordant − discordant pairs) / √(pairs untied in x · pairs untied in y).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Draws of the bootstrap, and the level of its intervals.
DRAWS = 2000
LEVEL = 0.95
#: Members below which no τ is told.
FEWEST = 5
#: The best ones by the reference: a share of all.
TOP = 0.1
#: Networks whose MACs are in one bin, ln MACs / ln 1.05 rounded down, count as equal.
BIN = 0.05


class Interval(NamedTuple):
    """A value and the bounds of its 95 % interval; NaN: not known."""

    value: float
    low: float
    high: float


def kendall(x: Array, y: Array) -> float:
    """τ of two columns, each of shape (n,); NaN where one is constant or there are fewer than two rows."""
    from scipy.stats import kendalltau  # most of a second to import

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(kendalltau(x, y).statistic)


def bootstrap(x: Array, y: Array, draws: int = DRAWS, seed: int = 0) -> Interval:
    """τ and the percentile interval of a bootstrap over the rows.

    A row that is drawn k times counts k times; it makes no pair with itself.

    Args:
        x, y: of shape (n,).
        draws: of n rows each.
        seed: of the draws: the same for all columns, so that their intervals can be compared.
    """
    agree, untied = _signs(x) * _signs(y), (np.abs(_signs(x)), np.abs(_signs(y)))
    count = len(x)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws).astype(np.float64)
    sums = [np.einsum("ij,ij->i", weights @ pairs, weights) for pairs in (agree, *untied)]
    with np.errstate(invalid="ignore", divide="ignore"):
        taus = sums[0] / np.sqrt(sums[1] * sums[2])
    taus = taus[np.isfinite(taus)]
    tails = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    low, high = np.percentile(taus, tails) if len(taus) else (math.nan, math.nan)
    return Interval(kendall(x, y), float(low), float(high))


def _signs(values: Array) -> Array:
    """Of the differences of all pairs, shape (n, n)."""
    return np.asarray(np.sign(values[:, None] - values[None]), np.float64)


def kendall_top(x: Array, y: Array, share: float = TOP) -> float:
    """τ among the best ⌈share · n⌉ rows by y; NaN where these are fewer than five."""
    best = list_best(y, math.ceil(share * len(y)))
    return kendall(x[best], y[best]) if len(best) >= FEWEST else math.nan


def kendall_equal(x: Array, y: Array, macs: Array, width: float = BIN) -> tuple[float, int]:
    """τ over the pairs of equal MACs, and how many pairs these are; NaN of fewer than five pairs.

    Args:
        x, y, macs: of shape (n,).
        width: of a bin: 0.05 are 5 %.
    """
    bins = np.floor(np.log(macs) / math.log1p(width))
    pairs = np.triu(bins[:, None] == bins[None], 1)
    count = int(pairs.sum())
    one, other = _signs(x)[pairs], _signs(y)[pairs]
    untied = float(np.abs(one).sum() * np.abs(other).sum())
    return (float((one * other).sum()) / math.sqrt(untied) if untied and count >= FEWEST else math.nan), count


def list_best(values: Array, count: int) -> NDArray[np.int64]:
    """The rows of the largest values, the first of equal ones first."""
    return np.asarray(np.argsort(-values, kind="stable")[:count], np.int64)


def overlap(x: Array, y: Array, share: float = TOP) -> float:
    """The part of the best ⌈share · n⌉ rows by y that are among as many best ones by x."""
    count = max(1, math.ceil(share * len(y)))
    return len({*list_best(x, count).tolist()} & {*list_best(y, count).tolist()}) / count


class Ceiling(NamedTuple):
    """What the noise of the reference allows.

    Args:
        one: τ of one seed with another, the mean over the pairs of seeds.
        best: the τ that the true values would have with the mean over the seeds.
    """

    one: float
    best: float


def find_ceiling(columns: Sequence[Array]) -> Ceiling:
    """The ceiling of a reference of k seeds, k ≥ 2: no shortcut, however good, has a higher τ in expectation.

    From the τ of one seed with another the correlation of their normal scores is r = sin(π τ / 2) (Greiner 1909). The
    mean of k seeds then has the reliability ρ = k r / (1 + (k − 1) r) (Spearman 1910, Brown 1910), and the truth's
    correlation with it is √ρ (attenuation, Spearman 1904), which is (2/π) asin √ρ as a τ. Exact for normal truths with
    normal noise; 0 where the seeds do not agree at all.

    Args:
        columns: one a seed, each of shape (n,).
    """
    one = float(np.mean([kendall(a, b) for a, b in combinations(columns, 2)]))
    if math.isnan(one):
        return Ceiling(one, math.nan)
    r, count = math.sin(math.pi / 2 * max(one, 0.0)), len(columns)
    reliability = count * r / (1 + (count - 1) * r)
    return Ceiling(one, 2 / math.pi * math.asin(math.sqrt(reliability)))


def expect_tau(columns: Sequence[Array], ceiling: Ceiling) -> float:
    """The τ of one more training of each network with the mean of the seeds, in expectation: by √(r · ρ)."""
    r, count = math.sin(math.pi / 2 * max(ceiling.one, 0.0)), len(columns)
    return 2 / math.pi * math.asin(math.sqrt(r * count * r / (1 + (count - 1) * r)))
