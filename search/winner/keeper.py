"""The trained weights of the best networks of a study."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from ...evaluate.evaluation import Evaluator
from ...evaluate.kept_weights import KeptWeights
from ...space.errors import UserError, check_int
from ..confirm import REPEAT, find_front
from ..objective import Objective
from ..problem import CONFIRMS
from ..progress import Beforehand, TrialWatcher
from ..record import result_of, usable_trials

log = logging.getLogger(__name__)

#: Networks, best first, by the trials that their places are decided by, best first.
Ranking = Sequence[Sequence[FrozenTrial]]
#: Weights more than those of the best that may lie there for a while in a study of thousands of trials, where to rank
#: them all takes a tenth of a second; and the trials of a study for each of them.
MOST_SPARE, TRIALS_FOR_ONE = 10, 500


class Keeper:
    """Keeps the trained weights of the best networks of a study, and removes the others as trials are told.

    Args:
        output: of the job; the weights are in its folder ``weights``.
        count: networks; 0: none.
        rank: the networks of a study that may be kept.
        evaluator: one that leaves weights has a method ``keeping(folder)``, which returns an evaluator that does.
        seeds: trainings of each network, all of which its place is decided by.

    Raises:
        UserError: several are to be kept of an evaluator that trains nothing.
    """

    def __init__(
        self, output: Path, count: int, rank: Callable[[Study], Ranking], evaluator: Evaluator, seeds: int = 1
    ) -> None:
        check_int("keep", count, 0, 1_000_000)
        self._files, self._count, self._rank, self._seeds = KeptWeights(output), count, rank, seeds
        self._spare = 0
        self._leaves = getattr(evaluator, "keeping", None) is not None
        if not self._leaves and count > 1:
            raise UserError(f"keep must be 0 or 1, because {type(evaluator).__name__} trains no network, got {count}")

    def equip(self, evaluator: Evaluator) -> Evaluator:
        """What to evaluate with instead: the same, leaving the weights of each candidate."""
        keeping = getattr(evaluator, "keeping", None)
        equipped: Evaluator = keeping(str(self._files.folder.absolute())) if keeping and self._count else evaluator
        return equipped

    def open(self, study: Study) -> None:
        """Make good what a kill left, when the folder is held and nothing is running."""
        if self._files.folder.is_dir():
            trials = [trial for group in self._rank(study) for trial in group]
            self._files.take_left({result_of(t).get("key", ""): t.number for t in reversed(trials)})
            self._remove_others(study)

    def watch(self, watcher: TrialWatcher, study: Study) -> TrialWatcher:
        """The watcher, called after the weights of a finished trial have found their place."""

        def finished(trial: FrozenTrial) -> None:
            self._spare += self._files.take(result_of(trial).get("key", ""), trial.number)
            if self._spare > min(MOST_SPARE, trial.number // TRIALS_FOR_ONE):
                self._spare = 0
                self._remove_others(study)

        return Beforehand(watcher, finished)

    def conclude(self, study: Study, best: FrozenTrial | None = None) -> list[dict[str, Any]]:
        """Keep the files of the best networks alone, one each, that of ``best`` first; what is there of them.

        Returns:
            ``number`` of the trial, ``score`` and ``file`` of each. Weights that were trained elsewhere (with a shared
            ``storage``), or that an earlier run did not keep, are not among them.
        """
        ranking = self._rank(study)
        if best is not None:
            ranking = sorted(ranking, key=lambda group: best.number not in {trial.number for trial in group})
        kept = [trial for group in ranking[: self._count] for trial in self._find_held(group)[:1]]
        self._files.keep_only({trial.number for trial in kept})
        if self._leaves and ranking[: self._count] and not kept:
            log.warning(
                "keep=%d: no weights of the best are in %s: they were trained on a machine that does not share this "
                "folder, or by a run that kept none",
                self._count,
                self._files.folder,
            )
        return [{"number": t.number, "score": t.values[0], "file": str(self._files.file(t.number))} for t in kept]

    def _find_held(self, group: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in group if self._files.has(trial.number)]

    def _remove_others(self, study: Study) -> None:
        """All but the best so far; a network that is evaluated again may win, whatever a single score says.

        Of networks with several seeds the best of those that have them all stay too: what follows moves none of them
        up.
        """
        ranking = self._rank(study)
        whole = [group for group in ranking if len(group) >= self._seeds]
        best = [self._find_held(group)[:1] for group in (*ranking[: self._count], *whole[: self._count])]
        again = [group for group in ranking if any(REPEAT in trial.user_attrs for trial in group)]
        self._files.keep_only({trial.number for group in (*best, *again) for trial in group})


def rank_by_objective(study: Study, objective: Objective) -> Ranking:
    """The networks within the limits by their best trial; of several objectives, the front's before others."""
    sign = -1 if objective.directions[0] == "maximize" else 1
    trials = [trial for trial in usable_trials(study) if "duplicate_of" not in result_of(trial)]
    several = len(objective.names) > 1
    first = {t.number for t in find_front(trials, objective.directions, several)} if several else set()
    return _group(sorted(trials, key=lambda t: (t.number not in first, sign * t.values[0], t.number)))


def rank_by_mean(study: Study) -> Ranking:
    """The networks by their mean score over the seeds that choose, the highest first."""
    trials = [
        trial
        for trial in usable_trials(study)
        if "duplicate_of" not in result_of(trial) and not trial.user_attrs.get(CONFIRMS)
    ]
    groups = _group(sorted(trials, key=lambda t: (-t.values[0], t.number)))
    return sorted(groups, key=lambda group: -statistics.fmean(trial.values[0] for trial in group))


def _group(trials: Sequence[FrozenTrial]) -> Ranking:
    """The trials of each network, in the order of their first."""
    networks: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        networks.setdefault(str(result_of(trial).get("digest", trial.number)), []).append(trial)
    return list(networks.values())


def describe_kept(weights: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the kept weights lie, for the terminal; no line where there are none."""
    if not weights:
        return []
    more = f", and {len(weights) - 1} more of the best beside it" if len(weights) > 1 else ""
    return [f"weights of the best: {weights[0]['file']}{more}"]
