"""The record of a study: what its trials say, its rows and facts for a report, and how interrupted ones are closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ..evaluate.folder import versions, write_csv
from ..evaluate.reasons import escape_reason
from .optuna_private import get_enqueued_params, get_storage, get_study_id, read_trial, set_user_attr, set_user_attrs
from .remembered import INTERRUPTED, view_trials
from .sharing.tables_private import OWNER

#: Trial attribute with all that is known of a trial beside its decisions: digest, accuracy, costs, reason, …
RESULT = "result"
#: What a row of ``trials.csv`` says of a network beside its score.
MEASURES = ("accuracy", "params", "macs", "activations", "peak_memory", "latency", "seconds")
#: What else is recorded of a trial under its own name.
FACTS = ("digest", "feasible", "duplicate_of", "epochs", "reason")
#: Attribute of a trial that goes on with a candidate that was stopped: ``of``, the number of the candidate's first
#: trial, and ``epochs``, those that it had.
CONTINUES = "continues"
#: Study attribute: wall-clock seconds of all runs.
SECONDS = "seconds"


def result_of(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """The ``result`` attribute of a trial."""
    result: dict[str, Any] = trial.user_attrs.get(RESULT, {})
    return result


def worth_of(known: Mapping[str, Any]) -> float | None:
    """Of a result or a row of ``trials.csv``: the accuracy, or the merit in its place; None: it has neither."""
    worth: float | None = known.get("accuracy") if known.get("merit") is None else known["merit"]
    return worth


def kind_of(known: Mapping[str, Any]) -> str:
    """What :func:`worth_of` is: ``accuracy`` or ``merit``."""
    return "accuracy" if known.get("merit") is None else "merit"


def reason_of(trial: FrozenTrial | Trial) -> str:
    """Why the trial has no value, or another one's; "": nothing is to be said. One plain line, whoever recorded it."""
    return escape_reason(result_of(trial).get("reason") or "")


def record_result(trial: Trial, result: Mapping[str, Any]) -> None:
    """Record all that is known of a trial that ends now, its reason as one plain line.

    It is in the ``result`` attribute, which this package reads, and for Optuna's data frame and dashboard in one
    attribute each: :data:`MEASURES`, :data:`FACTS` and the evaluator's metrics by their names.
    """
    known = dict(result)
    if known.get("reason"):
        known["reason"] = escape_reason(known["reason"])
    flat = {name: known.get(name) for name in (*MEASURES, "merit", *FACTS)}
    taken = (RESULT, INTERRUPTED, CONTINUES, "repeat", *flat)
    flat |= {name: value for name, value in known.get("metrics", {}).items() if name not in taken}
    set_user_attrs(trial, {RESULT: known, **{name: value for name, value in flat.items() if value is not None}})


def trace_first(trial: FrozenTrial | Trial) -> int:
    """The number of the first trial of the candidate that this one evaluates: its own, unless it continues another."""
    return int(trial.user_attrs.get(CONTINUES, {}).get("of", trial.number))


def is_counted(trial: FrozenTrial) -> bool:
    """Whether the trial is one of the finished ones that were asked for.

    Ours, not interrupted, not infeasible, no continuation of another one: a candidate counts once.
    """
    aside = trial.user_attrs.get(INTERRUPTED) or result_of(trial).get("infeasible") or CONTINUES in trial.user_attrs
    return trial.state.is_finished() and is_ours(trial) and not aside


