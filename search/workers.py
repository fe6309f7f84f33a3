"""Where candidates are evaluated: in this process, or in several that share its cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from ..evaluate.evaluation import Evaluation, Evaluator, Stopped
from ..space.architecture import Architecture
from ..space.errors import UserError

#: ``on_report(number, step, accuracy) -> stop?``
OnReport = Callable[[int, int, float], bool]


@dataclass(frozen=True)
class Task:
    """One evaluation to make; ``number`` is the trial's."""

    number: int
    architecture: Architecture
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an evaluation, an early stop, or the reason of the failure."""

    number: int
    evaluation: Evaluation | None = None
    stopped: bool = False
    reason: str = ""


class Workers:
    """Takes as many tasks as it has places, gives back outcomes in the order in which they end.

    A context manager, closed at its end.
    """

    places: int

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, task: Task) -> None:
        """Start a task; never more than ``places`` at a time."""
        raise NotImplementedError

    def wait(self, on_report: OnReport) -> Outcome:
        """The next outcome; ``on_report`` is called in this thread meanwhile.

        Raises:
            UserError: the evaluator says that no candidate can be evaluated.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the processes, if there are any, whatever they are doing."""


def make_workers(evaluator: Evaluator, workers: int) -> Workers:
    """This process for one worker, else processes of their own, each with its share of the cores."""
    return Inline(evaluator) if workers == 1 else Processes(evaluator, workers)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluate(evaluator: Evaluator, task: Task, report: Callable[[int, float], None]) -> Outcome:
    """Call the evaluator; whatever a candidate does to it becomes an outcome.

    Raises:
        UserError: as the evaluator's.
    """
    start = time.perf_counter()
    try:
        result = evaluator(task.architecture, seed=task.seed, report=report)
    except Stopped:
        return Outcome(task.number, stopped=True)
    except UserError:
        raise
    except Exception as error:  # a candidate's failure, of any kind, is a result of the search
        return Outcome(task.number, reason=f"{type(error).__name__}: {error}")
    if not isinstance(result, Evaluation):
        raise UserError(f"evaluator {type(evaluator).__name__} must return an Evaluation, got {type(result).__name__}")
    if not result.seconds:
        result = Evaluation(
            result.accuracy, result.cost, result.latency, time.perf_counter() - start, dict(result.metrics)
        )
    return Outcome(task.number, result)


class Inline(Workers):
    """One place, in this process; its torch keeps the threads it has."""

    places = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._task: Task | None = None

    def submit(self, task: Task) -> None:
        """Remember the task; it runs in :meth:`wait`."""
        self._task = task

    def wait(self, on_report: OnReport) -> Outcome:
        """Evaluate here and now."""
        task, self._task = self._task, None
        assert task is not None

        def report(step: int, value: float) -> None:
            if on_report(task.number, step, value):
                raise Stopped

        return evaluate(self._evaluator, task, report)


class Processes(Workers):
    """Processes that are started anew when they die.

    They speak over pipes with this process, the only one that writes the study. A worker whose parent is gone ends at
    once.
    """

    def __init__(self, evaluator: Evaluator, places: int) -> None:
        self.places = places
        self._evaluator = evaluator
        self._threads = max(1, cores() // places)
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[SpawnProcess, Connection]] = []
        self._busy: dict[int, tuple[SpawnProcess, Connection]] = {}

    def _start(self) -> tuple[SpawnProcess, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._evaluator, self._threads), daemon=True, name="effnas-worker"
        )
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # read once, when the worker loads torch
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(dict.fromkeys(names, str(self._threads)))
        try:
            process.start()
        except Exception as error:  # the evaluator does not pickle
            raise UserError(
                f"evaluator {type(self._evaluator).__name__} cannot be sent to a worker process: {error}. Define it in "
                "a module that can be imported, or use workers=1"
            ) from error
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        theirs.close()
        return process, ours

    def submit(self, task: Task) -> None:
        """Give the task to an idle process."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[task.number] = worker
        with contextlib.suppress(OSError):  # it died while idle; wait() sees that
            worker[1].send(task)

    def wait(self, on_report: OnReport) -> Outcome:
        """Serve reports until a task ends."""
        while True:
            numbers = {connection: number for number, (_, connection) in self._busy.items()}
            for connection in wait(list(numbers)):
                assert isinstance(connection, Connection)
                number = numbers[connection]
                process = self._busy[number][0]
                try:
                    kind, payload = connection.recv()
                except (EOFError, OSError):
                    del self._busy[number]
                    process.join(5)
                    return Outcome(number, reason=_death(process.exitcode))
                if kind == "report":
                    connection.send(on_report(number, *payload))
                    continue
                self._idle.append(self._busy.pop(number))
                if kind == "user error":
                    raise UserError(payload)
                outcome: Outcome = payload
                return outcome

    def close(self) -> None:
        """Kill them: what they were doing is recorded as interrupted."""
        for process, connection in [*self._idle, *self._busy.values()]:
            process.kill()
            connection.close()
        for process, _ in [*self._idle, *self._busy.values()]:
            process.join()
        self._idle, self._busy = [], {}


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with status {code}"


def _serve(connection: Connection, evaluator: Evaluator, threads: int) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch(sentinel: Any = parent.sentinel) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if "torch" in sys.modules:  # the evaluator brought it along
        sys.modules["torch"].set_num_threads(threads)

    def report(step: int, value: float) -> None:
        connection.send(("report", (step, value)))
        if connection.recv():
            raise Stopped

    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("outcome", evaluate(evaluator, task, report)))
        except UserError as error:
            connection.send(("user error", str(error)))
