"""Folders: a run's output, which is one process's at a time, and what is kept between runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..space.errors import UserError


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a run's output folder; it is free again when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / ".lock"))
    try:
        lock.acquire(timeout=5)  # a run killed a moment ago may still be going
    except Timeout:
        raise UserError(
            f"{folder}: another effnas process is running in this folder; wait for it, or choose another with "
            "hydra.run.dir=DIR"
        ) from None
    try:
        yield
    finally:
        lock.release()


def cache_folder() -> Path:
    """What may be made again but takes a while is kept here: ``$EFFNAS_CACHE``, by default ``~/.cache/effnas``."""
    return Path(os.environ.get("EFFNAS_CACHE") or Path.home() / ".cache" / "effnas")
