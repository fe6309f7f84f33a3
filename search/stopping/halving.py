"""Asynchronous successive halving for one objective or several, with promotions, as an Optuna pruner."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...space.errors import check_choice, check_int
from ..algorithms.history import loss_signs, sort_fronts
from ..record import result_of
from .entrants import Entrant, EntrantReader
from .estimates import Estimates
from .values import ValueReader

#: What candidates at a rung are compared by.
MEASURES = ("accuracy", "curve")


class AsynchronousHalving(BasePruner):
    """Asynchronous successive halving (ASHA, Li et al. 2020); with several objectives MO-ASHA (Schmucker et al. 2021).

    A candidate that comes to a rung goes on where it is among the best ``1 / reduction_factor`` of all that have come
    there so far (or the best one), and is stopped elsewhere. Later comers may leave it among the best: then it is
    promoted, and goes on from its checkpoint (:class:`~effnas.search.stopping.referee.Referee`). Rungs are at
    ``min_epochs``, and each has ``reduction_factor`` times the epochs of the one before.

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

    def inform(self, values: ValueReader, epochs: int | None) -> AsynchronousHalving:
        """The same for a study whose candidates report accuracies and train for so many epochs (None: not known)."""
        other = copy.copy(self)
        other.values, other.reader = values, EntrantReader()
        other.estimates = Estimates(other.reader, values, epochs)
        return other

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial, which has just reported."""
        entrants = self.reader.read(study)
        mine = next((entrant for entrant in entrants if entrant.trial.number == trial.number), None)
        rung = None if mine is None else self._find_rung(mine)
        if mine is None or rung is None or mine.number in {e.number for e in entrants[: self.startup_trials]}:
            return False
        return mine.number not in self._list_best(study, entrants, rung)

    def choose_promotion(self, study: Study, may: Callable[[FrozenTrial], bool]) -> Entrant | None:
        """The stopped candidate to go on with: on the highest rung where there is one, the best one there.

        Args:
            study: with the candidates.
            may: whether one can go on, by its last trial.
        """
        entrants = self.reader.read(study)
        stopped = [entrant for entrant in entrants if entrant.stopped]
        for rung in sorted({self._highest_rung(entrant.step) for entrant in stopped}, reverse=True):
            if not rung:
                continue
            best = self._list_best(study, entrants, rung)
            here = {e.number: e for e in stopped if self._highest_rung(e.step) == rung}
            for number in best:
                if number in here and may(here[number].trial):
                    return here[number]
        return None

    def list_unfinished(self, study: Study) -> list[Entrant]:
        """The candidates that are stopped, or about to go on."""
        return [entrant for entrant in self.reader.read(study) if entrant.stopped or entrant.open]

    def sort_stopped(self, study: Study) -> list[Entrant]:
        """The stopped candidates, the one nearest to a promotion first: by its place among those at its rung."""
        entrants = self.reader.read(study)
        keyed = []
        for rung in {self._highest_rung(entrant.step) for entrant in entrants if entrant.stopped} - {0}:
            ranked = self._rank(study, entrants, rung)
            for place, entrant in enumerate(ranked):
                if entrant.stopped and self._highest_rung(entrant.step) == rung:
                    keyed.append((place / len(ranked), -rung, entrant.number, entrant))
        return [entrant for *_, entrant in sorted(keyed, key=lambda key: key[:3])]

    # -- rungs -----------------------------------------------------------------------------------------

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

    def _list_best(self, study: Study, entrants: Sequence[Entrant], rung: int) -> list[int]:
        """The numbers of those that may go on from the rung, the best first."""
        ranked = self._rank(study, entrants, rung)
        return [entrant.number for entrant in ranked[: max(1, len(ranked) // self.reduction_factor)]]

    def _rank(self, study: Study, entrants: Sequence[Entrant], rung: int) -> list[Entrant]:
        """All that have come to the rung, whatever became of them, by what they were there, the best first."""
        there = [(entrant, step) for entrant in entrants if (step := entrant.find_step(rung)) is not None]
        if not there:
            return []
        cut = [entrant.curve.cut(step) for entrant, step in there]
        lesson = self.estimates.learn(study) if self.measure == "curve" else None
        if lesson is not None:
            errors = lesson.predict(cut, rung)[0]
        else:
            errors = np.array([curve.heldout[-1] for curve in cut])
        losses = self._read_losses(study, [entrant for entrant, _ in there], errors)
        if losses.shape[1] == 1:
            order = np.argsort(losses[:, 0], kind="stable")
        else:
            fronts, spacing = sort_fronts(losses)
            order = np.lexsort((-spacing, fronts))
        return [there[i][0] for i in order]

    def _read_losses(
        self, study: Study, entrants: Sequence[Entrant], errors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The objectives, smaller being better, shape (n, m); the errors alone where the objective is not known yet."""
        values = None
        if self.values is not None:
            values = self.values([result_of(entrant.trial) for entrant in entrants], (1 - errors).tolist())
        if values is None:
            return errors[:, None]
        return np.array(values, dtype=np.float64).reshape(len(entrants), -1) * loss_signs(study.directions)
