"""What samplers see of a long study: the trials that matter, and whether something was proposed before.

A sampler that reads all trials at every trial makes a search of n trials cost n². So of more than :data:`MOST` finished
trials it is shown the first ones, the best ones and the youngest ones; each trial is read once, and all that is
remembered follows from the history alone, so that a search stopped and resumed is the search that was never stopped.
"""

from __future__ import annotations

import math
import threading
from bisect import insort
from collections.abc import Callable, Hashable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .optuna_private import get_storage, get_study_id, get_trial_id

#: User attribute, true on a trial whose process was killed: the search continues as if it had never been asked for.
INTERRUPTED = "interrupted"
#: Finished trials that a sampler sees; of more, about half are the best and half the youngest.
MOST = 1000
#: Of them, those at the beginning of the search: an initial design tells how far values spread.
FIRST = 50

#: How far a reader has come (:meth:`Memory.list_new`).
Mark = tuple[object, int]


class Memory:
    """The finished trials of one study, interrupted ones aside. Threads may share it.

    Args:
        directions: of the study.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions])
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        #: Another one for what is read anew.
        self._token = object()
        self._trials: Sequence[FrozenTrial] = []
        self._known = 0
        #: In the storage, of the trial that was read last.
        self._last_id: int | None = None
        self._open: list[int] = []
        #: Numbers of the finished trials, sorted, and in the order in which they were read.
        self._numbers: list[int] = []
        self._order: list[int] = []
        self._best: list[tuple[float, float, int]] = []
        self._front = _Front()
        #: What was collected of finished trials (:meth:`collect`), up to which place in the order.
        self._collected: dict[Hashable, tuple[int, set[Hashable]]] = {}
        self._selected: tuple[int, list[int]] = (-1, [])

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Read what has been finished since the last time. ``trials``: all of the study, by their numbers."""
        with self._lock:
            if len(trials) < self._known or (self._order and get_trial_id(trials[self._order[-1]]) != self._last_id):
                self._forget()  # another study has got the number of one that was deleted
            look = (*self._open, *range(self._known, len(trials)))
            self._trials, self._known = trials, len(trials)
            self._open = [number for number in look if not trials[number].state.is_finished()]
            for number in look:
                trial = trials[number]
                if trial.state.is_finished() and not trial.user_attrs.get(INTERRUPTED):
                    self._add(trial)

    def _add(self, trial: FrozenTrial) -> None:
        insort(self._numbers, trial.number)
        self._order.append(trial.number)
        self._last_id = get_trial_id(trial)
        violation = sum(value for value in trial.constraints.values() if value > 0)
        complete = trial.state == TrialState.COMPLETE
        if complete and len(self._signs) > 1 and violation <= 0:
            self._front.add(np.array(trial.values) * self._signs, trial.number)
        elif complete or (trial.state == TrialState.PRUNED and violation > 0):
            loss = float(trial.values[0] * self._signs[0]) if complete and len(self._signs) == 1 else math.inf
            insort(self._best, (violation, math.inf if math.isnan(loss) else loss, trial.number))
            del self._best[MOST // 2 :]

    @property
    def finished(self) -> int:
        """How many trials have ended."""
        return len(self._numbers)

    @property
    def is_long(self) -> bool:
        """Whether samplers see a part only."""
        return len(self._numbers) > MOST

    def list_shown(self, most: int | None = None) -> list[FrozenTrial]:
        """Those that a sampler is to see, oldest first: all, or a choice of the finished ones and the others.

        ``most``: finished ones; None: :data:`MOST`, fewer for samplers whose time grows faster.
        """
        most = MOST if most is None else min(most, MOST)
        with self._lock:
            if len(self._numbers) <= most:
                return list(self._trials)
            if self._selected[0] != len(self._order) or most != MOST:
                best = [number for *_, number in self._best[: most // 2]]
                chosen = set(self._front.thin(most // 2) or best)
                chosen.update(self._numbers[: min(FIRST, most // 10)])
                for number in reversed(self._numbers):
                    if len(chosen) >= most:
                        break
                    chosen.add(number)
                selected = sorted(chosen)
                if most == MOST:
                    self._selected = len(self._order), selected
            else:
                selected = self._selected[1]
            return [self._trials[number] for number in sorted((*selected, *self._open))]

    def list_open(self) -> list[FrozenTrial]:
        """Those that run or wait, oldest first."""
        with self._lock:
            return [self._trials[number] for number in self._open]

    def list_earliest(self, end: int, count: int) -> list[FrozenTrial]:
        """Of the first ``end`` finished trials, by number, the last ``count``."""
        with self._lock:
            return [self._trials[number] for number in self._numbers[max(0, end - count) : end]]

    def list_young(self) -> list[FrozenTrial]:
        """The youngest :data:`MOST` that have ended, and those that run or wait, oldest first."""
        with self._lock:
            return [self._trials[number] for number in sorted((*self._numbers[-MOST:], *self._open))]

    def list_new(self, mark: Mark | None) -> tuple[list[FrozenTrial], Mark, bool]:
        """The finished trials since the mark, the next mark, and whether these are all: the mark was another study's.

        In the order in which they were read. ``mark``: of the last call; None: there was none.
        """
        with self._lock:
            begun = mark is not None and mark[0] is self._token
            start = mark[1] if mark is not None and begun else 0
            trials = [self._trials[number] for number in self._order[start:]]
            return trials, (self._token, len(self._order)), not begun

    def collect(self, key: Hashable, extract: Callable[[FrozenTrial], Hashable], aside: int) -> Proposed:
        """What ``extract`` gives for each trial that has it, but for that of the number ``aside``; None: it has it not.

        Args:
            key: names ``extract``: two of one name must give the same.
            extract: called once a finished trial, what it gives of a trial must not change.
            aside: the trial that asks.
        """
        with self._lock:
            done, found = self._collected.pop(key, (0, set()))
            found.update(value for n in self._order[done:] if (value := extract(self._trials[n])) is not None)
            self._collected[key] = len(self._order), found
            while len(self._collected) > 8:  # of spaces that trials do not share any more
                del self._collected[next(iter(self._collected))]
            others = (extract(self._trials[number]) for number in self._open if number != aside)
            return Proposed(found, {value for value in others if value is not None})


class Proposed:
    """What trials have, finished ones and others."""

    def __init__(self, finished: set[Hashable], running: set[Hashable]) -> None:
        self.finished, self._running = finished, running

    def __contains__(self, value: object) -> bool:
        return value in self.finished or value in self._running


class _Front:
    """Trials that no other one dominates, the first of equals; smaller is better."""

    def __init__(self) -> None:
        self._losses: NDArray[np.float64] = np.empty((0, 0))
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, loss: NDArray[np.float64], number: int) -> None:
        if np.isnan(loss).any():
            return
        losses, numbers = self._losses.reshape(-1, len(loss)), self._numbers
        same = (losses == loss).all(axis=1)
        if same.any():  # whichever ended first
            self._numbers[same] = np.minimum(self._numbers[same], number)
            return
        if (losses <= loss).all(axis=1).any():
            return
        stay = ~(loss <= losses).all(axis=1)
        self._losses = np.concatenate([losses[stay], loss[None]])
        self._numbers = np.append(numbers[stay], number)

    def thin(self, count: int) -> list[int]:
        """At most ``count`` of their numbers, spread along the first objective."""
        order = np.lexsort((self._numbers, *self._losses.T[::-1])) if len(self._numbers) else self._numbers
        if len(order) > count:
            order = order[np.linspace(0, len(order) - 1, count).round().astype(np.int64)]
        return [int(number) for number in self._numbers[order]]


_MEMORIES: WeakKeyDictionary[BaseStorage, dict[int, Memory]] = WeakKeyDictionary()


def remember(study: Study) -> Memory:
    """What is known of the study, brought up to date; the same of all samplers that ask."""
    storage, study_id = get_storage(study), get_study_id(study)
    memories = _MEMORIES.setdefault(storage, {})
    if study_id not in memories:
        memories[study_id] = Memory(study.directions)
    memories[study_id].update(view_trials(storage, study_id))
    return memories[study_id]


def view_trials(storage: BaseStorage, study_id: int) -> Sequence[FrozenTrial]:
    """All trials of a study, by their numbers; ours give a list that must not be changed, and need not copy it."""
    view: Callable[[int], Sequence[FrozenTrial]] | None = getattr(storage, "view_trials", None)
    return storage.get_all_trials(study_id, deepcopy=False) if view is None else view(study_id)
