"""What users of Optuna do with a study of ours, beside us: enqueue, tell, add, copy, or name one of their own."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import TrialState, create_trial
from synthetic import Synthetic, calls, read_csv, search

from effnas import load_space
from effnas.evaluate.evaluation import Evaluation, Report
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError

TINY = load_space("tiny")
CHOICES = dict(TINY.distributions)


@dataclass(frozen=True)
class Place:
    """A folder, and where its study is."""

    folder: Path
    url: str | None

    def run(self, trials: int, evaluator: Any = None, **settings: Any) -> Any:
        how = {"storage": self.url, "algorithm": RandomSampler, **settings}
        return search(self.folder, evaluator or Synthetic(), trials=trials, **how)

    def load(self, name: str = "search") -> Study:
        where = self.url or JournalStorage(JournalFileBackend(str(self.folder / "study.journal")))
        return optuna.load_study(study_name=name, storage=where)


@pytest.fixture(params=["journal", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path / "out", None if request.param == "journal" else f"sqlite:///{tmp_path}/x.db")


def test_what_is_enqueued_comes_next(place: Place) -> None:
    place.run(2)
    whole = dict(TINY.sample(np.random.default_rng(7)))
    place.load().enqueue_trial(whole)
    place.load().enqueue_trial({"block0_repeats": 2, "lr": 0.1})  # some of it, and something that there is not
    assert place.run(4)["complete"] == 4
    third, fourth = place.load().trials[2:4]
    assert third.params == whole
    assert fourth.params["block0_repeats"] == 2
    assert fourth.params.keys() == CHOICES.keys()


def test_what_is_enqueued_and_no_choice_is_told_and_passed_over(place: Place, tmp_path: Path) -> None:
    place.run(2)
    for wrong in ({"block0_repeats": 77}, {"block1_channels": "wide", "block0_repeats": 1}):
        place.load().enqueue_trial(wrong)
    assert place.run(4)["complete"] == 4
    rows = [row for row in read_csv(place.folder / "trials.csv") if row["state"] == "infeasible"]
    assert [row["reason"] for row in rows] == [
        "infeasible: enqueued with block0_repeats=77, which must be one of 1, 2",
        "infeasible: enqueued with block1_channels='wide', which must be one of 1.0, 1.5",
    ]
    assert all(trial.state.is_finished() for trial in place.load().trials)


def test_trials_of_others_are_left_out(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run(3)
    study = place.load()
    study.tell(study.ask(CHOICES), 0.99)
    study.tell(study.ask(CHOICES), state=TrialState.FAIL)
    study.tell(study.ask(), state=TrialState.PRUNED)
    study.add_trial(create_trial(value=99.0, params={"x": 1.0}, distributions={"x": FloatDistribution(0, 2)}))
    study.set_user_attr("mine", 5)
    summary = place.run(5, quiet=False)
    assert "4 trials of the study that effnas has not evaluated are left out\n" in capsys.readouterr().err
    assert (summary["trials"], summary["complete"]) == (5, 5)
    assert summary["best"]["score"] < 0.99
    assert [int(row["number"]) for row in read_csv(place.folder / "trials.csv")] == [0, 1, 2, 7, 8]
    assert place.run(5)["complete"] == 5


@pytest.mark.parametrize("algorithm", ["evolution.Evolution", "local.LocalSearch", "predictor.Predictor"])
def test_algorithms_of_ours_see_them_and_go_on(algorithm: str, tmp_path: Path) -> None:
    module, _, name = algorithm.partition(".")
    kind = getattr(__import__(f"effnas.search.algorithms.{module}", fromlist=[name]), name)
    place = Place(tmp_path / "out", None)
    place.run(11, algorithm=kind)
    study = place.load()
    study.tell(study.ask(CHOICES), 0.99)
    study.add_trial(create_trial(value=99.0, params={"x": 1.0}, distributions={"x": FloatDistribution(0, 2)}))
    assert place.run(14, algorithm=kind)["complete"] == 14


@dataclass(frozen=True)
class Meddled(Synthetic):
    """Somebody tells the second trial while it runs."""

    tell: Any = None

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        evaluation = super().__call__(architecture, seed=seed, report=report)
        if self.log is not None and len(calls(self.log)) == 2:
            self.tell()
        return evaluation


def test_a_running_trial_that_somebody_tells(place: Place, tmp_path: Path) -> None:
    tell = functools.partial(lambda: place.load().tell(1, 99.0))
    summary = place.run(3, Meddled(str(tmp_path / "log"), tell=tell), job={"seed": 0})
    assert (summary["trials"], summary["complete"]) == (3, 3)
    assert [int(row["number"]) for row in read_csv(place.folder / "trials.csv")] == [0, 2, 3]


def test_a_copy_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "out", f"sqlite:///{tmp_path}/x.db")
    place.run(3)
    optuna.copy_study(from_study_name="search", from_storage=place.url, to_storage=place.url, to_study_name="copy")
    assert place.run(5, study="copy")["complete"] == 5
    assert len(place.load().trials) == 3


def test_a_study_that_the_user_has_made(tmp_path: Path) -> None:
    place = Place(tmp_path / "out", f"sqlite:///{tmp_path}/x.db")
    make = functools.partial(optuna.create_study, storage=place.url)
    own = make(study_name="own", direction="maximize")
    whole = dict(TINY.sample(np.random.default_rng(7)))
    own.enqueue_trial(whole)  # before the search begins
    assert place.run(2, study="own")["complete"] == 2
    assert place.load("own").trials[0].params == whole
    other = replace(place, folder=tmp_path / "other")
    make(study_name="low")
    with pytest.raises(UserError, match=r"study 'low' in this storage was made to minimize, and this run is to maximi"):
        other.run(2, study="low")
    make(study_name="full", direction="maximize").optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with pytest.raises(UserError, match=r"study 'full' in this storage holds 3 trials that are not of effnas: choose"):
        other.run(2, study="full")
    assert len(place.load("full").trials) == 3
