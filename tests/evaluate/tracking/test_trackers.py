"""Trackers, offline: what they are told is read back from their own files."""

from __future__ import annotations

import json
import logging
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import UserError, load_space, run_search
from effnas.cli import main
from effnas.evaluate.tracking.mlflow_runs import Mlflow
from effnas.evaluate.tracking.tracker import Beginning, Record, flatten, only_numbers, require, safe_name
from effnas.evaluate.tracking.tracking import STATE, Tracking
from effnas.evaluate.tracking.trackio_runs import Trackio
from effnas.evaluate.tracking.wandb_runs import Wandb
from effnas.evaluate.zero_cost.zero_cost import ZeroCost

SEARCH = ["search", "--space", "tiny", "evaluator=zero_cost", "evaluator.proxies=[log_params]", "algorithm=random"]
SEARCH += ["--quiet", "report=false", "-o", "out"]


@dataclass
class Listening:
    """A tracker in memory, which may be away."""

    told: list[Record] = field(default_factory=list)
    begun: list[Beginning] = field(default_factory=list)
    ended: list[tuple[Mapping[str, Any], str]] = field(default_factory=list)
    away: int = 10**9
    place: str = "memory"
    id: str = "run 1"

    def begin(self, beginning: Beginning) -> Listening:
        self.begun.append(beginning)
        return self

    def record(self, record: Record) -> None:
        if len(self.told) >= self.away:
            raise ConnectionError("http://user:secret@host is away")
        self.told.append(record)

    def end(self, summary: Mapping[str, Any], state: str) -> None:
        self.ended.append((summary, state))


def search(output: Path, tracker: Any, trials: int, **more: Any) -> Any:
    evaluator = ZeroCost(proxies=["log_params"], space="tiny")
    return run_search(
        "tiny", evaluator, trials=trials, output=output, quiet=True, report=False, tracker=tracker, **more
    )


# -- each trial once -----------------------------------------------------------------------------------------


def test_each_trial_is_told_once_however_often_the_search_is_continued(tmp_path: Path) -> None:
    tracker = Listening()
    search(tmp_path, tracker, 3)
    assert tracker.begun[0].id is None
    search(tmp_path, tracker, 5)
    search(tmp_path, tracker, 5)
    assert [one.number for one in tracker.told] == [0, 1, 2, 3, 4]
    assert [one.place for one in tracker.told] == [0, 1, 2, 3, 4]
    assert [one.id for one in tracker.begun[1:]] == ["run 1", "run 1"]
    assert [one.records for one in tracker.begun] == [0, 3, 5]
    record = tracker.told[0]
    assert record.state == "complete"
    assert {"macs", "params", "merit"} <= {*record.values}
    assert {name.partition("_")[0] for name in record.params} >= {"block0"}
    summary, state = tracker.ended[-1]
    assert state == "finished"
    assert summary["trials"] == 5
    assert "best.score" in summary
    assert tracker.begun[0].settings["seed"] == 0
    assert json.loads((tmp_path / STATE).read_text())["memory"] == {
        "id": "run 1",
        "records": 5,
        "below": 5,
        "beyond": [],
    }


def test_a_tracker_that_is_away_costs_a_warning_and_hears_later_what_it_has_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Listening(away=2)
    with caplog.at_level(logging.WARNING):
        found = search(tmp_path, tracker, 5)
    assert found["complete"] == 5
    (warning,) = [record.message for record in caplog.records]
    assert "tracker memory: ConnectionError: http://user:***@host is away; the run goes on without it" in warning
    assert len(tracker.told) == 2
    tracker.away = 100
    search(tmp_path, tracker, 5)
    assert [one.number for one in tracker.told] == [0, 1, 2, 3, 4]


