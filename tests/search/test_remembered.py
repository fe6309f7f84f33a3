"""What samplers see of a long study, and that it follows from the history alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from effnas.search import remembered
from effnas.search.algorithms.evolution import Evolution
from effnas.search.algorithms.local import LocalSearch
from effnas.search.algorithms.predictor import Predictor
from effnas.search.remembered import INTERRUPTED, Memory, remember
from effnas.search.seeded import Seeded

SPACE: dict[str, BaseDistribution] = {name: CategoricalDistribution([0, 1, 2, 3]) for name in "abcdef"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty trials are a long study."""
    monkeypatch.setattr(remembered, "MOST", 40)
    monkeypatch.setattr(remembered, "FIRST", 4)
    monkeypatch.setattr("effnas.search.seeded.MOST", 40)


def add(study: optuna.Study, values: list[float], **given: Any) -> None:
    params = {name: random.Random(repr((values, len(study.trials), name))).randrange(4) for name in SPACE}
    study.add_trial(create_trial(params=params, distributions=SPACE, values=values, **given))


def numbers(trials: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


def test_all_trials_are_shown_up_to_the_number_and_then_the_first_best_and_youngest():
    study = optuna.create_study(direction="maximize")
    for number in range(40):
        add(study, [float(number == 7)])
    assert numbers(remember(study).list_shown()) == list(range(40))
    for number in range(40, 140):
        add(study, [1.0 if number in (51, 90) else number / 1000])
    shown = numbers(remember(study).list_shown())
    assert len(shown) == 40
    assert {0, 1, 2, 3, 7, 51, 90, 139, 130} <= set(shown)
    assert shown == sorted(shown)
    running = study.ask(SPACE)
    assert numbers(remember(study).list_shown())[-1] == running.number


def test_of_several_objectives_the_front_is_shown_however_old():
    study = optuna.create_study(directions=["maximize", "minimize"])
    front = [(0.1, 1.0), (0.5, 2.0), (0.9, 3.0), (0.5, 2.0)]
    for accuracy, cost in front:
        add(study, [accuracy, cost])
    for number in range(120):
        add(study, [0.05, 3.5 + number])
    shown = set(numbers(remember(study).list_shown()))
    assert {0, 1, 2} <= shown
    assert remember(study)._front.thin(10) == [2, 1, 0]


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_what_is_shown_does_not_depend_on_when_it_was_looked_at(directions: list[str]):
    rng = random.Random(3)
    study = optuna.create_study(directions=directions)
    open_: list[optuna.Trial] = []
    for _ in range(150):
        open_.append(study.ask(SPACE))
        while len(open_) > 5:
            trial = open_.pop(rng.randrange(len(open_)))
            what = rng.random()
            if what < 0.1:
                trial.set_user_attr(INTERRUPTED, True)
            if what < 0.2:
                study.tell(trial, state=TrialState.FAIL)
            elif what < 0.3:
                trial.set_constraint("macs", rng.random())
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, [round(rng.random(), 2) for _ in directions])
        remember(study)
    afresh = Memory(study.directions)
    afresh.update(study.get_trials(deepcopy=False))
    assert numbers(remember(study).list_shown()) == numbers(afresh.list_shown())
    assert not any(trial.user_attrs.get(INTERRUPTED) for trial in afresh.list_shown())


def test_a_study_that_takes_the_place_of_a_deleted_one_is_read_anew():
    storage = optuna.storages.RDBStorage("sqlite://")
    for count in (50, 60):
        study = optuna.create_study(study_name="search", storage=storage)
        for number in range(count):
            add(study, [float(number + count)])
        memory = remember(study)
        assert memory.finished == count
        assert {0, 1, 2, 3, count - 1} <= set(numbers(memory.list_shown()))
        optuna.delete_study(study_name="search", storage=storage)


def test_a_sampler_sees_the_part_and_what_it_asks_for_is_the_same_after_a_restart():
    seen = []

    class Looks(RandomSampler):
        def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
            seen.append(len(study.get_trials(deepcopy=False)))
            return {}

    study = optuna.create_study(sampler=Seeded(Looks, 0))
    for _ in range(70):
        study.tell(study.ask(SPACE), 0.0)
    assert max(seen) == seen[-1] == 41  # and the trial that asks


@pytest.mark.parametrize("sampler", [Evolution, LocalSearch, Predictor])
def test_nothing_is_proposed_twice_though_most_trials_are_hidden(sampler: type[BaseSampler]):
    study = optuna.create_study(direction="maximize", sampler=Seeded(sampler, 1))
    resumed = None
    for number in range(120):
        if number == 100:
            resumed = optuna.create_study(direction="maximize", sampler=Seeded(sampler, 1))
            resumed.add_trials(study.get_trials())
        trial = study.ask(SPACE)
        if resumed is not None:
            again = resumed.ask(SPACE)
            assert again.params == trial.params
            resumed.tell(again, float(np.sum(list(again.params.values()))))
        study.tell(trial, float(np.sum(list(trial.params.values()))))
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 120
    assert max(study.trials[i].value or 0 for i in range(120)) == 18


def test_of_a_bracket_of_hyperband_only_its_own_trials_are_shown():
    seen: dict[int, list[int]] = {}

    class Looks(RandomSampler):
        def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
            seen[trial.number] = numbers(study.get_trials(deepcopy=False))
            return {}

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=Seeded(Looks, 0), pruner=pruner)
    for _ in range(70):
        trial = study.ask(SPACE)
        trial.report(0.0, step=1)
        trial.should_prune()
        study.tell(trial, 0.0)
    assert len(seen[69]) < 50
