"""Local search (White et al. 2021, *Exploring the Loss Landscape in Neural Architecture Search*)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...evaluate.non_dominated import non_dominated
from ...space.errors import check_int
from ..encoding import Rows
from .history import measure_crowding, read_history
from .history_table import HistoryColumns, HistoryTable
from .ranked_sampler import SharedSpaceSampler

#: Random vectors tried for one that no trial has.
ATTEMPTS = 100


class LocalSearch(SharedSpaceSampler):
    """Tries the neighbours of the best network, which differ in one decision, as an Optuna sampler.

    After ``startup`` random trials each trial is a neighbour, not proposed before, of the best trial that has one:
    whatever is better becomes the best at once, and when the neighbourhood of a local optimum is exhausted the search
    continues from the next best. In a study of several objectives the best is the loneliest of the first front, by
    crowding distance (Deb et al. 2002, *NSGA-II*); where Optuna's constraints are set, the lesser violation goes first.
    Neighbours of failed, pruned and running trials are not tried for their own sake; but as long as no trial has
    completed, those of the pruned ones that violate constraints are. Numeric parameters are searched on 33 levels at
    most.

    A trial depends on the seed, its rank (:func:`effnas.search.seeded.trial_rank`) and the history, nothing else.

    Args:
        startup: trials drawn at random first.
        prior: parameters by name of what is known to be good: the first trial, and most of the random ones are around
            it (:class:`effnas.search.algorithms.prior.Prior`).
        seed: None: another search each time.

    Raises:
        UserError: a setting is outside its range.
    """

    def __init__(self, startup: int = 10, prior: Mapping[str, Any] | None = None, seed: int | None = None) -> None:
        check_int("startup", startup, 1)
        super().__init__(seed, youngest=startup, prior=prior)
        self._startup = startup

    def propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """A random vector at first, then a neighbour of the best; new, unless all seem to be taken."""
        table, neighbourhoods = self._cache.get(
            (*search_space.items(), *study.directions),
            lambda: (HistoryTable(search_space, study.directions), _Neighbourhoods(len(search_space))),
        )
        past = table.read(read_history(study, trial))
        encoding = table.encoding
        parents = past.find_parents()
        if len(parents) and past.finished.sum() >= self._startup:
            open_ = parents[neighbourhoods.count_proposed(past.rows)[parents] < (encoding.sizes - 1).sum()]
            if len(open_):
                best = past.rows[_choose_best(past, parents, open_)]
                moves = encoding.list_neighbours(best)
                new = moves[~_mark_taken(moves, past.rows[(past.rows != best).sum(axis=1) == 1])]
                return encoding.params(new[rng.integers(len(new))])
        prior = None if len(parents) and past.finished.sum() >= self._startup else self.make_prior(encoding)
        near = prior is not None and prior.is_noticed(rng)
        draws = prior.draw(ATTEMPTS, rng) if prior is not None and near else encoding.random(ATTEMPTS, rng)
        return encoding.params(draws[_mark_taken(draws, past.rows).argmin()])


def _choose_best(past: HistoryColumns, parents: NDArray[np.int64], open_: NDArray[np.int64]) -> int:
    """The trial of ``open_`` to go on from: of those that violate least the best, by front and crowding distance."""
    violations = past.violations[open_]
    open_ = open_[violations == violations.min()]
    losses = past.losses
    if np.isnan(losses[parents]).any():  # pruned ones: their violation is all there is
        return int(open_[0])
    if losses.shape[1] == 1:
        return int(open_[losses[open_, 0].argmin()])
    while True:  # the fronts of all parents, up to the first that is not exhausted
        members = non_dominated(losses[parents], ("minimize",) * losses.shape[1])
        front, parents = parents[members], parents[~members]
        distances = np.where(np.isin(front, open_), measure_crowding(losses[front]), -1.0)
        if distances.max() >= 0:
            return int(front[distances.argmax()])


def _mark_taken(rows: Rows, past: Rows) -> NDArray[np.bool_]:
    """Which rows a trial has, shape (n,)."""
    known = {row.tobytes() for row in past}
    return np.array([row.tobytes() in known for row in rows], np.bool_)


class _Neighbourhoods:
    """How many neighbours of each trial have been proposed, counted as trials come; threads may share it.

    Args:
        width: number of parameters.
    """

    def __init__(self, width: int) -> None:
        self._rows: Rows = np.empty((0, width), np.int64)
        #: Whether the row is legal and no earlier one equals it.
        self._first = np.empty(0, np.bool_)
        self._counts = np.empty(0, np.int64)
        self._lock = threading.Lock()

    def count_proposed(self, rows: Rows) -> NDArray[np.int64]:
        """For each of ``rows``, shape (n, d), the number of different ones that differ from it in one place."""
        with self._lock:
            kept = min(len(rows), len(self._rows))
            same = (self._rows[:kept] == rows[:kept]).all(axis=1)
            kept = kept if same.all() else int(same.argmin())
            first, counts = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.int64)
            first[:kept], counts[:kept] = self._first[:kept], self._counts[:kept]
            for row in self._rows[kept:][self._first[kept:]]:  # trials that are not there any more
                counts[:kept] -= (rows[:kept] != row).sum(axis=1) == 1
            for i in range(kept, len(rows)):
                changes = (rows[:i] != rows[i]).sum(axis=1)
                equal = np.flatnonzero(changes == 0)
                first[i] = len(equal) == 0 and rows[i].min() >= 0
                if first[i]:
                    counts[:i] += changes == 1
                    counts[i] = (changes[first[:i]] == 1).sum()
                elif len(equal):
                    counts[i] = counts[equal[0]]
            self._rows, self._first, self._counts = rows, first, counts
            return counts
