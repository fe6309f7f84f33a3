"""A known good network as the beginning of a search: drawn around at first, forgotten as evidence comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ...space.errors import UserError
from ..encoding import Encoding, Rows

Array = NDArray[np.float64]

#: A decision of a network that is drawn around the known one is the same with this probability, else random.
SAME = 0.8
#: A trial takes no notice of the prior with this probability: epsilon of PriMO.
EPSILON = 0.25
#: A weight of the prior below this is none.
LEAST = 1e-4


def check_prior(prior: object) -> Mapping[str, Any] | None:
    """Decisions by name, as a sampler takes them; None: none.

    Raises:
        UserError: something else: a network's name, which only a search can look up in its space.
    """
    if prior is None or isinstance(prior, Mapping):
        return prior
    raise UserError(f"prior must be parameters by name where a sampler is made outside a search, got {prior!r:.100}")


def holds_value(distribution: BaseDistribution, value: Any) -> bool:
    """Whether the value is one of the distribution's."""
    if isinstance(distribution, CategoricalDistribution):
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in distribution.choices
        )
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


class Prior:
    """The belief that good rows are alike in most decisions to a known one.

    After PriMO (Basu et al. 2025, *Multi-objective Hyperparameter Optimization in the Age of Deep Learning*): a trial
    takes notice of the prior with probability 1 - epsilon; what a row is expected to gain is then multiplied by its
    prior density to the power ``exp(-n² / d)``, n evaluations after the initial design, with d decisions. Unlike there,
    the initial design is drawn around the known row too, and a prior that evidence speaks against is dropped.

    Args:
        encoding: of the parameters.
        known: values by name, of all parameters or of those that something is known about; others are passed over.

    Raises:
        UserError: a value is not one of its parameter's.
    """

    def __init__(self, encoding: Encoding, known: Mapping[str, Any]) -> None:
        self._encoding = encoding
        self._named = np.array([name in known for name in encoding.names], np.bool_)
        first = encoding.params(np.zeros(len(encoding.names), np.int64))
        for name in set(known) & set(encoding.names):
            if not holds_value(encoding.space[name], known[name]):
                raise UserError(f"prior: {name} must be a value of {encoding.space[name]}, got {known[name]!r}")
        (self._row,) = encoding.rows([{name: known.get(name, value) for name, value in first.items()}])
        self._share = (1 - SAME) / encoding.sizes
        #: Decisions in which a random row differs, on average.
        self._usual = float((self._named * (1 - 1 / encoding.sizes)).sum())

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """The known row, then rows around it, shape (count, d); decisions that nothing is known of are random."""
        drawn = self._encoding.random(count, rng)
        same = rng.random(drawn.shape) < SAME
        same[0] = True
        return np.where(same & self._named, self._row, drawn)

    def measure_distance(self, rows: Rows) -> NDArray[np.int64]:
        """The number of decisions in which each row differs: (n, d) → (n,)."""
        return np.asarray(((rows != self._row) & self._named).sum(axis=1))

    def log_density(self, rows: Rows) -> Array:
        """Of rows, as a share of the known one's: (n, d) → (n,), at most 0."""
        drop = np.log(self._share / (SAME + self._share))
        return np.asarray(((rows != self._row) & self._named) @ drop)

    def is_noticed(self, rng: np.random.Generator) -> bool:
        """Whether a trial takes notice of it: one of four does not."""
        return bool(rng.random() >= EPSILON)

    def fade(self, evaluations: int) -> float:
        """The power of the density, so many evaluations after the initial design; 0: it does not count any more."""
        power = math.exp(-(evaluations**2) / len(self._encoding.names))
        return power if power >= LEAST else 0.0

    def is_refuted(self, rows: Rows, values: Array) -> bool:
        """Whether the evaluated rows around it are the worse ones, in the median.

        How bad one is, is the number of rows that dominate it. It takes two of either kind.

        Args:
            rows: evaluated, shape (n, d).
            values: theirs, shape (n, m), larger being better.
        """
        near = self.measure_distance(rows) <= 0.6 * self._usual  # of draws 0.2, of random rows 1
        if near.sum() < 2 or (~near).sum() < 2:
            return False
        better = (values[:, None] >= values[None]).all(axis=2) & (values[:, None] > values[None]).any(axis=2)
        beaten = better.sum(axis=0)
        return bool(np.median(beaten[near]) > np.median(beaten[~near]))