def test_a_tracker_that_is_chosen_later_hears_of_all_trials(tmp_path: Path) -> None:
    search(tmp_path, None, 3)
    tracker = Listening()
    search(tmp_path, tracker, 4)
    assert [one.number for one in tracker.told] == [0, 1, 2, 3]
    other = Listening(place="elsewhere", id="run 2")
    search(tmp_path, other, 4)
    assert len(other.told) == 4
    assert {*json.loads((tmp_path / STATE).read_text())} == {"memory", "elsewhere"}


def test_a_restart_begins_another_run(tmp_path: Path) -> None:
    tracker = Listening()
    search(tmp_path, tracker, 2)
    search(tmp_path, tracker, 2, restart=True)
    assert [one.id for one in tracker.begun] == [None, None]
    assert len(tracker.told) == 4
    assert (tmp_path / "tracker.1.json").is_file()


def test_of_a_shared_study_each_folder_tells_its_own_trials(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path / 'study.db'}"
    one, two = Listening(), Listening()
    search(tmp_path / "a", one, 3, storage=shared)
    search(tmp_path / "b", two, 5, storage=shared)
    search(tmp_path / "a", one, 5, storage=shared)
    assert [record.number for record in one.told] == [0, 1, 2]
    assert [record.number for record in two.told] == [3, 4]


def test_a_state_that_cannot_be_read_begins_another_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / STATE).write_text('{"memory": ')
    tracker = Listening()
    with caplog.at_level(logging.WARNING), Tracking(tracker, tmp_path, {}, axis="trial", quiet=True) as tracking:
        tracking.record(0, lambda: Record(0, 0, {"a": float("nan"), "b": 2}))
    assert "tracker.json cannot be read: a new run of the tracker is begun" in caplog.text
    assert tracker.told[0].values == {"b": 2.0}


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "stopped"), (ValueError, "failed")])
def test_how_it_ended_is_told(error: type[BaseException], state: str, tmp_path: Path) -> None:
    tracker = Listening()
    with pytest.raises(error, match=r"^$"), Tracking(tracker, tmp_path, {}, axis="trial", quiet=True):
        raise error
    assert tracker.ended == [({}, state)]


def test_settings_and_names() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None, "e": "x" * 600}) == {
        "a.b": 1,
        "a.c": "[1, 2]",
        "e": "x" * 500,
    }
    assert only_numbers({"a": 1, "b": True, "c": None, "d": float("inf"), "e": "1"}) == {"a": 1.0}
    assert safe_name("block0<é>[1]") == "block0____1_"


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "package"), [("wandb", "wandb"), ("mlflow", "mlflow-skinny"), ("trackio", "trackio")]
)
def test_a_missing_extra_is_named_before_anything_is_done(
    choice: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, choice, None)
    assert main([*SEARCH, f"tracker={choice}"]) == 2
    told = capsys.readouterr().err
    assert (
        f"tracker={choice} needs the package {package}, and it is not installed: pip install 'effnas[{choice}]'" in told
    )
    assert not (tmp_path / "out" / "study.journal").exists()


