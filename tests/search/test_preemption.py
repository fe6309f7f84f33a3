"""A machine that is taken away from a job of submitit's: a signal and then SIGKILL, or the signal that requeues it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from synthetic import Synthetic, alive, calls, decisions_and_scores, gone, read_csv, search, wait_for

pytestmark = pytest.mark.slow


class Job:
    """A search, with the number of its process in a file; it can be put back into the queue, as Hydra's jobs can."""

    def __call__(self, folder: str, workers: int) -> int:
        Path(folder, "pid").write_text(str(os.getpid()))
        evaluator = Synthetic(f"{folder}/log", delay=0.3)
        return int(search(Path(folder, "out"), evaluator, trials=8, workers=workers)["complete"])

    def checkpoint(self, *arguments: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def submit(tmp_path: Path, workers: int) -> Any:
    submitit = pytest.importorskip("submitit")
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)
    return executor.submit(Job(), str(tmp_path), workers)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the job's process: this file and its neighbours."""
    tests = Path(__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{tests / 'search'}:{os.environ.get('PYTHONPATH', '')}")


def check_whole(tmp_path: Path, running: int) -> None:
    """All trials complete, and at most those that were running were evaluated twice."""
    assert [row["state"] for row in read_csv(tmp_path / "out" / "trials.csv")] == ["complete"] * 8
    distinct = len(set(calls(tmp_path / "log")))
    assert len(calls(tmp_path / "log")) - distinct <= running


@pytest.mark.parametrize("workers", [1, 2])
def test_the_signal_that_requeues(tmp_path: Path, workers: int) -> None:
    """As Slurm's before the end of a job's time: submitit puts it back, and it goes on."""
    job = submit(tmp_path, workers)
    wait_for(lambda: len(calls(tmp_path / "log")) >= 4)
    first = int((tmp_path / "pid").read_text())
    os.kill(first, signal.SIGUSR2)
    assert job.result() == 8
    assert int((tmp_path / "pid").read_text()) != first
    check_whole(tmp_path, workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_then_sigkill(tmp_path: Path, workers: int) -> None:
    job = submit(tmp_path, workers)
    wait_for(lambda: len(calls(tmp_path / "log")) >= 4)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGTERM)  # which submitit passes over
    assert not gone([pid], 0.1)
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    wait_for(job.done)
    assert not alive(pid)
    assert submit(tmp_path, workers).result() == 8
    check_whole(tmp_path, workers)
    search(tmp_path / "alone", Synthetic(delay=0.01), trials=8)
    if workers == 1:
        assert decisions_and_scores(tmp_path / "out") == decisions_and_scores(tmp_path / "alone")
