"""Successive halving keeps account as trials end: what it remembers is what a new one would read."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from synthetic import Learner, decisions_and_scores, search

from effnas.search.algorithms.evolution import Evolution
from effnas.search.objective import Accuracy, Objective, Pareto
from effnas.search.optuna_private import read_trial, set_system_attr
from effnas.search.record import CONTINUES, RESULT
from effnas.search.remembered import INTERRUPTED
from effnas.search.stopping.entrants import REPORT
from effnas.search.stopping.halving import AsynchronousHalving
from effnas.search.stopping.values import ValueReader

SPACE: dict[str, BaseDistribution] = {"a": CategoricalDistribution(list(range(200)))}
COSTS = {"params": 1, "macs": 1, "activations": 1, "peak_memory": 1}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve trials are a long study."""
    for module in ("remembered", "seeded", "stopping.halving", "stopping.estimates"):
        monkeypatch.setattr(f"effnas.search.{module}.MOST", 12)
    monkeypatch.setattr("effnas.search.remembered.FIRST", 2)


class Game:
    """Candidates that are stopped and promoted as a search does it."""

    def __init__(self, objective: Objective, measure: str) -> None:
        self.values, self.measure = ValueReader(objective), measure
        self.study = optuna.create_study(directions=list(objective.directions), sampler=RandomSampler(3))
        self.pruner = self.make_pruner()
        self.rng = random.Random(7)

    def make_pruner(self) -> AsynchronousHalving:
        return AsynchronousHalving(measure=self.measure, startup_trials=2).inform(self.values, 9)

    def begin(self) -> Trial:
        chosen = self.pruner.choose_promotion(self.study, lambda trial: True)
        if chosen is not None:
            continues = {"of": chosen.number, "epochs": int(chosen.step)}
            self.study.enqueue_trial(chosen.trial.params, user_attrs={CONTINUES: continues})
        trial = self.study.ask(SPACE)
        trial.set_user_attr(RESULT, {**COSTS, "macs": 1 + trial.params["a"] % 17})
        return trial

    def run(self, trial: Trial) -> None:
        judged = trial.user_attrs.get(CONTINUES, {}).get("epochs", 0)
        for epoch in range(1, 10):
            accuracy = 0.5 + trial.params["a"] / 400 - 0.3 / epoch
            set_system_attr(self.study, trial, f"{REPORT}{epoch}", [accuracy, accuracy + 0.1])
            if judged < epoch < 9 and self.pruner.prune(self.study, self.read(trial)):
                self.study.tell(trial, state=TrialState.PRUNED)
                return
        self.study.tell(trial, [accuracy, 1.0][: len(self.study.directions)])

    def read(self, trial: Trial) -> FrozenTrial:
        return read_trial(self.study, trial)


def look(pruner: AsynchronousHalving, study: Study, trial: FrozenTrial) -> list[Any]:
    """All that it says."""
    promoted = pruner.choose_promotion(study, lambda trial: trial.params["a"] % 3 > 0)
    shown = pruner.estimates.show(study, study.get_trials(deepcopy=False))
    return [
        pruner.prune(study, trial),
        None if promoted is None else promoted.number,
        [entrant.number for entrant in pruner.sort_stopped(study)],
        [entrant.number for entrant in pruner.list_passed(study)],
        sorted(entrant.number for entrant in pruner.list_unfinished(study)),
        [(trial.number, trial.state, trial.values, trial.constraints) for trial in shown],
    ]


@pytest.mark.parametrize("measure", ["accuracy", "curve"])
@pytest.mark.parametrize("objective", [Accuracy(), Pareto(metrics=("accuracy", "macs"))], ids=["one", "two"])
@pytest.mark.parametrize("long", [False, True])
def test_what_is_remembered_is_what_a_new_one_reads(
    objective: Objective, measure: str, long: bool, request: pytest.FixtureRequest
) -> None:
    if long:
        request.getfixturevalue("short")
    game = Game(objective, measure)
    for number in range(45):
        trial = game.begin()
        if number % 9 == 8:
            trial.set_user_attr(INTERRUPTED, True)
            game.study.tell(trial, state=TrialState.FAIL)
            continue
        if number % 5 == 4:
            set_system_attr(game.study, trial, f"{REPORT}1", [0.7, 0.7])
            told = game.read(trial)
            assert look(game.pruner, game.study, told) == look(game.make_pruner(), game.study, told)
        game.run(trial)
    assert any(CONTINUES in trial.user_attrs for trial in game.study.trials)
    assert bool(game.pruner.list_passed(game.study)) == long


@pytest.mark.usefixtures("short")
def test_of_a_long_study_the_last_to_come_are_compared_and_the_others_are_promoted_no_more() -> None:
    game = Game(Accuracy(), "accuracy")
    for _ in range(40):
        game.run(game.begin())
    pruner, study = game.pruner, game.study
    stopped, passed = pruner.sort_stopped(study), pruner.list_passed(study)
    assert stopped
    assert passed
    assert not {entrant.number for entrant in stopped} & {entrant.number for entrant in passed}
    first = [entrant for entrant in passed if entrant.step == 1]
    assert max(entrant.number for entrant in first) < min(e.number for e in stopped if e.step == 1)
    assert pruner.choose_promotion(study, lambda trial: trial.number == passed[0].trial.number) is None


@pytest.mark.usefixtures("short")
def test_a_candidate_of_several_trials_is_shown_once_whichever_of_them_a_sampler_sees() -> None:
    game = Game(Accuracy(), "accuracy")
    for _ in range(40):
        game.run(game.begin())
    later = next(t for t in reversed(game.study.trials) if t.state.is_finished() and CONTINUES in t.user_attrs)
    trials = game.study.get_trials(deepcopy=False)
    first = trials[later.user_attrs[CONTINUES]["of"]]
    for some in ([first], [trials[later.number]], [first, trials[later.number]]):
        (shown,) = game.pruner.estimates.show(game.study, some)
        assert (shown.number, shown.datetime_complete) == (first.number, later.datetime_complete)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("measure", ["accuracy", "curve"])
def test_a_long_search_that_was_stopped_is_the_search_that_was_not(measure: str, tmp_path: Any) -> None:
    def run(folder: str, trials: int) -> None:
        pruner = AsynchronousHalving(measure=measure, max_checkpoints=5)
        search(tmp_path / folder, Learner(), pruner=pruner, algorithm=Evolution, objective=Pareto(), trials=trials)

    run("once", 36)
    for trials in (14, 25, 36):
        run("parts", trials)
    assert decisions_and_scores(tmp_path / "parts") == decisions_and_scores(tmp_path / "once")
    assert len(list((tmp_path / "once" / "checkpoints").glob("*"))) <= 5


@pytest.mark.usefixtures("short")
def test_of_a_long_study_optunas_pruners_see_the_youngest(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    seen = []
    prune = MedianPruner.prune

    def watch(self: MedianPruner, study: Study, trial: FrozenTrial) -> bool:
        seen.append([other.number for other in study.get_trials(deepcopy=False)])
        return prune(self, study, trial)

    monkeypatch.setattr(MedianPruner, "prune", watch)
    search(tmp_path, Learner(), pruner=MedianPruner(), algorithm=Evolution, objective=Accuracy(), trials=30)
    assert max(map(len, seen)) == 13  # and the trial that asks
    assert seen[-1] == list(range(seen[-1][-1] - 12, seen[-1][-1] + 1))
