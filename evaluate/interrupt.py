"""Signals that ask a process to end, as Ctrl-C does, end a search or a training between two of its steps.

Never in the middle of what writes a file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

#: A signal that was asked for so often ends the process wherever it is: something must be stuck.
INSISTING = 5
#: Signals with which a process is asked to end: by a terminal, by the system, by a cluster that wants the machine.
ASKING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


def _leave_terminal() -> None:
    """Write to nowhere from now on what would go to a terminal that is closed: results are still to be written."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)


class Interrupts:
    """Turns the signals of :data:`ASKING` into a KeyboardInterrupt inside :meth:`allowed`, and holds it back elsewhere.

    A context manager: the handlers are its own from its beginning to its end. Signals that somebody else handles are
    left to them, as a launcher has them that puts a job back into its queue (submitit); what their handlers raise is
    held back and comes at the end, in the place of the KeyboardInterrupt, so that no candidate takes it for its own.
    Outside the main thread, where Python has no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self._allowed = False
        self._received = 0
        self._before: dict[int, Any] = {}
        self._theirs: BaseException | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                handler = signal.getsignal(number)
                if handler in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._receive)
                elif callable(handler):  # and not ignored, as under nohup
                    self._before[number] = signal.signal(number, partial(self._hold_back, handler))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        theirs, self._theirs = self._theirs, None
        if theirs is not None and isinstance(error, KeyboardInterrupt | None):
            raise theirs

    def _hold_back(self, handler: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            self._theirs = error
            self._receive(number, frame)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()
        if self._allowed or self._received >= INSISTING:
            self._allowed = False
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise what was held back.

        Raises:
            KeyboardInterrupt: a signal has come.
        """
        if self._received:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Where the process waits for an evaluation, or makes one.

        Raises:
            KeyboardInterrupt: a signal comes, or came before.
        """
        self.check()
        self._allowed = True
        try:
            self.check()  # one that came between the two lines above
            yield
        finally:
            self._allowed = False

    def pause(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            KeyboardInterrupt: a signal comes, or came before.
        """
        with self.allowed():
            time.sleep(seconds)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside :meth:`allowed`, where the study is written for a moment."""
        before, self._allowed = self._allowed, False
        try:
            yield
        finally:
            self._allowed = before
        if before:
            self.check()
