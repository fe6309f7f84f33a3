"""Where candidates are evaluated: how many at a time, what all workers do, and the one place in this process."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluate.contain import at_home, contain
from ..evaluate.evaluation import Evaluation, EvaluationError, Evaluator, Report, Stopped, find_kind
from ..evaluate.interrupt import Interrupts
from ..evaluate.reasons import describe_exception, escape_reason
from ..space.errors import UserError, check_int
from ..space.network_spec import NetworkSpec

#: Steps that every storage can hold.
MAX_STEP = 2**31
#: ``on_report(number, step, accuracy) -> stop?``, with the accuracy on training images behind it where that is known.
OnReport = Callable[..., bool]


#: Bytes a worker on the CPU is reckoned to need: a candidate of mobile_cifar takes 1.1e9 at its peak (batch size 128).
WORKER_MEMORY = 2 * 2**30
#: What a container may use, of control groups of version 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Task:
    """One evaluation to make.

    Args:
        number: the trial's.
        architecture: the network.
        seed: of its training.
        apart: in a process of its own, where that is possible: an earlier run ended during it, and nobody knows why.
    """

    number: int
    architecture: NetworkSpec
    seed: int
    apart: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an evaluation, an early stop, or the reason of the failure.

    ``foreign``: the evaluator returned something that is no evaluation at all. ``interrupted``: somebody has asked the
    process to end, which says nothing of the candidate.
    """

    number: int
    evaluation: Evaluation | None = None
    stopped: bool = False
    reason: str = ""
    foreign: bool = False
    interrupted: bool = False


class NotPortable(UserError):
    """The evaluator, or a network, cannot be sent to another process."""


