"""What ends a candidate, or a search: time, failures in a row, and runs that ended during one candidate."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nuisances import Nuisance, Sleeper
from optuna.samplers import RandomSampler
from synthetic import Synthetic, calls, decisions_and_scores, gone, python, read_csv, search, wait_for

from effnas.evaluate.evaluation import Evaluation, Report
from effnas.scaling.grid.job import run_grid_search
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError

OPTIONS: dict[str, Any] = {"trials": 10, "algorithm": RandomSampler}


# -- time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_candidate_that_hangs_is_ended(tmp_path: Path, workers: int) -> None:
    log = tmp_path / "pids"
    began = time.monotonic()
    summary = search(tmp_path, Sleeper(str(log)), workers=workers, trial_timeout=0.5, **OPTIONS)
    rows = read_csv(tmp_path / "trials.csv")
    failed = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(failed) == summary["failed"] < len(rows) == 10
    assert {row["reason"] for row in failed} == {"trial_timeout: not done after 0.5 s, so its process was ended"}
    assert gone([int(pid) for line in calls(log) for pid in line.split()])  # what it started, too
    assert time.monotonic() - began < 30


def test_the_time_of_a_candidate_begins_when_its_process_is_ready(tmp_path: Path) -> None:
    summary = search(tmp_path, Synthetic(), trial_timeout=0.2, **OPTIONS)  # a process needs longer to start
    assert summary["complete"] == 10


def test_with_a_time_limit_one_worker_finds_the_same(tmp_path: Path) -> None:
    for name, limit in (("without", None), ("with", 60)):
        search(tmp_path / name, Synthetic(), trial_timeout=limit, **OPTIONS)
    assert decisions_and_scores(tmp_path / "with") == decisions_and_scores(tmp_path / "without")


def test_an_evaluator_that_does_not_travel_has_no_time_limit(tmp_path: Path) -> None:
    evaluator = Nuisance(lambda: 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"cannot be sent to a worker process: .*or leave trial_timeout out"):
        search(tmp_path, evaluator, trial_timeout=5)


# -- failures in a row ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_in_a_row_end_a_search(tmp_path: Path, workers: int) -> None:
    evaluator = Synthetic(trouble="exception", share=1.0)
    match = r"stopped after 10 failed trials in a row \(max_failures=10\): .*10 × ValueError: a bug of this network"
    for trials in (10, 20):  # the same command goes on
        with pytest.raises(UserError, match=match if workers == 1 else "stopped after 1[01] failed"):
            search(tmp_path, evaluator, trials=300, algorithm=RandomSampler, workers=workers, max_failures=10)
        assert trials <= len(read_csv(tmp_path / "trials.csv")) <= trials + 2 * (workers - 1)
    assert json.loads((tmp_path / "summary.json").read_text())["best"] is None


def test_what_succeeds_between_failures_ends_the_row(tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": RandomSampler, "trials": 40}
    summary = search(tmp_path / "three", Synthetic(trouble="exception", share=0.4), max_failures=None, **options)
    rows = read_csv(tmp_path / "three" / "trials.csv")
    text = "".join("f" if row["state"] == "failed" else "." for row in rows)
    longest = max(map(len, text.split(".")))
    assert 1 < longest < summary["failed"]
    search(tmp_path / "more", Synthetic(trouble="exception", share=0.4), max_failures=longest + 1, **options)
    with pytest.raises(UserError, match=rf"stopped after {longest} failed trials in a row"):
        search(tmp_path / "less", Synthetic(trouble="exception", share=0.4), max_failures=longest, **options)
    assert (tmp_path / "less" / "baseline.yaml").exists()


def test_a_grid_stops_too(tmp_path: Path) -> None:
    evaluator = Synthetic(trouble="exception", share=1.0)
    with pytest.raises(UserError, match=r"stopped after 3 failed trials in a row .*3 × ValueError: a bug"):
        run_grid_search("mobilenet_v1", evaluator, output=tmp_path, quiet=True, step=0.1, max_failures=3)
    assert len(read_csv(tmp_path / "trials.csv")) == 3


@pytest.mark.parametrize("option", ["max_failures", "max_interruptions", "trial_timeout"])
def test_limits_are_above_zero(tmp_path: Path, option: str) -> None:
    with pytest.raises(UserError, match=rf"{option}.* must be (at least 1|in \(0, inf\]), got 0"):
        search(tmp_path, **{option: 0})  # type: ignore[arg-type]


# -- interruptions -------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from optuna.samplers import RandomSampler
from synthetic import Synthetic, search
open("started", "a").write("x")
search(Path("out"), {evaluator}, trials=6, algorithm=RandomSampler, {options})
"""


def run(folder: Path, evaluator: str, options: str = "") -> Any:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(evaluator=evaluator, options=options))
    return python([str(script)], folder)


@pytest.mark.slow
def test_kills_from_outside_blame_no_candidate(tmp_path: Path) -> None:
    for kill in range(4):
        process = run(tmp_path, "Synthetic('calls', delay=0.4 if len(open('started').read()) < 5 else 0)")
        wait_for(lambda kill=kill: len(calls(tmp_path / "calls")) > kill)
        process.kill()
        process.communicate()
        time.sleep(0.2)  # the worker of the killed one ends by itself
    process = run(tmp_path, "Synthetic('calls')")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert (tmp_path / "started").read_text() == "xxxxx"  # no worker runs the script, which has no guard
    assert len(set(calls(tmp_path / "calls")[:4])) == 1  # always during the same candidate
    search(tmp_path / "whole", Synthetic(), trials=6, algorithm=RandomSampler)
    assert decisions_and_scores(tmp_path / "out") == decisions_and_scores(tmp_path / "whole")


def test_a_candidate_that_ends_its_process_is_found_out(tmp_path: Path) -> None:
    runs = 0
    for _ in range(20):
        runs += 1
        process = run(tmp_path, "Synthetic(trouble='kill', share=0.3)")
        process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    rows = read_csv(tmp_path / "out" / "trials.csv")
    failed = [row for row in rows if row["state"] == "failed"]
    assert len(rows) == 6
    assert {row["reason"] for row in failed} == {
        "the worker process was ended by SIGKILL (the system may have run out of memory)"
    }
    assert runs == len(failed) + 1 > 1  # each ended one run, and then a process of its own


def test_what_cannot_be_evaluated_apart_is_given_up_after_so_many_runs(tmp_path: Path) -> None:
    own = "type('Own', (Synthetic,), {'__repr__': lambda self: 'Own'})(trouble='kill', share=0.3)"
    for _ in range(20):
        process = run(tmp_path, own, "max_interruptions=2")
        process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    failed = [row for row in read_csv(tmp_path / "out" / "trials.csv") if row["state"] == "failed"]
    assert {row["reason"] for row in failed} == {"interrupted 2 times (max_interruptions=2)"}


def test_a_worker_that_is_asked_to_end_blames_no_candidate(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    summary = search(tmp_path / "out", Dismissed(str(log)), workers=2, **OPTIONS)
    assert summary["complete"] == 10
    assert len(calls(log)) == 11


@dataclass(frozen=True)
class Dismissed(Synthetic):
    """Its process is asked to end during the fourth call, as a batch system asks all of a job's."""

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        if self.log is not None and len(calls(self.log)) == 3:
            with open(self.log, "a") as file:
                file.write("dismissed\n")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        return super().__call__(architecture, seed=seed, report=report)
