"""What the loop asks about stopping: whether a candidate that has just reported ends here, and whom to go on with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ...evaluate.evaluation import Evaluator
from ...space.errors import UserError
from ..algorithms.study_view import StudyPart, StudyView
from ..confirm import REPEAT
from ..objective import Objective
from ..optuna_private import find_first_step, read_trial, report_value, set_system_attr
from ..problem import CONFIRMS
from ..record import CONTINUES, result_of, trace_first
from ..remembered import remember
from ..seeded import Seeded
from .checkpoints import CandidateCheckpoints
from .entrants import REPORT
from .halving import AsynchronousHalving
from .values import ValueReader


class Referee:
    """Records what candidates report, and asks the pruner.

    Args:
        pruner: Optuna's, for one objective, or :class:`AsynchronousHalving`.
        evaluator: with ``reported_steps()`` nobody is stopped at the end, and with ``checkpointing(folder)`` stopped
            candidates can be promoted.
        objective: what is judged is its value, or values, at the accuracy reported.
        output: folder of the checkpoints.

    Raises:
        UserError: the pruner cannot stop anybody: it knows one objective and there are several, or candidates have
            fewer epochs than its first rung.

    Attributes:
        pruner: of the study.
        evaluator: what to evaluate with instead.
    """

    def __init__(self, pruner: BasePruner, evaluator: Evaluator, objective: Objective, output: Path) -> None:
        steps: tuple[int, ...] = tuple(getattr(evaluator, "reported_steps", tuple)())
        self._end: int | None = max(steps, default=None)
        self._values = ValueReader(objective, latency=getattr(evaluator, "known_latency", None) is not None)
        self._halving: AsynchronousHalving | None = None
        _check_pruner(pruner, steps, objective, self._values)
        self.pruner, self.evaluator = pruner, evaluator
        self._checkpoints: CandidateCheckpoints | None = None
        if isinstance(pruner, AsynchronousHalving):
            self.pruner = self._halving = pruner.inform(self._values, self._end)
            if (checkpointing := getattr(evaluator, "checkpointing", None)) is not None:
                self._checkpoints = CandidateCheckpoints(output)
                self.evaluator = checkpointing(str(self._checkpoints.folder.absolute()))
        self._silent = isinstance(pruner, NopPruner) and len(objective.directions) > 1
        #: Of running trials: from which epoch on they are judged; None: never. And what they reported last.
        self._from: dict[int, int | None] = {}
        self._last: dict[int, tuple[int, float]] = {}
        self._study: Study

    def open(self, study: Study) -> None:
        """Begin with a study; what a killed run has left of candidates that are not stopped is removed."""
        self._study = study
        if isinstance(study.sampler, Seeded):
            study.sampler.look = self.show
        if self._checkpoints is not None and self._checkpoints.folder.is_dir() and self._halving is not None:
            self._checkpoints.drop_others(_key(entrant.trial) for entrant in self._halving.list_unfinished(study))

    # -- while a candidate runs --------------------------------------------------------------------------

    def start(self, trial: Trial) -> None:
        """A candidate goes to a worker: one that continues is judged from where it stood, a repetition is not."""
        attributes = trial.user_attrs
        judged = attributes.get(CONTINUES, {}).get("epochs", 0)
        again = REPEAT in attributes or CONFIRMS in attributes
        self._from[trial.number] = None if again else judged

    def report(self, trial: Trial, step: int, accuracy: float, train_accuracy: float | None) -> bool:
        """Record a report; whether the candidate ends here."""
        self._last[trial.number] = step, accuracy
        if self._silent:
            return False
        values = self._values([result_of(trial)], [accuracy])
        value = values[0][0] if values is not None and len(values[0]) == 1 else accuracy
        try:
            if self._halving is not None:
                set_system_attr(self._study, trial, f"{REPORT}{step}", [accuracy, train_accuracy])
            report_value(self._study, trial, step, value)
        except UpdateFinishedTrialError:  # another process has taken its place
            return True
        judged = self._from.get(trial.number)
        if judged is None or step <= judged or (self._end is not None and step >= self._end):
            return False
        return self.pruner.prune(self._show_young(), read_trial(self._study, trial))

    def _show_young(self) -> Study:
        """The study as the pruner sees it: of a long one Optuna's compare with the youngest trials.

        Ours keeps account itself, and Hyperband makes studies of its brackets.
        """
        memory = remember(self._study)
        if self._halving is not None or isinstance(self.pruner, HyperbandPruner) or not memory.is_long:
            return self._study
        return StudyPart(self._study, memory.list_young).as_study()

    def describe_stop(self, trial: Trial) -> dict[str, Any] | None:
        """What is to be recorded of a candidate that ends early; None: it has not reported."""
        if trial.number not in self._last:
            return None
        step, accuracy = self._last[trial.number]
        return {"accuracy": accuracy, "epochs": step, "reason": f"stopped by the pruner after step {step}"}

    def count_epochs(self, trial: Trial) -> dict[str, int]:
        """``epochs`` of a candidate that has come to its end; nothing where it did not report."""
        last = self._last.get(trial.number)
        return {} if last is None else {"epochs": last[0]}

    def finish(self, told: FrozenTrial) -> None:
        """A trial was told: its checkpoint stays if it was stopped and may yet be promoted."""
        self._from.pop(told.number, None)
        self._last.pop(told.number, None)
        if self._checkpoints is None or self._halving is None or "duplicate_of" in result_of(told):
            return
        if told.state != TrialState.PRUNED:
            self._checkpoints.drop(_key(told))
        elif self._checkpoints.has(_key(told)):
            self._checkpoints.drop_all(_key(entrant.trial) for entrant in self._halving.list_passed(self._study))
            keys = [_key(entrant.trial) for entrant in self._halving.sort_stopped(self._study)]
            self._checkpoints.limit(keys, self._halving.max_checkpoints, self._halving.max_megabytes)

    def show(self, study: Study) -> Study:
        """The study as samplers see it: with what stopped candidates promise, and each candidate once."""
        if self._halving is None:
            return study
        return StudyView(study, self._halving.estimates.show).as_study()

    # -- promotions --------------------------------------------------------------------------------------

    def promote(self) -> bool:
        """Enqueue a stopped candidate that is by now among the best at its rung; False: there is none.

        Only one whose checkpoint is here: without it, promotion would cost what stopping has saved.
        """
        files = self._checkpoints
        if files is None or self._halving is None:
            return False
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if any(CONTINUES in trial.user_attrs for trial in waiting):  # a kill kept it from being taken
            return True
        chosen = self._halving.choose_promotion(self._study, lambda trial: files.has(_key(trial)))
        if chosen is None:
            return False
        continues = {"of": chosen.number, "epochs": int(chosen.step)}
        self._study.enqueue_trial(chosen.trial.params, user_attrs={CONTINUES: continues})
        return True


def count_open(trials: Iterable[Trial | FrozenTrial]) -> int:
    """How many candidates are open that count when they end: a continuation was counted when it was stopped."""
    return sum(trace_first(trial) == trial.number for trial in trials)


def _key(trial: FrozenTrial) -> str:
    return str(result_of(trial).get("key", ""))


def _check_pruner(pruner: BasePruner, steps: tuple[int, ...], objective: Objective, values: ValueReader) -> None:
    if isinstance(pruner, NopPruner):
        return
    name, names = type(pruner).__name__, ", ".join(objective.names)
    if len(objective.directions) > 1:
        if not isinstance(pruner, AsynchronousHalving):
            raise UserError(
                f"pruner must be none with several objectives ({names}), got {name}: Optuna's pruners compare one "
                "value. pruner=mo_asha and pruner=curve compare several"
            )
        if values.must_wait:
            raise UserError(
                f"pruner must be none where objectives are known only at the end ({names}), got {name}: while a "
                "candidate trains, its latency is not measured"
            )
    first, epochs = find_first_step(pruner), max(steps, default=None)
    if epochs is not None and first is not None and not any(first <= step < epochs for step in steps):
        shown = ", ".join(map(str, steps[:4])) + ", …" * (len(steps) > 4)
        every = f", measured after {shown}" if len(steps) != epochs else ""
        raise UserError(
            f"pruner {name}: its first rung is at epoch {first}, and candidates have {epochs} "
            f"epoch{'s' * (epochs > 1)}{every}: it must come before the last one, or nobody would be stopped. Give "
            "candidates more epochs (training.epochs), the pruner an earlier rung, or use pruner=none"
        )
