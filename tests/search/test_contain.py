"""Whatever an evaluator does is that candidate's: the search goes on, alike in this process and in others."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from nuisances import FAILURES, Nuisance
from optuna.samplers import RandomSampler
from synthetic import decisions_and_scores, read_csv, search

from effnas.cli import main
from effnas.evaluate.evaluation import Evaluation, EvaluationError
from effnas.space.cost import cost
from effnas.space.zoo import load_architecture

OPTIONS: dict[str, Any] = {"trials": 10, "algorithm": RandomSampler}


@pytest.mark.parametrize("kind", FAILURES)
def test_failures_of_every_kind(tmp_path: Path, kind: str) -> None:
    search(tmp_path, Nuisance(kind), **{**OPTIONS, "trials": 4})
    summary = search(tmp_path, Nuisance(kind), **OPTIONS)  # resumes
    rows = read_csv(tmp_path / "trials.csv")
    failed = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(failed) < len(rows) == 10
    for row in failed:
        assert row["reason"].startswith(FAILURES[kind][1])
        assert len(row["reason"]) <= 300
        assert row["reason"].isprintable()
    assert summary["reasons"] == [row["reason"] for row in failed]


@pytest.mark.parametrize(
    "kinds", [("unspeakable", "ugly"), ("system_exit", "latency_text"), ("metrics_list", "nothing")]
)
def test_with_several_workers_too(tmp_path: Path, kinds: tuple[str, str]) -> None:
    for kind in kinds:
        rows = []
        for workers in (1, 2):
            search(tmp_path / f"{kind}{workers}", Nuisance(kind), workers=workers, **OPTIONS)
            rows.append(sorted(row["reason"] for row in read_csv(tmp_path / f"{kind}{workers}" / "trials.csv")))
        assert rows[0] == rows[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_an_evaluator_changes_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    streams, environment = (sys.stdout, sys.stderr), dict(os.environ)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    depth = sys.getrecursionlimit()
    state, numbers = random.getstate(), np.random.get_state()[1].tolist()
    search(Path("out"), Nuisance("process"), workers=workers, quiet=False, **OPTIONS)
    time.sleep(0.3)  # the alarm
    assert Path.cwd() == tmp_path
    assert (sys.stdout, sys.stderr) == streams
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert sys.getrecursionlimit() == depth
    assert not any("a nuisance" in str(entry[1]) for entry in warnings.filters)
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == numbers
    assert {row["state"] for row in read_csv(tmp_path / "out" / "trials.csv")} == {"complete"}
    assert capfd.readouterr().err.count("accuracy") == 10  # a line for each trial, after a closed stream too


def test_decisions_are_those_of_a_tame_evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for trials in (4, 10):
        search(Path("wild"), Nuisance("process"), **{**OPTIONS, "trials": trials})
    search(Path("tame"), Nuisance("tame"), **OPTIONS)
    assert decisions_and_scores(Path("wild")) == decisions_and_scores(Path("tame"))


@pytest.mark.parametrize("workers", [1, 2])
def test_standard_output_is_the_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evaluator").mkdir()
    (tmp_path / "evaluator" / "nuisance.yaml").write_text("_target_: nuisances.Nuisance\nkind: process\n")
    words = ["search", "--config-dir", str(tmp_path), "evaluator=nuisance", "algorithm=random", "trials=6", "--json"]
    assert main([*words, f"workers={workers}"]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["trials"] == 6
    assert "past Python" in printed.err


@pytest.mark.parametrize("workers", [1, 2])
def test_numbers_of_other_libraries(tmp_path: Path, workers: int) -> None:
    summary = search(tmp_path, Nuisance("numbers"), workers=workers, trials=3)
    assert summary["complete"] == 3
    assert {(row["accuracy"], row["latency"], row["seconds"]) for row in read_csv(tmp_path / "trials.csv")} == {
        ("0.5", "0.5", "2.0")
    }


def test_an_evaluation_holds_plain_data() -> None:
    costs = cost(load_architecture("efficientnet_b0"))
    metrics = {"n": np.int64(3), "nested": {"list": (np.float32(0.5), [np.bool_(True)])}, "array": np.arange(2)}
    found = Evaluation(np.float64(0.5), costs, np.float32(0.25), metrics=metrics)  # type: ignore[arg-type]
    assert [type(value) for value in (found.accuracy, found.latency, found.seconds)] == [float] * 3
    assert found.metrics == {"n": 3, "nested": {"list": [0.5, [True]]}, "array": [0, 1]}
    assert json.loads(json.dumps(found.metrics)) == found.metrics


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accuracy": 1.5}, "accuracy must be a fraction between 0 and 1, got 1.5"),
        ({"accuracy": "0.5"}, "accuracy must be a fraction between 0 and 1, got '0.5'"),
        ({"accuracy": None}, "accuracy must be a fraction between 0 and 1, got None"),
        ({"accuracy": np.zeros(2)}, "accuracy must be a fraction between 0 and 1, got array"),
        ({"accuracy": 10**400}, "accuracy must be a fraction between 0 and 1, got 1000"),
        ({"cost": 5}, "cost must be a Cost, as cost\\(architecture\\) gives it, got 5"),
        ({"latency": -1}, "latency must be seconds per batch above 0, or None, got -1.0"),
        ({"latency": float("inf")}, "latency must be seconds per batch above 0, or None, got inf"),
        ({"seconds": "long"}, "seconds must be a number of seconds from 0, got 'long'"),
        ({"metrics": {1: 2}}, "metrics: a name must be 1 to 100 printable characters, got 1"),
        ({"metrics": {"f": print}}, "metrics: f must be a number, or what JSON holds"),
        ({"metrics": {"n": 10**5000}}, "metrics: n must be a number, or what JSON holds"),
    ],
)
def test_what_is_no_evaluation(fields: dict[str, Any], message: str) -> None:
    given = {"accuracy": 0.5, "cost": cost(load_architecture("efficientnet_b0")), **fields}
    with pytest.raises(EvaluationError, match=message):
        Evaluation(**given)


def test_a_study_with_reasons_of_any_kind_is_written_out(tmp_path: Path) -> None:
    from optuna.trial import TrialState, create_trial

    reason = "ValueError: \udcff\x1b[31m\n" + "a" * 5000
    failed = create_trial(state=TrialState.FAIL, user_attrs={"result": {"reason": reason, "accuracy": None}})
    url = f"sqlite:///{tmp_path}/study.db"
    search(tmp_path, storage=url, trials=1)
    optuna.load_study(study_name="search", storage=url).add_trial(failed)
    summary = search(tmp_path, storage=url, trials=3)
    (written,) = summary["reasons"]
    assert written.startswith(r"ValueError: \udcff\x1b[31m aaa")
    assert len(written) == 300
    assert [row["reason"] for row in read_csv(tmp_path / "trials.csv") if row["state"] == "failed"] == [written]