def state_name(trial: FrozenTrial) -> str:
    """``complete``, ``failed``, ``pruned`` (stopped early) or ``infeasible`` (beyond a limit, not trained)."""
    if result_of(trial).get("infeasible"):
        return "infeasible"
    return {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def is_ours(trial: FrozenTrial) -> bool:
    """Whether a process of ours began the trial and ended it: nobody else has added it, or told it meanwhile."""
    result = result_of(trial)
    told = trial.state == TrialState.COMPLETE and "owner" in result and worth_of(result) is None
    return (bool(result) or OWNER in trial.system_attrs) and not told


def trial_row(trial: FrozenTrial, names: Sequence[str]) -> dict[str, Any]:
    """One line of ``trials.csv``: the first objective is the score, several have columns of their own."""
    result = result_of(trial)
    values = trial.values if trial.state == TrialState.COMPLETE else None
    row: dict[str, Any] = {"number": trial.number, "state": state_name(trial), "score": values[0] if values else None}
    if len(names) > 1:
        row |= {f"score.{name}": values[i] if values else None for i, name in enumerate(names)}
    row |= {measure: result.get(measure) for measure in MEASURES}
    row |= {"epochs": result["epochs"]} if "epochs" in result else {}
    if result.get("merit") is not None:
        row |= {"merit": result["merit"], **{f"metric.{name}": value for name, value in result["metrics"].items()}}
    row |= {f"decision.{name}": value for name, value in trial.params.items()}
    row["duplicate_of"] = result.get("duplicate_of")
    row["reason"] = reason_of(trial)
    return row


def shown_trials(study: Study) -> list[FrozenTrial]:
    """Finished trials, the last one of each candidate: one that a kill cut short or that was continued has a successor.

    In the order in which the candidates were begun.
    """
    last: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and is_ours(trial) and not trial.user_attrs.get(INTERRUPTED):
            last[trace_first(trial)] = trial
    return list(last.values())


def breaks_limit(trial: FrozenTrial) -> bool:
    """Whether its evaluation showed that it breaks a limit."""
    return not result_of(trial).get("feasible", True)


def is_usable(trial: FrozenTrial) -> bool:
    """Whether the trial has a score and is within all limits."""
    interrupted = trial.user_attrs.get(INTERRUPTED)
    known = trial.state == TrialState.COMPLETE and bool(result_of(trial)) and is_ours(trial)
    return known and not interrupted and not breaks_limit(trial)


def usable_trials(study: Study) -> list[FrozenTrial]:
    """Complete trials within all limits."""
    return [t for t in study.get_trials(deepcopy=False) if is_usable(t)]


def job_facts(
    study: Study,
    trials: Sequence[FrozenTrial],
    seconds: float,
    *,
    seed: int,
    evaluator: str,
    command: str,
    output: Path,
) -> dict[str, Any]:
    """What the ``summary.json`` of every job says: how many trials of each kind, the time of all runs, the versions.

    ``seconds`` are this run's; they are added to those of earlier runs, which the study keeps.
    """
    seconds += study.user_attrs.get(SECONDS, 0.0)
    study.set_user_attr(SECONDS, seconds)
    states = [state_name(t) for t in trials]
    return {
        "trials": sum(state_name(t) != "infeasible" for t in trials),
        **{state: states.count(state) for state in ("complete", "failed", "pruned", "infeasible")},
        "duplicates": sum(result_of(t).get("duplicate_of") is not None for t in trials),
        "seconds": round(seconds, 3),
        "seed": seed,
        "evaluator": evaluator,
        "study": {"name": study.study_name, "directions": [d.name.lower() for d in study.directions]},
        "versions": versions(),
        "command": command,
        "output": str(output),
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], like: Sequence[Mapping[str, Any]] = ()) -> None:
    """A table with the union of the columns of the rows and of those ``like`` them, ``reason`` last."""
    columns = list(dict.fromkeys(key for row in [*like, *rows] for key in row if key != "reason"))
    columns = columns or ["number", "state", "score", *MEASURES]
    write_csv(path, [*columns, "reason"], rows)


def enqueue_missing(
    study: Study, wanted: Iterable[Mapping[str, Any]], attributes: Mapping[str, Any] | None = None
) -> None:
    """Enqueue each of these parameters that no trial has which is waiting, running or finished, in their order.

    ``attributes``: of the new trials.
    """
    known = set()
    for trial in study.get_trials(deepcopy=False):
        if is_counted(trial) or not trial.state.is_finished():
            known.add(point_of(trial))
    for params in wanted:
        if frozenset(params.items()) not in known:
            study.enqueue_trial(dict(params), user_attrs=dict(attributes or {}))


