"""Candidates as a pruner sees them: what each has reported, in one trial or in several that continue each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..confirm import REPEAT
from ..problem import CONFIRMS
from ..record import result_of, trace_first
from ..remembered import INTERRUPTED
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


def list_trials(study: Study) -> list[FrozenTrial]:
    """The trials, oldest first, as if the interrupted ones had never been."""
    return [trial for trial in study.get_trials(deepcopy=False) if not trial.user_attrs.get(INTERRUPTED)]


class EntrantReader:
    """Reads a study's candidates; the curves of finished trials are read once."""

    def __init__(self) -> None:
        self._curves: dict[tuple[str, int], Curve] = {}

    def read(self, study: Study, before: int | None = None) -> list[Entrant]:
        """Those that were evaluated or are, oldest first, but for repetitions of one.

        ``before``: only so many of the first trials (:func:`list_trials`), for what must not depend on later ones.
        """
        chains: dict[int, list[FrozenTrial]] = {}
        for trial in list_trials(study)[:before]:
            result = result_of(trial)
            aside = result.get("infeasible") or "duplicate_of" in result
            again = REPEAT in trial.user_attrs or CONFIRMS in trial.user_attrs
            if not aside and not again:
                chains.setdefault(trace_first(trial), []).append(trial)
        return [self._join(study, number, chain) for number, chain in chains.items()]

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
        key = (study.study_name, trial.number)
        if (known := self._curves.get(key)) is not None:
            return known
        curve = read_curve(trial, study.directions)
        if trial.state.is_finished():
            self._curves[key] = curve
        return curve


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
