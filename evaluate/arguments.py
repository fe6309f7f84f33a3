"""What several commands are given in the same forms: one or several of something, threads, a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..space.errors import check_int

#: More threads than any machine has cores.
MOST_THREADS = 4096


def as_list(value: Any) -> list[Any]:
    """One or several of something as a list; None is none of it, and a string is one."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def check_threads(threads: int | None, name: str = "threads") -> None:
    """Refuse a number of PyTorch's threads that no machine has; None is as many as it has by itself.

    Raises:
        UserError: it is not a whole number between 1 and 4096; the message has the ``name``.
    """
    if threads is not None:
        check_int(name, threads, 1, MOST_THREADS)


def describe_device(device: object, threads: int | None) -> str:
    """Where something runs, for people: ``cpu, 2 threads``; a GPU is named alone."""
    if str(device) != "cpu" or threads is None:
        return str(device)
    return f"{device}, {threads} thread{'s' * (threads > 1)}"
