"""Optuna's tables as a shared storage writes and reads them: three transactions a trial, and nothing lost between."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from synthetic import Synthetic, read_csv, search

from effnas.search import storage as storages
from effnas.search.optuna_private import get_storage, get_trial_id, report_value, set_system_attr
from effnas.search.sharing import outages
from effnas.search.sharing.outages import Outages
from effnas.search.sharing.owned_storage import OwnedStorage
from effnas.search.sharing.tables_private import OwnedTables
from effnas.search.storage import close_study, open_study
from effnas.space.errors import UserError

SPACE: dict[str, BaseDistribution] = {
    "kernel": CategoricalDistribution([3, 5, None, "seven", 0.5, True]),
    "depth": IntDistribution(1, 9, step=2),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def study(url: str, tmp_path: Path) -> Iterator[Study]:
    found = open_study(url, "search", tmp_path, ["maximize", "minimize"], {})
    yield found
    close_study(found)


@contextlib.contextmanager
def plain(url: str) -> Iterator[Study]:
    """The study by Optuna's own storage."""
    storage = optuna.storages.RDBStorage(url)
    yield optuna.load_study(study_name="search", storage=storage)
    storage.remove_session()
    storage.engine.dispose()


@contextlib.contextmanager
def statements() -> Iterator[list[str]]:
    """The first words of the statements that data bases get."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement.split()[0])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def alike(study: Study, url: str) -> bool:
    """Whether Optuna's storage has the same trials; ours as listed, and as a new process lists them."""
    other = open_study(url, "search", Path(url.removeprefix("sqlite:///")).parent, ["maximize", "minimize"], {})
    with plain(url) as theirs:
        for listed in (study, other):
            ours = listed.get_trials(deepcopy=False)
            for one, two in zip(ours, theirs.trials, strict=True):
                for part in vars(two):
                    left, right = getattr(one, part), getattr(two, part)
                    if isinstance(right, dict) and "attrs" in part:  # their order is nobody's
                        assert left == right, part
                    elif part in ("_datetime_start", "datetime_complete") and right is not None:
                        assert abs(left - right).total_seconds() < 1
                    else:
                        assert repr(left) == repr(right), part  # NaN is not NaN
    close_study(other)
    return True


# -- as Optuna's -------------------------------------------------------------------------------------------


def test_optuna_reads_what_is_written(study: Study, url: str) -> None:
    first, second, third, fourth = (study.ask(dict(SPACE)) for _ in range(4))
    first.set_user_attr("result", {"accuracy": 0.5, "none": None, "list": [1, 2]})
    first.set_user_attr("result", {"accuracy": 0.6})
    first.set_constraint("macs", 0.5)
    set_system_attr(study, first, "mark", (1, 2))
    assert first.user_attrs == {"result": {"accuracy": 0.6}}
    study.tell(first, (math.inf, -math.inf))
    for step, value in ((0, math.nan), (3, 0.5), (3, 0.7), (5, -math.inf)):
        report_value(study, second, step, value)
    study.tell(second, state=TrialState.FAIL)
    for trial in (third, fourth):
        trial.set_user_attr("half", "written")
    assert alike(study, url)
    study.tell(third, state=TrialState.PRUNED)
    study.tell(fourth, (1.0, 2.0))
    assert alike(study, url)
    assert study.trials[1].intermediate_values[3] == 0.5  # the first report of a step counts
    assert study.trials[0].constraints == {"macs": 0.5}


def test_what_optuna_writes_is_read(study: Study, url: str) -> None:
    with plain(url) as theirs:
        theirs.enqueue_trial({"depth": 5}, user_attrs={"of": [3]})
        theirs.add_trial(create_trial(values=[1, 2], params={"depth": 3}, distributions={"depth": SPACE["depth"]}))
        running, done = theirs.ask(dict(SPACE)), theirs.ask(dict(SPACE))
        theirs.tell(done, (0.5, math.inf))
        assert alike(study, url)
        running.set_user_attr("more", {"is": "known"})
        theirs.tell(running, state=TrialState.FAIL)
        assert alike(study, url)
    assert [t.state.name for t in study.get_trials(states=(TrialState.WAITING,))] == []
    assert study.trials[0].user_attrs == {"of": [3], "more": {"is": "known"}}


