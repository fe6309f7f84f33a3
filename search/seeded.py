"""Samplers without hidden state: a search stopped and resumed is the search that was never stopped."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Hashable, Sequence
from itertools import count, islice
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ..space.errors import UserError, check_int
from .algorithms.study_view import StudyPart, StudyView
from .optuna_private import get_storage, get_study_id, get_trial_id, read_trial, set_system_attr
from .remembered import INTERRUPTED, MOST, remember, view_trials

#: System attribute: the place of a trial in the search (:func:`trial_rank`).
RANK = "effnas:rank"

T = TypeVar("T")
_MISSING: Any = object()


def trial_rank(study: Study, trial: FrozenTrial) -> int:
    """The place of a trial in the search, from 0: its number, had no process ever been killed.

    It is the smallest rank that no trial holds, interrupted ones aside; so the trial that follows an interrupted one
    takes its place. It is recorded with the trial, once. Trials that another process has just created and not yet
    ranked are left the places before it.
    """
    rank = read_trial(study, trial).system_attrs.get(RANK)
    if rank is None:
        # The storage, and not study.get_trials: under Hyperband that shows only the trials of one bracket.
        storage, study_id = get_storage(study), get_study_id(study)
        ranks = _RANKS.setdefault(storage, {}).setdefault(study_id, _Ranks())
        rank = ranks.find_free(trial.number, storage, study_id)
        set_system_attr(study, trial, RANK, rank)
    return int(rank)


class _Ranks:
    """The ranks that trials of one study hold; finished trials keep theirs and are not looked at again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._known = 0
        self._unfinished: list[int] = []
        #: Finished trials hold all ranks below this one,
        self._lowest = 0
        #: and these.
        self._held: set[int] = set()

    def find_free(self, number: int, storage: BaseStorage, study_id: int) -> int:
        """What :func:`trial_rank` is, for a trial that has none."""
        with self._lock:
            trials = view_trials(storage, study_id)
            if len(trials) < self._known or (number < self._known and number not in self._unfinished):
                self._forget()  # another study has got the number of one that was deleted
            look = (*self._unfinished, *range(self._known, len(trials)))
            self._known, self._unfinished = len(trials), [n for n in look if not trials[n].state.is_finished()]
            held: set[int] = set()
            unranked = 0
            for other in (trials[n] for n in look):
                if other.user_attrs.get(INTERRUPTED):
                    continue
                if (rank := other.system_attrs.get(RANK)) is not None:
                    (self._held if other.state.is_finished() else held).add(rank)
                elif other.state == TrialState.RUNNING and other.number < number:
                    unranked += 1
            while self._lowest in self._held:
                self._held.remove(self._lowest)
                self._lowest += 1
            free = (rank for rank in count(self._lowest) if rank not in held and rank not in self._held)
            return next(islice(free, unranked, None))


_RANKS: WeakKeyDictionary[BaseStorage, dict[int, _Ranks]] = WeakKeyDictionary()


def derive_seed(seed: int, *keys: int) -> int:
    """A seed below 2³² for the part of the search that ``keys`` name, independent of the others'."""
    return int(np.random.SeedSequence((seed, *keys)).generate_state(1)[0])


def choose_seed(seed: int | None) -> int:
    """The seed itself; for None a random one.

    Raises:
        UserError: it is not one.
    """
    if seed is None:
        return secrets.randbits(32)
    check_int("seed", seed, 0, 2**32 - 1)
    return seed


class HistoryCache:
    """A sampler's cache of what is a function of its settings and the history, made to be forgotten at any time.

    :class:`Seeded` hands a sampler's attributes of this class on to the samplers of later trials, so that what was
    computed for one trial is there for the next. The key must name all that the value depends on but the sampler's
    settings: the search may go on in another process, with another study, or after trials were told in another order.
    Values must not depend on the sampler's seed, which differs from trial to trial.

    Args:
        size: values kept: those last asked for.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._values: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``; ``make()``, where there is none."""
        with self._lock:
            value: T = self._values.pop(key, _MISSING)
            if value is _MISSING:
                value = make()
            self._values[key] = value
            while len(self._values) > self._size:
                del self._values[next(iter(self._values))]
            return value


