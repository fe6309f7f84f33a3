"""How many candidates are evaluated at the same time on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from ...evaluate.evaluation import Evaluator
from ...evaluate.machine.cores import PER_CORE, count_cores, fit_threads, name_cores
from ...space.errors import UserError, check_int

#: Bytes a worker on the CPU is reckoned to need: a candidate of mobile_cifar takes 1.1e9 at its peak (batch size 128).
WORKER_MEMORY = 2 * 2**30
#: Bytes of one at least: without torch, as of a table, and with it.
LEAST_MEMORY, LEAST_WITH_TORCH = 40 * 2**20, 256 * 2**20
#: What a container may use, of control groups of version 2 and 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


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
    memory = find_memory() or 2**62
    if (wanted := read_workers(workers)) is not None:
        if per_device > 1:
            raise UserError(
                f"workers_per_device applies only with workers=auto, got workers_per_device={per_device} and "
                f"workers={wanted}; {wanted} workers take turns with the available GPUs"
            )
        least = LEAST_WITH_TORCH if hasattr(evaluator, "device") else LEAST_MEMORY
        if wanted > 1 and wanted * least > memory:
            raise UserError(
                f"workers must be at most {max(1, memory // least)} on this machine, which has "
                f"{memory / 2**30:.1f} GiB of memory (a process takes {least // 2**20} MiB at least), got {wanted}; "
                "workers=auto chooses"
            )
        return wanted, _tell_crowd(wanted, evaluator)
    gpus = _count_gpus(getattr(evaluator, "device", None))
    if gpus:
        count, where = gpus * per_device, "1 GPU" if gpus == 1 else f"{gpus} GPUs"
    elif per_device > 1:
        raise UserError(
            f"workers_per_device needs a GPU, got {per_device}; without one, workers=auto starts one process per core"
        )
    else:
        fit = max(1, memory // WORKER_MEMORY)
        count = min(count_cores(), fit)
        where = name_cores(count_cores())
        if fit < count_cores():
            where += f", limited by memory ({WORKER_MEMORY // 2**30} GiB each)"
    note = f"workers=auto: {count} process{'es' * (count > 1)} on {where}"
    return count, "; ".join(filter(None, (note, _tell_crowd(count, evaluator))))


def _tell_crowd(workers: int, evaluator: Evaluator) -> str:
    """What to tell the user where each worker is to have threads, and all of them are more than the cores bear."""
    threads = getattr(evaluator, "threads", None)
    cores = count_cores()
    if not isinstance(threads, int) or _count_gpus(getattr(evaluator, "device", None)):
        return ""
    fitting = fit_threads(threads, "evaluator.threads") or 1
    if workers * fitting <= PER_CORE * cores:
        return ""
    return (
        f"workers={workers} and evaluator.threads={fitting} are {workers * fitting} threads on {name_cores(cores)}, "
        f"which is slow; without evaluator.threads each worker takes its share"
    )


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
