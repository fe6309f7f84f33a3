"""Signals: held back where files are written, and those that somebody else handles."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from synthetic import Synthetic, read_csv, search

from effnas.evaluate.evaluation import Evaluation, Report
from effnas.evaluate.interrupt import Interrupts
from effnas.space.architecture import Architecture


@pytest.fixture
def requeue() -> Iterator[list[int]]:
    """A handler of SIGUSR2 as submitit's: it puts the job back into the queue, and ends the process."""
    seen: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise SystemExit(144)

    before = signal.signal(signal.SIGUSR2, handler)
    yield seen
    signal.signal(signal.SIGUSR2, before)


def send() -> None:
    os.kill(os.getpid(), signal.SIGUSR2)


def test_what_another_handler_raises_is_held_back_and_comes_at_the_end(requeue: list[int]) -> None:
    steps = []
    with pytest.raises(SystemExit, match="144"), Interrupts() as interrupts:  # noqa: PT012
        send()
        steps.append("written")
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            pass
        steps.append("told")
        interrupts.check()
    assert (steps, requeue) == (["written", "told"], [signal.SIGUSR2])
    with pytest.raises(SystemExit, match="144"):  # the handler is theirs again
        send()


def test_it_comes_when_all_was_done_in_time(requeue: list[int]) -> None:
    with pytest.raises(SystemExit, match="144"), Interrupts():
        send()


def test_another_error_is_told_first(requeue: list[int]) -> None:
    with pytest.raises(ValueError, match="on the way"), Interrupts():  # noqa: PT012
        send()
        raise ValueError("on the way")


def test_a_handler_that_goes_on_is_called_and_nothing_else() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with Interrupts() as interrupts, interrupts.allowed():
            send()
        interrupts.check()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [signal.SIGUSR2]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_that_ask_a_process_to_end(name: str, tmp_path: Path) -> None:
    """What is done is written, and no candidate is blamed."""
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "out", Preempted(str(tmp_path / "log"), trouble=name, share=0.0), trials=5)
    assert {row["state"] for row in read_csv(tmp_path / "out" / "trials.csv")} == {"complete"}
    assert signal.getsignal(getattr(signal, name)) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupts.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_closed_takes_no_result_with_it(tmp_path: Path) -> None:
    """Whatever is written to it is an error from then on."""
    ours, theirs = os.openpty()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(theirs, number)
        os.close(theirs)
        os.close(ours)
        with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:  # noqa: PT012
            os.kill(os.getpid(), signal.SIGHUP)
            assert os.write(2, b"stopped") == 7
            interrupts.check()
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


class Preempted(Synthetic):
    """The machine is wanted during the third call."""

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        evaluation = super().__call__(architecture, seed=seed, report=report)
        assert self.log is not None
        if len(Path(self.log).read_text().splitlines()) == 3:
            os.kill(os.getpid(), getattr(signal, self.trouble or "SIGUSR2"))
        return evaluation


def test_a_search_is_put_back_into_the_queue_and_no_candidate_fails(requeue: list[int], tmp_path: Path) -> None:
    evaluator = Preempted(str(tmp_path / "log"))
    with pytest.raises(SystemExit, match="144"):
        search(tmp_path / "out", evaluator, trials=5)
    assert {row["state"] for row in read_csv(tmp_path / "out" / "trials.csv")} == {"complete"}
    assert search(tmp_path / "out", evaluator, trials=5)["complete"] == 5
    assert [row["state"] for row in read_csv(tmp_path / "out" / "trials.csv")] == ["complete"] * 5
