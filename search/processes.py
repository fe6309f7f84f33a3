"""Several processes that evaluate candidates and share this machine's cores and GPUs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from ..evaluate.contain import contain
from ..evaluate.evaluation import Evaluator, Stopped
from ..evaluate.interrupt import Interrupts
from ..evaluate.machine.assignment import assign_gpu
from ..evaluate.reasons import describe_exception
from ..space.errors import UserError
from .workers import Inline, OnReport, Outcome, Task, Workers, check_report, count_cores, evaluate_task

_IMPORTABLE = "Define it in a module that can be imported"


def make_workers(evaluator: Evaluator, workers: int, interrupts: Interrupts) -> Workers:
    """This process for one worker, else processes of their own, each with its share of the cores and the GPUs.

    Raises:
        UserError: the evaluator cannot be sent to another process.
    """
    return Inline(evaluator, interrupts) if workers == 1 else Processes(evaluator, workers, interrupts)


@dataclass
class _Process:
    """One process, its pipe, its place, and whether it has got as far as to have the evaluator."""

    process: SpawnProcess
    connection: Connection
    place: int
    ready: bool = False

    def kill(self) -> None:
        """End it and what it has started: it leads a process group of its own."""
        self.process.kill()
        if sys.platform != "win32" and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Processes(Workers):
    """Processes that are started again when they die. Where the device is ``auto``, GPUs are dealt out by their places.

    They speak over pipes with this process, the only one that writes the study. A worker whose parent is gone ends at
    once, and all that it has started with it.
    """

    def __init__(self, evaluator: Evaluator, places: int, interrupts: Interrupts) -> None:
        self.places = places
        self._name = type(evaluator).__name__
        self._interrupts = interrupts
        self._threads = max(1, count_cores() // places)
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Process] = []
        self._busy: dict[int, _Process] = {}
        try:
            self._evaluator = pickle.dumps(evaluator)
        except Exception as error:  # whatever its parts raise
            raise UserError(
                f"evaluator {self._name} cannot be sent to a worker process: {error}. {_IMPORTABLE}, or use workers=1"
            ) from error

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        taken = {worker.place for worker in (*self._idle, *self._busy.values())}
        place = next(number for number in range(self.places) if number not in taken)
        # Not a daemon: such a one may start no process, as a loader of images does.
        process = self._context.Process(
            target=_serve_tasks,
            args=(theirs, self._evaluator, self._threads, place),
            daemon=False,
            name="effnas-worker",
        )
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # read once, when the worker loads torch
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(dict.fromkeys(names, str(self._threads)))
        try:
            with _without_ctrl_c():
                process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        theirs.close()
        return _Process(process, ours, place)

    def submit(self, task: Task) -> None:
        """Give the task to an idle process.

        Raises:
            UserError: the network's builder cannot be sent there.
        """
        try:
            pickled = pickle.dumps(task)
        except Exception as error:  # a lambda, or a function inside another one
            raise UserError(
                f"{task.architecture.maker} cannot be sent to a worker process: {error}. {_IMPORTABLE}, "
                "or use workers=1"
            ) from error
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[task.number] = worker
        with contextlib.suppress(OSError):  # it died while idle; wait() sees that
            worker.connection.send_bytes(pickled)

    def wait(self, on_report: OnReport) -> Outcome:
        """Serve reports until a task ends."""
        while True:
            numbers = {worker.connection: number for number, worker in self._busy.items()}
            with self._interrupts.allowed():
                spoke = wait(list(numbers))
            for connection in spoke:
                assert isinstance(connection, Connection)
                number = numbers[connection]
                worker = self._busy[number]
                try:
                    kind, payload = connection.recv()
                except (EOFError, OSError):
                    return self._died(number)
                if kind == "ready":
                    worker.ready = True
                elif kind == "report":
                    stop = on_report(number, *payload)
                    with contextlib.suppress(OSError):  # it died since; the next turn sees that
                        connection.send(stop)
                else:
                    self._idle.append(self._busy.pop(number))
                    if kind == "user error":
                        raise UserError(payload)
                    outcome: Outcome = payload
                    return outcome

    def _died(self, number: int) -> Outcome:
        worker = self._busy.pop(number)
        worker.process.join(5)
        code = worker.process.exitcode
        worker.kill()
        worker.connection.close()
        if not worker.ready and code is not None and code > 0:
            raise UserError(
                f"a worker process ended with status {code} before it could begin (its own message is above). A script "
                'that starts a search with several workers must do so under `if __name__ == "__main__":`; or use '
                "workers=1"
            )
        return Outcome(number, reason=_explain_death(code))

    def close(self) -> None:
        """Kill those at work, which is recorded as interrupted; let the idle ones end and tidy up after themselves."""
        workers = [*self._idle, *self._busy.values()]
        for worker in self._busy.values():
            worker.kill()
        for worker in workers:
            worker.connection.close()
        for worker in self._idle:
            worker.process.join(5)
        for worker in workers:
            worker.kill()
            worker.process.join()
        self._idle, self._busy = [], {}


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """A process started in here never hears of Ctrl-C, which a terminal sends to all: it is the parent's affair."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _explain_death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with status {code}"


def _serve_tasks(connection: Connection, pickled: bytes, threads: int, place: int) -> None:
    """A worker's life."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform != "win32":
        os.setpgrp()

    def watch(sentinel: Any = parent.sentinel) -> None:
        wait([sentinel])
        if sys.platform != "win32":
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    assign_gpu(place)
    try:
        evaluator = pickle.loads(pickled)
    except Exception as error:  # such as a class of a session's, which has no file to be imported from
        text = f"evaluator: a worker process cannot load it: {describe_exception(error)}. {_IMPORTABLE}"
        connection.send(("user error", f"{text}, or use workers=1"))
        return
    if "torch" in sys.modules:  # the evaluator brought it along
        sys.modules["torch"].set_num_threads(threads)
    connection.send(("ready", None))

    def report(step: int, value: float) -> None:
        connection.send(("report", check_report(step, value)))
        if connection.recv():
            raise Stopped

    while True:
        try:
            task: Task = connection.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # the network's builder, which has no file to be imported from
            text = f"builder: a worker process cannot load it: {describe_exception(error)}. {_IMPORTABLE}"
            connection.send(("user error", f"{text}, or use workers=1"))
            return
        try:
            connection.send(_answer_task(evaluator, task, report))
        except OSError:  # the parent has gone
            return


def _answer_task(evaluator: Evaluator, task: Task, report: Callable[[int, float], None]) -> tuple[str, Any]:
    try:
        with contain():
            outcome = evaluate_task(evaluator, task, report)
    except UserError as error:
        return "user error", str(error)
    try:
        pickle.dumps(outcome)
    except Exception as error:  # something in the evaluator's own metrics
        return "outcome", Outcome(task.number, reason=f"the evaluation cannot be sent: {describe_exception(error)}")
    return "outcome", outcome
