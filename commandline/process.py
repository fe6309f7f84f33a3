"""The program's own process: its streams, which may be closed or full, and its end, which comes in any case."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

#: Seconds that what is left running at the end of the program has to end by itself.
PATIENCE = 5.0


class Unheard:
    """Standard error, but for what it refuses, on a full disk or a closed terminal: the work goes on without.

    A reader that has gone (``2>&1 | head``) still ends the program.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The characters of the text, whatever became of them."""
        with _refusals():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is held back, as far as it can be."""
        with _refusals():
            self._stream.flush()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass


def say(text: str) -> None:
    """Write the text to standard error, if anybody still listens."""
    with contextlib.suppress(OSError, ValueError):
        print(text, end="", file=sys.stderr, flush=True)


def open_streams() -> None:
    """Open a stream that was closed when the program began, or a study's file might get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def end_in_time(status: int) -> None:
    """See to it that the process ends, whatever an evaluator or a library has left running.

    Python waits at its end for threads that are no daemons and for processes that ``multiprocessing`` has started. They
    have :data:`PATIENCE` seconds; then those processes are ended, and this one without what is left to do at exit.
    """

    def end() -> None:
        time.sleep(PATIENCE)
        left = _list_left()
        say(f"not waited for any longer: {', '.join(one.name for one in left)}\n")
        for one in left:
            if not isinstance(one, threading.Thread):
                one.kill()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)

    if _list_left():
        threading.Thread(target=end, daemon=True, name="effnas-end").start()


def _list_left() -> list[Any]:
    """The threads and processes that Python waits for at its end."""
    threads = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    children = sys.modules["multiprocessing"].active_children() if "multiprocessing" in sys.modules else []
    return [*threads, *(child for child in children if not child.daemon)]
