"""What a study searches: named parameters, and the network that a vector of them stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution

from ..evaluate.evaluation import EvaluationError
from ..space.errors import UserError
from ..space.network_spec import NetworkSpec
from .feasible import Space, find_feasible_member
from .objective import Objective
from .seeded import derive_seed


@dataclass(frozen=True)
class Candidate:
    """What a parameter vector stands for: a network and the seed it is evaluated with."""

    architecture: NetworkSpec
    seed: int

    @cached_property
    def key(self) -> str:
        """Equal keys mean equal evaluations."""
        return f"{self.architecture.digest}:{self.seed}"


class Problem(Protocol):
    """What is searched: named distributions, and what a draw from them stands for."""

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """As ``study.ask`` takes them."""

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """The network and seed of one parameter vector.

        Raises:
            EvaluationError: it stands for no network.
        """

    def feasible(self, number: int) -> dict[str, Any] | None:
        """Parameters within the limits known before training, others for each ``number``; None: nothing is limited."""

    @property
    def enumerated(self) -> bool:
        """Whether every candidate was enqueued beforehand, so that nothing else is to be asked for."""


@dataclass(frozen=True)
class SpaceProblem:
    """A space as the loop sees it; every candidate is trained with the same seed."""

    space: Space
    objective: Objective
    seed: int

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """The space's."""
        return self.space.distributions

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """The network of the decisions."""
        try:
            return Candidate(self.space.build(params), self.seed)
        except UserError as error:
            raise EvaluationError(str(error)) from None

    @property
    def enumerated(self) -> bool:
        """The sampler chooses."""
        return False

    def feasible(self, number: int) -> dict[str, Any] | None:
        """A random member within the limits."""
        try:
            return dict(self._member(derive_seed(self.seed, number)))
        except UserError:  # they are so rare that these draws have missed them: the one that was there at the beginning
            return dict(self._member(self.seed))

    def _member(self, seed: int) -> Mapping[str, Any]:
        return find_feasible_member(self.space, self.objective, np.random.default_rng(seed))