def is_done(study: Study, wanted: Iterable[Mapping[str, Any]]) -> bool:
    """Whether nothing waits or runs, and each of these parameters has a trial that counts."""
    trials = study.get_trials(deepcopy=False)
    finished = {point_of(trial) for trial in trials if is_counted(trial)}
    return all(t.state.is_finished() for t in trials) and all(frozenset(p.items()) in finished for p in wanted)


def point_of(trial: FrozenTrial) -> frozenset[tuple[str, Any]]:
    """The parameters of a trial, those that it was enqueued with as long as it has none."""
    return frozenset((trial.params or get_enqueued_params(trial) or {}).items())


def close_interrupted(study: Study, trial: FrozenTrial | Trial, killed: int = 0, limit: int | None = None) -> bool:
    """Close a trial that was running as if it had never been asked for; False: another process has closed it by now.

    Args:
        study: of the trial.
        trial: to close.
        killed: how often a process ended without a word while it evaluated this candidate; 0: that is not so now.
        limit: of ``killed``, from which the trial has failed; None: it never has.
    """
    again = limit is None or killed < limit
    reason = "interrupted" if again else f"interrupted {killed} times (max_interruptions={limit})"
    old = result_of(read_trial(study, trial))
    try:
        if again:
            set_user_attr(study, trial, INTERRUPTED, True)
        set_user_attr(study, trial, RESULT, {**old, "reason": reason, "killed": killed > 0})
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    except UpdateFinishedTrialError:  # whenever that was, until the last of the three
        return False
    return True


class Tally:
    """What has been finished in a study, by whichever process.

    Args:
        study: whose trials are counted.
        distinct: whether trials with the same parameters count as one: two processes may enqueue the same at once.
    """

    def __init__(self, study: Study, distinct: bool) -> None:
        self._study, self._distinct = study, distinct
        self._seen: set[int] = set()
        self._looked_at, self._unfinished = 0, list[int]()
        self._points: set[frozenset[tuple[str, Any]]] = set()
        #: Closed trials, those that count as finished, and the infeasible ones since the last that was not.
        self.closed = self.counted = self.infeasible = 0
        #: The first complete trial of each network and seed, by their key.
        self.evaluated: dict[str, FrozenTrial] = {}
        #: The last trial of each that a pruner has stopped.
        self._stopped: dict[str, FrozenTrial] = {}
        #: How often a process ended without a word during each of them.
        self.killed: Counter[str] = Counter()

    def update(self) -> list[FrozenTrial]:
        """Count what has been finished since the last time; those trials."""
        trials = view_trials(get_storage(self._study), get_study_id(self._study))
        look = [trials[n] for n in (*self._unfinished, *range(self._looked_at, len(trials)))]
        self._looked_at = len(trials)
        self._unfinished = [trial.number for trial in look if not trial.state.is_finished()]
        new = [trial for trial in look if trial.state.is_finished() and trial.number not in self._seen]
        for trial in new:
            self.add(trial)
        return new

    def add(self, trial: FrozenTrial) -> None:
        """Count a finished trial."""
        self._seen.add(trial.number)
        result = result_of(trial)
        if trial.user_attrs.get(INTERRUPTED):
            if result.get("killed"):
                self.killed[result.get("key", "")] += 1
            return
        self.closed += 1
        self.infeasible = self.infeasible + 1 if result.get("infeasible") else 0
        if is_counted(trial) and not (self._distinct and point_of(trial) in self._points):
            self.counted += 1
            if self._distinct:
                self._points.add(point_of(trial))
        if "duplicate_of" not in result and "key" in result:
            if trial.state == TrialState.COMPLETE and is_ours(trial):
                self.evaluated[result["key"]] = trial
            elif trial.state == TrialState.PRUNED and not result.get("infeasible"):
                self._stopped[result["key"]] = trial

    def find_earlier(self, key: str, trial: Trial) -> FrozenTrial | None:
        """The trial that has evaluated the network already, to its end or, unless this one continues it, to a stop."""
        stopped = None if CONTINUES in trial.user_attrs else self._stopped.get(key)
        return self.evaluated.get(key) or stopped
