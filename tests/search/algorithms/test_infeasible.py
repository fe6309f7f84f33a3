from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import TrialState

from effnas.search.algorithms.infeasible import GP, NSGA2, NSGA3, _show_infeasible
from effnas.search.algorithms.study_view import StudyView
from effnas.search.seeded import Seeded

SPACE: dict[str, BaseDistribution] = {name: CategoricalDistribution([1, 2, 3]) for name in "abcdefghij"}


def constrained(sampler: BaseSampler, limit: float, trials: int, objectives: int = 2) -> tuple[int, optuna.Study]:
    """How many trials keep the sum of ten decisions within the limit; the others are pruned, as the loop does."""
    directions = ["maximize", "minimize"][:objectives]
    study = optuna.create_study(directions=directions, sampler=sampler)
    feasible = 0
    for _ in range(trials):
        trial = study.ask(SPACE)
        excess = sum(trial.params.values()) / limit - 1
        trial.set_constraint("macs", excess)
        if excess > 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            feasible += 1
            study.tell(trial, [float(trial.params["a"] + trial.params["b"]), float(trial.params["c"])][:objectives])
    return feasible, study


@pytest.mark.parametrize(("ours", "optunas"), [(NSGA2, NSGAIISampler), (NSGA3, NSGAIIISampler)])
def test_under_tight_limits_the_lesser_violation_wins(ours: Any, optunas: Any):
    # One random vector in 3,000 is within 13, where Optuna's never completes its first generation.
    found = [constrained(Seeded(partial(ours, population_size=10), seed), 13, 120)[0] for seed in range(2)]
    plain = [constrained(Seeded(partial(optunas, population_size=10), seed), 13, 120)[0] for seed in range(2)]
    assert min(found) > 15
    assert max(plain) < 5


def test_without_limits_they_are_optunas():
    for ours, optunas in ((NSGA2, NSGAIISampler), (NSGA3, NSGAIIISampler)):
        studies = []
        for sampler in (ours, optunas):
            study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler(population_size=6, seed=0))
            for number in range(30):
                trial = study.ask(SPACE)
                state = (None, TrialState.PRUNED, TrialState.FAIL)[number % 3]
                study.tell(trial, None if state else [float(trial.params["a"]), float(trial.params["b"])], state=state)
            studies.append([trial.params for trial in study.trials])
        assert studies[0] == studies[1]


def view(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return StudyView(study, _show_infeasible).as_study().get_trials()


def test_infeasible_trials_are_seen_as_worse_than_all_others():
    study = optuna.create_study(directions=["maximize", "minimize"])
    for values, state, constraints in (
        ([3.0, 1.0], TrialState.COMPLETE, {"macs": -0.5, "latency": 0.1}),
        (None, TrialState.PRUNED, {"macs": 0.5}),
        (None, TrialState.PRUNED, {"macs": -0.5}),  # by a pruner
        ([-np.inf, 7.0], TrialState.COMPLETE, {"macs": 0.0, "latency": 0.0}),
        (None, TrialState.FAIL, {}),
    ):
        study.add_trial(optuna.trial.create_trial(state=state, values=values, constraints=constraints))
    running = study.ask()
    seen = view(study)
    assert [t.values for t in seen] == [[3.0, 1.0], [2.5, 7.5], None, [-np.inf, 7.0], None, None]
    assert [t.state.name for t in seen] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "FAIL", "RUNNING"]
    assert seen[1].constraints == {"macs": 0.5, "latency": 0.0}
    assert study.trials[1].values is None
    assert study.trials[1].constraints == {"macs": 0.5}
    assert running.number == 5


def test_a_view_is_the_study_in_all_else():
    study = optuna.create_study(study_name="search", direction="maximize")
    study.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, constraints={"macs": 2.0}))
    seen = StudyView(study, _show_infeasible).as_study()
    assert (seen.study_name, seen.directions) == ("search", study.directions)
    assert [t.value for t in seen.get_trials(states=(TrialState.COMPLETE,))] == [-2.0]
    assert seen.get_trials(states=(TrialState.PRUNED,)) == []
    assert seen.trials[0].value == -2.0


def test_the_gaussian_process_learns_the_limits_and_proposes_nothing_twice():
    feasible, study = constrained(GP(n_startup_trials=8, seed=0), 17, 16, objectives=1)
    assert feasible >= 4  # of random vectors one in nine
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 16
    study = optuna.create_study(sampler=GP(n_startup_trials=2, seed=0))
    space = {name: CategoricalDistribution([0, 1, 2]) for name in "ab"}
    for number in range(9):
        trial = study.ask(space)
        study.tell(trial, None if number > 4 else 1.0, state=TrialState.FAIL if number > 4 else None)
    assert len({tuple(trial.params.values()) for trial in study.trials[2:]}) == 7
