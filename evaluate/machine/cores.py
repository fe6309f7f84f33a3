"""The cores that this process may use, and how many threads they take."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
from functools import cache
from pathlib import Path

#: Threads that share a core at most: with more of them torch's threads wait for each other, not for work. On a busy
#: 2-core AMD EPYC a step of EfficientNet-B0 (64 px, batch 16) takes 1.1 s with 2 threads, 3.2 with 16, 45 with 256.
PER_CORE = 4
#: Of control groups of version 2 and 1: the time that a container may take, and the time in which it may take it.
_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
#: What Slurm says a task has, and a job on this machine: not each Slurm binds its tasks to their cores.
_GRANTED = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def count_cores() -> int:
    """Cores this process may use: those of its affinity, or fewer where its container's time or its task is limited."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in _QUOTAS:
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            quota, period = (int(word) for word in " ".join(Path(file).read_text() for file in files).split())
            if quota > 0 and period > 0:
                cores = min(cores, math.ceil(quota / period))
    granted = next((os.environ[name] for name in _GRANTED if os.environ.get(name)), "")
    return min(cores, int(granted)) if granted.isdecimal() and int(granted) else cores


def fit_threads(threads: int | None, name: str = "threads") -> int | None:
    """The threads, but at most :data:`PER_CORE` for each core, which is told once; None stays None.

    No error: a run of a larger machine goes on here, with the same command. Its last digits may differ from there.
    """
    cores = count_cores()
    if threads is None or threads <= PER_CORE * cores:
        return threads
    if multiprocessing.parent_process() is None:  # a worker's are its search's to tell
        _tell(f"{name}={threads}: this process may use {name_cores(cores)}; {PER_CORE * cores} threads are used")
    return PER_CORE * cores


def name_cores(cores: int) -> str:
    """``1 core``, ``2 cores``."""
    return f"{cores} core{'s' * (cores > 1)}"


@cache
def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
