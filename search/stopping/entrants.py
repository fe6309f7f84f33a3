"""Candidates as a pruner sees them: what each has reported, in one trial or in several that continue each other."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..confirm import REPEAT
from ..problem import CONFIRMS
from ..record import result_of, trace_first
from ..remembered import Mark, remember
from .curves import Curve

#: System attribute of a trial, with the step behind it: ``[accuracy, training accuracy or null]`` as reported.
REPORT = "effnas:report:"


@dataclass(frozen=True)
class Entrant:
    """One candidate.

    Args:
        number: of its first trial.
        trial: the last of those that have a state, or that runs.
        curve: the longest that one of its trials has reported.
        open: whether a trial of it runs, or waits.
    """

    number: int
    trial: FrozenTrial
    curve: Curve
    open: bool

    @property
    def stopped(self) -> bool:
        """Whether a pruner has ended it, for now."""
        return not self.open and self.trial.state == TrialState.PRUNED

    @property
    def step(self) -> float:
        """The last that it has reported; 0: none."""
        return float(self.curve.steps[-1]) if len(self.curve.steps) else 0.0

    def find_step(self, rung: float) -> float | None:
        """The first at which it reported and was at the rung or beyond; None: it has not come so far."""
        place = int(np.searchsorted(self.curve.steps, rung))
        return float(self.curve.steps[place]) if place < len(self.curve.steps) else None


class EntrantReader:
    """Reads a study's candidates, but for repetitions of one; each trial is read once, when it has ended."""

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._forget()

    def _forget(self) -> None:
        self._curves: dict[int, Curve] = {}
        #: Of each candidate, by its number: the trials of it that have ended, oldest first; and the numbers, sorted.
        self._chains: dict[int, list[FrozenTrial]] = {}
        self._numbers: list[int] = []
        self._ended: dict[int, Entrant] = {}
        self._open: dict[int, Entrant] = {}

    def update(self, study: Study) -> tuple[list[Entrant], bool]:
        """Read what has changed: the candidates whose trials have ended since the last call, and if all are new.

        A candidate is there once for each of the trials, as it was then.
        """
        memory = remember(study)
        trials, self._mark, anew = memory.list_new(self._mark)
        if anew:
            self._forget()
        changed = []
        for trial in trials:
            if is_entrant(trial):
                number = trace_first(trial)
                if number not in self._chains:
                    insort(self._numbers, number)
                insort(self._chains.setdefault(number, []), trial, key=lambda one: one.number)
                self._ended[number] = self._join(study, number, self._chains[number])
                changed.append(self._ended[number])
        self._open = {}
        for number, chain in _group(memory.list_open()).items():
            together = sorted((*self._chains.get(number, ()), *chain), key=lambda one: one.number)
            self._open[number] = self._join(study, number, together)
        return changed, anew

    def find(self, number: int) -> Entrant | None:
        """The candidate whose first trial has that number, as it was at the last :meth:`update`."""
        return self._open.get(number) or self._ended.get(number)

    def list_open(self) -> list[Entrant]:
        """Those of which a trial runs, or waits."""
        return list(self._open.values())

    def list_first(self, count: int) -> list[int]:
        """The numbers of the first candidates."""
        return sorted({*self._numbers[:count], *self._open})[:count]

    def read(self, study: Study, trials: Iterable[FrozenTrial]) -> list[Entrant]:
        """The candidates of these trials alone, for what must not depend on others."""
        return [self._join(study, number, chain) for number, chain in _group(trials).items()]

    def _join(self, study: Study, number: int, chain: Sequence[FrozenTrial]) -> Entrant:
        curves = [self._read_curve(study, trial) for trial in chain]
        begun = [trial for trial in chain if trial.state != TrialState.WAITING] or chain
        return Entrant(
            number,
            begun[-1],
            max(curves, key=lambda curve: len(curve.steps)),
            any(not trial.state.is_finished() for trial in chain),
        )

    def _read_curve(self, study: Study, trial: FrozenTrial) -> Curve:
        if (known := self._curves.get(trial.number)) is not None:
            return known
        curve = read_curve(trial, study.directions)
        if trial.state.is_finished():
            self._curves[trial.number] = curve
        return curve


def is_entrant(trial: FrozenTrial) -> bool:
    """Whether it is a candidate's: no repetition, and no network that was evaluated before, or is never to be."""
    result = result_of(trial)
    aside = result.get("infeasible") or "duplicate_of" in result
    return not aside and REPEAT not in trial.user_attrs and CONFIRMS not in trial.user_attrs


def _group(trials: Iterable[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """The trials of each candidate, by its number."""
    chains: dict[int, list[FrozenTrial]] = {}
    for trial in filter(is_entrant, trials):
        chains.setdefault(trace_first(trial), []).append(trial)
    return chains


def read_curve(trial: FrozenTrial, directions: Iterable[StudyDirection]) -> Curve:
    """What the trial has reported: accuracies as errors, or, in a study of another's, intermediate values as losses."""
    found: dict[int, tuple[float, float]] = {}
    sign = -1.0 if next(iter(directions)) == StudyDirection.MAXIMIZE else 1.0
    for step, value in trial.intermediate_values.items():
        found[step] = sign * value, np.nan
    for key, value in trial.system_attrs.items():
        if key.startswith(REPORT):
            accuracy, train = value
            found[int(key.removeprefix(REPORT))] = 1 - accuracy, np.nan if train is None else 1 - train
    steps = sorted(step for step, (heldout, _) in found.items() if np.isfinite(heldout))
    rows = np.array([(step, *found[step]) for step in steps], dtype=np.float64).reshape(-1, 3)
    return Curve(rows[:, 0], rows[:, 1], rows[:, 2])
