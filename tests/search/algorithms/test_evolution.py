from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from synthetic import best_after, changed

from effnas.search.algorithms.evolution import Evolution
from effnas.search.seeded import Seeded
from effnas.space.errors import UserError

TWO = {name: CategoricalDistribution([0, 1, 2]) for name in "ab"}
SIX = {name: CategoricalDistribution([0, 1, 2, 3]) for name in "abcdef"}


def add(study: optuna.Study, params: dict[str, int], state: TrialState = TrialState.COMPLETE, **result: Any) -> None:
    study.add_trial(optuna.trial.create_trial(state=state, params=params, distributions=dict(SIX), **result))


def vector(value: int) -> dict[str, int]:
    return dict.fromkeys(SIX, value)


def test_beats_random_search():
    evolution = [best_after(Evolution(seed=seed), seed, 100) for seed in range(3)]
    random = [best_after(Seeded(RandomSampler, seed), seed, 100) for seed in range(3)]
    assert all(e > r for e, r in zip(evolution, random, strict=True))
    assert np.mean(evolution) > np.mean(random) + 0.25


def test_parent_is_the_best_of_the_youngest_and_one_decision_changes():
    study = optuna.create_study(direction="maximize", sampler=Evolution(population=3, tournament=3, seed=0))
    add(study, vector(0), value=9.0)  # the best, but too old
    add(study, vector(1), value=1.0)
    add(study, vector(2), value=3.0)
    add(study, vector(3), value=2.0)
    for _ in range(10):  # running ones do not age the population
        child = study.ask(SIX).params
        assert changed(child, vector(2)) == 1


def test_minimisation():
    study = optuna.create_study(direction="minimize", sampler=Evolution(population=2, tournament=2, seed=0))
    add(study, vector(1), value=1.0)
    add(study, vector(2), value=3.0)
    assert changed(study.ask(SIX).params, vector(1)) == 1


def test_repeat_prob_changes_more_decisions():
    study = optuna.create_study(sampler=Evolution(population=1, tournament=1, repeat_prob=0.9, seed=0))
    add(study, vector(0), value=0.0)
    counts = [changed(study.ask(SIX).params, vector(0)) for _ in range(10)]
    assert max(counts) >= 4


def test_first_trials_are_random():
    study = optuna.create_study(sampler=Evolution(population=2, tournament=1, startup=8, seed=0))
    trials = [study.ask(SIX) for _ in range(8)]
    for trial in trials:
        study.tell(trial, 0.0)
    distances = [changed(b.params, a.params) for a, b in pairwise(trials)]
    assert min(distances) > 1
    child = study.ask(SIX).params
    assert min(changed(child, t.params) for t in trials[-2:]) == 1


def test_nothing_is_proposed_twice():
    study = optuna.create_study(sampler=Evolution(population=4, tournament=2, seed=0))
    seen = []
    for value in range(9):  # the whole space; two trials are open at any time
        trial = study.ask(TWO)
        seen.append(tuple(trial.params.values()))
        if value % 4 == 1:
            study.tell(trial, state=TrialState.FAIL)
        elif value % 2 == 0:
            study.tell(trial, float(value))
    assert len(set(seen)) == 9
    assert study.ask(TWO).params.keys() == TWO.keys()  # a tenth is a repetition, and no endless loop


def test_without_attempts_children_may_repeat():
    study = optuna.create_study(sampler=Evolution(population=1, tournament=1, attempts=0, seed=0))
    add(study, vector(0), value=0.0)
    children = [tuple(study.ask({**SIX}).params.values()) for _ in range(40)]
    assert len(set(children)) <= 18  # there are 6 × 3 neighbours


def test_feasible_trials_win_over_better_infeasible_ones():
    study = optuna.create_study(direction="maximize", sampler=Evolution(population=3, tournament=3, seed=0))
    add(study, vector(1), value=9.0, constraints={"macs": 0.5})
    add(study, vector(2), value=1.0, constraints={"macs": -0.5})
    add(study, vector(3), value=5.0, constraints={"macs": 0.1})
    assert changed(study.ask(SIX).params, vector(2)) == 1


