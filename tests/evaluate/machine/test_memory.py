"""The heap that keeps freed memory; in a process of its own, for it cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from effnas.evaluate.machine.device import keep_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

#: prints page faults of ten tensors of 64 MiB in turn, whether memory is kept from there on, the faults of ten more,
#: and the MiB that a release gives back
SCRIPT = """
import resource
import torch
from effnas.evaluate.machine.device import keep_memory, release_memory

def rss():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmRSS")).split()[1]) / 1024

def faults():
    torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_memory(), keep_memory(), faults())
held = rss()
release_memory()
print(held - rss())
"""


def test_freed_memory_is_used_again_without_faults_and_can_be_released() -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=clean, capture_output=True, text=True, check=True)
    faults, first, second, kept, released = done.stdout.split()
    assert (first, second) == ("True", "True")
    assert int(faults) > 10 * 64 * 2**20 / 2**21  # at least one a huge page
    assert int(kept) < int(faults) / 5  # the first pass over the memory is faulted in
    assert float(released) > 60


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")]
)
def test_what_the_environment_tunes_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    keep_memory.cache_clear()
    try:
        assert (keep_memory(), keep_memory()) == (False, False)
    finally:
        keep_memory.cache_clear()
