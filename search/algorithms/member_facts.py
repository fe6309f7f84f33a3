"""What is known of a network before it is trained: its costs, whether it meets the limits, what the objective adds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler

from ...evaluate.latency.laws import KnownLatency
from ...evaluate.zero_cost.learned import ProxyFeatures
from ...evaluate.zero_cost.proxies import check_proxies
from ...space.errors import UserError
from ...space.space import SearchSpace
from ..feasible import compute_excess, cost_rows
from ..objective import COST_METRICS, COSTS, Objective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Facts:
    """Of n members and m objectives.

    Args:
        features: what helps to predict the rest, shape (n, f).
        excess: the largest ``cost / limit - 1``, shape (n,); at most 0 where all limits hold, at most -1 without any.
        exact: values that need no evaluation, shape (n, m); NaN elsewhere.
        factors: ``value / factor`` is what an evaluation adds, shape (n, m); above 0.
    """

    features: Array
    excess: Array
    exact: Array
    factors: Array


class Known(Protocol):
    """Facts about members that need no evaluation, for a sampler of an Optuna study over categorical parameters."""

    @property
    def limits(self) -> tuple[str, ...]:
        """The constraints of a trial that :attr:`Facts.excess` covers."""

    @property
    def distributions(self) -> Mapping[str, CategoricalDistribution]:
        """The parameters, for a study that has no trial to tell them."""

    def facts(self, choices: Mapping[str, NDArray[np.int64]]) -> Facts:
        """Of the members whose parameters are these choice numbers, n by name; a parameter left out has choice 0."""

    def canonical(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that stand for all those of equal effect; those left out have their first choice."""


@dataclass(frozen=True)
class SpaceKnown:
    """What a space and an objective know: logarithms of MACs, parameters and activations, the limits, the factor.

    Args:
        space: of the members.
        objective: with the limits.
        proxies: scores of untrained networks that are features too (:mod:`effnas.evaluate.zero_cost.learned`).
        latency: says how fast members are before they are trained; None: nothing does.
    """

    space: SearchSpace
    objective: Objective
    proxies: ProxyFeatures | None = None
    latency: KnownLatency | None = None

    @property
    def limits(self) -> tuple[str, ...]:
        """Those on costs, and on latency where it is known of many members at once."""
        return COST_METRICS if hasattr(self.latency, "many") else COSTS

    @property
    def distributions(self) -> Mapping[str, CategoricalDistribution]:
        """The space's."""
        return self.space.distributions

    def facts(self, choices: Mapping[str, NDArray[np.int64]]) -> Facts:
        """By :func:`~effnas.search.feasible.cost_rows`: thousands of members in milliseconds."""
        count = len(next(iter(choices.values())))
        nothing = np.zeros(count, np.int64)
        indices = np.stack([choices.get(name, nothing) for name in self.space.choices], axis=1)
        costs = cost_rows(self.space, indices, self.latency)
        width = len(self.objective.directions)
        exact, factors = np.full((count, width), np.nan), np.ones((count, width))
        before_training = getattr(self.objective, "before_training", None)
        if before_training is not None:  # an objective of the user's own need not have it
            exact, factors = before_training(costs)
        features = np.log(np.stack([costs.macs, costs.params, costs.activations], axis=1))
        if self.proxies is not None:
            features = np.hstack([features, self.proxies.look(indices)])
        return Facts(features, compute_excess(self.objective, costs), exact, factors)

    def canonical(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The space's canonical decisions."""
        first = {name: labels[0] for name, labels in self.space.choices.items()}
        return dict(self.space.canonical({**first, **params}))


def add_features(known: Known | None, names: Sequence[str]) -> Known | None:
    """The same facts, with these proxies and counts among the features; no names: as it was.

    Raises:
        UserError: a name is unknown or is there twice, or nothing is known of the networks.
    """
    if isinstance(names, Sequence) and not len(names):
        return known
    chosen = check_proxies("algorithm.features", names)
    if not isinstance(known, SpaceKnown):
        raise UserError(
            f"algorithm.features ({', '.join(chosen)}) are facts of networks: they need effnas search in a space with "
            "stages (effnas.space.space.SearchSpace)"
        )
    return replace(known, proxies=ProxyFeatures(known.space, chosen))


def inform_algorithm(
    algorithm: Callable[..., BaseSampler],
    space: object,
    objective: Objective,
    latency: KnownLatency | None = None,
) -> Callable[..., BaseSampler]:
    """The algorithm, told what the space and the objective know where it asks for it by a parameter ``known``."""
    try:
        asks = "known" in inspect.signature(algorithm).parameters
    except (TypeError, ValueError):  # arguments that it does not take, which it says itself when called
        asks = False
    if not asks or not isinstance(space, SearchSpace):
        return algorithm
    return partial(algorithm, known=SpaceKnown(space, objective, latency=latency))
