"""What a process keeps in memory of a study that others share: its trials as they were listed, and its own."""

from __future__ import annotations

import copy
from datetime import datetime

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from ..optuna_private import get_trial_id
from .rows_private import Mark
from .tables_private import OWNER, Held


class Listing:
    """The trials of one study by their numbers. Finished ones do not change: only the others are read again."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []
        #: Numbers of unfinished trials, by their ids.
        self.open: dict[int, int] = {}
        #: Of running ones, as they were read.
        self.marks: dict[int, Mark] = {}
        self.last = -1  # the highest id: they grow in the order of the commits
        self.kinds: dict[str, BaseDistribution] = {}

    def put(self, trial: FrozenTrial, mark: Mark | None = None) -> None:
        """Take the trial as it is now; ``mark``: of one that was read."""
        number, trial_id = trial.number, get_trial_id(trial)
        self.trials[number : number + 1] = [trial]  # or at the end
        if trial.state.is_finished():
            self.open.pop(trial_id, None)
        else:
            self.open[trial_id] = number
        if trial.state == TrialState.RUNNING and mark is not None:
            self.marks[trial_id] = mark
        else:
            self.marks.pop(trial_id, None)


class Mine:
    """A trial that this process runs: all that is known of it, and what of that is not yet written."""

    def __init__(self, study_id: int, trial: FrozenTrial) -> None:
        self.study_id, self.trial, self.held = study_id, trial, Held()
        self.written = {OWNER, *trial.user_attrs, *trial.system_attrs}


def make_trial(trial_id: int, number: int, now: datetime) -> FrozenTrial:
    """One that has just been begun."""
    return FrozenTrial(
        number=number,
        trial_id=trial_id,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=now,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def copy_trial(trial: FrozenTrial) -> FrozenTrial:
    """Another one, whose parts may be changed."""
    other = copy.copy(trial)
    other.params, other.distributions = {**trial.params}, {**trial.distributions}
    other.user_attrs, other.system_attrs = {**trial.user_attrs}, {**trial.system_attrs}
    other.intermediate_values = {**trial.intermediate_values}
    return other
