"""What a study searches: named parameters, and the network that a vector of them stands for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import Trial, TrialState

from ..evaluate.evaluation import EvaluationError
from ..evaluate.latency.laws import KnownLatency
from ..space.errors import UserError, check_int
from ..space.formulas import Cost
from ..space.network_spec import NetworkSpec
from .feasible import Space, cost_of, find_feasible_member
from .objective import Objective
from .optuna_private import get_enqueued_params, set_user_attr
from .record import RESULT
from .seeded import derive_seed

#: Seeds that each enqueued candidate may have.
MAX_SEEDS = 100
#: Attribute of an enqueued trial, true where its seed is kept for reporting what was chosen without it.
CONFIRMS = "confirms"


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

    def cost(self, network: NetworkSpec) -> Cost:
        """What is known of a network before training.

        Raises:
            UserError: its builder cannot build it.
        """

    def feasible(self, number: int) -> dict[str, Any] | None:
        """Parameters within the limits known before training, others for each ``number``; None: nothing is limited."""

    @property
    def enumerated(self) -> bool:
        """Whether every candidate was enqueued beforehand, so that no sampler proposes others."""


@dataclass(frozen=True)
class SpaceProblem:
    """A space as the loop sees it; every candidate is trained with the same seed."""

    space: Space
    objective: Objective
    seed: int
    #: Of its networks, where the evaluator knows it before training.
    latency: KnownLatency | None = None

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

    def cost(self, network: NetworkSpec) -> Cost:
        """By the formulas, and latency where it is known."""
        return cost_of(network, self.latency)

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
        return find_feasible_member(self.space, self.objective, np.random.default_rng(seed), self.latency)


@dataclass(frozen=True)
class Enqueued:
    """Candidates that are all enqueued before the loop, each of them with every seed.

    Args:
        network: of the parameters of a trial.
        parameters: all there are but the seed; wide enough for what is enqueued later, for Optuna keeps a study's.
        seed: the first one.
        seeds: how many; can be raised later.
    """

    network: Callable[[Mapping[str, Any]], NetworkSpec]
    parameters: Mapping[str, BaseDistribution]
    seed: int
    seeds: int

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """The parameters, and the seed."""
        return {**self.parameters, "seed": CategoricalDistribution(tuple(range(self.seed, self.seed + MAX_SEEDS)))}

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """The network of these parameters, with their seed."""
        try:
            return Candidate(self.network(params), params["seed"])
        except UserError as error:
            raise EvaluationError(str(error)) from None

    def cost(self, network: NetworkSpec) -> Cost:
        """By the formulas."""
        return cost_of(network)

    def feasible(self, number: int) -> dict[str, Any] | None:
        """Nothing is limited."""
        return None

    @property
    def enumerated(self) -> bool:
        """So it is."""
        return True

    def trials(self, wanted: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The parameters of all trials, seed by seed: those of ``wanted`` with every seed."""
        wanted = list(wanted)
        return [{**params, "seed": s} for s in range(self.seed, self.seed + self.seeds) for params in wanted]

    def confirming(self, params: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """The trials that report a candidate: the last seeds there are, which no choice uses."""
        last = self.seed + MAX_SEEDS - 1
        return [{**params, "seed": seed} for seed in range(last, last - count, -1)]


def ask_candidate(study: Study, problem: Problem) -> Trial:
    """``study.ask``; what somebody has enqueued that is no choice is closed as infeasible, with the reason."""
    while True:
        try:
            return study.ask(dict(problem.distributions))
        except ValueError:
            if not _close_impossible(study, problem):
                raise


def _close_impossible(study: Study, problem: Problem) -> bool:
    """Close the trials that run with enqueued values outside the distributions; False: there is none."""
    found = False
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        for name, value in (get_enqueued_params(trial) or {}).items():
            choices = getattr(problem.distributions.get(name), "choices", (value,))
            if value not in choices:
                legal = ", ".join(map(str, choices))
                reason = f"infeasible: enqueued with {name}={value!r}, which must be one of {legal}"
                set_user_attr(study, trial, RESULT, {"infeasible": True, "reason": reason})
                study.tell(trial.number, state=TrialState.PRUNED)
                found = True
                break
    return found


def list_waiting(study: Study, problem: Problem) -> list[str]:
    """The keys of the candidates that are enqueued, where all candidates are; one for each trial."""
    found: list[str] = []
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,)) if problem.enumerated else []
    for trial in waiting:
        with contextlib.suppress(EvaluationError):  # it stands for no network
            found.append(problem.candidate(get_enqueued_params(trial) or {}).key)
    return found


def check_seeds(seed: int, seeds: int, confirm: int = 0) -> None:
    """Raise :class:`~effnas.space.errors.UserError` unless they are the first seed and numbers of seeds.

    ``confirm``: of those that report what the others chose.
    """
    check_int("seeds", seeds, 1, MAX_SEEDS)
    check_int("confirm", confirm, 0, MAX_SEEDS)
    check_int("seeds + confirm", seeds + confirm, 1, MAX_SEEDS)
    check_int("seed", seed, 0, 2**32 - 1)
