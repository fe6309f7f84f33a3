"""Workers that are tasks of a Ray cluster: Ray queues them, chooses their nodes and says when one is lost.

A task evaluates one candidate; what it is on a node's side is in ``ray_task.py``. The evaluator is in the object store
once, and each worker process unpacks it once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from ...evaluate.evaluation import Evaluator
from ...evaluate.interrupt import Interrupts
from ...evaluate.reasons import escape_reason
from ...space.errors import AGAIN, UserError
from .base import NotPortable, OnReport, Outcome, Task, Workers, explain_late
from .ray_task import Mailbox, Place, Ticket, evaluate_remotely

log = logging.getLogger(__name__)

#: Seconds between two looks at the nodes. Where a node is silent, as after a fault of the network, Ray knows in half a
#: minute that it is dead, and says so of its tasks many minutes later.
LOOK = 5.0
_IMPORTABLE = "Define it in a module that every node can import, or use executor=local"


def pack_evaluator(ray: Any, evaluator: Evaluator) -> bytes:
    """The evaluator as it is sent; a class of the program itself is sent with it.

    Raises:
        UserError: it cannot be sent.
    """
    try:
        packed: bytes = ray.cloudpickle.dumps(evaluator)
    except Exception as error:  # whatever its parts raise
        raise NotPortable(
            f"evaluator {type(evaluator).__name__} cannot be sent to a Ray worker: {error}. {_IMPORTABLE}"
        ) from error
    return packed


@dataclass
class _Try:
    """A task in the cluster.

    ``node``: its name, once the task has begun; ``step``: of the last report; ``loss``: what became of an earlier try.
    """

    task: Task
    packed: bytes
    number: int
    reference: Any
    node: str = ""
    node_id: str = ""
    deadline: float = math.inf
    step: int = -1
    loss: str = ""


class RayWorkers(Workers):
    """As many tasks at a time as it has places; one that is lost with its worker or node is tried once more elsewhere.

    Args:
        ray: the library, connected.
        evaluator: is sent to the nodes.
        places: how many tasks.
        interrupts: let Ctrl-C through.
        timeout: seconds that a task may take, from when its worker has the evaluator; None: no limit.
        cpus: of a task.
        gpus: of a task.

    Raises:
        UserError: the evaluator cannot be sent.
    """

    def __init__(
        self,
        ray: Any,
        evaluator: Evaluator,
        places: int,
        interrupts: Interrupts,
        timeout: float | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
    ) -> None:
        self.places = places
        self._ray, self._interrupts, self._timeout = ray, interrupts, timeout
        self._running: dict[int, _Try] = {}
        packed = pack_evaluator(ray, evaluator)
        self._evaluator = [ray.put(packed)]  # in a list: the worker asks for it when it has none yet
        self._place: Place = {
            "key": os.urandom(16).hex(),
            "threads": max(1, int(cpus)),
            "folder": os.getcwd(),
            "imports": [folder for folder in sys.path if not folder.startswith((sys.prefix, sys.base_prefix))],
        }
        self._evaluate = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(evaluate_remotely)
        # Where it is lost, the search ends. Ray puts an actor that takes no CPU anywhere where its wish is only soft.
        beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mailbox = ray.remote(num_cpus=0)(Mailbox).options(scheduling_strategy=beside).remote()
        self._letters = self._mailbox.take.remote()
        self._look = time.monotonic() + LOOK

    def submit(self, task: Task) -> None:
        """Hand the task to Ray.

        Raises:
            UserError: the network's builder cannot be sent.
        """
        try:
            packed = self._ray.cloudpickle.dumps(task)
        except Exception as error:
            raise NotPortable(
                f"{task.architecture.maker} cannot be sent to a Ray worker: {error}. {_IMPORTABLE}"
            ) from error
        self._begin(task, packed, 1)

    def _begin(self, task: Task, packed: bytes, number: int, *, avoid: str = "", **known: Any) -> None:
        how: dict[str, Any] = {"name": f"effnas trial {task.number}"}
        if avoid:
            kinds = self._ray.util.scheduling_strategies
            how["scheduling_strategy"] = kinds.NodeLabelSchedulingStrategy(
                {}, soft={"ray.io/node-id": kinds.NotIn(avoid)}
            )
        ticket: Ticket = (task.number, number)
        reference = self._evaluate.options(**how).remote(self._evaluator, packed, self._mailbox, ticket, self._place)
        self._running[task.number] = _Try(task, packed, number, reference, **known)

    def wait(self, on_report: OnReport) -> Outcome:
        """Serve reports until a task ends, or must.

        Raises:
            UserError: as the evaluator's; or the cluster's node beside this process is lost.
        """
        while True:
            numbers = {one.reference: number for number, one in self._running.items()}
            first = min((one.deadline for one in self._running.values()), default=math.inf)
            left = max(min(first, self._look) - time.monotonic(), 0)
            with self._interrupts.allowed():
                done, _ = self._ray.wait([self._letters, *numbers], num_returns=1, timeout=left)
            if done and self._ray.wait([self._letters], timeout=0)[0]:  # what a lost task has said comes first
                self._read_letters(on_report)
            for reference in done:
                if reference in numbers and (outcome := self._end(numbers[reference])) is not None:
                    return outcome
            if (outcome := self._lose_silent()) is not None:
                return outcome
            late = [number for number, one in self._running.items() if one.deadline <= time.monotonic()]
            if not done and late:
                self._cancel(self._running.pop(late[0]).reference)
                return explain_late(late[0], self._timeout)

    def _read_letters(self, on_report: OnReport) -> None:
        try:
            letters = self._ray.get(self._letters)
        except self._ray.exceptions.RayError as error:
            raise UserError(
                f"executor=ray: the cluster is lost ({escape_reason(error):.200}); {AGAIN} to continue"
            ) from error
        self._letters = self._mailbox.take.remote()
        for ticket, kind, content in letters:
            number, count = ticket
            one = self._running.get(number)
            current = one is not None and one.number == count
            if kind == "begun":
                if one is not None and current:
                    one.node, one.node_id = content
                    one.deadline = math.inf if self._timeout is None else time.monotonic() + self._timeout
                continue
            stop = not current  # one that was taken to be lost may end
            if one is not None and current and content[0] > one.step:  # a second try repeats what the first one said
                one.step = content[0]
                stop = on_report(number, *content)
            self._mailbox.answer.remote(ticket, stop)

    def _end(self, number: int) -> Outcome | None:
        """What became of a task; None: it is tried once more."""
        one = self._running.pop(number)
        errors = self._ray.exceptions
        try:
            kind, payload = self._ray.get(one.reference)
        except errors.RayTaskError as error:  # not the evaluator's: that is an outcome
            if "failed to import on the worker" in str(error):
                reason = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"executor=ray: each node must have effnas in this version; a worker cannot import it ({reason})"
                ) from error
            return Outcome(number, reason=f"the evaluation cannot be sent: {escape_reason(error):.300}")
        except errors.RayError as error:
            return self._lose(one, explain_loss(errors, error, one.node))
        if kind == "user error":
            raise UserError(payload)
        if kind == "not portable":
            raise NotPortable(f"{payload}. {_IMPORTABLE}")
        outcome: Outcome = payload
        return outcome

    def _lose(self, one: _Try, reason: str) -> Outcome | None:
        if one.number > 1:
            return Outcome(one.task.number, reason=f"it was tried twice: {one.loss}; then {reason}")
        log.warning("trial %d: %s; it is tried once more", one.task.number, reason)
        self._begin(one.task, one.packed, 2, avoid=one.node_id, loss=reason, step=one.step)
        return None

    def _lose_silent(self) -> Outcome | None:
        """Look now and then for tasks on nodes that are dead; an outcome: of one that was lost twice."""
        if time.monotonic() < self._look:
            return None
        with self._interrupts.allowed():
            alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        self._look = time.monotonic() + LOOK
        for number, one in list(self._running.items()):
            if one.node_id and one.node_id not in alive:
                del self._running[number]
                if (outcome := self._lose(one, f"its node {one.node} was lost")) is not None:
                    self._look = 0.0  # for the others
                    return outcome
        return None

    def _cancel(self, reference: Any) -> None:
        with contextlib.suppress(Exception):  # it has ended, or the cluster is gone
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """End what runs, which is recorded as interrupted."""
        references = [one.reference for one in self._running.values()]
        self._running = {}
        for reference in references:
            self._cancel(reference)
        with contextlib.suppress(Exception):
            if references:
                self._ray.wait(references, num_returns=len(references), timeout=5)
        with contextlib.suppress(Exception):
            self._ray.kill(self._mailbox)


def explain_loss(errors: Any, error: Exception, node: str) -> str:
    """Why a task did not come to its end, in one line.

    Args:
        errors: Ray's.
        error: one of them.
        node: where it ran; "": it had not begun.
    """
    where = f" {node}" if node else ""
    if isinstance(error, errors.OutOfMemoryError):
        return f"its node{where} ran out of memory"
    if isinstance(error, errors.NodeDiedError | errors.LocalRayletDiedError):
        return f"its node{where} was lost"
    if isinstance(error, errors.WorkerCrashedError):
        return "its worker process ended" + (f" on{where}" if node else "")
    return f"its worker{where} was lost ({type(error).__name__}: {escape_reason(error):.200})"
