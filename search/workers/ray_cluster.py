"""A Ray cluster: its address, the connection to it, and how many evaluations it has room for."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any

from ...evaluate.evaluation import Evaluator
from ...evaluate.identity.content import READ
from ...space.errors import UserError, check_number, show
from .count import read_workers
from .executor import Site
from .ray_workers import RayWorkers, pack_evaluator

log = logging.getLogger(__name__)

#: Seconds in which a cluster must answer.
PATIENCE = 5.0
_ADDRESS = re.compile(r"(ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})")
#: Of Ray: it counts in such parts of a CPU or GPU.
_SMALLEST = 1e-4


@dataclass(frozen=True)
class RayCluster:
    """Evaluations are tasks of a Ray cluster, which chooses their machines.

    Args:
        address: ``auto`` (the cluster that this machine belongs to, or ``RAY_ADDRESS``), ``local`` (one of this machine
            alone, started for this run), ``host:port`` of the head node, or ``ray://host:port`` of its client server.
        cpus: that each evaluation takes, and as many threads; a fraction below 1, or a whole number.
        gpus: likewise; 0: none.

    Raises:
        UserError: a field is of the wrong kind.
    """

    address: str = "auto"
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        match = _ADDRESS.fullmatch(self.address) if isinstance(self.address, str) else None
        if self.address not in ("auto", "local") and (match is None or not 0 < int(match[3]) < 65536):
            raise UserError(
                f"executor.address must be auto, local, HOST:PORT or ray://HOST:PORT, got {show(self.address)}"
            )
        _check_amount("executor.cpus", self.cpus, _SMALLEST)
        _check_amount("executor.gpus", self.gpus, 0)

    @contextmanager
    def hold(self, workers: Any, per_device: Any, evaluator: Evaluator) -> Iterator[Site]:
        """The cluster, connected to until the end; ``workers`` evaluations at a time, ``auto``: as it has room for.

        Raises:
            UserError: Ray is not installed, there is no cluster, no node has what an evaluation takes, the evaluator
                cannot be sent, or ``workers`` is wrong.
        """
        if per_device != 1:
            raise UserError(
                f"workers_per_device belongs to executor=local, got {show(per_device)}; with executor=ray give each "
                "trial a part of a GPU, such as executor.gpus=0.5"
            )
        wanted = read_workers(workers)
        device = str(getattr(evaluator, "device", ""))
        if device.startswith("cuda") and not self.gpus:
            raise UserError(f"evaluator.device={device} needs executor.gpus above 0: the GPUs that each trial takes")
        ray = load_ray()
        with connect(ray, self.address):
            nodes = [node for node in ray.nodes() if node["Alive"]]
            room = sum(count_room(node["Resources"], self.cpus, self.gpus) for node in nodes)
            if not room:
                raise UserError(self._explain_no_room(nodes))
            places = room if wanted is None else wanted
            note = self._describe(nodes, places, room, evaluator, len(pack_evaluator(ray, evaluator)))
            yield Site(
                note,
                lambda equipped, interrupts, timeout: RayWorkers(
                    ray, equipped, places, interrupts, timeout, cpus=self.cpus, gpus=self.gpus
                ),
            )

    def _explain_no_room(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        largest = max(nodes, key=lambda node: _amounts(node["Resources"])[:: -1 if self.gpus else 1], default=None)
        asked = _count_resources(self.cpus, self.gpus, gpus_too=self.gpus > 0)
        if largest is None:
            return f"executor=ray: a trial takes {asked}, and the cluster ({self.address}) has no node"
        has, host = _count_resources(*_amounts(largest["Resources"])), largest["NodeManagerHostname"]
        return (
            f"executor=ray: a trial takes {asked}, and no node of the cluster ({self.address}) has as many: the "
            f"largest of {len(nodes)} has {has} ({host}). Ask for less with executor.cpus and "
            "executor.gpus, or start a larger node"
        )

    def _describe(
        self, nodes: Sequence[Mapping[str, Any]], places: int, room: int, evaluator: Evaluator, size: int
    ) -> str:
        totals = [sum(amounts) for amounts in zip(*(_amounts(node["Resources"]) for node in nodes), strict=True)]
        where = f"{len(nodes)} node{'s' * (len(nodes) > 1)} with {_count_resources(totals[0], totals[1])}"
        each = _count_resources(self.cpus, self.gpus, gpus_too=self.gpus > 0)
        line = f"executor=ray: {places} trial{'s' * (places > 1)} at a time on {where}, {each} each"
        if places > room:
            line += f" (there is room for {room}; others wait)"
        paths = find_paths(evaluator)
        line += f"; {type(evaluator).__name__} is in the object store ({math.ceil(size / 1000)} kB)"
        return line + (f", and each node reads {', '.join(paths)} by path" if paths else "")


def _check_amount(name: str, value: Any, low: float) -> None:
    check_number(name, value, low, 1e6)
    if value > 1 and value != int(value):
        raise UserError(f"{name} must be a whole number where it is above 1, got {value!r}")
    if 0 < value < _SMALLEST:
        raise UserError(f"{name} must be 0 or at least {_SMALLEST:g}, got {value!r}")


def _amounts(resources: Mapping[str, float]) -> tuple[float, float]:
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def _count_resources(cpus: float, gpus: float, *, gpus_too: bool = True) -> str:
    text = f"{cpus:g} CPU{'s' * (cpus != 1)}"
    return text + (f" and {gpus:g} GPU{'s' * (gpus != 1)}" if gpus_too else "")


def count_room(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many evaluations a node has room for; several that share a GPU are all on the same one."""
    has_cpus, has_gpus = _amounts(resources)
    room = math.floor(has_cpus / cpus + 1e-6)
    if 0 < gpus < 1:
        return min(room, math.floor(has_gpus) * math.floor(1 / gpus + 1e-6))
    return min(room, math.floor(has_gpus / gpus)) if gpus else room


