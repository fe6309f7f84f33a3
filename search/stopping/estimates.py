"""What stopped candidates are taken to be worth: the curve model, learned again as the study grows, and its errors."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ..optuna_private import add_spread
from ..record import result_of, trace_first
from ..remembered import MOST, remember
from .curves import Curve, CurveModel, fit_curves
from .entrants import Entrant, EntrantReader, is_entrant
from .values import ValueReader

Array = NDArray[np.float64]

#: Trials after which curves are first learned from, and by which factor there are more at the next time.
FIRST, GROWTH = 10, 1.25
#: What the end is taken to be before candidates were finished, in standard deviations of what the laws promise on
#: held-out and on training images: the latter ranks better early on (Kendall's tau .77 and .65 after a fifth of the
#: epochs in public data).
WEIGHTS = {1: (1.0,), 2: (0.3, 0.7)}
#: How many finished candidates the noise that is taken before that weighs as much as.
PRIOR = 3.0


class _Correction(NamedTuple):
    """What is learned of one step: what promises are compared with, and the regression of the ends on them."""

    center: Array
    width: Array
    weights: Array
    spread: Array
    noise: float


@dataclass(frozen=True)
class Lesson:
    """What the curves until a trial have taught.

    Args:
        before: how many trials there were before it.
        model: of the curves.
        end: epochs of a candidate that is not stopped.
        curves: of the youngest of them, which say what is usual.
        finished: those of candidates that were not stopped.
    """

    before: int
    model: CurveModel
    end: float
    curves: tuple[Curve, ...]
    finished: tuple[Curve, ...]
    _corrections: dict[tuple[float, int], _Correction] = field(default_factory=dict, init=False, compare=False)

    def predict(self, curves: Sequence[Curve], step: float) -> tuple[Array, Array]:
        """Errors at the end, of curves until ``step``, and their standard deviations, each of shape (n,).

        What the two power laws promise is regressed on how the finished candidates ended, whose curves until then are
        known too: Bayesian linear regression that begins with :data:`WEIGHTS`. It also corrects what no power law
        knows, such as a learning rate that falls to zero.
        """
        ahead = float(np.sqrt(step * self.end))  # half of the way: beyond, two points of a curve say too much
        promised, _ = self.model.predict(curves, ahead)
        kinds = 2 if all(np.isfinite(curve.train).any() for curve in (*curves, *self.finished)) else 1
        if (step, kinds) not in self._corrections:
            self._corrections[step, kinds] = self._correct(step, ahead, kinds)
        correction = self._corrections[step, kinds]
        asked = (promised[:, :kinds] - correction.center) / correction.width
        asked = np.column_stack([np.ones(len(promised)), asked])
        spread = np.einsum("ni,ij,nj->n", asked, correction.spread, asked)
        return asked @ correction.weights, np.sqrt(correction.noise + spread)

    def _correct(self, step: float, ahead: float, kinds: int) -> _Correction:
        known = np.empty((0, kinds))
        if self.finished:
            known = self.model.predict([curve.cut(step) for curve in self.finished], ahead)[0][:, :kinds]
        ends = np.array([curve.heldout[-1] for curve in self.finished])
        there = [curve.cut(step) for curve in self.curves if curve.steps[-1] >= step] or list(self.curves)
        usual, deviations = self.model.predict(there, ahead)
        together = usual[:, :kinds]
        center, width = together.mean(axis=0), np.maximum(together.std(axis=0), 1e-9)
        scale = float(width[0])
        first = np.array([center[0], *(np.array(WEIGHTS[kinds]) * scale)])
        trust = np.diag([0.01, *[4.0] * kinds]) / scale**2
        rows = np.column_stack([np.ones(len(known)), (known - center) / width])
        begin = noise = float((0.5 * scale) ** 2 + 0.1 * (deviations[:, 0] ** 2).mean())
        for _ in range(4):
            spread = np.linalg.inv(rows.T @ rows / noise + trust)
            weights = spread @ (rows.T @ ends / noise + trust @ first)
            noise = float((PRIOR * begin + ((ends - rows @ weights) ** 2).sum()) / (PRIOR + len(ends)))
        return _Correction(center, width, weights, spread, noise)


class Estimates:
    """Learns from a study's curves, and shows samplers stopped candidates with what they promise.

    All of it follows from the trials before a milestone and the curves now, so that a search stopped and resumed is the
    search that was never stopped.

    Args:
        reader: of the candidates.
        values: the objective's, from an accuracy.
        epochs: of a candidate that is not stopped; None: the most that there were.
    """

    def __init__(self, reader: EntrantReader, values: ValueReader | None, epochs: int | None) -> None:
        self._reader, self._values, self._epochs = reader, values, epochs
        self._lesson: Lesson | None = None
        #: How many trials were before the last lesson, had it something to learn or not.
        self._before = 0
        self._shown: dict[tuple[object, ...], FrozenTrial] = {}

    def learn(self, study: Study) -> Lesson | None:
        """The last lesson; None: there are too few trials yet."""
        count, before = remember(study).finished, FIRST
        if count < before:
            return None
        while (following := int(np.ceil(before * GROWTH))) <= count:
            before = following
        if self._before != before:
            self._before, self._shown = before, {}
            self._lesson = self._learn(study, before) or self._lesson
        return self._lesson

    def _learn(self, study: Study, before: int) -> Lesson | None:
        earlier = remember(study).list_earliest(before, MOST)
        entrants = [entrant for entrant in self._reader.read(study, earlier) if entrant.step and not entrant.open]
        if not entrants:
            return None
        finished = tuple(entrant.curve for entrant in entrants if entrant.trial.state == TrialState.COMPLETE)
        end = float(self._epochs or max(entrant.step for entrant in entrants))
        curves = tuple(entrant.curve for entrant in entrants)
        return Lesson(before, fit_curves(curves), end, curves, finished)

    def show(self, study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """The trials with stopped candidates as complete ones that have the values which their curves promise.

        A candidate in several trials is the first of them. The standard deviation of its accuracy is told with it. They
        are copies for a sampler's model: the study's own trials stay what they are.
        """
        lesson = self.learn(study)
        self._reader.update(study)
        shown: dict[int, FrozenTrial] = {}
        promising: dict[float, list[Entrant]] = {}
        for trial in trials:
            entrant = self._reader.find(trace_first(trial)) if is_entrant(trial) else None
            if entrant is None or entrant.open:
                shown[trial.number] = trial
            elif entrant.number not in shown:
                shown[entrant.number] = self._copy(entrant) if entrant.trial.number != entrant.number else entrant.trial
                if entrant.step and entrant.stopped:
                    promising.setdefault(entrant.step, []).append(entrant)
        if lesson is not None and self._values is not None:
            for step, group in sorted(promising.items()):
                shown |= self._complete(lesson, group, step)
        return [shown[number] for number in sorted(shown)]

    def _copy(self, entrant: Entrant, state: TrialState | None = None, values: Sequence[float] = ()) -> FrozenTrial:
        """The last trial of a candidate under the number of the first; always the same for the same, as trials are."""
        key = entrant.number, entrant.trial.number, entrant.step, entrant.trial.state, state
        if key not in self._shown:
            self._shown[key] = shown = copy.copy(entrant.trial)
            shown.number = entrant.number
            if state is not None:
                shown.state, shown.values = state, list(values)
        return self._shown[key]

    def _complete(self, lesson: Lesson, entrants: Sequence[Entrant], step: float) -> dict[int, FrozenTrial]:
        errors, deviations = lesson.predict([entrant.curve for entrant in entrants], step)
        assert self._values is not None
        values = self._values([result_of(entrant.trial) for entrant in entrants], (1 - errors).tolist())
        found: dict[int, FrozenTrial] = {}
        for entrant, value, deviation in zip(entrants, values or [], deviations, strict=False):
            found[entrant.number] = shown = self._copy(entrant, TrialState.COMPLETE, value)
            add_spread(shown, float(deviation))
        return found
