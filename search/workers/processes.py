"""Several processes that evaluate candidates and share this machine's cores and GPUs."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from ...evaluate.evaluation import Evaluator, Stopped
from ...evaluate.interrupt import ASKING, Interrupts
from ...evaluate.machine.assignment import assign_gpu
from ...evaluate.machine.cores import count_cores
from ...evaluate.machine.start import main_module, threads_in_environment, without_ctrl_c
from ...evaluate.reasons import describe_exception
from ...space.errors import UserError
from .base import NotPortable, OnReport, Outcome, Task, Workers, answer_task, check_report, explain_late
from .inline import Inline

#: Seconds after which a wait for processes is begun again: more would not fit what the system counts with.
LONGEST_WAIT = 1e6
_IMPORTABLE = "Define it in a module that can be imported"


def make_workers(evaluator: Evaluator, workers: int, interrupts: Interrupts, timeout: float | None = None) -> Workers:
    """This process for one worker, else processes of their own, each with its share of the cores and the GPUs.

    With a ``timeout`` (seconds a task) one worker is another process too: only that can be ended whatever it does.

    Raises:
        UserError: the evaluator cannot be sent to another process.
    """
    if workers > 1:
        return Processes(evaluator, workers, interrupts, timeout)
    if timeout is not None:
        return Processes(evaluator, 1, interrupts, timeout, alike=True)
    return Inline(evaluator, interrupts, lambda: Processes(evaluator, 1, interrupts, alike=True, main=False))


@dataclass
class _Process:
    """One process, its pipe, its place, whether it has the evaluator by now, and when it must be done."""

    process: SpawnProcess
    connection: Connection
    place: int
    ready: bool = False
    deadline: float = math.inf

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

    Args:
        evaluator: is sent to them.
        places: how many.
        interrupts: let Ctrl-C through.
        timeout: seconds that a task may take, from when its process has the evaluator; None: no limit.
        alike: it has the threads that this process has, not a share of the cores.
        main: whether it may import the program that this process runs, which a script without a guard would run again.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        places: int,
        interrupts: Interrupts,
        timeout: float | None = None,
        *,
        alike: bool = False,
        main: bool = True,
    ) -> None:
        self.places = places
        self._timeout, self._main = timeout, main
        self._inline = "leave trial_timeout out" if places == 1 else "use workers=1"
        self._name = type(evaluator).__name__
        self._interrupts = interrupts
        self._threads = None if alike else max(1, count_cores() // places)
        self._context = multiprocessing.get_context("spawn")
        if multiprocessing.current_process().daemon:
            raise NotPortable(
                "a process of multiprocessing.Pool may start no others, and several workers are processes; "
                f"{self._inline}, or begin the search in another process"
            )
        self._idle: list[_Process] = []
        self._busy: dict[int, _Process] = {}
        try:
            self._evaluator = pickle.dumps(evaluator)
        except Exception as error:  # whatever its parts raise
            raise NotPortable(
                f"evaluator {self._name} cannot be sent to a worker process: {error}. {_IMPORTABLE}, or {self._inline}"
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
        with without_ctrl_c(), threads_in_environment(self._threads), main_module(self._main):
            process.start()
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
            raise NotPortable(
                f"{task.architecture.maker} cannot be sent to a worker process: {error}. {_IMPORTABLE}, "
                f"or {self._inline}"
            ) from error
        worker = self._idle.pop() if self._idle else self._start()
        self._set_deadline(worker)
        self._busy[task.number] = worker
        with contextlib.suppress(OSError):  # it died while idle; wait() sees that
            worker.connection.send_bytes(pickled)

    def _set_deadline(self, worker: _Process) -> None:
        """From now on, where the process has the evaluator: what it imports is no candidate's."""
        worker.deadline = math.inf if self._timeout is None or not worker.ready else time.monotonic() + self._timeout

    def wait(self, on_report: OnReport) -> Outcome:
        """Serve reports until a task ends, or must."""
        while True:
            numbers = {worker.connection: number for number, worker in self._busy.items()}
            first = min((worker.deadline for worker in self._busy.values()), default=math.inf)
            left = None if first == math.inf else max(first - time.monotonic(), 0)
            with self._interrupts.allowed():
                spoke = wait(list(numbers), left if left is None else min(left, LONGEST_WAIT))
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
                    self._set_deadline(worker)
                elif kind == "report":
                    stop = on_report(number, *payload)
                    with contextlib.suppress(OSError):  # it died since; the next turn sees that
                        connection.send(stop)
                else:
                    self._idle.append(self._busy.pop(number))
                    if kind == "user error":
                        raise UserError(payload)
                    if kind == "not portable":
                        raise NotPortable(f"{payload}. {_IMPORTABLE}, or {self._inline}")
                    outcome: Outcome = payload
                    return outcome
            late = [n for n, worker in self._busy.items() if worker.deadline <= time.monotonic()]
            if not spoke and late:
                return self._end_late(late[0])

    def _end_late(self, number: int) -> Outcome:
        worker = self._busy.pop(number)
        worker.kill()
        worker.process.join(5)
        worker.connection.close()
        return explain_late(number, self._timeout)

    def _died(self, number: int) -> Outcome:
        worker = self._busy.pop(number)
        worker.process.join(5)
        code = worker.process.exitcode
        worker.kill()
        worker.connection.close()
        if not worker.ready and code is not None and code > 0:
            raise NotPortable(
                f"a worker process ended with status {code} before it could begin (its own message is above). A script "
                'that starts a search with several workers must do so under `if __name__ == "__main__":`; or '
                f"{self._inline}"
            )
        asked = code is not None and -code in ASKING
        return Outcome(number, reason=_explain_death(code), interrupted=asked)

    def close(self) -> None:
        """Kill those at work, which is recorded as interrupted; let the idle ones end and tidy up after themselves."""
        workers = [*self._idle, *self._busy.values()]
        for worker in self._busy.values():
            worker.kill()
        for worker in workers:
            worker.connection.close()
        end = time.monotonic() + 5  # an evaluator may have left something running that Python waits for
        for worker in self._idle:
            worker.process.join(max(0.0, end - time.monotonic()))
        for worker in workers:
            worker.kill()
            worker.process.join()
        self._idle, self._busy = [], {}


def _explain_death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with status {code}"


def _serve_tasks(connection: Connection, pickled: bytes, threads: int | None, place: int) -> None:
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
        connection.send(("not portable", f"evaluator: a worker process cannot load it: {describe_exception(error)}"))
        return
    if threads is not None and "torch" in sys.modules:  # the evaluator brought it along
        sys.modules["torch"].set_num_threads(threads)
    connection.send(("ready", None))

    def report(step: int, accuracy: float, train_accuracy: float | None = None) -> None:
        connection.send(("report", check_report(step, accuracy, train_accuracy)))
        if connection.recv():
            raise Stopped

    while True:
        try:
            task: Task = connection.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # the network's builder, which has no file to be imported from
            connection.send(("not portable", f"builder: a worker process cannot load it: {describe_exception(error)}"))
            return
        try:
            connection.send(answer_task(evaluator, task, report))
        except OSError:  # the parent has gone
            return