def test_while_nothing_is_feasible_the_smallest_violation_is_the_parent():
    study = optuna.create_study(direction="maximize", sampler=Evolution(population=3, tournament=3, seed=0))
    for value, violation in ((1, 3.0), (2, 0.1), (3, 2.0)):
        add(study, vector(value), TrialState.PRUNED, constraints={"macs": violation, "params": -1.0})
    assert changed(study.ask(SIX).params, vector(2)) == 1
    add(study, vector(3), value=0.0, constraints={"macs": 0.0, "params": -1.0})
    assert changed(study.ask(SIX).params, vector(3)) == 1


def test_stopped_and_failed_trials_are_no_parents():
    study = optuna.create_study(sampler=Evolution(population=3, tournament=3, seed=0))
    add(study, vector(1), TrialState.PRUNED)
    add(study, vector(2), TrialState.FAIL)
    add(study, vector(3), value=0.0)
    assert changed(study.ask(SIX).params, vector(3)) == 1


def test_tournament_of_several_objectives_goes_by_front_then_by_crowding():
    sampler = Evolution(population=5, tournament=5, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for values in ((1.0, 1.0), (2.0, 2.0), (2.1, 2.1), (9.0, 9.0)):
        add(study, {name: int(values[0]) % 4 for name in SIX}, values=values)
    add(study, vector(3), values=(0.5, 5.0))  # dominated
    # The ends of the front, which are vector(1) both (9 % 4 = 1), are infinitely far from their neighbours.
    for _ in range(5):
        assert changed(study.ask(SIX).params, vector(1)) == 1


def test_numbers_as_well_as_choices():
    space: dict[str, BaseDistribution] = {
        "kernel": IntDistribution(3, 9, step=2),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "skip": CategoricalDistribution(["none", "pool"]),
        "one": CategoricalDistribution(["only"]),
        "same": IntDistribution(4, 4),
    }
    study = optuna.create_study(sampler=Evolution(population=4, tournament=2, seed=3))
    for i in range(30):
        trial = study.ask(space)
        params = trial.params
        assert params["kernel"] in (3, 5, 7, 9)
        assert 1e-4 <= params["lr"] <= 1e-1
        assert params["skip"] in ("none", "pool")
        assert (params["one"], params["same"]) == ("only", 4)
        study.tell(trial, params["lr"])
        if i >= 4:
            parents = study.get_trials()[-5:-1]
            assert min(changed(params, parent.params) for parent in parents) <= 1
    assert study.best_value < 3e-4


def test_define_by_run_with_conditional_parameters():
    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("depth", 1, 3)
        return sum(trial.suggest_categorical(f"width{i}", [8, 16, 32]) for i in range(depth))

    study = optuna.create_study(sampler=Evolution(population=5, tournament=3, seed=0))
    study.optimize(objective, n_trials=40)
    assert study.best_value == 8


def test_threads_share_a_sampler():
    study = optuna.create_study(sampler=Evolution(seed=0))
    study.optimize(lambda trial: sum(trial.suggest_int(name, 0, 9) for name in "abcd"), n_trials=30, n_jobs=3)
    assert len(study.trials) == 30
    for early, late in combinations(study.trials, 2):
        # only a trial that was not yet recorded when the other one was asked for can be proposed again
        assert early.params != late.params or late.datetime_start <= early.datetime_complete


def test_without_a_seed_two_searches_differ():
    first, second = (optuna.create_study(sampler=Evolution()) for _ in range(2))
    assert [first.ask(SIX).params for _ in range(5)] != [second.ask(SIX).params for _ in range(5)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"population": 5, "tournament": 6}, "tournament must be between 1 and 5, got 6"),
        ({"startup": 0}, "startup must be at least 1, got 0"),
        ({"repeat_prob": 1}, r"repeat_prob must be in \[0, 1\), got 1"),
        ({"attempts": -1}, "attempts must be at least 0, got -1"),
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
    ],
)
def test_mistakes(settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        Evolution(**settings)
