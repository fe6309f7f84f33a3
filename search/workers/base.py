"""Where candidates are evaluated: what is asked of workers, and what all of them do."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...evaluate.contain import contain
from ...evaluate.evaluation import Evaluation, EvaluationError, Evaluator, Report, Stopped, find_kind
from ...evaluate.reasons import describe_exception, escape_reason
from ...space.errors import UserError
from ...space.network_spec import NetworkSpec

#: Steps that every storage can hold.
MAX_STEP = 2**31
#: ``on_report(number, step, accuracy) -> stop?``, with the accuracy on training images behind it where that is known.
OnReport = Callable[..., bool]


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

    Attributes:
        places: how many tasks there may be at a time.
        inline: whether they run in this process, so that a task that ends its process ends the search.
    """

    places: int
    inline: bool = False

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


def answer_task(evaluator: Evaluator, task: Task, report: Report) -> tuple[str, Any]:
    """What a worker in another process says: ``outcome`` and the outcome, or ``user error`` and its message."""
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


def explain_late(number: int, timeout: float | None) -> Outcome:
    """Of a task that took longer than it may, and was ended."""
    return Outcome(number, reason=f"trial_timeout: not done after {timeout:g} s, so its process was ended")
