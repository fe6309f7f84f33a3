"""Evaluating the best networks again: the luckiest of many evaluations is not the best network, nor is its score true.

Of the last trials of a search some *choose* among the finalists; the others *report*: they evaluate what was chosen
with seeds that no choice ever sees, so their mean has no winner's curse. Of several objectives all report: the members
of the front are what is evaluated again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from ..evaluate.non_dominated import non_dominated
from .algorithms.study_view import StudyView
from .record import is_usable, result_of, worth_of
from .remembered import INTERRUPTED

#: Attribute of a trial that evaluates a network again: ``of``, the number of its first trial, ``time``, how often it
#: was evaluated before, from which the seed is made, and ``reports``, whether no choice may see the result.
REPEAT = "repeat"
#: Networks that are in the running for being named.
FINALISTS = 3


@dataclass(frozen=True)
class Standing:
    """One network: its first trial, its scores, and what it is judged by.

    Args:
        trial: that evaluated it first.
        scores: of all its evaluations.
        level: the sampler's estimate of the noise-free score where it has a model, else the mean of the scores.
    """

    trial: FrozenTrial
    scores: tuple[float, ...]
    level: float


def is_report(trial: FrozenTrial | Trial) -> bool:
    """Whether the trial evaluates again what was chosen without it."""
    return bool(trial.user_attrs.get(REPEAT, {}).get("reports"))


def choice_trials(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Those that a choice may look at."""
    return [trial for trial in trials if not is_report(trial)]


def hide_reports(study: Study) -> Study:
    """The study as it is when nothing has been reported: what the sampler's model takes a choice to be worth."""
    return StudyView(study, lambda _, trials: choice_trials(trials)).as_study()


def rank_networks(
    trials: Sequence[FrozenTrial], direction: StudyDirection, estimates: Mapping[int, float]
) -> list[Standing]:
    """The networks within all limits, best first.

    Args:
        trials: of a study with one objective.
        direction: of the objective.
        estimates: of the noise-free score, by the number of the trial; may be empty.
    """
    networks: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        result = result_of(trial)
        if is_usable(trial) and "duplicate_of" not in result and "digest" in result:
            networks.setdefault(result["digest"], []).append(trial)
    found = []
    for group in networks.values():
        scores = tuple(trial.values[0] for trial in group)
        found.append(Standing(group[0], scores, estimates.get(group[0].number, fmean(scores))))
    sign = -1 if direction == StudyDirection.MAXIMIZE else 1
    return sorted(found, key=lambda standing: (sign * standing.level, standing.trial.number))


def find_front(trials: Iterable[FrozenTrial], directions: Sequence[str], several: bool) -> list[FrozenTrial]:
    """The first evaluations of the non-dominated networks within all limits; cheapest first.

    ``several``: of the objectives; else of accuracy and MACs.
    """
    trials = [t for t in trials if is_usable(t) and "duplicate_of" not in result_of(t) and REPEAT not in t.user_attrs]
    values: list[Any] = [t.values if several else (worth_of(result_of(t)), result_of(t)["macs"]) for t in trials]
    mask = non_dominated(values, directions if several else ("maximize", "minimize"))
    return sorted((t for t, keep in zip(trials, mask, strict=True) if keep), key=lambda t: result_of(t)["macs"])


def choose_repeat(ranking: Sequence[Standing], running: Mapping[int, int]) -> Standing | None:
    """Of the finalists, the one evaluated least often, the better one first; None: there is no network yet.

    ``running``: how many more evaluations of a network are under way, by the number of its first trial.
    """
    finalists = ranking[:FINALISTS]
    return min(finalists, key=lambda s: len(s.scores) + running.get(s.trial.number, 0), default=None)


def choose_winner(ranking: Sequence[Standing]) -> Standing | None:
    """The best of those evaluated more than once."""
    return next((standing for standing in ranking if len(standing.scores) > 1), None)


def count_choices(confirm: int) -> int:
    """How many of ``confirm`` repeats choose, the first ones: whole rounds of the finalists, at most half of all."""
    return FINALISTS * (confirm // 2 // FINALISTS)


def enqueue_repeat(study: Study, open_trials: Iterable[Trial], confirm: int) -> bool:
    """Have one of the best networks evaluated again; nothing, where no network has a score yet.

    Args:
        study: of the search.
        open_trials: those that are not yet told.
        confirm: how many of the trials, the last ones, do so.

    Returns:
        False where nothing can be chosen until an open trial is told.
    """
    trials = study.get_trials(deepcopy=False)
    repeats = [t for t in trials if REPEAT in t.user_attrs and not t.user_attrs.get(INTERRUPTED)]
    if any(trial.state == TrialState.WAITING for trial in repeats):  # one that a kill kept from being taken
        return True
    times = Counter(trial.user_attrs[REPEAT]["of"] for trial in repeats)
    running = [trial for trial in open_trials if not is_report(trial)]
    if several := len(study.directions) > 1:
        if running:
            return False
        sign = -1 if study.directions[0] == StudyDirection.MAXIMIZE else 1
        front = find_front(trials, [d.name.lower() for d in study.directions], several)
        front.sort(key=lambda trial: (sign * trial.values[0], trial.number))
        first, reports = min(front, key=lambda trial: times[trial.number], default=None), True
    else:
        made = Counter(is_report(trial) for trial in _find_tail(trials))
        reports = made[False] >= count_choices(confirm)
        if reports and running:
            return False
        estimates = getattr(study.sampler, "estimates", None)
        levels = {} if estimates is None else estimates(hide_reports(study))
        ranking = rank_networks(choice_trials(trials), study.direction, levels)
        under_way = Counter(t.user_attrs[REPEAT]["of"] for t in running if REPEAT in t.user_attrs)
        chosen = find_leader(ranking, ()) if reports else choose_repeat(ranking, under_way)
        first = None if chosen is None else chosen.trial
    if first is not None:
        repeat = {"of": first.number, "time": 1 + times[first.number], "reports": reports}
        study.enqueue_trial(first.params, user_attrs={REPEAT: repeat})
    return True


def _find_tail(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The repeats since the last trial that was none."""
    found: list[FrozenTrial] = []
    for trial in reversed(trials):
        if REPEAT not in trial.user_attrs:
            break
        if not trial.user_attrs.get(INTERRUPTED):
            found.append(trial)
    return found


def find_leader(ranking: Sequence[Standing], reported: Iterable[int]) -> Standing | None:
    """Who is named: the best of those evaluated again, to choose or (``reported``, by first trial) to report.

    Where none was, the best of all; None: there is no network.
    """
    again = {*reported, *(standing.trial.number for standing in ranking if len(standing.scores) > 1)}
    return next((standing for standing in ranking if standing.trial.number in again), next(iter(ranking), None))
