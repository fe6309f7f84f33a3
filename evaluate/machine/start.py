"""What a process has from the one that starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def without_ctrl_c() -> Iterator[None]:
    """A process started in here never hears of Ctrl-C, which a terminal sends to all: it is the parent's affair."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def threads_in_environment(threads: int | None) -> Iterator[None]:
    """Variables that a process reads once, when it loads torch; None: those of this process."""
    if threads is None:
        yield
        return
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def main_module(known: bool) -> Iterator[None]:
    """What a process that starts in here imports as the program; an empty one unless that is ``known``.

    Nor where it is no file, as of ``python - < script.py``: what is defined there cannot be imported.
    """
    before = sys.modules["__main__"]
    file = getattr(before, "__file__", None)
    if not known or (file is not None and not os.path.isfile(file)):
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before
