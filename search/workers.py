"""Where candidates are evaluated: what all workers do, and the one place in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..evaluate.evaluation import Evaluation, EvaluationError, Evaluator, Stopped
from ..evaluate.interrupt import Interrupts
from ..space.errors import UserError
from ..space.network_spec import NetworkSpec

#: ``on_report(number, step, accuracy) -> stop?``
OnReport = Callable[[int, int, float], bool]


@dataclass(frozen=True)
class Task:
    """One evaluation to make; ``number`` is the trial's."""

    number: int
    architecture: NetworkSpec
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an evaluation, an early stop, or the reason of the failure."""

    number: int
    evaluation: Evaluation | None = None
    stopped: bool = False
    reason: str = ""


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


def evaluate_task(evaluator: Evaluator, task: Task, report: Callable[[int, float], None]) -> Outcome:
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


def check_report(step: Any, value: Any) -> tuple[int, float]:
    """What an evaluator reports, as the study takes it.

    Raises:
        EvaluationError: the step is not a whole number from 0, or the accuracy is not a number.
    """
    if not hasattr(step, "__index__") or int(step) < 0:
        raise EvaluationError(f"report(step, accuracy): the step must be a whole number from 0, got {step!r:.60}")
    try:
        return int(step), float(value)
    except (TypeError, ValueError):
        raise EvaluationError(f"report(step, accuracy): the accuracy must be a number, got {value!r:.60}") from None


class Inline(Workers):
    """One place, in this process; its torch keeps the threads it has."""

    places = 1

    def __init__(self, evaluator: Evaluator, interrupts: Interrupts) -> None:
        self._evaluator = evaluator
        self._interrupts = interrupts
        self._task: Task | None = None

    def submit(self, task: Task) -> None:
        """Remember the task; it runs in :meth:`wait`."""
        self._task = task

    def wait(self, on_report: OnReport) -> Outcome:
        """Evaluate here and now."""
        task, self._task = self._task, None
        assert task is not None

        def report(step: int, value: float) -> None:
            measured = check_report(step, value)
            with self._interrupts.deferred():
                stop = on_report(task.number, *measured)
            if stop:
                raise Stopped

        with self._interrupts.allowed():
            return evaluate_task(self._evaluator, task, report)
