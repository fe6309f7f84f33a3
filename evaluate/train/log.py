"""What a training leaves behind while it runs, and what a person sees of it."""

from __future__ import annotations

import csv
import io
import logging
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ...space.files import write_text
from ...space.quantity import format_duration
from .history import EpochRow, Plan

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

#: Steps that the shown speed is a mean of.
RECENT = 50
#: Seconds between two states of the bar.
SHOWN_EVERY = 0.2
#: Seconds after which TensorBoard's files have what was measured.
FLUSH_EVERY = 10


class TrainingLog:
    """Writes ``log.csv`` and TensorBoard's files, and shows a live bar, or one line per epoch where there is no
    terminal.

    A context manager and a :class:`~effnas.evaluate.train.history.Watcher`. After a kill it goes on where the
    checkpoint
    does: rows and points beyond it go, and come again as the training makes them again. A file that cannot be written
    (a full disk) costs a warning and not the training.

    Args:
        output: folder of ``log.csv`` (one row per epoch, columns as :class:`~effnas.evaluate.train.history.EpochRow`)
            and ``tensorboard/``.
        note: told first: what is trained.
        tensorboard: write event files.
        quiet: show nothing.
    """

    def __init__(self, output: Path, note: str = "", *, tensorboard: bool = True, quiet: bool = False) -> None:
        self._output, self._note, self._tensorboard, self._quiet = output, note, tensorboard, quiet
        self._writer: SummaryWriter | None = None
        self._plan = Plan(1, 1, 1, "")
        self._rows: list[EpochRow] = []
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            expand=True,
        )
        self._task, self._facts = self._bar.add_task("", total=1, left=""), ""
        live = self._console.is_interactive and not quiet
        self._live = Live(self, console=self._console, refresh_per_second=4) if live else None
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._step, self._loss, self._shown = 0, "", 0.0

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if kind is KeyboardInterrupt and not self._quiet:
            print(f"stopped: {self._step:,} of {self._total:,} steps are done", file=sys.stderr)
        self._close()

    # -- the engine's events ------------------------------------------------------------------------

    def begin(self, plan: Plan, history: Sequence[EpochRow]) -> None:
        """Before the first step."""
        self._plan, self._step = plan, plan.step
        self._rows = [row for row in history if row.step <= plan.step]
        for text in (self._note, plan.note):
            if text:
                self._console.print(text, soft_wrap=True)
        if plan.step:
            self._console.print(f"resuming: {plan.step:,} of {self._total:,} steps are done", soft_wrap=True)
        self._write()
        if self._tensorboard:
            self._open()
        self._start = time.monotonic()
        if self._live:
            self._show()
            self._live.start()

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        """After each step."""
        self._step, now = step, time.monotonic()
        self._recent.append((now, images))
        if loss is not None:
            self._loss = f"loss {loss:.3f}"
            points = {"train/loss_of_step": loss}
            if step % self._plan.steps_per_epoch:  # the epoch's row has that of its last step
                points["lr"] = lr
            self._point(points, step)
        if self._live and now - self._shown > SHOWN_EVERY:
            self._shown = now
            self._show()

    def epoch(self, row: EpochRow) -> None:
        """After each epoch."""
        self._rows.append(row)
        self._recent.clear()  # measuring is no training
        self._loss = f"loss {row.train_loss:.3f}"
        self._write()
        points = {
            "train/loss": row.train_loss,
            "train/accuracy": row.train_accuracy,
            "heldout/loss": row.loss,
            "heldout/accuracy": row.accuracy,
            "lr": row.lr,
            "resolution": row.resolution,
            "images_per_second": row.images_per_second,
        }
        self._point(points, row.step)
        if self._live:
            self._show()
        elif not self._quiet:
            print(self._line(row), file=sys.stderr, flush=True)

    # -- what is written ----------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            write_text(self._output / "log.csv", as_csv(self._rows))
        except OSError as error:
            log.warning("%s cannot be written (%s); the training continues", self._output / "log.csv", error.strerror)

    def _open(self) -> None:
        """A new event file; TensorBoard drops what older ones have from ``purge_step`` on."""
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        plan, rows = self._plan, self._rows
        # Stopped between an epoch's last step and its row, that row is still to come; a killed run may have had it.
        waits = plan.step % plan.steps_per_epoch == 0 and (not rows or rows[-1].step < plan.step)
        try:
            self._writer = SummaryWriter(
                str(self._output / "tensorboard"), purge_step=plan.step + (not waits), flush_secs=FLUSH_EVERY
            )
        except OSError as error:
            self._without_tensorboard(error)

    def _point(self, values: Mapping[str, float | None], step: int) -> None:
        try:
            for name, value in values.items():
                if self._writer is not None and value is not None:
                    self._writer.add_scalar(name, value, step)
        except OSError as error:  # of its thread, which has ended
            self._without_tensorboard(error)

    def _without_tensorboard(self, error: OSError) -> None:
        self._writer = None
        folder = self._output / "tensorboard"
        log.warning("%s cannot be written (%s); the training continues without it", folder, error.strerror)

    def _close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            self._without_tensorboard(error)

    # -- what is shown ------------------------------------------------------------------------------

    @property
    def _total(self) -> int:
        return self._plan.epochs * self._plan.steps_per_epoch

    def __rich__(self) -> RenderableType:
        return Group(self._bar, Text(self._facts, style="dim", no_wrap=True, overflow="ellipsis"))

    def _show(self) -> None:
        total, each = self._total, self._plan.steps_per_epoch
        self._bar.update(
            self._task,
            completed=self._step,
            total=total,
            description=f"epoch {max(0, self._step - 1) // each + 1}/{self._plan.epochs}",
            left=", ".join(filter(None, (f"step {self._step:,}/{total:,}", self._left()))),
        )
        accuracy = next((row.accuracy for row in reversed(self._rows) if row.accuracy is not None), None)
        held_out = "" if accuracy is None else f"held-out accuracy {accuracy:.2%}"
        self._facts = " · ".join(filter(None, (self._speed(), self._loss, held_out)))

    def _speed(self) -> str:
        """Of the last steps, or of the last epoch where there were too few since."""
        rate = self._rows[-1].images_per_second if self._rows else 0.0
        if len(self._recent) > 1:
            (begin, first), (end, _) = self._recent[0], self._recent[-1]
            rate = (sum(images for _, images in self._recent) - first) / max(end - begin, 1e-9)
        return f"{rate:,.0f} images/s" if rate else ""

    def _left(self) -> str:
        """Time, at the pace of this run, its measurements included."""
        here = self._step - self._plan.step
        if not here:
            return ""
        return f"{format_duration((time.monotonic() - self._start) / here * (self._total - self._step))} left"

    def _line(self, row: EpochRow) -> str:
        text = f"[{row.epoch}/{self._plan.epochs}] training loss {row.train_loss:.4f}"
        if row.accuracy is not None:
            text += f", held-out accuracy {row.accuracy:.2%}, loss {row.loss:.4f}"
        return "; ".join(filter(None, (text, f"{row.images_per_second:,.0f} images/s", self._left())))


def as_csv(rows: Sequence[EpochRow]) -> str:
    """``log.csv``: one row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