def test_what_another_process_runs_is_read_as_it_grows(study: Study, url: str) -> None:
    with plain(url) as theirs:
        assert alike(study, url)
        theirs.enqueue_trial({"depth": 5})
        assert alike(study, url)
        trial = theirs.ask()  # it is waiting no more, and has no other rows
        steps: list[Callable[[], object]] = [
            lambda: None,
            lambda: trial.suggest_int("depth", 1, 9, step=2),
            lambda: trial.suggest_categorical("kernel", SPACE["kernel"].choices),
            lambda: trial.set_user_attr("of", 3),
            lambda: set_system_attr(theirs, trial, "rung", 0.5),
            lambda: report_value(theirs, trial, 1, 0.25),
            lambda: report_value(theirs, trial, 2, 0.5),
            lambda: theirs.tell(trial, (1.0, 2.0)),
        ]
        for step in steps:
            step()
            assert alike(study, url)


def test_what_another_process_runs_is_read_once(study: Study, url: str) -> None:
    with plain(url) as theirs:
        for _ in range(3):
            theirs.ask(dict(SPACE)).set_user_attr("of", 3)
        assert alike(study, url)
        with statements() as seen:
            assert [trial.params.keys() for trial in study.get_trials(deepcopy=False)] == [SPACE.keys()] * 3
        assert seen == ["SELECT"]


def test_a_waiting_trial_is_begun_as_it_was_enqueued(study: Study, url: str) -> None:
    study.enqueue_trial({"depth": 5, "kernel": None}, user_attrs={"of": 3})
    trial = study.ask(dict(SPACE))
    assert (trial.params["depth"], trial.params["kernel"], trial.user_attrs) == (5, None, {"of": 3})
    trial.set_user_attr("of", 4)
    study.tell(trial, (1.0, 2.0))
    assert study.trials[0].user_attrs == {"of": 4}
    assert alike(study, url)


