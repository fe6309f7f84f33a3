"""Asynchronous successive halving for one objective or several, with promotions, as an Optuna pruner."""

from __future__ import annotations

import copy
import threading
from bisect import insort
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...space.errors import check_choice, check_int
from ..algorithms.history import loss_signs, sort_fronts
from ..record import result_of
from ..remembered import MOST
from .entrants import Entrant, EntrantReader
from .estimates import Estimates, Lesson
from .values import ValueReader, Values

#: What candidates at a rung are compared by.
MEASURES = ("accuracy", "curve")
#: Of those that are promoted no more, the last so many at each rung are listed.
PASSED = 100
#: A study of your own may have threads.
_LOCK = threading.Lock()


class AsynchronousHalving(BasePruner):
    """Asynchronous successive halving (ASHA, Li et al. 2020); with several objectives MO-ASHA (Schmucker et al. 2021).

    A candidate that comes to a rung goes on where it is among the best ``1 / reduction_factor`` of all that have come
    there so far (or the best one), and is stopped elsewhere. Later comers may leave it among the best: then it is
    promoted, and goes on from its checkpoint (:class:`~effnas.search.stopping.referee.Referee`). Rungs are at
    ``min_epochs``, and each has ``reduction_factor`` times the epochs of the one before. Of more than 1,000 that have
    come to a rung the last 1,000 are compared, and promoted.

    What is compared is the objective's value, or values, if the training ended at the rung. Several values are ranked
    by non-dominated sorting, ties by crowding distance (Deb et al. 2002). With ``measure="curve"`` the accuracy is that
    which the curves promise for the end of the training (:mod:`effnas.search.stopping.curves`).

    In a study of your own with one objective it stops trials by ``trial.report`` and ``trial.should_prune`` like any
    pruner of Optuna's, and promotes none.

    Args:
        min_epochs: epochs before the first rung.
        reduction_factor: of those that reach a rung, one in so many goes on.
        measure: ``accuracy`` at the rung, or ``curve``.
        startup_trials: the first candidates, which are never stopped: whole curves teach what the others promise.
        max_checkpoints: stopped candidates whose checkpoints are kept, the most promising; the others cannot be
            promoted any more. None: no limit.
        max_megabytes: that these checkpoints may take; None: no limit.

    Raises:
        UserError: a setting is outside its range.
    """

    def __init__(
        self,
        min_epochs: int = 1,
        reduction_factor: int = 3,
        measure: str = "accuracy",
        startup_trials: int = 0,
        max_checkpoints: int | None = 100,
        max_megabytes: int | None = 2000,
    ) -> None:
        check_int("pruner.min_epochs", min_epochs, 1)
        check_int("pruner.reduction_factor", reduction_factor, 2)
        check_choice("pruner.measure", measure, MEASURES)
        check_int("pruner.startup_trials", startup_trials, 0)
        for name, limit in (("max_checkpoints", max_checkpoints), ("max_megabytes", max_megabytes)):
            if limit is not None:
                check_int(f"pruner.{name}", limit, 0)
        self.min_epochs, self.reduction_factor, self.measure = min_epochs, reduction_factor, measure
        self.startup_trials = startup_trials
        self.max_checkpoints, self.max_megabytes = max_checkpoints, max_megabytes
        self.values: ValueReader | None = None
        self.reader = EntrantReader()
        #: What the curves say.
        self.estimates = Estimates(self.reader, None, None)
        #: Who has come to which; begun anew with each study.
        self._rungs: dict[int, _Rung] = {}

    def inform(self, values: ValueReader, epochs: int | None) -> AsynchronousHalving:
        """The same for a study whose candidates report accuracies and train for so many epochs (None: not known)."""
        other = copy.copy(self)
        other.values, other.reader = values, EntrantReader()
        other.estimates = Estimates(other.reader, values, epochs)
        return other

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial, which has just reported."""
        with _LOCK:
            self._update(study)
            mine = next((entrant for entrant in self.reader.list_open() if entrant.trial.number == trial.number), None)
            rung = None if mine is None else self._find_rung(mine)
            if mine is None or rung is None or mine.number in self.reader.list_first(self.startup_trials):
                return False
            return mine.number not in self._list_best(study, rung)

    def choose_promotion(self, study: Study, may: Callable[[FrozenTrial], bool]) -> Entrant | None:
        """The stopped candidate to go on with: on the highest rung where there is one, the best one there.

        Args:
            study: with the candidates.
            may: whether one can go on, by its last trial.
        """
        self._update(study)
        for rung in sorted(self._rungs, reverse=True):
            for number in self._list_best(study, rung):
                if (entrant := self._find_stopped(number, rung)) is not None and may(entrant.trial):
                    return entrant
        return None

    def list_unfinished(self, study: Study) -> list[Entrant]:
        """The candidates that are stopped and may yet be promoted, or about to go on."""
        return [*self.sort_stopped(study), *self.reader.list_open()]

    def sort_stopped(self, study: Study) -> list[Entrant]:
        """The stopped candidates that may yet be promoted, the one nearest to it first: by its place at its rung."""
        self._update(study)
        keyed = []
        for rung in self._rungs:
            ranked = self._rank(study, rung)
            for place, number in enumerate(ranked):
                if (entrant := self._find_stopped(number, rung)) is not None:
                    keyed.append((place / len(ranked), -rung, entrant.number, entrant))
        return [entrant for *_, entrant in sorted(keyed, key=lambda key: key[:3])]

    def list_passed(self, study: Study) -> list[Entrant]:
        """The stopped candidates that are promoted no more, as many have come to their rung since: the last ones."""
        self._update(study)
        passed = [(rung, one) for rung, here in self._rungs.items() for _, one in here.come[-MOST - PASSED : -MOST]]
        return [entrant for rung, one in passed if (entrant := self._find_stopped(one, rung)) is not None]

    # -- rungs -----------------------------------------------------------------------------------------

    def _update(self, study: Study) -> None:
        """Read who has come to which rung."""
        changed, anew = self.reader.update(study)
        if anew:
            self._rungs = {}
        for entrant in changed:
            rung = self.min_epochs
            while rung <= entrant.step:
                self._rungs.setdefault(rung, _Rung()).add(entrant)
                rung *= self.reduction_factor

    def _find_stopped(self, number: int, rung: int) -> Entrant | None:
        """The candidate, if it has been stopped at this rung."""
        entrant = self.reader.find(number)
        stopped = entrant is not None and entrant.stopped and self._highest_rung(entrant.step) == rung
        return entrant if stopped else None

    def _highest_rung(self, step: float) -> int:
        """The last rung that a candidate has come to; 0: none."""
        rung, following = 0, self.min_epochs
        while following <= step:
            rung, following = following, following * self.reduction_factor
        return rung

    def _find_rung(self, entrant: Entrant) -> int | None:
        """The rung that it has come to with its last report."""
        before = float(entrant.curve.steps[-2]) if len(entrant.curve.steps) > 1 else 0.0
        rung = self._highest_rung(entrant.step)
        return rung if rung > self._highest_rung(before) else None

    def _list_best(self, study: Study, rung: int) -> list[int]:
        """The numbers of those that may go on from the rung, the best first."""
        ranked = self._rank(study, rung)
        return ranked[: max(1, len(ranked) // self.reduction_factor)]

    def _rank(self, study: Study, rung: int) -> list[int]:
        """The numbers of all that have come to the rung, whatever became of them, by what they were there.

        The best first; of more than :data:`~effnas.search.remembered.MOST` the last ones to come.
        """
        here = self._rungs.setdefault(rung, _Rung())
        running = [entrant.number for entrant in self.reader.list_open() if entrant.step >= rung]
        lesson = self.estimates.learn(study) if self.measure == "curve" else None
        key = (len(here.come), *running), lesson
        if here.ranked is None or here.ranked[0] != key[0] or here.ranked[1] is not lesson:
            numbers = sorted({*running, *(number for _, number in here.come[-MOST:])})
            there = [
                (entrant, step)
                for number in numbers
                if (entrant := self.reader.find(number)) is not None and (step := entrant.find_step(rung)) is not None
            ]
            here.ranked = *key, self._sort(study, here, there, lesson, rung)
        return here.ranked[2]

    def _sort(
        self, study: Study, here: _Rung, there: list[tuple[Entrant, float]], lesson: Lesson | None, rung: int
    ) -> list[int]:
        if not there:
            return []
        if lesson is None:
            errors, values = here.read(there, self._read_values)
        else:
            errors = lesson.predict([entrant.curve.cut(step) for entrant, step in there], rung)[0]
            values = self._read_values([entrant for entrant, _ in there], errors)
        losses = errors[:, None]
        if values is not None:  # else the objective is not known yet
            losses = np.array(values, dtype=np.float64).reshape(len(there), -1) * loss_signs(study.directions)
        if losses.shape[1] == 1:
            order = np.argsort(losses[:, 0], kind="stable")
        else:
            fronts, spacing = sort_fronts(losses)
            order = np.lexsort((-spacing, fronts))
        return [there[i][0].number for i in order]

    def _read_values(self, entrants: Sequence[Entrant], errors: NDArray[np.float64]) -> list[Values] | None:
        """The objectives, if these were the errors at the end."""
        if self.values is None:
            return None
        return self.values([result_of(entrant.trial) for entrant in entrants], (1 - errors).tolist())


class _Rung:
    """Who has come to a rung, and what each was there."""

    def __init__(self) -> None:
        #: The number of the trial that came, and of its candidate, whose trials have ended; sorted.
        self.come: list[tuple[int, int]] = []
        self._numbers: set[int] = set()
        self._read: dict[int, tuple[Entrant, float, Values | None]] = {}
        #: The last ranking: of whom, by which lesson.
        self.ranked: tuple[tuple[int, ...], Lesson | None, list[int]] | None = None

    def add(self, entrant: Entrant) -> None:
        """A trial of the candidate has ended here or beyond."""
        if entrant.number not in self._numbers:
            self._numbers.add(entrant.number)
            insort(self.come, (entrant.trial.number, entrant.number))
        self.ranked = None

    def read(
        self,
        there: Sequence[tuple[Entrant, float]],
        values: Callable[[Sequence[Entrant], NDArray[np.float64]], list[Values] | None],
    ) -> tuple[NDArray[np.float64], list[Values] | None]:
        """Errors of candidates after these steps, shape (n,), and their values; what has not changed is read once."""
        found = []
        for entrant, step in there:
            known = self._read.get(entrant.number)
            if known is None or known[0] is not entrant:
                error = entrant.curve.cut(step).heldout[-1:]
                value = values([entrant], error)
                known = self._read[entrant.number] = entrant, float(error[0]), None if value is None else value[0]
            found.append(known)
        some = [value for *_, value in found if value is not None]
        return np.array([error for _, error, _ in found]), some if len(some) == len(found) else None
