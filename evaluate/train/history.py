"""What is known about a training: one row per epoch while it runs, who follows it, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..evaluation import Report, Stopped


@dataclass(frozen=True)
class EpochRow:
    """One epoch, in plain numbers.

    Args:
        epoch: from 1.
        step: optimizer steps since the beginning.
        lr: of the epoch's last step.
        resolution: of the images that were trained on, in pixels.
        train_loss: mean over the steps, as trained (label smoothing and mixed labels included).
        loss: held-out cross-entropy; None where it was not measured.
        accuracy: held-out top-1, a fraction; None where it was not measured.
        images_per_second: of training alone.
        seconds: wall clock since the beginning, earlier runs included.
        train_accuracy: top-1 of the epoch's training images, a fraction, each as it was trained on: augmented, before
            the step that learned from it; of mixed labels the likeliest counts.
    """

    epoch: int
    step: int
    lr: float
    resolution: int
    train_loss: float
    loss: float | None
    accuracy: float | None
    images_per_second: float
    seconds: float
    train_accuracy: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Args:
        accuracy: held-out top-1 after the last epoch, a fraction; None without held-out images.
        loss: held-out cross-entropy, without label smoothing; None without held-out images.
        train_loss: mean over the steps of the last epoch, as trained (with label smoothing).
        epochs, steps: done.
        seconds: wall-clock time, measurements and earlier runs included.
        images_per_second: of training alone.
        history: one row per epoch.
        settings: what the engine ran with, and how that was chosen.
    """

    accuracy: float | None
    loss: float | None
    train_loss: float
    epochs: int
    steps: int
    seconds: float
    images_per_second: float
    history: tuple[EpochRow, ...] = ()
    settings: str = ""


@dataclass(frozen=True)
class Plan:
    """What a training is going to do.

    Args:
        epochs, steps_per_epoch, batch_size: of the whole of it.
        note: the settings of the engine, and how they were chosen.
        step: steps done by earlier runs.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    note: str
    step: int = 0


class Watcher(Protocol):
    """Follows a training."""

    def begin(self, plan: Plan, history: Sequence[EpochRow]) -> None:
        """Before the first step; ``history`` has the rows of earlier runs."""
        ...

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        """After each step; the loss is given only now and then, because reading it stalls a GPU.

        May raise KeyboardInterrupt: the training then keeps a checkpoint.
        """
        ...

    def epoch(self, row: EpochRow) -> None:
        """After each epoch."""
        ...


def report_epoch(report: Report, row: EpochRow) -> Stopped | None:
    """Report an epoch, where it was measured; what was raised to end the training there."""
    try:
        if row.accuracy is not None:
            report(row.epoch, row.accuracy, row.train_accuracy)
    except Stopped as stop:
        return stop
    return None


class Unwatched:
    """Does nothing."""

    def begin(self, plan: Plan, history: Sequence[EpochRow]) -> None:
        """As :meth:`Watcher.begin`."""

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        """As :meth:`Watcher.step`."""

    def epoch(self, row: EpochRow) -> None:
        """As :meth:`Watcher.epoch`."""