class Seeded(BaseSampler):
    """Any sampler, made afresh for every trial from a seed that depends on (seed, rank) only.

    Optuna's samplers keep their generator in memory: resumed with the same seed they would repeat their first choices.
    Inside this one, what a trial is given depends on the seed, its rank and the history, and on nothing else. Of a long
    study they see a part (:mod:`effnas.search.remembered`): at most their ``sees`` finished trials, by default
    :data:`~effnas.search.remembered.MOST`; None: all.

    Args:
        factory: called as ``factory(seed=…)``.
        seed: of the search.

    Raises:
        UserError: the seed is not one, or the sampler refuses its settings.
    """

    def __init__(self, factory: Callable[..., BaseSampler], seed: int) -> None:
        self._factory = factory
        self._seed = choose_seed(seed)
        #: The study as the samplers are to see it, of the study.
        self.look: Callable[[Study], Study] = lambda study: study
        # Several trials may be open at once, and be told in any order: each keeps its sampler until it is told.
        self._open: dict[int, BaseSampler] = {}
        #: What the last trial was shown before its parameters were chosen.
        self._shown: tuple[int, Study] | None = None
        # What does not depend on the seed is handed on, by the attribute's name: Optuna's own cache of the space that
        # all trials share, and ours. Made anew, they would cost O(history) a trial.
        self._kept: dict[str, IntersectionSearchSpace | HistoryCache] = {}
        try:
            #: One of them, which no trial uses.
            self.example = factory(seed=seed)
            self._name = str(self.example)
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(f"algorithm: {error}") from error

    def __str__(self) -> str:
        return self._name

    def _sampler(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        sampler = self._open.get(get_trial_id(trial))
        if sampler is None:
            sampler = self._make_sampler(derive_seed(self._seed, trial_rank(study, trial)))
            self._open[get_trial_id(trial)] = sampler
        return sampler

    def _show(self, study: Study, trial: FrozenTrial) -> Study:
        """The study as the trial's sampler sees it."""
        most = getattr(self._sampler(study, trial), "sees", MOST)
        if most is None:
            return self.look(study)

        def choose(_: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
            memory = remember(study)
            if memory.finished <= most:
                return trials
            numbers = {other.number for other in memory.list_shown(most)}
            return [other for other in trials if other.number in numbers]

        if type(study) is Study:
            return self.look(StudyPart(study, lambda: remember(study).list_shown(most)).as_study())
        # under Hyperband the study is another class, which lists one bracket's trials
        return self.look(StudyView(study, choose).as_study())

    def _make_sampler(self, seed: int) -> BaseSampler:
        sampler = self._factory(seed=seed)
        for name, value in vars(sampler).items():
            if isinstance(value, IntersectionSearchSpace | HistoryCache):
                setattr(sampler, name, self._kept.setdefault(name, value))
        return sampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Rank the trial and make its sampler."""
        self._sampler(study, trial).before_trial(self._show(study, trial), trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the trial's sampler does."""
        self._shown = get_trial_id(trial), self._show(study, trial)
        return self._sampler(study, trial).infer_relative_search_space(self._shown[1], trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the trial's sampler does."""
        shown, self._shown = self._shown, None  # listed once for both; other threads' is not this one's
        view = shown[1] if shown is not None and shown[0] == get_trial_id(trial) else self._show(study, trial)
        return self._sampler(study, trial).sample_relative(view, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the trial's sampler does."""
        sampler = self._sampler(study, trial)
        return sampler.sample_independent(self._show(study, trial), trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Hand the result to the trial's sampler (a new one where another process asked for the trial) and drop it."""
        try:
            self._sampler(study, trial).after_trial(study, trial, state, values)
        finally:
            self._open.pop(get_trial_id(trial), None)

    def estimates(self, study: Study) -> dict[int, float]:
        """What the sampler's model takes each trial's noise-free score to be, by number; empty where it has none."""
        estimates = getattr(self._make_sampler(self._seed), "estimates", None)
        return {} if estimates is None else dict(estimates(study))

    def reseed_rng(self) -> None:
        """Nothing to do: Optuna asks for it so that parallel trials differ, and ranks already do."""
