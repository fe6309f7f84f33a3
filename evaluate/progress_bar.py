"""A bar that shows how much of a command's work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, gone when all is done; nothing where there is no terminal.

    Args:
        title: before the bar.
        total: how much there is to do.
        quiet: show nothing.

    Yields:
        What is told how much is done.
    """
    console = Console(stderr=True, highlight=False, quiet=quiet)
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
