"""How many candidates are evaluated at the same time on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from ...evaluate.evaluation import Evaluator
from ...space.errors import UserError, check_int

#: Bytes a worker on the CPU is reckoned to need: a candidate of mobile_cifar takes 1.1e9 at its peak (batch size 128).
WORKER_MEMORY = 2 * 2**30
#: What a container may use, of control groups of version 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def count_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_workers(workers: Any) -> int | None:
    """The number of workers; None: ``auto``.

    Raises:
        UserError: it is something else.
    """
    if workers == "auto":
        return None
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise UserError(f"workers must be auto or a whole number, got {workers!r}")
    check_int("workers", workers, 1, 4096)
    return workers


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
    if (wanted := read_workers(workers)) is not None:
        if per_device > 1:
            raise UserError(
                f"workers_per_device applies only with workers=auto, got workers_per_device={per_device} and "
                f"workers={wanted}; {wanted} workers take turns with the available GPUs"
            )
        return wanted, ""
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
