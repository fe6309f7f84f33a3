"""Storages that several processes share: whoever is killed, and whenever, no candidate is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from servers import SERVERS, serve
from synthetic import Synthetic, read_csv, search

from effnas import Architecture, run_grid_search
from effnas.scaling.ablate.job import run_ablation
from effnas.search.optuna_private import get_storage, get_trial_id
from effnas.search.problem import MAX_SEEDS
from effnas.search.sharing import ownership
from effnas.search.storage import open_study
from effnas.space.errors import UserError
from effnas.space.stage import Stage

#: Six points of a grid, all different networks.
SPANS: dict[str, Any] = {"alpha": (1.1, 1.3), "beta": (1.0, 1.1), "gamma": (1.0, 1.3), "step": 0.1, "tolerance": 0.15}
LAYERS = {"stride": 2, "expand_ratio": 1, "repeats": 20}
BASELINE = Architecture(
    (Stage("mbconv", channels=200, **LAYERS), Stage("mbconv", channels=400, **LAYERS)),
    name="base",
    resolution=200,
    num_classes=10,
    stem=200,
    head=400,
)
SMALL = Architecture((Stage("mbconv", 16, 3, expand_ratio=3),), stem=16, head=96, resolution=32, num_classes=10)
SPACE = {"a": CategoricalDistribution([1, 2])}
#: What a trial of the grid is asked for.
GRID: dict[str, Any] = {name: FloatDistribution(1, 10) for name in ("alpha", "beta", "gamma")}
GRID |= {"seed": CategoricalDistribution(tuple(range(MAX_SEEDS)))}


def grid(output: Path, storage: str, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    evaluator = Synthetic() if evaluator is None else evaluator
    options = {**SPANS, "quiet": True, **options}
    return run_grid_search(BASELINE, evaluator, output=output, storage=storage, **options)


def ablate(output: Path, storage: str) -> dict[str, Any]:
    options: dict[str, Any] = {"rules": ("depth", "width"), "factors": (2,), "seeds": 2, "quiet": True}
    return run_ablation(SMALL, Synthetic(), output=output, storage=storage, **options)


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections of the test's own are closed at its end."""
    made: list[optuna.storages.RDBStorage] = []
    begin = optuna.storages.RDBStorage.__init__

    def note(self: optuna.storages.RDBStorage, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(optuna.storages.RDBStorage, "__init__", note)
    yield
    for storage in made:
        if hasattr(storage, "engine"):
            storage.remove_session()
            storage.engine.dispose()


def stored(storage: str, name: str = "grid") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


def killed(run: Callable[[], Any]) -> None:
    """Run it in a process of its own, in which somebody sends SIGKILL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which Python 3.12 warns of
        pid = os.fork()
    if pid == 0:
        try:
            run()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


@contextlib.contextmanager
def kill_after(owner: type, name: str, call: int) -> Iterator[None]:
    """End the process by SIGKILL when the method has returned for the n-th time."""
    method, made = getattr(owner, name), []

    def last(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        made.append(result)
        if len(made) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, last)
        yield


def killed_in(where: str, call: int, run: Callable[[], Any]) -> None:
    """Run it and kill its process: between the start of a trial and everything else, or when it is asked for."""
    place: tuple[type, str] = {"started": (Study, "_pop_waiting_trial_id"), "asked": (Study, "ask")}[where]

    def run_killed() -> None:
        with kill_after(*place, call):
            run()

    killed(run_killed)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


# -- kills between asking for a trial and anything else --------------------------------------------------


@pytest.mark.parametrize("where", ["started", "asked"])
@pytest.mark.parametrize("folder", ["same", "other"])
def test_a_grid_has_all_its_points_whoever_was_killed(tmp_path: Path, sqlite: str, where: str, folder: str) -> None:
    whole = grid(tmp_path / "whole", f"sqlite:///{tmp_path}/whole.db")
    for call in (1, 2, 1):
        killed_in(where, call, lambda: grid(tmp_path / "same", sqlite))
    assert [t.state for t in stored(sqlite)].count(TrialState.RUNNING) == 1
    summary = grid(tmp_path / folder, sqlite)
    assert summary["complete"] == summary["trials"] == whole["trials"] == 6
    assert summary["best"] == whole["best"]
    assert {t.state for t in stored(sqlite)} == {TrialState.COMPLETE, TrialState.FAIL}
    assert all(row["accuracy"] for row in read_csv(tmp_path / folder / "points.csv"))


def test_an_ablation_has_all_its_trainings(tmp_path: Path, sqlite: str) -> None:
    for where in ("started", "asked"):
        killed_in(where, 2, lambda: ablate(tmp_path / "a", sqlite))
    killed_in("asked", 3, lambda: ablate(tmp_path / "b", sqlite))
    summary = ablate(tmp_path / "a", sqlite)
    assert summary["complete"] == ablate(tmp_path / "whole", f"sqlite:///{tmp_path}/whole.db")["complete"]
    assert TrialState.RUNNING not in {t.state for t in stored(sqlite, "ablation")}


@pytest.mark.parametrize("folder", ["same", "other"])
def test_a_search_leaves_nothing_running(tmp_path: Path, sqlite: str, folder: str) -> None:
    for where, call in (("asked", 3), ("started", 1), ("asked", 2)):
        killed_in(where, call, lambda: search(tmp_path / "same", storage=sqlite))
    assert search(tmp_path / folder, storage=sqlite)["complete"] == 8
    states = [t.state for t in stored(sqlite, "search")]
    assert (states.count(TrialState.COMPLETE), states.count(TrialState.RUNNING)) == (8, 0)


def test_the_orphan_of_a_search_without_a_result_holds_no_name(tmp_path: Path, sqlite: str) -> None:
    killed_in("asked", 1, lambda: search(tmp_path / "a", storage=sqlite))
    assert search(tmp_path / "b", storage=sqlite, seed=1)["complete"] == 8  # another search, under the same name


# -- who is alive ----------------------------------------------------------------------------------------


def start_elsewhere(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> Trial:
    """A trial of the first point of the grid that another machine has begun."""
    with monkeypatch.context() as patch:
        patch.setattr(ownership, "_machine", lambda: "another machine")
        study = optuna.load_study(study_name="grid", storage=url)
        again = open_study(url, "grid", folder, ["maximize"], study.user_attrs["job"])
    return again.ask(GRID)


def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time; each look is noted."""
    looks: list[float] = []
    monkeypatch.setattr("effnas.search.study.LOOK", 0.01)
    monkeypatch.setattr("effnas.search.progress.Progress.waits", lambda self, where: looks.append(0.0))
    return looks


@pytest.fixture
def begun(tmp_path: Path, sqlite: str) -> str:
    """A grid of which nothing is evaluated, and all is enqueued."""
    killed_in("asked", 1, lambda: grid(tmp_path / "begun", sqlite))
    return sqlite


def test_a_machine_that_died_is_replaced(
    tmp_path: Path, begun: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start_elsewhere(monkeypatch, begun, tmp_path / "elsewhere")
    monkeypatch.setattr("effnas.search.storage.GRACE", 2)
    monkeypatch.setattr("effnas.search.study.LOOK", 0.1)
    summary = grid(tmp_path / "here", begun, quiet=False)
    assert summary["complete"] == 6
    assert "waiting for the last trials, which are running in" in capfd.readouterr().err
    assert TrialState.RUNNING not in {t.state for t in stored(begun)}


def test_a_machine_that_is_alive_is_waited_for(tmp_path: Path, begun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = start_elsewhere(monkeypatch, begun, tmp_path / "elsewhere")
    looks = let_time_pass(monkeypatch)
    result = {"accuracy": 0.5, "macs": 1, "params": 1, "activations": 1, "seconds": 1.0}

    def waits(self: Any, where: str) -> None:
        looks.append(0.0)
        if len(looks) == 3:
            trial.set_user_attr("result", result)
            trial.study.tell(trial, 0.5)

    monkeypatch.setattr("effnas.search.progress.Progress.waits", waits)
    summary = grid(tmp_path / "here", begun)
    assert summary["complete"] == summary["trials"] == 6
    assert len(looks) == 3


def test_the_timeout_ends_the_waiting(tmp_path: Path, begun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start_elsewhere(monkeypatch, begun, tmp_path / "elsewhere")
    looks = let_time_pass(monkeypatch)
    assert grid(tmp_path / "here", begun, timeout=1.5)["complete"] == 5
    assert looks


def test_a_heartbeat_keeps_a_trial(tmp_path: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_machine", lambda: "another machine")
    monkeypatch.setattr("effnas.search.storage.GRACE", 1)
    monkeypatch.setattr(ownership, "BEAT", 0.3)
    study = open_study(sqlite, "search", tmp_path / "a", ["maximize"], {})
    kept, lost = study.ask(SPACE), study.ask(SPACE)
    mine = open_study(sqlite, "search", tmp_path / "b", ["maximize"], {})
    monkeypatch.setattr(ownership, "_machine", lambda: "this machine")
    with ownership.Heart(study, lambda: [kept]):
        import time

        time.sleep(2.2)
        ownership.close_orphans(mine, ownership.make_owner(tmp_path / "b"))
    assert [t.state for t in mine.trials] == [TrialState.RUNNING, TrialState.FAIL]
    assert mine.trials[lost.number].user_attrs["interrupted"] is True


@pytest.mark.parametrize("hours", ["+1", "-1"])
def test_clocks_that_differ_by_an_hour(
    hours: str, tmp_path: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine says of its own time decides nothing: heartbeats are of the data base's clock."""
    import sqlite3

    monkeypatch.setattr(ownership, "_machine", lambda: "another machine")
    study = open_study(sqlite, "search", tmp_path / "a", ["maximize"], {})
    for _ in range(2):
        study.ask(SPACE)
    monkeypatch.setattr(ownership, "_machine", lambda: "this machine")
    mine = open_study(sqlite, "search", tmp_path / "b", ["maximize"], {})
    with contextlib.closing(sqlite3.connect(sqlite.removeprefix("sqlite:///"))) as data, data:
        data.execute("UPDATE trials SET datetime_start = datetime(datetime_start, ?)", (f"{hours} hours",))
    ownership.close_orphans(mine, ownership.make_owner(tmp_path / "b"))
    assert [t.state for t in mine.trials] == [TrialState.RUNNING] * 2
    with contextlib.closing(sqlite3.connect(sqlite.removeprefix("sqlite:///"))) as data, data:
        data.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-121 seconds') WHERE trial_id = 1")
    ownership.close_orphans(mine, ownership.make_owner(tmp_path / "b"))
    assert [t.state for t in mine.trials] == [TrialState.FAIL, TrialState.RUNNING]


@dataclass(frozen=True)
class Asleep:
    """While it evaluates its first candidate, another machine takes the process for dead."""

    url: str

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Any:
        study = optuna.load_study(study_name="grid", storage=self.url)
        if len([t for t in study.trials if t.state.is_finished()]) == 0:
            storage = get_storage(study)
            (mine,) = study.get_trials(states=(TrialState.RUNNING,))
            storage.set_trial_user_attr(get_trial_id(mine), "interrupted", True)
            study.tell(mine.number, state=TrialState.FAIL)
        return Synthetic()(architecture, seed=seed, report=report)


def test_a_process_that_was_taken_for_dead_goes_on(tmp_path: Path, sqlite: str) -> None:
    summary = grid(tmp_path, sqlite, Asleep(sqlite))
    assert summary["complete"] == 6
    assert [t.state for t in stored(sqlite)].count(TrialState.FAIL) == 1


# -- studies of older versions, and two processes at once ---------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "age", "complete"),
    [(None, 0, 5), (None, 61, 6), ("elsewhere:/runs", 3600, 5), ("elsewhere:/runs", 86401, 6), ("here", 0, 6)],
)
def test_orphans_of_an_older_effnas(
    tmp_path: Path, begun: str, monkeypatch: pytest.MonkeyPatch, owner: str | None, age: int, complete: int
) -> None:
    import sqlite3

    study = optuna.load_study(study_name="grid", storage=begun)
    trial = study.ask(study.trials[0].distributions)
    if owner is not None:
        here = ownership.make_owner(tmp_path / "here")["folder"]
        trial.set_user_attr("result", {"owner": here if owner == "here" else owner, "key": "k", "inline": False})
    with contextlib.closing(sqlite3.connect(begun.removeprefix("sqlite:///"))) as data, data:
        data.execute(
            "UPDATE trials SET datetime_start = datetime(datetime_start, ?) WHERE number = ?",
            (f"-{age} seconds", trial.number),
        )
    let_time_pass(monkeypatch)
    assert grid(tmp_path / "here", begun, timeout=1.5)["complete"] == complete


def test_points_that_two_processes_have_enqueued_at_once(tmp_path: Path, begun: str) -> None:
    study = optuna.load_study(study_name="grid", storage=begun)
    for trial in study.get_trials(states=(TrialState.WAITING,)):
        study.enqueue_trial(trial.system_attrs["fixed_params"])
    summary = grid(tmp_path, begun)
    assert summary["complete"] == summary["trials"] == 6
    assert all(row["accuracy"] for row in read_csv(tmp_path / "points.csv"))


def test_one_of_many_starts_a_waiting_trial(tmp_path: Path, sqlite: str) -> None:
    studies = [open_study(sqlite, "search", tmp_path / name, ["maximize"], {}) for name in "ab"]
    studies[0].enqueue_trial({"a": 2})
    (waiting,) = (get_trial_id(t) for t in studies[1].trials)
    assert get_storage(studies[0]).set_trial_state_values(waiting, TrialState.RUNNING)
    assert not get_storage(studies[1]).set_trial_state_values(waiting, TrialState.RUNNING)
    owner = studies[1].trials[0].system_attrs["effnas:owner"]
    assert owner["folder"].endswith(f":{tmp_path}/a")


# -- progress ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crowded:
    """With each evaluation another machine finishes a trial of its own."""

    url: str

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Any:
        study = optuna.load_study(study_name="search", storage=self.url)
        trial = study.ask(study.trials[0].distributions)
        trial.set_user_attr("result", {"accuracy": 0.99, "macs": 7_000_000, "params": 5, "activations": 1})
        study.tell(trial, 9.0)
        return Synthetic()(architecture, seed=seed, report=report)


def test_progress_counts_the_trials_of_all(tmp_path: Path, sqlite: str, capfd: pytest.CaptureFixture[str]) -> None:
    search(tmp_path, Crowded(sqlite), storage=sqlite, trials=6, quiet=False)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in lines] == ["[2/6", "[4/6", "[6/6"]
    assert all("best 9.0000 (trial" in line for line in lines)


# -- servers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SERVERS, ids=lambda kind: kind.kind)
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server of this test's own."""
    for server in serve(request.param):
        yield server.url


@pytest.mark.slow
@pytest.mark.parametrize(("where", "folder"), [("started", "same"), ("asked", "other")])
def test_a_grid_on_a_server_has_all_its_points(tmp_path: Path, served: str, where: str, folder: str) -> None:
    name = f"{where} {folder}"
    for call in (1, 2, 1):
        killed_in(where, call, lambda: grid(tmp_path / "same", served, study=name))
    assert [t.state for t in stored(served, name)].count(TrialState.RUNNING) == 1
    summary = grid(tmp_path / folder, served, study=name)
    assert summary["complete"] == summary["trials"] == 6
    assert {t.state for t in stored(served, name)} == {TrialState.COMPLETE, TrialState.FAIL}


@pytest.mark.slow
def test_a_machine_that_died_is_replaced_on_a_server(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_in("asked", 1, lambda: grid(tmp_path / "begun", served))
    start_elsewhere(monkeypatch, served, tmp_path / "elsewhere")
    monkeypatch.setattr("effnas.search.storage.GRACE", 2)
    monkeypatch.setattr("effnas.search.study.LOOK", 0.1)
    assert grid(tmp_path / "here", served)["complete"] == 6
    assert TrialState.RUNNING not in {t.state for t in stored(served)}


@pytest.mark.slow
def test_two_studies_on_a_server(tmp_path: Path, served: str) -> None:
    killed_in("asked", 3, lambda: search(tmp_path / "a", storage=served))
    assert search(tmp_path / "b", storage=served)["complete"] == 8
    with pytest.raises(UserError, match=r"holds another search \(seed: 0 → 1\)"):
        search(tmp_path / "c", storage=served, seed=1)
