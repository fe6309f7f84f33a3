"""A history as arrays: samplers that look at every trial read each one once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..encoding import Encoding, Rows
from ..optuna_private import SPREAD
from .history import find_row, loss_signs, sum_violations


@dataclass(frozen=True)
class HistoryColumns:
    """What became of n trials, oldest first; m objectives, d parameters.

    Args:
        rows: level numbers, shape (n, d); -1 in a trial that has not all the parameters.
        losses: smaller is better, shape (n, m); NaN where the trial is not complete.
        numbers: of the trials, shape (n,).
        constraints: of each trial, by name, shape (n,).
        violations: of constraints, summed, shape (n,).
        states: of the trials, as Optuna numbers them, shape (n,).
        spreads: standard deviation of the accuracy behind the values where that is an estimate, else 0, shape (n,).
    """

    rows: Rows
    losses: NDArray[np.float64]
    numbers: NDArray[np.int64]
    constraints: NDArray[np.object_]
    violations: NDArray[np.float64]
    states: NDArray[np.int64]
    spreads: NDArray[np.float64]

    @property
    def legal(self) -> NDArray[np.bool_]:
        """Shape (n,): whether the trial has all the parameters."""
        return np.asarray(self.rows.min(axis=1, initial=0) >= 0)

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Shape (n,): whether something has become of the trial."""
        return ~np.isin(self.states, (TrialState.RUNNING.value, TrialState.WAITING.value))

    def find_parents(self) -> NDArray[np.int64]:
        """The numbers of the trials that :func:`effnas.search.algorithms.history.parents` names."""
        complete = np.flatnonzero(self.legal & (self.states == TrialState.COMPLETE.value))
        if len(complete):
            return complete
        return np.flatnonzero(self.legal & (self.states == TrialState.PRUNED.value) & (self.violations > 0))


class HistoryTable:
    """Reads histories that grow; threads may share it.

    Args:
        space: the parameters that make a row, in this order.
        directions: of the study.

    Attributes:
        encoding: of the space.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], directions: Sequence[StudyDirection]) -> None:
        self.encoding = Encoding(space)
        self._signs = loss_signs(directions)
        #: The trials of the last call, kept so that no other has their identities, and the place of each by its own: of
        #: a long study's trials, which lie far apart in memory, none is looked at again.
        self._trials: list[FrozenTrial] = []
        self._places: dict[int, int] = {}
        self._columns = self._read([])
        self._lock = threading.Lock()

    def read(self, trials: list[FrozenTrial]) -> HistoryColumns:
        """The trials as arrays; those of the last call that were finished then are not read again."""
        with self._lock:
            columns = self._columns
            # Storages do not change finished trials: the same object is the same trial, wherever it stands in the list.
            places = np.array([self._places.get(id(trial), -1) for trial in trials], np.int64)
            old = places >= 0
            old[old] = columns.finished[places[old]]
            new = self._read([trials[i] for i in np.flatnonzero(~old)])
            arrays = []
            for name in HistoryColumns.__annotations__:
                before, some = getattr(columns, name), getattr(new, name)
                array = np.empty((len(trials), *some.shape[1:]), some.dtype)
                array[old] = before[places[old]]
                array[~old] = some
                arrays.append(array)
            self._trials, self._columns = trials, HistoryColumns(*arrays)
            self._places = {id(trial): place for place, trial in enumerate(trials)}
            return self._columns

    def _read(self, trials: list[FrozenTrial]) -> HistoryColumns:
        rows = np.full((len(trials), len(self.encoding.names)), -1, np.int64)
        losses = np.full((len(trials), len(self._signs)), np.nan)
        for i, trial in enumerate(trials):
            if (row := find_row(self.encoding, trial)) is not None:
                rows[i] = np.frombuffer(row, np.int64)
            if trial.state == TrialState.COMPLETE:
                losses[i] = np.array(trial.values) * self._signs
        numbers = np.array([trial.number for trial in trials], np.int64)
        constraints = np.array([trial.constraints for trial in trials], np.object_)
        violations = np.array([sum_violations(trial) for trial in trials], np.float64)
        states = np.array([trial.state.value for trial in trials], np.int64)
        spreads = np.array([trial.system_attrs.get(SPREAD, 0.0) for trial in trials], np.float64)
        return HistoryColumns(rows, losses, numbers, constraints, violations, states, spreads)
