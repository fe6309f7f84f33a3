"""The trained weights of the best networks of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from ...evaluate.evaluation import Evaluator
from ...evaluate.kept_weights import KeptWeights
from ...space.errors import UserError, check_int
from ..confirm import REPEAT, find_front
from ..objective import Objective
from ..progress import Beforehand, TrialWatcher
from ..record import result_of, usable_trials


class Keeper:
    """Keeps the trained weights of the best networks of a study, and removes the others as trials are told.

    Args:
        output: of the search; the weights are in its folder ``weights``.
        count: networks; 0: none.
        objective: what is best; of several objectives, the front's members before others, and then the first one.
        evaluator: one that leaves weights has a method ``keeping(folder)``, which returns an evaluator that does.

    Raises:
        UserError: several are to be kept of an evaluator that trains nothing.
    """

    def __init__(self, output: Path, count: int, objective: Objective, evaluator: Evaluator) -> None:
        check_int("keep", count, 0, 1_000_000)
        self._files, self._count, self._objective = KeptWeights(output), count, objective
        keeping = getattr(evaluator, "keeping", None)
        if keeping is None and count > 1:
            raise UserError(f"keep must be 0 or 1, because {type(evaluator).__name__} trains no network, got {count}")
        #: What to evaluate with instead.
        self.evaluator: Evaluator = keeping(str(self._files.folder.absolute())) if keeping and count else evaluator

    def open(self, study: Study) -> None:
        """Make good what a kill left, when the folder is held and nothing is running."""
        if self._files.folder.is_dir():
            self._files.take_left({result_of(t).get("key", ""): t.number for t in reversed(self._rank(study))})
            self._remove_others(study)

    def watch(self, watcher: TrialWatcher, study: Study) -> TrialWatcher:
        """The watcher, called after the weights of a finished trial have found their place."""

        def finished(trial: FrozenTrial) -> None:
            if self._files.take(result_of(trial).get("key", ""), trial.number):
                self._remove_others(study)

        return Beforehand(watcher, finished)

    def conclude(self, study: Study, best: FrozenTrial | None) -> list[dict[str, Any]]:
        """Keep the files of the best networks alone, one each, that of ``best`` first; what is there of them.

        Returns:
            ``number`` of the trial, ``score`` and ``file`` of each. Weights that were trained elsewhere (with a shared
            ``storage``), or that an earlier run did not keep, are not among them.
        """
        networks: dict[str, list[FrozenTrial]] = {}
        ranking = self._rank(study)
        for trial in ([] if best is None else [best]) + ranking:
            networks.setdefault(_network(trial), [])
        for trial in ranking:
            if self._files.has(trial.number):
                networks[_network(trial)].append(trial)
        kept = [trials[0] for trials in list(networks.values())[: self._count] if trials]
        self._files.keep_only({trial.number for trial in kept})
        return [{"number": t.number, "score": t.values[0], "file": str(self._files.file(t.number))} for t in kept]

    def _rank(self, study: Study) -> list[FrozenTrial]:
        """Trials that evaluated a network within the limits, best first."""
        sign = -1 if self._objective.directions[0] == "maximize" else 1
        trials = [trial for trial in usable_trials(study) if "duplicate_of" not in result_of(trial)]
        several = len(self._objective.names) > 1
        first = {t.number for t in find_front(trials, self._objective.directions, several)} if several else set()
        return sorted(trials, key=lambda t: (t.number not in first, sign * t.values[0], t.number))

    def _remove_others(self, study: Study) -> None:
        """All but the best so far; a network that is evaluated again may win, whatever a single score says."""
        ranking = self._rank(study)
        again = {_network(trial) for trial in ranking if REPEAT in trial.user_attrs}
        best = ranking[: self._count]
        self._files.keep_only({t.number for t in (*best, *(t for t in ranking if _network(t) in again))})


def _network(trial: FrozenTrial) -> str:
    return str(result_of(trial).get("digest", trial.number))
