"""The heap that keeps freed memory; in processes of their own, for it cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

#: prints whether it worked, page faults of ten tensors of 64 MiB in turn, and the MiB that a release gives back
SCRIPT = """
import resource
import torch
from effnas.evaluate.machine.device import keep_memory, release_memory

def rss():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmRSS")).split()[1]) / 1024

if {keep}:
    print(keep_memory(), keep_memory())
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = rss()
release_memory()
print(held - rss())
"""


def run(keep: bool, **environment: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(keep=keep)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_freed_memory_is_used_again_without_faults_and_can_be_released() -> None:
    faults, _ = run(False)
    first, second, kept, released = run(True)
    assert (first, second) == ("True", "True")
    assert int(faults) > 10 * 64 * 2**20 / 2**21  # at least one a huge page
    assert int(kept) < int(faults) / 5  # the first pass over the memory is faulted in
    assert float(released) > 60


def test_what_the_environment_tunes_stays() -> None:
    assert run(True, MALLOC_TRIM_THRESHOLD_="131072")[:2] == ["False", "False"]
    assert run(True, GLIBC_TUNABLES="glibc.malloc.arena_max=4")[:2] == ["False", "False"]
