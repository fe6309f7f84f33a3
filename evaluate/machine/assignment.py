"""Which GPU the device ``auto`` is in this process.

Apart from torch: a worker whose evaluator does without is not to load it.
"""

from __future__ import annotations

_number = 0


def assign_gpu(number: int) -> None:
    """Make ``auto`` the GPU ``number`` modulo those there are: each worker of a search is given a number of its own."""
    global _number
    _number = number


def assigned_gpu(gpus: int) -> int:
    """The GPU of this process among so many (at least one); the first one where nothing was assigned."""
    return _number % gpus
