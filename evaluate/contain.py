"""What a user's code changes in the process it runs in ends with the call: it is that candidate's own affair."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from .reasons import describe_exception

T = TypeVar("T")

#: Signals whose handlers others rely on.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2")
_STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")


@contextlib.contextmanager
def contain() -> Iterator[None]:
    """Put back afterwards what the code inside changes and what others would stumble over.

    The working directory, the environment, standard output and error (closed or replaced), the state of the global
    generators of random numbers, filters of warnings, signals and their handlers, timers, the recursion limit, the
    collector, and torch's global settings, where torch is loaded.
    """
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        for keep in _KEPT:
            stack.callback(keep())
        yield


def contained(function: Callable[..., T], *arguments: Any) -> T:
    """Call a user's function in :func:`contain`.

    Raises:
        RuntimeError: it raised what is no Exception, such as SystemExit.
        KeyboardInterrupt: Ctrl-C.
        Exception: its own.
    """
    try:
        with contain():
            return function(*arguments)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RuntimeError(describe_exception(error)) from error


@contextlib.contextmanager
def at_home(folder: str | None) -> Iterator[None]:
    """In that working directory for a moment: the study is written while the user's code is somewhere else."""
    now = _folder()
    if folder is None or now == folder:
        yield
        return
    os.chdir(folder)
    try:
        yield
    finally:
        if now is not None:
            os.chdir(now)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _keep_folder() -> Callable[[], None]:
    before = _folder()

    def restore() -> None:
        if before is not None and _folder() != before:
            os.chdir(before)

    return restore


def _keep_environment() -> Callable[[], None]:
    before = os.environ.copy()

    def restore() -> None:
        if os.environ.copy() != before:
            os.environ.clear()
            os.environ.update(before)

    return restore


class _Lent:
    """A stream that its borrower cannot close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        return _Lent(found) if name in ("buffer", "raw") else found

    def __enter__(self) -> _Lent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stream)

    def close(self) -> None:
        """Write what is held back; the stream stays open."""
        self._stream.flush()

    def detach(self) -> Any:
        """As a stream that has nothing below it."""
        raise io.UnsupportedOperation("detach")


def _keep_streams() -> Callable[[], None]:
    before = {name: getattr(sys, name) for name in _STREAMS}
    files: dict[int, int] = {}
    for number in (1, 2):
        with contextlib.suppress(OSError):  # closed by whoever started this process
            files[number] = os.dup(number)
    for name, stream in before.items():
        if stream is not None:
            setattr(sys, name, _Lent(stream))

    def restore() -> None:
        for name in _STREAMS[:2]:
            with contextlib.suppress(Exception):  # one of the user's own, or closed
                getattr(sys, name).flush()
        for name, stream in before.items():
            setattr(sys, name, stream)
        for number, copy in files.items():
            os.dup2(copy, number, inheritable=True)
            os.close(copy)

    return restore


def _keep_random() -> Callable[[], None]:
    python, numpy = random.getstate(), np.random.get_state()

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)

    return restore


def _keep_signals() -> Callable[[], None]:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # Python lets no other thread change them
    handlers = {getattr(signal, n): signal.getsignal(getattr(signal, n)) for n in _SIGNALS if hasattr(signal, n)}
    posix = sys.platform != "win32"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if posix else set()
    timer = signal.getitimer(signal.ITIMER_REAL)[0] if posix else 0.0

    def restore() -> None:
        if posix and not timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        if posix:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return restore


def _keep_python() -> Callable[[], None]:
    depth, collects = sys.getrecursionlimit(), gc.isenabled()

    def restore() -> None:
        if sys.getrecursionlimit() != depth:
            sys.setrecursionlimit(depth)
        if gc.isenabled() != collects:
            (gc.enable if collects else gc.disable)()

    return restore


def _keep_torch() -> Callable[[], None]:
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):  # still being imported
        return lambda: None
    state, kind, threads = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    gradients, strict = torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()

    def restore() -> None:
        torch.set_rng_state(state)
        torch.set_grad_enabled(gradients)
        if torch.get_default_dtype() != kind:
            torch.set_default_dtype(kind)
        if torch.are_deterministic_algorithms_enabled() != strict:
            torch.use_deterministic_algorithms(strict)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return restore


_KEPT = (_keep_folder, _keep_environment, _keep_streams, _keep_random, _keep_signals, _keep_python, _keep_torch)
