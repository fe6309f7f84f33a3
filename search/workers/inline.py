"""The one place in this process."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...evaluate.contain import at_home, contain
from ...evaluate.evaluation import Evaluator, Stopped
from ...evaluate.interrupt import Interrupts
from .base import NotPortable, OnReport, Outcome, Task, Workers, check_report, evaluate_task


class Inline(Workers):
    """One place, in this process; its torch keeps the threads it has.

    Args:
        evaluator: evaluates.
        interrupts: let Ctrl-C through.
        make_apart: makes the workers, with one place, of tasks that are to run :attr:`~Task.apart`.
    """

    places = 1
    inline = True

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