def test_a_folder_of_that_name_is_not_taken_for_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B makes a folder ``wandb`` where it runs, and Python takes any folder for a package."""
    (tmp_path / "a_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="tracker=a_tracker needs the package a-tracker, and it is not installed"):
        require("a_tracker", "init", "a-tracker")


def test_a_package_that_cannot_be_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_tracker.py").write_text("raise RuntimeError('no such symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"it cannot be imported \(RuntimeError: no such symbol\)"):
        require("broken_tracker", "init", "broken-tracker")


def test_wrong_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SEARCH, "tracker=tensorboard"]) == 2
    assert "tensorboard" in (told := capsys.readouterr().err)
    assert "wandb" in told
    with pytest.raises(UserError, match=r"tracker\.mode: unknown 'of'"):
        Wandb(mode="of")
    with pytest.raises(UserError, match=r"tracker\.tags must be a list"):
        Wandb(tags="a")
    assert main([*SEARCH, "tracker=wandb", "tracker.projekt=x"]) == 2
    assert "tracker.project" in capsys.readouterr().err


# -- the libraries, offline ----------------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def read_log(file: Path) -> Iterator[bytes]:
    """The records of a file of W&B's: a header of 7 bytes, then LevelDB's log format, in blocks of 32 KB."""
    data, at, kept = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # too short for a head: padding
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        kept += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield kept
            kept = b""


def read_wandb(folder: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """The rows of all runs' files below a folder, in order, and the runs' ids."""
    from wandb.proto import wandb_internal_pb2

    rows, ids = [], set()
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in read_log(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.run.run_id:
                ids.add(record.run.run_id)
            items = {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            if items:
                rows.append(items)
    return rows, ids


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_has_a_row_for_each_trial(offline: Path) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    assert main([*SEARCH, "tracker=wandb", "tracker.project=mine", "trials=2"]) == 0
    assert main([*SEARCH, "tracker=wandb", "tracker.project=mine", "trials=3"]) == 0
    rows, ids = read_wandb(offline / "out")
    assert len(ids) == 1
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert [row["_step"] for row in rows] == [0, 1, 2]
    assert all(row["state"] == "complete" and row["macs"] > 0 for row in rows)
    assert any(name.startswith("decision/block0_") for name in rows[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_a_run_for_each_trial_below_one(offline: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    assert main([*SEARCH, "tracker=mlflow", "tracker.project=mine", "trials=2"]) == 0
    assert main([*SEARCH, "tracker=mlflow", "tracker.project=mine", "trials=3"]) == 0
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mine")
    runs = client.search_runs([experiment.experiment_id])
    (whole,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = sorted((run for run in runs if run is not whole), key=lambda run: run.data.metrics["trial"])
    assert whole.info.status == "FINISHED"
    assert whole.data.metrics["found.trials"] == 3
    assert whole.data.tags["effnas.command"].startswith("effnas search")
    assert whole.data.params["space.name"] == "tiny"
    assert [run.data.metrics["trial"] for run in trials] == [0, 1, 2]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {whole.info.run_id}
    assert {run.data.tags["effnas.state"] for run in trials} == {"complete"}
    assert any(name.startswith("block0_") for name in trials[0].data.params)
    assert [one.step for one in client.get_metric_history(whole.info.run_id, "macs")] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_has_a_row_for_each_trial(offline: Path) -> None:
    pytest.importorskip("trackio", reason="needs the extra trackio")
    from trackio.sqlite_storage import SQLiteStorage

    assert main([*SEARCH, "tracker=trackio", "tracker.project=mine", "trials=2"]) == 0
    assert main([*SEARCH, "tracker=trackio", "tracker.project=mine", "trials=3"]) == 0
    assert SQLiteStorage.get_runs("mine") == ["out"]
    rows = [row for row in SQLiteStorage.get_logs("mine", "out") if "trial" in row]
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert all(row["state"] == "complete" and row["macs"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_training_has_a_record_for_each_epoch(offline: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    space = load_space("tiny")
    space.build(space.sample(np.random.default_rng(0))).save(offline / "tiny.yaml")
    line = ["train", "--architecture", "tiny.yaml", "--quiet", "report=false", "tensorboard=false", "test=false"]
    line += ["training.epochs=2", "data.limit=200", "-o", "out", "tracker=mlflow"]
    assert main(line) == 0
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("effnas").experiment_id])
    history = client.get_metric_history(run.info.run_id, "heldout/accuracy")
    assert [one.step for one in history] == [1, 2]
    assert run.data.metrics["found.accuracy"] == history[-1].value
    assert main(line) == 0
    assert len(client.get_metric_history(run.info.run_id, "heldout/accuracy")) == 2


def test_defaults_are_made_without_their_settings() -> None:
    for kind, module in ((Wandb, "wandb"), (Mlflow, "mlflow"), (Trackio, "trackio")):
        pytest.importorskip(module, reason=f"needs the extra {module}")
        assert kind().place == f"{module} effnas"
