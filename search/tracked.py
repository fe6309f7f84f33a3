"""Trials in a tracker: each one that this folder has run, told as it ends, and after a break those that were missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, Trial, TrialState

from ..evaluate.tracking.tracker import Record
from ..evaluate.tracking.tracking import Tracking
from .problem import Candidate
from .progress import TrialWatcher
from .record import MEASURES, reason_of, result_of, state_name
from .remembered import INTERRUPTED


@dataclass(frozen=True)
class Tracked:
    """A :class:`~effnas.search.progress.TrialWatcher` that tells a tracker, too.

    Args:
        watcher: that it tells first.
        tracking: the record in the tracker.
        names: of the objectives.
        owner: the folder, as trials are marked with it, where other folders may add trials to the study; "": none does.
    """

    watcher: TrialWatcher
    tracking: Tracking
    names: Sequence[str]
    owner: str

    def started(self, trial: Trial, candidate: Candidate) -> None:
        """As :meth:`~effnas.search.progress.TrialWatcher.started`."""
        self.watcher.started(trial, candidate)

    def reported(self, number: int, step: int, accuracy: float) -> None:
        """As :meth:`~effnas.search.progress.TrialWatcher.reported`."""
        self.watcher.reported(number, step, accuracy)

    def finished(self, trial: FrozenTrial) -> None:
        """As :meth:`~effnas.search.progress.TrialWatcher.finished`."""
        self.watcher.finished(trial)
        self.tracking.record(trial.number, lambda: make_record(trial, self.names))

    def found(self, trial: FrozenTrial) -> None:
        """As :meth:`~effnas.search.progress.TrialWatcher.found`."""
        self.watcher.found(trial)
        mine = not self.owner or result_of(trial).get("owner") == self.owner
        self.tracking.record(trial.number, lambda: make_record(trial, self.names) if mine else None)

    def waits(self, where: str) -> None:
        """As :meth:`~effnas.search.progress.TrialWatcher.waits`."""
        self.watcher.waits(where)


def make_record(trial: FrozenTrial, names: Sequence[str]) -> Record | None:
    """What a tracker is told of a finished trial; None of one that was interrupted, whose candidate comes again.

    Args:
        trial: of any state.
        names: of the objectives, whose values are told under them.
    """
    if trial.user_attrs.get(INTERRUPTED):
        return None
    result = result_of(trial)
    values = {name: result.get(name) for name in (*MEASURES, "epochs", "merit")} | result.get("metrics", {})
    if trial.state == TrialState.COMPLETE:
        values |= dict(zip(names, trial.values, strict=True))
    facts = {"state": state_name(trial), "reason": reason_of(trial), "digest": result.get("digest")}
    facts |= {"duplicate_of": result.get("duplicate_of")}
    told = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    return Record(trial.number, 0, values, trial.params, told)
