"""Epochs in a tracker: each one told as it ends, and after a break those that were missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..tracking.tracker import Record
from ..tracking.tracking import Tracking
from .history import EpochRow, Plan, Watcher

#: What an epoch's row is called in a tracker, as in TensorBoard.
NAMES = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "loss": "heldout/loss",
    "accuracy": "heldout/accuracy",
}


@dataclass(frozen=True)
class TrackedEpochs:
    """A :class:`~effnas.evaluate.train.history.Watcher` that tells a tracker, too."""

    log: Watcher
    tracking: Tracking

    def begin(self, plan: Plan, history: Sequence[EpochRow]) -> None:
        """As :meth:`~effnas.evaluate.train.history.Watcher.begin`."""
        self.log.begin(plan, history)
        for row in history:
            if row.step <= plan.step:  # others come again
                self._tell(row)

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        """As :meth:`~effnas.evaluate.train.history.Watcher.step`."""
        self.log.step(step, images, lr, loss)

    def epoch(self, row: EpochRow) -> None:
        """As :meth:`~effnas.evaluate.train.history.Watcher.epoch`."""
        self.log.epoch(row)
        self._tell(row)

    def _tell(self, row: EpochRow) -> None:
        values = {NAMES.get(name, name): value for name, value in asdict(row).items() if name != "epoch"}
        self.tracking.record(row.epoch - 1, lambda: Record(row.epoch, 0, values))
