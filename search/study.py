"""The one search loop: an Optuna study asks, workers evaluate, the study is told.

The loop runs in one process, the only writer of its trials; the grid search of the scaling coefficients is the same
loop over a study whose points were enqueued.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ..evaluate.evaluation import Evaluation, EvaluationError
from ..evaluate.interrupt import Interrupts
from ..space.errors import UserError
from ..space.formulas import Cost
from .confirm import REPEAT, enqueue_repeat
from .feasible import explain_broken
from .objective import Objective, find_violations, list_known, score_evaluation
from .optuna_private import read_trial
from .problem import Candidate, Problem, ask_candidate
from .progress import TrialWatcher
from .record import RESULT, Tally, close_interrupted, record_result, result_of
from .seeded import derive_seed
from .sharing.ownership import Company, Heart, Owner, describe_owners, enqueue_again
from .stopping.referee import Referee, count_open
from .stopping.streak import Streak
from .workers.base import Outcome, Task, Workers

#: Infeasible proposals in a row after which a feasible member is drawn instead.
PATIENCE = 20
LOOK = 1.0  # seconds between two looks at what other processes are doing, where nothing else is left to do


class Loop:
    """Ask, evaluate, tell, until enough trials have finished.

    Args:
        study: with its sampler; its trials of earlier runs count.
        owner: who runs the loop, recorded with each trial.
        problem: what is searched.
        objective: turns evaluations into values and knows the limits.
        workers: evaluate candidates.
        watcher: sees the events.
        interrupts: say when to stop.
        referee: says which candidates end early, and with which to go on.
        shared: whether other processes add trials to the study; theirs count too.
        confirm: how many of the trials, the last ones, evaluate the best networks again (:mod:`effnas.search.confirm`).
        max_failures: failed trials in a row after which it ends; None: it never does.
        max_interruptions: of a candidate whose process was asked to end, after which it has failed; None: it never has.
    """

    def __init__(
        self,
        study: Study,
        owner: Owner,
        problem: Problem,
        objective: Objective,
        workers: Workers,
        watcher: TrialWatcher,
        interrupts: Interrupts,
        referee: Referee,
        *,
        shared: bool = False,
        confirm: int = 0,
        max_failures: int | None = None,
        max_interruptions: int | None = None,
    ) -> None:
        self._study, self._owner, self._problem, self._objective = study, owner, problem, objective
        self._workers, self._watcher, self._interrupts, self._referee = workers, watcher, interrupts, referee
        self._shared, self._confirm = shared, confirm
        self._streak, self._most = Streak(max_failures), max_interruptions
        #: Asked for and not yet told.
        self._open: dict[int, Trial] = {}
        self._running: dict[int, tuple[Trial, Candidate]] = {}
        #: Trials whose network another running trial is evaluating, by that network's key.
        self._waiting: dict[str, list[Trial]] = {}
        self._tally = Tally(study, distinct=problem.enumerated)
        self._company = Company(study, owner, problem.enumerated, interrupts)
        self._count_all()

    def run(self, trials: int, timeout: float | None = None) -> None:
        """Until ``trials`` have finished, those of earlier runs included; after ``timeout`` seconds none is started.

        Of several processes that share the study each waits for what the others have begun, and makes up for the dead.

        Raises:
            UserError: no candidate can be evaluated, or too many in a row have failed.
            KeyboardInterrupt: a signal came; the running trials are recorded as interrupted.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with Heart(self._study, lambda: list(self._open.values())):
                while True:
                    while self._may_start(deadline) and (self._referee.promote() or self._may_add(trials)):
                        self._interrupts.check()
                        self._start(trials)
                    if self._running:
                        self._finish(self._workers.wait(self._report))
                    elif self._streak.is_too_long and self._tally.counted < trials:
                        raise self._streak.explain()
                    elif not self._wait_for_others(trials, deadline):
                        return
        except BaseException:
            self._workers.close()
            for trial in self._open.values():
                with contextlib.suppress(Exception):  # on a full disk: the next run closes them
                    close_interrupted(self._study, trial)
            raise

    def _may_start(self, deadline: float | None) -> bool:
        if len(self._running) >= self._workers.places or self._streak.is_too_long:
            return False
        if self._shared:
            self._company.sweep()
            self._count_all()
        return deadline is None or time.monotonic() < deadline

    def _may_add(self, trials: int) -> bool:
        """Whether a new candidate is wanted, or a repetition, which is then enqueued."""
        known = self._tally.counted + count_open([*self._open.values(), *self._company.list_others(self._open)])
        if known >= trials:
            return False
        if known >= trials - self._confirm and not enqueue_repeat(self._study, self._open.values(), self._confirm):
            return False
        return not self._problem.enumerated or self._is_any_waiting()

    def _is_any_waiting(self) -> bool:
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _wait_for_others(self, trials: int, deadline: float | None) -> bool:
        """Whether to look again: candidates that are needed are running elsewhere, or were until now."""
        needed = self._company.list_needed(self._tally.counted < trials)
        self._count_all()
        if not needed or self._tally.counted >= trials or (deadline is not None and time.monotonic() >= deadline):
            return False
        if all(trial.state == TrialState.RUNNING for trial in needed):
            self._watcher.waits(describe_owners(needed))
            self._interrupts.pause(LOOK)
        return True

    def _start(self, trials: int) -> None:
        if (
            self._tally.infeasible
            and self._tally.infeasible % PATIENCE == 0
            and not self._is_any_waiting()  # one that a kill kept from being taken
            and (params := self._problem.feasible(self._tally.closed + len(self._running))) is not None
        ):
            self._study.enqueue_trial(params)
        trial = ask_candidate(self._study, self._problem)
        self._open[trial.number] = trial
        if self._company.refuse(trial, trials):
            del self._open[trial.number]
            return
        try:
            candidate = self._problem.candidate(trial.params)
            if (repeat := trial.user_attrs.get(REPEAT)) is not None:
                candidate = replace(candidate, seed=derive_seed(candidate.seed, repeat["time"]))
            costs = self._problem.cost(candidate.architecture)
        except (EvaluationError, UserError) as error:  # the latter of a builder that cannot make this one
            self._tell_failed(trial, str(error), {})
            return
        known: dict[str, Any] = {"owner": self._owner["folder"], "inline": self._workers.inline}
        known |= {"key": candidate.key, "digest": candidate.key.partition(":")[0]}
        known |= {metric: getattr(costs, metric) for metric in list_known(costs)}
        if self._reject(trial, costs, known):
            return
        if (earlier := self._tally.find_earlier(candidate.key, trial)) is not None:
            self._tell_duplicate(trial, earlier)
        elif any(candidate.key == other.key for _, other in self._running.values()):
            self._waiting.setdefault(candidate.key, []).append(trial)
        else:
            trial.set_user_attr(RESULT, known)
            self._running[trial.number] = (trial, candidate)
            self._referee.start(trial)
            apart = known["inline"] and self._tally.killed[candidate.key] > 0
            self._workers.submit(Task(trial.number, candidate.architecture, candidate.seed, apart))
            self._watcher.started(trial, candidate)

    def _reject(self, trial: Trial, costs: Cost, known: dict[str, Any]) -> bool:
        """Close a trial that breaks a limit: costs are known before training, so it is never trained."""
        try:
            violations = find_violations(self._objective, costs)
        except EvaluationError as error:
            self._tell_failed(trial, str(error), known)
            return True
        self._constrain(trial, violations)
        broken = [metric for metric, violation in violations.items() if violation > 0]
        if not broken:
            return False
        limits = explain_broken(self._objective, costs, broken)
        record_result(trial, {**known, "infeasible": True, "reason": f"infeasible: {limits}"})
        self._tell(trial, None, TrialState.PRUNED)
        return True

    def _report(self, number: int, step: int, accuracy: float, train_accuracy: float | None = None) -> bool:
        self._watcher.reported(number, step, accuracy)
        return self._referee.report(self._running[number][0], step, accuracy, train_accuracy)

    def _finish(self, outcome: Outcome) -> None:
        trial, candidate = self._running[outcome.number]
        try:
            lost = self._shared and read_trial(self._study, trial).state.is_finished()
            if not lost and not outcome.interrupted:
                self._tell_outcome(trial, outcome)
        except UpdateFinishedTrialError:
            lost = True
        # lost: this process was silent for so long (a laptop that slept) that another one has taken the trial's place
        if lost or outcome.interrupted:
            self._close_unevaluated(trial, candidate, outcome.interrupted)
            return
        del self._running[outcome.number]
        for other in self._waiting.pop(candidate.key, []):
            if (earlier := self._tally.find_earlier(candidate.key, other)) is not None:
                self._tell_duplicate(other, earlier)
            else:
                known = {**trial.user_attrs[RESULT], "duplicate_of": trial.number}
                self._tell_failed(other, f"the same network failed as trial {trial.number}", known)

    def _tell_outcome(self, trial: Trial, outcome: Outcome) -> None:
        known, evaluation = trial.user_attrs[RESULT], outcome.evaluation
        if evaluation is not None:
            self._tell_evaluated(trial, evaluation, known | self._referee.count_epochs(trial))
        elif outcome.stopped and (stop := self._referee.describe_stop(trial)) is not None:
            record_result(trial, known | stop)
            self._tell(trial, None, TrialState.PRUNED)
        elif outcome.foreign and not self._tally.evaluated:  # no candidate can have a value
            raise UserError(outcome.reason)
        else:
            self._tell_failed(trial, outcome.reason or "it was stopped before its first report", known)

    def _close_unevaluated(self, trial: Trial, candidate: Candidate, killed: bool) -> None:
        """Free the place of a trial, and of those that wait for its network."""
        times = self._tally.killed[candidate.key] + 1 if killed else 0
        close_interrupted(self._study, trial, times, self._most)
        for other in (waiting := self._waiting.pop(candidate.key, [])):
            close_interrupted(self._study, other)
        for other in (trial, *waiting):
            del self._open[other.number]
        del self._running[trial.number]
        self._count_all()
        if self._problem.enumerated:
            enqueue_again(self._study)

    def _tell_evaluated(self, trial: Trial, evaluation: Evaluation, known: dict[str, Any]) -> None:
        try:
            values, late = score_evaluation(self._objective, evaluation, len(self._study.directions))
        except EvaluationError as error:
            self._tell_failed(trial, str(error), known | evaluation.measured)
            return
        self._constrain(trial, late)
        known |= {
            **evaluation.measured,
            "latency": evaluation.latency,
            "seconds": evaluation.seconds,
            "metrics": dict(evaluation.metrics),
            "feasible": all(violation <= 0 for violation in late.values()),
        }
        if not known["feasible"]:
            known["reason"] = "; ".join(f"{m} exceeds its limit by {v:.1%}" for m, v in late.items() if v > 0)
        record_result(trial, known)
        self._tell(trial, values, TrialState.COMPLETE)

    def _tell_duplicate(self, trial: Trial, earlier: FrozenTrial) -> None:
        known = {**result_of(earlier), "duplicate_of": earlier.number, "seconds": 0.0}
        done = earlier.state == TrialState.COMPLETE
        end = ": its value is reused" if done else ", which was stopped"
        known["reason"] = f"the same network as trial {earlier.number}{end}"
        self._constrain(trial, earlier.constraints)
        record_result(trial, known)
        self._tell(trial, earlier.values if done else None, earlier.state)

    def _constrain(self, trial: Trial, violations: Mapping[str, float]) -> None:
        for metric in violations.keys() - trial.constraints.keys():  # what is known before training is set already
            trial.set_constraint(metric, violations[metric])

    def _tell_failed(self, trial: Trial, reason: str, known: dict[str, Any]) -> None:
        record_result(trial, {**known, "reason": reason})
        self._tell(trial, None, TrialState.FAIL)

    def _tell(self, trial: Trial, values: Any, state: TrialState) -> None:
        told = self._study.tell(trial, values, state=None if state == TrialState.COMPLETE else state)
        del self._open[trial.number]
        self._tally.add(told)
        self._streak.add(told)
        if self._shared:
            self._count_all()
        self._referee.finish(told)
        self._watcher.finished(told)

    def _count_all(self) -> None:
        for trial in self._tally.update():
            self._watcher.found(trial)