class Workers:
    """Takes as many tasks as it has places, returns outcomes in the order in which they end.

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


def count_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluate_task(evaluator: Evaluator, task: Task, report: Report) -> Outcome:
    """Call the evaluator; whatever a candidate does to it becomes an outcome.

    Raises:
        UserError: as the evaluator's.
        KeyboardInterrupt: Ctrl-C.
    """
    start = time.perf_counter()
    ended = False

    def report_meanwhile(step: int, accuracy: float, train_accuracy: float | None = None) -> None:
        if ended:  # a thread that was left behind
            raise Stopped
        report(step, accuracy, train_accuracy)

    try:
        result: Any = evaluator(task.architecture, seed=task.seed, report=report_meanwhile)
        if not isinstance(result, Evaluation):
            reason = f"evaluator {type(evaluator).__name__} must return an Evaluation, got {type(result).__name__}"
            return Outcome(task.number, reason=escape_reason(reason), foreign=True)
        seconds = result.seconds or time.perf_counter() - start
        kind, gives = "accuracy" if result.merit is None else "merit", find_kind(evaluator)
        if kind != gives:
            name = type(evaluator).__name__
            reason = f'evaluator {name} must give each network {gives}, got {kind}; one of merits has `gives = "merit"`'
            return Outcome(task.number, reason=escape_reason(reason), foreign=True)
        metrics = dict(result.metrics)  # made anew: plain data, whatever became of it since
        return Outcome(
            task.number, Evaluation(result.accuracy, result.cost, result.latency, seconds, metrics, result.merit)
        )
    except Stopped:
        return Outcome(task.number, stopped=True)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a candidate's failure, of any kind, SystemExit too, is a result of the search
        return Outcome(task.number, reason=describe_exception(error))
    finally:
        ended = True


def check_report(step: Any, accuracy: Any, train_accuracy: Any = None) -> tuple[int, float, *tuple[float, ...]]:
    """What an evaluator reports, as the study takes it; without the accuracy on training images where there is none.

    Raises:
        EvaluationError: the step is not a whole number from 0, or an accuracy is not a number.
    """
    if not hasattr(step, "__index__") or not 0 <= int(step) < MAX_STEP:
        raise EvaluationError(f"report(step, accuracy): the step must be a whole number from 0, got {step!r:.60}")
    try:
        measured = float(accuracy)
    except (TypeError, ValueError):
        raise EvaluationError(f"report(step, accuracy): the accuracy must be a number, got {accuracy!r:.60}") from None
    try:
        return (int(step), measured) if train_accuracy is None else (int(step), measured, float(train_accuracy))
    except (TypeError, ValueError):
        raise EvaluationError(
            f"report(step, accuracy, train_accuracy): the latter must be a number or None, got {train_accuracy!r:.60}"
        ) from None


class Inline(Workers):
    """One place, in this process; its torch keeps the threads it has.

    Args:
        evaluator: evaluates.
        interrupts: let Ctrl-C through.
        make_apart: makes the workers, with one place, of tasks that are to run :attr:`~Task.apart`.
    """

    places = 1

    def __init__(self, evaluator: Evaluator, interrupts: Interrupts, make_apart: Callable[[], Workers]) -> None:
        self._evaluator = evaluator
        self._interrupts = interrupts
        self._make_apart = make_apart
        self._task: Task | None = None

    def submit(self, task: Task) -> None:
        """Remember the task; it runs in :meth:`wait`."""
        self._task = task

    def wait(self, on_report: OnReport) -> Outcome:
        """Evaluate here and now."""
        task, self._task = self._task, None
        assert task is not None
        if task.apart:
            try:
                with self._make_apart() as workers:
                    workers.submit(task)
                    return workers.wait(on_report)
            except NotPortable:  # then here, as before
                pass
        home, troubles = os.getcwd(), []

        def report(step: int, accuracy: float, train_accuracy: float | None = None) -> None:
            measured = check_report(step, accuracy, train_accuracy)
            with self._interrupts.deferred(), at_home(home):
                try:
                    stop = on_report(task.number, *measured)
                except Exception as error:  # the study's, not the candidate's
                    troubles.append(error)
                    raise
            if stop:
                raise Stopped

        with contain(), self._interrupts.allowed():
            outcome = evaluate_task(self._evaluator, task, report)
        if troubles:
            raise troubles[0]
        return outcome


def count_workers(workers: Any, per_device: Any, evaluator: Evaluator) -> tuple[int, str]:
    """Processes that evaluate at the same time, and what to tell the user about them.

    ``auto`` is ``per_device`` for each GPU that the evaluator's ``device`` allows: all of them where that is ``auto``.
    Without a GPU it is one per core, because candidates are small, but not more than there is memory for.

    Args:
        workers: ``auto`` or a number.
        per_device: with ``auto``, processes that share a GPU.
        evaluator: what they run; one without a ``device`` uses no GPU.

    Raises:
        UserError: either is something else, or ``per_device`` would have no effect.
    """
    check_int("workers_per_device", per_device, 1)
    if workers != "auto":
        if isinstance(workers, bool) or not isinstance(workers, int):
            raise UserError(f"workers must be auto or a whole number, got {workers!r}")
        check_int("workers", workers, 1, 4096)
        if per_device > 1:
            raise UserError(
                f"workers_per_device applies only with workers=auto, got workers_per_device={per_device} and "
                f"workers={workers}; {workers} workers take turns with the available GPUs"
            )
        return workers, ""
    gpus = _count_gpus(getattr(evaluator, "device", None))
    if gpus:
        count, where = gpus * per_device, "1 GPU" if gpus == 1 else f"{gpus} GPUs"
    elif per_device > 1:
        raise UserError(
            f"workers_per_device needs a GPU, got {per_device}; without one, workers=auto starts one process per core"
        )
    else:
        fit = max(1, (find_memory() or 2**62) // WORKER_MEMORY)
        count = min(count_cores(), fit)
        where = f"{count_cores()} core{'s' * (count_cores() > 1)}"
        if fit < count_cores():
            where += f", limited by memory ({WORKER_MEMORY // 2**30} GiB each)"
    return count, f"workers=auto: {count} process{'es' * (count > 1)} on {where}"


def find_memory() -> int | None:
    """Bytes that this machine has, or that its container may use; None where neither is known."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows, or a name that is not known
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(Path(file).read_text()))
    return min(found, default=None)


def _count_gpus(device: object) -> int:
    """GPUs that the evaluator's candidates can be on."""
    if device == "auto":
        import torch

        return torch.cuda.device_count() or int(torch.backends.mps.is_available())
    return int(str(device).partition(":")[0] in ("cuda", "mps"))
