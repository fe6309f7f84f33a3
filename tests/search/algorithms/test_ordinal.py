from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from effnas.search.algorithms.infeasible import CMAES
from effnas.search.algorithms.ordinal import Ordinal
from effnas.search.seeded import Seeded
from effnas.space.errors import UserError

SPACE: dict[str, BaseDistribution] = {
    "width": CategoricalDistribution([8, 16, 32]),
    "skip": CategoricalDistribution(["none", "pool"]),
    "one": CategoricalDistribution(["only"]),
    "kernel": IntDistribution(3, 9, step=2),
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
}
cma_es = partial(Ordinal, partial(CMAES, warn_independent_sampling=False))


class Watching(BaseSampler):
    """Takes the last place of every whole number and records what it sees."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.seen: list[FrozenTrial] = []
        self.asked: list[int] = []

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self.seen, self.asked = study.trials, [*self.asked, trial.number]
        return {name: space.high for name, space in search_space.items() if isinstance(space, IntDistribution)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return RandomSampler(0).sample_independent(study, trial, param_name, param_distribution)


def test_choices_are_seen_as_places_and_places_given_back_as_choices():
    sampler = Ordinal(Watching, seed=7)
    study = optuna.create_study(sampler=sampler)
    first = study.ask(SPACE)
    study.tell(first, 1.0)
    second = study.ask(SPACE)
    assert (second.params["width"], second.params["skip"], second.params["kernel"]) == (32, "pool", 9)
    inner = sampler._sampler
    assert isinstance(inner, Watching)
    assert (inner.seed, inner.asked) == (7, [0, 1])
    seen = inner.seen[0]
    assert seen.distributions["width"] == IntDistribution(0, 2)
    assert seen.distributions["lr"] == SPACE["lr"]
    assert seen.params["width"] == [8, 16, 32].index(first.params["width"])
    assert seen.params["one"] == 0
    assert (seen.value, seen.params["kernel"]) == (1.0, first.params["kernel"])
    assert study.trials[0].params == first.params  # the study itself is as it was


def ordered(sampler: BaseSampler, seed: int, trials: int) -> float:
    """The smallest squared distance, in places, to a hidden vector of 12 decisions of 6 choices."""
    choices = [8, 16, 24, 32, 48, 64]
    space: dict[str, BaseDistribution] = {f"d{i}": CategoricalDistribution(choices) for i in range(12)}
    hidden = np.random.default_rng(seed).integers(6, size=12)
    study = optuna.create_study(sampler=sampler)
    for _ in range(trials):
        trial = study.ask(space)
        places = np.array([choices.index(trial.params[name]) for name in space])
        study.tell(trial, float(((places - hidden) ** 2).sum()))
    return study.best_value


def test_cma_es_follows_the_order_of_the_choices():
    evolved = [ordered(Seeded(cma_es, seed), seed, 120) for seed in range(3)]
    random = [ordered(Seeded(RandomSampler, seed), seed, 120) for seed in range(3)]
    assert np.mean(evolved) < np.mean(random) / 2


def test_cma_es_knows_one_objective():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=Seeded(cma_es, 0))
    with pytest.raises(
        UserError,
        match=r"CMA-ES handles one objective, but the study has 2. .*=reward .* like auto, nsga2 or evolution",
    ):
        study.ask(SPACE)


def test_cma_es_learns_from_infeasible_trials_without_a_warning(recwarn: pytest.WarningsRecorder):
    space: dict[str, BaseDistribution] = {name: CategoricalDistribution([1, 2, 3]) for name in "abcdefghij"}
    study = optuna.create_study(direction="maximize", sampler=Seeded(cma_es, 0))
    feasible = 0
    for _ in range(150):
        trial = study.ask(space)
        excess = sum(trial.params.values()) / 13 - 1  # one random vector in 3,000 is within 13
        trial.set_constraint("sum", excess)
        feasible += excess <= 0
        study.tell(trial, None if excess > 0 else 1.0, state=TrialState.PRUNED if excess > 0 else None)
    assert feasible > 15
    assert not [str(w.message) for w in recwarn if "onstraint" in str(w.message)]


def test_mistakes():
    with pytest.raises(UserError, match="seed must be between 0 and 4294967295, got -1"):
        Ordinal(RandomSampler, seed=-1)
