"""Which machines evaluate: what an executor is asked for, and the one that is this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ...evaluate.evaluation import Evaluator
from ...evaluate.interrupt import Interrupts
from .base import Workers
from .count import count_workers
from .processes import make_workers


@dataclass(frozen=True)
class Site:
    """Where the evaluations of one study run.

    Args:
        note: what to tell the user; "": nothing.
        make_workers: of an evaluator, with the interrupts and the seconds that a task may take.
    """

    note: str
    make_workers: Callable[[Evaluator, Interrupts, float | None], Workers]


class Executor(Protocol):
    """Says where evaluations run."""

    def hold(self, workers: Any, per_device: Any, evaluator: Evaluator) -> AbstractContextManager[Site]:
        """The site, which is given back at the end.

        Args:
            workers: ``auto`` or a number: how many evaluations run at the same time.
            per_device: with ``auto``, how many share a GPU.
            evaluator: what is to run there.

        Raises:
            UserError: the numbers are wrong, or there is no room for even one evaluation.
        """
        ...


@dataclass(frozen=True)
class Local:
    """This machine: this process or others, which share its cores and GPUs."""

    @contextmanager
    def hold(self, workers: Any, per_device: Any, evaluator: Evaluator) -> Iterator[Site]:
        """As many places as :func:`~effnas.search.workers.count.count_workers` says."""
        places, note = count_workers(workers, per_device, evaluator)
        yield Site(note, lambda equipped, interrupts, timeout: make_workers(equipped, places, interrupts, timeout))
