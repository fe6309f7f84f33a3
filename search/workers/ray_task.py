"""What a Ray cluster runs for a search: a task evaluates one candidate, and what it reports goes through a mailbox.

The mailbox is an actor beside the search, because a node may reach no other part of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
from typing import Any, TypedDict

from ...evaluate.evaluation import Evaluator, Stopped
from ...evaluate.kept_weights import serve_a_node
from ...evaluate.machine.assignment import assign_gpu
from ...evaluate.reasons import describe_exception
from .base import Task, answer_task, check_report

#: Of a task: the trial, and which try it is.
Ticket = tuple[int, int]


class Place(TypedDict):
    """What a task finds around it, as the search has it.

    Args:
        key: of the search.
        threads: of torch.
        folder: that paths are relative to, where a node has it.
        imports: folders of the user's modules, where a node has them.
    """

    key: str
    threads: int
    folder: str
    imports: list[str]


# -- beside the search -----------------------------------------------------------------------------------


class Mailbox:
    """An actor: keeps letters until the search takes them, and each report's answer until its candidate has it."""

    def __init__(self) -> None:
        self._letters: asyncio.Queue[tuple[Ticket, str, Any]] = asyncio.Queue()
        self._answers: dict[Ticket, asyncio.Future[bool]] = {}

    async def take(self) -> list[tuple[Ticket, str, Any]]:
        """All letters there are, as soon as there is one."""
        letters = [await self._letters.get()]
        while not self._letters.empty():
            letters.append(self._letters.get_nowait())
        return letters

    async def tell(self, ticket: Ticket, kind: str, content: Any) -> None:
        """A letter that wants no answer."""
        await self._letters.put((ticket, kind, content))

    async def ask(self, ticket: Ticket, kind: str, content: Any) -> bool:
        """A letter, and the answer to it."""
        self._answers[ticket] = asyncio.get_running_loop().create_future()
        await self._letters.put((ticket, kind, content))
        return await self._answers[ticket]

    async def answer(self, ticket: Ticket, content: bool) -> None:
        """What the search says."""
        waiting = self._answers.pop(ticket, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(content)


# -- in a worker process of a node -----------------------------------------------------------------------

#: The evaluator that this process has unpacked, by its search's key.
_unpacked: dict[str, Evaluator] = {}


def evaluate_remotely(
    evaluator: list[Any], packed: bytes, mailbox: Any, ticket: Ticket, place: Place
) -> tuple[str, Any]:
    """One task: what kind of end it had, and the outcome or the message.

    Args:
        evaluator: the reference to it.
        packed: the :class:`~effnas.search.workers.base.Task`.
        mailbox: of the search.
        ticket: of the task.
        place: what it finds around it.
    """
    import ray

    threads, node = place["threads"], platform.node()
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))
    serve_a_node()
    assign_gpu(0)  # Ray shows each task its own GPUs alone
    sys.path += [folder for folder in place["imports"] if folder not in sys.path and os.path.isdir(folder)]
    with contextlib.suppress(OSError):
        os.chdir(place["folder"])
    what = "evaluator"
    try:
        if place["key"] not in _unpacked:
            _unpacked.clear()
            _unpacked[place["key"]] = ray.cloudpickle.loads(ray.get(evaluator[0]))
        what = "builder"
        task: Task = ray.cloudpickle.loads(packed)
    except Exception as error:  # such as a module that this node lacks
        return "not portable", f"{what}: a Ray worker on {node} cannot load it: {describe_exception(error)}"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    ray.get(mailbox.tell.remote(ticket, "begun", (node, ray.get_runtime_context().get_node_id())))

    def report(step: int, accuracy: float, train_accuracy: float | None = None) -> None:
        if ray.get(mailbox.ask.remote(ticket, "report", check_report(step, accuracy, train_accuracy))):
            raise Stopped

    return answer_task(_unpacked[place["key"]], task, report)
