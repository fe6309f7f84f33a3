"""Evaluating the best networks again: the luckiest of many evaluations is not the best network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial

from .record import is_usable, result_of

#: Attribute of a trial that evaluates a network again: ``of``, the number of its first trial, and ``time``, how often
#: it was evaluated before, from which the seed is made.
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


def choose_repeat(ranking: Sequence[Standing], running: Mapping[int, int]) -> Standing | None:
    """Of the finalists, the one evaluated least often, the better one first; None: there is no network yet.

    ``running``: how many more evaluations of a network are under way, by the number of its first trial.
    """
    finalists = ranking[:FINALISTS]
    return min(finalists, key=lambda s: len(s.scores) + running.get(s.trial.number, 0), default=None)


def enqueue_repeat(study: Study, open_trials: Iterable[Trial]) -> None:
    """Have one of the best networks evaluated again; nothing, where no network has a score yet.

    ``open_trials``: those that are not yet told.
    """
    estimates = getattr(study.sampler, "estimates", None)
    known = {} if estimates is None else estimates(study)
    ranking = rank_networks(study.get_trials(deepcopy=False), study.direction, known)
    running: dict[int, int] = {}
    for trial in open_trials:
        if (first := trial.user_attrs.get(REPEAT)) is not None:
            running[first["of"]] = running.get(first["of"], 0) + 1
    chosen = choose_repeat(ranking, running)
    if chosen is not None:
        first = chosen.trial.number
        repeat = {"of": first, "time": len(chosen.scores) + running.get(first, 0)}
        study.enqueue_trial(chosen.trial.params, user_attrs={REPEAT: repeat})


def choose_winner(ranking: Sequence[Standing]) -> Standing | None:
    """The best of those evaluated more than once."""
    return next((standing for standing in ranking if len(standing.scores) > 1), None)
