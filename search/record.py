"""What a study's trials say beside Optuna's own words, and how those that a kill left open are closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from .optuna_private import get_enqueued_params, read_trial, set_user_attr
from .seeded import INTERRUPTED

#: Trial attribute with all that is known of a trial beside its decisions: digest, accuracy, costs, reason, …
RESULT = "result"
#: A candidate of an only worker, which this process is, that was interrupted so often is taken to be what ends the
#: process, and recorded as failed.
INTERRUPTIONS = 3


def result_of(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """The ``result`` attribute of a trial."""
    result: dict[str, Any] = trial.user_attrs.get(RESULT, {})
    return result


def is_counted(trial: FrozenTrial) -> bool:
    """Whether the trial is one of the finished ones that were asked for: not interrupted, not infeasible."""
    aside = trial.user_attrs.get(INTERRUPTED) or result_of(trial).get("infeasible")
    return trial.state.is_finished() and not aside


def enqueue_missing(study: Study, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Enqueue each of these parameters that no trial has which is waiting, running or finished, in their order."""
    known = set()
    for trial in study.get_trials(deepcopy=False):
        if is_counted(trial):
            known.add(frozenset(trial.params.items()))
        elif not trial.state.is_finished():  # waiting, or running on another machine
            known.add(frozenset((get_enqueued_params(trial) or {}).items()))
    for params in wanted:
        if frozenset(params.items()) not in known:
            study.enqueue_trial(dict(params))


def interrupt_running(study: Study, owner: str, shared: bool) -> None:
    """Close the trials that a killed process of this folder left running; their places in the search are free again.

    In a storage that several machines share only those of ``owner`` are closed.
    """
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING and (not shared or result_of(trial).get("owner") == owner):
            key = result_of(trial).get("key")
            killed = [t for t in trials if result_of(t).get("killed") and result_of(t)["key"] == key]
            # a worker's death leaves this process alive: then only someone from outside has killed it
            blamed = result_of(trial).get("inline", False)
            close_interrupted(study, trial, killed=len(killed) + 1 if blamed else 0)


def close_interrupted(study: Study, trial: FrozenTrial | Trial, killed: int = 0) -> None:
    """Close a trial that was running as if it had never been asked for.

    ``killed``: how often the process ended without a word while it evaluated this candidate itself; the third time the
    trial has failed.
    """
    again = killed < INTERRUPTIONS
    if again:
        set_user_attr(study, trial, INTERRUPTED, True)
    reason = "interrupted" if again else f"interrupted {killed} times: it may be what ends the process"
    old = result_of(read_trial(study, trial))
    set_user_attr(study, trial, RESULT, {**old, "reason": reason, "killed": killed > 0})
    study.tell(trial.number, state=TrialState.FAIL)
