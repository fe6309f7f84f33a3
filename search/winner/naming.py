"""The winner of a search: the evaluations that chose it, and those that say what it reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from ...evaluate.non_dominated import non_dominated
from ..confirm import REPEAT, Standing, choice_trials, find_leader, hide_reports, is_report, rank_networks
from ..objective import Objective
from ..problem import CONFIRMS
from ..record import is_usable, kind_of, result_of, trial_row, worth_of
from .optimism import find_standard_error

#: Of a member of a front that was evaluated again: means over seeds that did not choose it.
CONFIRMED = ("confirmed_accuracy", "confirmed_score", "confirmed_standard_error", "confirmed_seeds", "stands")


def list_evaluations(trials: Iterable[FrozenTrial], first: FrozenTrial, *, reports: bool) -> list[FrozenTrial]:
    """The evaluations of a network that chose it, or those that report it."""
    digest = result_of(first).get("digest", "")
    same = [t for t in trials if is_usable(t) and result_of(t).get("digest") == digest]
    return [t for t in same if "duplicate_of" not in result_of(t) and is_report(t) == reports]


def describe_evaluations(trials: Sequence[FrozenTrial], names: Sequence[str]) -> dict[str, Any] | None:
    """What ``selected_on`` and ``confirmed_on`` say: mean accuracy or merit, score, standard error, seeds.

    Args:
        trials: evaluations of one network; None is returned for none.
        names: of the objectives; ``values`` has each where there are several.
    """
    if not trials:
        return None
    scores = [trial.values[0] for trial in trials]
    worth = fmean(worth_of(result_of(trial)) or 0.0 for trial in trials)
    found: dict[str, Any] = {"accuracy": None, kind_of(result_of(trials[0])): worth, "score": fmean(scores)}
    found |= {"standard_error": find_standard_error(scores)}
    if len(names) > 1:
        found["values"] = {name: fmean(t.values[i] for t in trials) for i, name in enumerate(names)}
    return found | {"seeds": [int(result_of(trial)["key"].rpartition(":")[2]) for trial in trials]}


def describe_seeds(trials: Iterable[FrozenTrial], digest: str, *, confirms: bool) -> dict[str, Any] | None:
    """The same of a network that was enqueued with several seeds: mean accuracy, standard error, seeds; None: none.

    Args:
        trials: of the study.
        digest: of the network.
        confirms: of the trials whose seeds chose nothing, else of the others.
    """
    by_seed = {
        trial.params["seed"]: result_of(trial)["accuracy"]
        for trial in trials
        if is_usable(trial)
        and result_of(trial).get("digest") == digest
        and bool(trial.user_attrs.get(CONFIRMS)) == confirms
    }
    if not by_seed:
        return None
    values = [by_seed[seed] for seed in sorted(by_seed)]
    return {"accuracy": fmean(values), "standard_error": find_standard_error(values), "seeds": sorted(by_seed)}


def describe_selection(
    chosen: Mapping[str, Any] | None, reported: Mapping[str, Any] | None, optimism: float | None
) -> dict[str, Any]:
    """The keys of a summary: ``optimism`` is what was confirmed, else what is given, None: not known."""
    if chosen is not None and reported is not None:
        optimism = chosen["accuracy"] - reported["accuracy"]
    return {"selected_on": chosen, "confirmed_on": reported, "optimism": optimism}


def tell_selection(what: str, selection: Mapping[str, Any]) -> list[str]:
    """What is printed of it: the confirmed accuracy, or that the selected one is too high.

    Args:
        what: was chosen.
        selection: of :func:`describe_selection`, in a summary or alone.
    """
    chosen, reported, optimism = (selection.get(key) for key in ("selected_on", "confirmed_on", "optimism"))
    if chosen is None:
        return []
    if reported is not None:
        error = "" if reported["standard_error"] is None else f" ± {reported['standard_error']:.2%}"
        return [
            f"{what}: {reported['accuracy']:.2%}{error} on {count_seeds(reported)} that chose nothing, "
            f"{chosen['accuracy']:.2%} on {count_seeds(chosen)} that chose it"
        ]
    if optimism == 0:
        return []
    known = "by how much one seed cannot say" if optimism is None else f"in expectation by {optimism:.2%}"
    return [
        f"note: {what}: {chosen['accuracy']:.2%} on {count_seeds(chosen)} that chose it, which is too high, {known}; "
        "confirm=3 trains it with 3 other seeds"
    ]


def count_seeds(evaluations: Mapping[str, Any]) -> str:
    """How many there are, in words."""
    count = len(evaluations["seeds"])
    return f"{count} seed{'s' * (count > 1)}"


def name_winner(
    study: Study, trials: Sequence[FrozenTrial], estimate: Callable[[Study], Mapping[int, float]]
) -> tuple[Standing | None, Mapping[int, float]]:
    """Who is named where networks were evaluated again, with all its scores, and what the model says without reports.

    What was reported chooses nothing.
    """
    levels = estimate(hide_reports(study))
    leader = find_leader(
        rank_networks(choice_trials(trials), study.direction, levels),
        {trial.user_attrs[REPEAT]["of"] for trial in trials if is_report(trial) and is_usable(trial)},
    )
    everything = estimate(study) if any(map(is_report, trials)) else levels
    found = {s.trial.number: s for s in rank_networks(trials, study.direction, everything)}
    named = None if leader is None else found[leader.trial.number]
    return (named if named is not None and len(named.scores) > 1 else None), levels


def describe_winner(
    trials: Sequence[FrozenTrial],
    best: FrozenTrial,
    objective: Objective,
    levels: Mapping[int, float],
    *,
    exact: bool,
) -> dict[str, Any]:
    """The evaluations that chose the winner and those that report it, and by how much the former are too good.

    ``optimism``: what was confirmed, else what the model expects; 0 of an ``exact`` evaluator; None: not known.
    """
    chosen, reported = (
        describe_evaluations(list_evaluations(trials, best, reports=reports), objective.names)
        for reports in (False, True)
    )
    sign = 1 if objective.directions[0] == "maximize" else -1
    optimism = None
    if exact:
        optimism = 0.0
    elif chosen is not None and (reported is not None or best.number in levels):
        optimism = sign * (chosen["score"] - (levels[best.number] if reported is None else reported["score"]))
    return {"selected_on": chosen, "confirmed_on": reported, "optimism": optimism}


def make_front_rows(
    front: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], objective: Objective
) -> list[dict[str, Any]]:
    """The front's rows, with what other seeds say where any member was evaluated again (:data:`CONFIRMED`).

    ``stands``: no other member with such a value beats it there; None: it has none.
    """
    rows = [trial_row(t, objective.names) for t in front]
    found = [describe_evaluations(list_evaluations(trials, t, reports=True), objective.names) for t in front]
    known = [i for i, one in enumerate(found) if one is not None]
    if len(objective.names) < 2 or not known:
        return rows
    mask = non_dominated([list((found[i] or {})["values"].values()) for i in known], objective.directions)
    stands = dict(zip(known, mask.tolist(), strict=True))
    for i, (row, one) in enumerate(zip(rows, found, strict=True)):
        row |= dict.fromkeys(CONFIRMED) | {"stands": stands.get(i)}
        if one is not None:
            keys = ("accuracy", "merit", "score", "standard_error")
            row |= {f"confirmed_{key}": one[key] for key in keys if key in one}
            row |= {"confirmed_seeds": len(one["seeds"])}
    return rows