def test_another_distribution_is_refused(study: Study, url: str) -> None:
    study.tell(study.ask(dict(SPACE)), (1.0, 2.0))
    with pytest.raises(ValueError, match="dynamic value space"):
        study.ask({"kernel": CategoricalDistribution([1, 2])})
    other = open_study(url, "search", Path(url).parent, ["maximize", "minimize"], {})
    with pytest.raises(ValueError, match="dynamic value space"):
        other.ask({"kernel": CategoricalDistribution([1, 2])})
    close_study(other)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_times_are_those_of_the_clock_on_the_wall(
    study: Study, url: str, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    if not hasattr(time, "tzset"):
        pytest.skip("the system has no tzset")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        study.enqueue_trial({"depth": 5})
        for _ in range(2):
            study.tell(study.ask(dict(SPACE)), (1.0, 2.0))
        assert alike(study, url)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


# -- three transactions ------------------------------------------------------------------------------------


def test_a_trial_takes_three_transactions(tmp_path: Path, url: str) -> None:
    with statements() as few:
        search(tmp_path / "few", storage=url, study="few", trials=4)
    with statements() as seen:
        search(tmp_path / "many", storage=url, study="many", trials=14)
    writes = (len(seen) - seen.count("SELECT")) - (len(few) - few.count("SELECT"))
    assert (len(seen) - len(few)) / 10 < 22
    assert writes / 10 < 13  # of rows: an insertion of many is one


# -- what others do meanwhile ------------------------------------------------------------------------------


def test_a_trial_that_somebody_has_ended(study: Study, url: str) -> None:
    trial, second = study.ask(dict(SPACE)), study.ask(dict(SPACE))
    with plain(url) as theirs:
        theirs.tell(trial.number, state=TrialState.FAIL)
        theirs.tell(second.number, state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError, match="has been finished"):
        trial.set_user_attr("result", {})
    with pytest.raises(UpdateFinishedTrialError, match="has been finished"):
        study.tell(second, (1.0, 2.0))
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 2
    assert alike(study, url)


class Meddling(Synthetic):
    """Does something else at its third call."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        object.__setattr__(self, "_act", act)
        object.__setattr__(self, "_calls", [])

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Any:
        self._calls.append(1)
        if len(self._calls) == 3:
            self._act()
        return super().__call__(architecture, seed=seed, report=report)


def test_a_file_that_is_deleted_while_it_is_in_use(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"storage sqlite:///.*study.db was deleted or replaced while it was in use"):
        search(tmp_path / "a", Meddling((tmp_path / "study.db").unlink), storage=url)


def test_a_file_that_is_replaced_while_it_is_in_use(tmp_path: Path, url: str) -> None:
    file = tmp_path / "study.db"

    def replace() -> None:
        (tmp_path / "copy").write_bytes(file.read_bytes())
        (tmp_path / "copy").rename(file)

    with pytest.raises(UserError, match="was deleted or replaced while it was in use; run the same command again"):
        search(tmp_path / "a", Meddling(replace), storage=url)
    assert search(tmp_path / "a", Meddling(list), storage=url)["complete"] == 8


def test_a_journal_that_is_deleted_while_it_is_in_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"study.journal: was deleted or replaced while it was in use. Restore it"):
        search(tmp_path, Meddling((tmp_path / "study.journal").unlink))
    assert not (tmp_path / "study.journal").exists()


def test_a_study_that_is_deleted_while_it_is_in_use(tmp_path: Path, url: str) -> None:
    def delete() -> None:
        with plain(url):
            optuna.delete_study(study_name="search", storage=url)

    with pytest.raises(UserError, match="the study was deleted while it was in use; run the same command again"):
        search(tmp_path / "a", Meddling(delete), storage=url)


def test_tables_that_are_gone(tmp_path: Path, url: str) -> None:
    def drop() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as data, data:
            data.execute("DROP TABLE trials")

    with pytest.raises(UserError, match=r"no such table: trials; run the same command again to continue"):
        search(tmp_path / "a", Meddling(drop), storage=url)


# -- a data base that does not answer ------------------------------------------------------------------------


def refused() -> StorageInternalError:
    """What a transaction raises where the server is not there."""
    error = StorageInternalError("a transaction has failed")
    error.__cause__ = OperationalError("statement", None, Exception("the server is away"), connection_invalidated=True)
    return error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses take no time; how long they were."""
    found: list[float] = []
    monkeypatch.setattr(outages.time, "sleep", found.append)
    return found


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What the search below decides where nothing goes wrong."""
    folder = tmp_path_factory.mktemp("whole")
    search(folder, storage=f"sqlite:///{folder}/study.db", algorithm=enqueueing, trials=6)
    return decisions(folder)


def decisions(folder: Path) -> list[list[str]]:
    rows = read_csv(folder / "trials.csv")
    return [[row[name] for name in row if name == "score" or name.startswith("decision.")] for row in rows]


@pytest.mark.parametrize("method", ["start", "claim", "write", "list_trials"])
@pytest.mark.parametrize("lost", ["question", "answer"])
def test_a_transaction_is_made_again(
    tmp_path: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
    decided: list[list[str]],
    method: str,
    lost: str,
) -> None:
    inner, calls = getattr(OwnedTables, method), []
    monkeypatch.setattr(storages, "Outages", lambda address: Outages(address))

    def cut_off(self: OwnedTables, *words: Any) -> Any:
        calls.append(method)
        if lost == "question" and len(calls) % 3 == 2:
            raise refused()
        result = inner(self, *words)
        if lost == "answer" and len(calls) % 3 == 2:
            raise refused()
        return result

    monkeypatch.setattr(OwnedTables, method, cut_off)
    search(tmp_path / "a", storage=url, algorithm=enqueueing, trials=6)
    assert len(calls) > 2
    assert waits
    assert decisions(tmp_path / "a") == decided
    with plain(url) as theirs:
        trials = [t for t in theirs.trials if t.state != TrialState.WAITING]
    assert [t.number for t in trials] == list(range(6))
    assert {t.state for t in trials} == {TrialState.COMPLETE}


def enqueueing(seed: int) -> Any:
    """A sampler whose next proposal is enqueued."""

    class Enqueueing(optuna.samplers.RandomSampler):
        def after_trial(self, study: Study, trial: Any, state: Any, values: Any) -> None:
            if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)) and trial.number % 2:
                study.enqueue_trial(trial.params, skip_if_exists=False)

    return Enqueueing(seed)


def test_an_outage_is_told(waits: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    answers = [refused(), refused(), refused(), None]

    def transact(again: bool) -> str:
        answer = answers.pop(0)
        assert again is (len(answers) < 3)
        if answer is not None:
            raise answer
        return "done"

    patient = Outages("postgresql://bob:s3cret@host/data")
    assert patient.call(transact) == "done"
    assert waits == [0.25, 0.5, 1.0]
    told = capsys.readouterr().err.splitlines()
    place = "storage postgresql://bob:***@host/data: "
    assert told[0] == f"{place}does not answer (the server is away); it is asked again for 10:00"
    assert told[1].startswith(f"{place}answers again, after 0:0")
    assert patient.ended is not None


def test_a_short_outage_is_not_told(waits: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    answers = [refused(), None]

    def transact(again: bool) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    Outages("here").call(transact)
    assert capsys.readouterr().err == ""


def test_patience_ends_once(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def transact(again: bool) -> None:
        raise refused()

    impatient = Outages("here", 0.9)
    for _ in range(2):
        with pytest.raises(StorageInternalError, match="a transaction has failed"):
            impatient.call(transact)
        assert waits == [0.25, 0.5]
    monkeypatch.setattr(outages.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    interrupted = Outages("here")
    with pytest.raises(KeyboardInterrupt):
        interrupted.call(transact)
    with pytest.raises(
        StorageInternalError, match="a transaction has failed"
    ):  # what is tidied up then waits for nothing
        interrupted.call(transact)


@pytest.mark.parametrize(
    "fault", ["database or disk is full", "attempt to write a readonly database", "disk I/O error"]
)
def test_what_does_not_pass_is_not_waited_for(waits: list[float], fault: str) -> None:
    def transact(again: bool) -> None:
        error = StorageInternalError("a transaction has failed")
        error.__cause__ = OperationalError("statement", None, sqlite3.OperationalError(fault))
        raise error

    with pytest.raises(StorageInternalError, match="a transaction has failed"):
        Outages("sqlite:///here").call(transact)
    assert waits == []


def test_a_search_whose_data_base_stays_away(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "Outages", lambda address: Outages(address, 0.3))

    def go() -> None:
        def away(self: OwnedTables, *words: Any) -> None:
            raise refused()

        monkeypatch.setattr(OwnedTables, "write", away)
        monkeypatch.setattr(OwnedTables, "start", away)

    with pytest.raises(UserError, match=r"study.db: the server is away; run the same command again to continue"):
        search(tmp_path / "a", Meddling(go), storage=url)
    monkeypatch.undo()
    assert search(tmp_path / "a", Meddling(list), storage=url)["complete"] == 8


# -- as many as were asked for -----------------------------------------------------------------------------


def test_the_last_trials_are_waited_for(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    told: list[str] = []

    def begin() -> None:  # another process, for each of the first
        with plain(url) as theirs:
            job, space = theirs.user_attrs["job"], dict(theirs.trials[0].distributions)
        begun.append(open_study(url, "search", tmp_path / "other", ["maximize"], job))
        begun.extend(begun[0].ask(space) for _ in range(2))

    def waits(self: Any, where: str) -> None:
        told.append(where)
        begun[1].set_user_attr("result", {"accuracy": 0.5, "macs": 1, "params": 1, "activations": 1})
        begun[0].tell(begun[1], 0.5)
        begun[0].tell(begun[2], state=TrialState.FAIL)
        monkeypatch.setattr("effnas.search.progress.Progress.waits", lambda self, where: told.append("again"))

    monkeypatch.setattr("effnas.search.progress.Progress.waits", waits)
    monkeypatch.setattr("effnas.search.study.LOOK", 0.01)
    monkeypatch.setattr("effnas.search.sharing.ownership.close_orphans", lambda *words, **more: None)
    summary = search(tmp_path / "a", Meddling(begin), storage=url)
    assert (summary["trials"], summary["complete"], summary["failed"]) == (8, 7, 1)
    assert told == [f"{os.uname().nodename}:{tmp_path}/other"]
    close_study(begun[0])


def test_a_trial_too_many_is_closed(tmp_path: Path, url: str) -> None:
    from effnas.search.sharing.ownership import Company, make_owner

    studies = [open_study(url, "search", tmp_path / name, ["maximize"], {}) for name in "ab"]
    space = {"depth": SPACE["depth"]}
    companies = [Company(study, make_owner(tmp_path / "x"), enumerated=False) for study in studies]
    studies[0].tell(studies[0].ask(space), 1.0)
    asked = [study.ask(space) for study in studies]  # both saw one of two
    assert [c.refuse(t, 2) for c, t in zip(companies, asked, strict=True)] == [False, True]
    assert [len(c.list_others({t.number})) for c, t in zip(companies, asked, strict=True)] == [0, 1]
    assert [t.user_attrs.get("interrupted") for t in studies[0].trials] == [None, None, True]
    for study in studies:
        close_study(study)


def test_a_storage_by_its_parts(tmp_path: Path, url: str) -> None:
    """What else Optuna asks of a storage."""
    study = open_study(url, "search", tmp_path, ["maximize"], {})
    storage = get_storage(study)
    assert isinstance(storage, OwnedStorage)
    study.tell(study.ask({"depth": SPACE["depth"]}), 3.0)
    assert study.best_value == 3.0
    optuna.copy_study(from_study_name="search", from_storage=storage, to_storage=storage, to_study_name="copy")
    copied = optuna.load_study(study_name="copy", storage=storage)
    assert [t.value for t in copied.trials] == [3.0]
    assert get_trial_id(copied.trials[0]) != get_trial_id(study.trials[0])
    optuna.delete_study(study_name="copy", storage=storage)
    assert optuna.get_all_study_names(storage) == ["search"]
    assert len(study.trials_dataframe()) == 1
    close_study(study)
