from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from synthetic import best_after, changed

from effnas.search.algorithms.local import LocalSearch
from effnas.search.seeded import Seeded
from effnas.space.errors import UserError

FOUR: dict[str, BaseDistribution] = {name: CategoricalDistribution([0, 1, 2]) for name in "abcd"}
NEIGHBOURS = 8


def vector(value: int) -> dict[str, int]:
    return dict.fromkeys(FOUR, value)


def add(study: optuna.Study, params: dict[str, int], state: TrialState = TrialState.COMPLETE, **result: Any) -> None:
    study.add_trial(optuna.trial.create_trial(state=state, params=params, distributions=dict(FOUR), **result))


def test_every_neighbour_of_a_local_optimum_then_those_of_the_next_best():
    study = optuna.create_study(direction="maximize", sampler=LocalSearch(startup=1, seed=0))
    add(study, vector(1), value=2.0)
    add(study, vector(2), value=3.0)
    add(study, vector(0), value=1.0)
    seen = set()
    for _ in range(NEIGHBOURS):
        trial = study.ask(FOUR)
        assert changed(trial.params, vector(2)) == 1
        seen.add(tuple(trial.params.values()))
        study.tell(trial, 0.0)
    assert len(seen) == NEIGHBOURS
    for _ in range(NEIGHBOURS):
        trial = study.ask(FOUR)
        assert changed(trial.params, vector(1)) == 1
        study.tell(trial, 0.0)


def test_the_first_improvement_is_the_next_centre():
    study = optuna.create_study(direction="minimize", sampler=LocalSearch(startup=1, seed=0))
    add(study, vector(1), value=2.0)
    first = study.ask(FOUR)
    study.tell(first, 1.0)
    assert changed(study.ask(FOUR).params, first.params) == 1


def test_failed_pruned_and_running_neighbours_are_not_proposed_again():
    study = optuna.create_study(sampler=LocalSearch(startup=1, seed=0))
    add(study, vector(1), value=0.0)
    seen = set()
    for number in range(NEIGHBOURS):
        trial = study.ask(FOUR)
        assert changed(trial.params, vector(1)) == 1
        seen.add(tuple(trial.params.values()))
        if number % 3:
            study.tell(trial, state=(TrialState.FAIL, TrialState.PRUNED)[number % 2])
    assert len(seen) == NEIGHBOURS
    assert changed(study.ask(FOUR).params, vector(1)) > 1  # nothing else has neighbours: a random one


def test_first_trials_are_random_and_the_whole_space_is_searched_without_repeating():
    study = optuna.create_study(sampler=LocalSearch(startup=5, seed=0))
    seen = []
    for number in range(81):
        trial = study.ask(FOUR)
        seen.append(trial.params)
        study.tell(trial, float(number))
    assert len({tuple(params.values()) for params in seen}) == 81
    assert max(changed(params, seen[0]) for params in seen[1:5]) > 1
    assert all(changed(params, seen[0]) == 1 for params in seen[5 : 5 + NEIGHBOURS - 2])  # the best is the first
    assert study.ask(FOUR).params.keys() == FOUR.keys()  # another one is a repetition, and no endless loop


def test_the_lesser_violation_goes_first():
    study = optuna.create_study(direction="maximize", sampler=LocalSearch(startup=1, seed=0))
    add(study, vector(0), TrialState.PRUNED, constraints={"macs": 2.0})
    add(study, vector(1), TrialState.PRUNED, constraints={"macs": 0.5, "params": -1.0})
    add(study, vector(2), TrialState.PRUNED, constraints={"macs": 1.0})
    assert changed(study.ask(FOUR).params, vector(1)) == 1
    add(study, vector(2), value=5.0, constraints={"latency": 0.1})
    assert changed(study.ask(FOUR).params, vector(2)) == 1
    add(study, vector(0), value=0.0, constraints={"latency": 0.0})
    assert changed(study.ask(FOUR).params, vector(0)) == 1


def test_several_objectives_go_by_front():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=LocalSearch(startup=1, seed=0))
    add(study, vector(0), values=(1.0, 1.0))
    add(study, vector(1), values=(2.0, 2.0))
    add(study, vector(2), values=(0.5, 3.0))  # dominated
    centres = set()
    for _ in range(2 * NEIGHBOURS):
        trial = study.ask(FOUR)
        centres.update(value for value in (0, 1, 2) if changed(trial.params, vector(value)) == 1)
        study.tell(trial, (0.0, 4.0))
    assert centres == {0, 1}
    assert changed(study.ask(FOUR).params, vector(2)) == 1


def test_numbers_as_well_as_choices():
    space: dict[str, BaseDistribution] = {
        "kernel": IntDistribution(3, 9, step=2),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "skip": CategoricalDistribution(["none", "pool"]),
        "one": CategoricalDistribution(["only"]),
    }
    study = optuna.create_study(sampler=LocalSearch(startup=4, seed=3))
    for _ in range(40):
        trial = study.ask(space)
        assert trial.params["kernel"] in (3, 5, 7, 9)
        assert 1e-4 <= trial.params["lr"] <= 1e-1
        assert trial.params["one"] == "only"
        study.tell(trial, trial.params["lr"] + trial.params["kernel"])
    assert study.best_params["kernel"] == 3
    assert study.best_params["lr"] < 3e-4


def test_define_by_run_with_conditional_parameters():
    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("depth", 1, 3)
        return sum(trial.suggest_categorical(f"width{i}", [8, 16, 32]) for i in range(depth))

    study = optuna.create_study(sampler=LocalSearch(seed=0))
    study.optimize(objective, n_trials=30)
    assert study.best_value == 8


def test_threads_share_a_sampler():
    study = optuna.create_study(sampler=LocalSearch(seed=0))
    study.optimize(lambda trial: sum(trial.suggest_int(name, 0, 9) for name in "abcd"), n_trials=30, n_jobs=3)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 30


def test_beats_random_search():
    local = [best_after(Seeded(LocalSearch, seed), seed, 100) for seed in range(3)]
    random = [best_after(Seeded(RandomSampler, seed), seed, 100) for seed in range(3)]
    assert min(local) > max(random) + 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"startup": 0}, "startup must be at least 1, got 0"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
    ],
)
def test_mistakes(settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        LocalSearch(**settings)