def find_paths(value: Any) -> list[str]:
    """The files and folders that the fields of a data class, and of those in it, name to be read."""
    found: list[str] = []
    if is_dataclass(value):
        for field in fields(value):
            part = getattr(value, field.name, None)
            if field.name in READ and isinstance(part, str | os.PathLike) and os.path.exists(os.path.expanduser(part)):
                found.append(str(part))
            else:
                found += find_paths(part)
    return found


# -- the connection --------------------------------------------------------------------------------------


def load_ray() -> Any:
    """The library.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("ray")
    except ImportError as error:
        raise UserError(f"executor=ray needs the package ray: pip install 'effnas[ray]' ({error})") from error


@contextmanager
def connect(ray: Any, address: str) -> Iterator[None]:
    """Be connected to a cluster; a connection that the program has already is used, and left to it.

    Raises:
        UserError: no cluster answers, or it is of another version.
    """
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    try:
        _open(ray, address)
        yield
    finally:  # also where it is refused: after a failed ray:// address, Ray takes no other one in this process
        _close(ray)


def _open(ray: Any, address: str) -> None:
    try:
        _begin(ray, address)
    except (RuntimeError, ValueError, OSError, TimeoutError, ImportError, ray.exceptions.RayError) as error:
        if isinstance(error, ConnectionError) and not isinstance(error, ConnectionAbortedError):
            raise UserError(_explain_no_cluster(address, error, listens=True)) from error
        # Versions that differ, no token, a client server that cannot begin, and others.
        raise UserError(f"executor.address={address}: no connection to this Ray cluster ({_sum_up(error)})") from error


def _begin(ray: Any, address: str, *, again: bool = True) -> None:
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        with _signal_handlers(), _without_statistics(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except ConnectionAbortedError as error:
        if not again:
            raise
        # Of a ray:// address. gRPC ends some of the processes that a client server forks (Ray 2.60: 2 of 124).
        log.warning("executor.address=%s: %s; it is tried once more", address, _sum_up(error))
        _close(ray)
        _begin(ray, address, again=False)


def _close(ray: Any) -> None:
    with _signal_handlers():
        ray.shutdown()


def _sum_up(error: Exception) -> str:
    """In one line; of a traceback that another process sends, what it ends with."""
    told, *traceback = str(error).split("Traceback (most recent call last):")
    if traceback:
        told += re.split(r"\n(?=\S)", traceback[-1].strip("\n"))[-1]
    return " ".join(told.split())[:300].rstrip(".")


def _explain_no_cluster(address: str, error: Exception, *, listens: bool = False) -> str:
    if address == "auto" and "Could not find any running Ray" in str(error):
        return (
            "executor.address=auto: this machine belongs to no Ray cluster. Start one with `ray start --head`, or give "
            "executor.address=local, HOST:PORT or ray://HOST:PORT"
        )
    text = (
        f"executor.address={address}: no Ray cluster answers there ({_sum_up(error)}). On a machine of the cluster the "
        "address is auto or HOST:PORT of the head node (6379 is usual), elsewhere ray://HOST:PORT of its client server "
        "(10001)"
    )
    if listens:  # so it is the wrong kind of address, or this
        text += ". A cluster that asks for a token needs RAY_AUTH_MODE=token and the head's ~/.ray/auth_token here, too"
    return text


def _check_reachable(address: str) -> None:
    """Ray itself asks for minutes, or ends the process."""
    if (match := _ADDRESS.fullmatch(address)) is None:
        return
    try:
        socket.create_connection((match[2].strip("[]"), int(match[3])), PATIENCE).close()
    except OSError as error:
        raise UserError(_explain_no_cluster(address, error)) from error


@contextmanager
def _signal_handlers() -> Iterator[None]:
    """Those there are stay: Ray puts its own in the place of SIGTERM's."""
    main = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _without_statistics() -> Iterator[None]:
    """A cluster that is started in here tells its makers nothing, unless the user has said that it may."""
    name = "RAY_USAGE_STATS_ENABLED"
    given = os.environ.get(name)
    os.environ[name] = given or "0"
    try:
        yield
    finally:
        if given is None:
            with contextlib.suppress(KeyError):
                del os.environ[name]
