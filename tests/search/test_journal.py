"""The journal: the same content for the process that wrote it, for others and for later ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import TrialState

from effnas.search.journal import Journal, JournalFile, check_journal
from effnas.search.optuna_private import get_storage, set_user_attr

SPACE: dict[str, Any] = {name: CategoricalDistribution([0, 1, 2]) for name in "abc"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def ours(path: Path) -> Study:
    return optuna.create_study(storage=Journal(JournalFile(path)), study_name="search", load_if_exists=True)


def optunas(path: Path) -> Study:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name="search", load_if_exists=True)


def step(study: Study, rng: random.Random) -> None:
    """Anything that may happen to a study."""
    running = study.get_trials(states=[TrialState.RUNNING])
    what = rng.choice(["ask", "ask", "tell", "fail", "attribute", "enqueue"])
    if what == "ask" or not running:
        study.ask(SPACE).set_user_attr("asked", True)  # and with it the parameters are written, as in the loop
    elif what == "enqueue":
        study.enqueue_trial({"a": 1})
    elif what == "attribute":
        set_user_attr(study, rng.choice(running), "x", {"y": (1, 2), "z": float("inf")})
    else:
        number = rng.choice(running).number
        study.tell(number, 0.5) if what == "tell" else study.tell(number, state=TrialState.FAIL)


@pytest.mark.parametrize("seed", range(4))
def test_two_writers_and_a_later_reader_see_the_same(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    writers = [ours(path), optunas(path)]  # the second is somebody's dashboard
    for _ in range(120):
        step(writers[rng.random() < 0.1], rng)
    writers[0].enqueue_trial({"a": 2})
    for states in (None, (TrialState.WAITING,), (TrialState.RUNNING, TrialState.WAITING), (TrialState.COMPLETE,)):
        expected = optunas(path).get_trials(states=states)
        assert len(expected) > 0
        for study in (*writers, ours(path)):
            assert study.get_trials(states=states) == study.get_trials(deepcopy=False, states=states) == expected


def test_what_is_in_memory_is_what_is_on_disk(path: Path) -> None:
    study = ours(path)
    trial = study.ask(SPACE)
    trial.set_user_attr("x", {1: (2, 3)})
    assert study.trials[0].user_attrs == ours(path).trials[0].user_attrs == {"x": {"1": [2, 3]}}


def test_a_record_that_is_refused_is_refused_once(path: Path) -> None:
    study = ours(path)
    study.tell(study.ask(SPACE), 1.0)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError, match="Trial#0 has already finished"):
        get_storage(study).set_trial_user_attr(0, "late", True)
    study.ask(SPACE)
    assert study.get_trials() == ours(path).get_trials() == optunas(path).get_trials()
    assert len(study.trials) == 2


def test_a_line_that_somebody_is_writing_is_read_when_it_is_whole(path: Path) -> None:
    study = ours(path)
    study.ask(SPACE)
    assert len(study.trials) == 1  # writes what is held back
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    optunas(other).tell(0, 2.0)
    added = other.read_bytes()[path.stat().st_size :]
    with open(path, "ab", buffering=0) as file:
        file.write(added[:20])
        assert study.trials[0].state == TrialState.RUNNING
        file.write(added[20:])
    assert study.trials[0].value == 2.0


def test_a_list_that_was_handed_out_is_not_the_storages(path: Path) -> None:
    study = ours(path)
    study.ask(SPACE)
    study.get_trials(deepcopy=False).clear()
    assert len(study.trials) == 1
    with pytest.raises(KeyError, match="Record does not exist"):
        get_storage(study).get_all_trials(7)


def test_what_this_process_wrote_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = ours(path)
    opened = []
    real = open
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: opened.append(args) or real(*args, **kwargs))
    for _ in range(3):
        study.tell(study.ask(SPACE), 0.0)
    assert {mode for file, mode in opened if file == path} == {"ab"}


def test_parameters_are_taken_and_refused_as_optuna_does(path: Path) -> None:
    study = ours(path)
    study.ask({"a": CategoricalDistribution([0, 1]), "x": FloatDistribution(0, 1)})
    study.add_trial(optuna.trial.create_trial(params={"y": 2}, distributions={"y": IntDistribution(1, 3)}, value=1.0))
    study.ask({"a": CategoricalDistribution([0, 1]), "x": FloatDistribution(0, 5), "y": IntDistribution(0, 9)})
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        study.ask({"a": CategoricalDistribution([0, 1, 2])}).set_user_attr("written", True)
    with pytest.raises(ValueError, match="different log configuration"):
        study.ask({"x": FloatDistribution(1, 2, log=True)}).set_user_attr("written", True)
    with pytest.raises(ValueError, match="different distribution kind"):
        study.ask({"y": FloatDistribution(1, 2)}).set_user_attr("written", True)
    found, expected = ours(path).get_trials(), optunas(path).get_trials()
    assert [trial.params for trial in found] == [trial.params for trial in expected]
    assert [trial.user_attrs for trial in found] == [trial.user_attrs for trial in expected]
    assert found == expected
    first, _, third, *_ = ours(path).get_trials(deepcopy=False)
    assert first.distributions["a"] is third.distributions["a"]


def test_a_trial_that_was_handed_out_stays_as_it_was(path: Path) -> None:
    study = ours(path)
    trial = study.ask(SPACE)
    before = study.get_trials(deepcopy=False)[0]
    kept = repr(before)
    trial.set_user_attr("x", 1)
    trial.set_constraint("macs", 0.5)
    trial.report(0.1, 1)
    trial.suggest_int("d", 1, 3)
    study.tell(trial, 1.0)
    assert repr(before) == kept
    assert study.trials[0].user_attrs == {"x": 1}
    assert study.trials == optunas(path).trials


def test_a_large_journal_is_checked_and_read_whatever_is_between_its_lines(path: Path) -> None:
    study = ours(path)
    for _ in range(60):
        study.tell(study.ask(SPACE), 0.0)
    optunas(path).enqueue_trial({"a": 1})  # lines without sums
    study.ask(SPACE).set_user_attr("x", 1)
    state, rest = check_journal(path)
    assert rest == b""
    assert state.lines == path.read_bytes().count(b"\n")
    assert state.name_trial(b'{"op_code":6,"trial_id":60,') == "of trial 60"
    assert ours(path).trials == study.trials == optunas(path).trials
