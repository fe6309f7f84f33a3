"""Local search (White et al. 2021, *Exploring the Loss Landscape in Neural Architecture Search*)."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...evaluate.non_dominated import non_dominated
from ...space.errors import check_int
from ..encoding import Encoding, Rows
from ..remembered import Proposed
from .history import find_rows, measure_crowding, read_history
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
        # the repr: 1 and true are equal, and other choices
        key = (study.study_name, repr(search_space), *study.directions)
        table = self._cache.get(key, lambda: HistoryTable(search_space, study.directions))
        closed: set[bytes] = self._cache.get(("closed", *key), set)
        past = table.read(read_history(study, trial))
        encoding = table.encoding
        proposed = find_rows(study, encoding, trial.number)
        parents = past.find_parents()
        if len(parents) and past.finished.sum() >= self._startup:
            best = _choose_best(past, parents, lambda i: _has_new(past.rows[i], encoding, proposed, closed))
            if best is not None:
                moves = encoding.list_neighbours(past.rows[best])
                new = moves[~_mark_taken(moves, proposed)]
                return encoding.params(new[rng.integers(len(new))])
        prior = None if len(parents) and past.finished.sum() >= self._startup else self.make_prior(encoding)
        near = prior is not None and prior.is_noticed(rng)
        draws = prior.draw(ATTEMPTS, rng) if prior is not None and near else encoding.random(ATTEMPTS, rng)
        return encoding.params(draws[_mark_taken(draws, proposed).argmin()])


def _choose_best(past: HistoryColumns, parents: NDArray[np.int64], is_open: Callable[[int], bool]) -> int | None:
    """The trial to go on from: of the open ones that violate least the best, by front and crowding distance."""
    losses, violations = past.losses, past.violations[parents]
    for violation in np.unique(violations):
        group = parents[violations == violation]
        if np.isnan(losses[parents]).any():  # pruned ones: their violation is all there is
            ranked = group
        elif losses.shape[1] == 1:
            ranked = group[np.argsort(losses[group, 0], kind="stable")]
        else:
            ranked = np.empty(0, np.int64)
            rest = parents
            while len(rest):  # the fronts of all parents, up to the first that is not exhausted
                members = non_dominated(losses[rest], ("minimize",) * losses.shape[1])
                front, rest = rest[members], rest[~members]
                open_ = np.isin(front, group) & np.array([is_open(int(i)) for i in front], np.bool_)
                if open_.any():
                    return int(front[np.where(open_, measure_crowding(losses[front]), -1.0).argmax()])
        if (best := next((int(i) for i in ranked if is_open(int(i))), None)) is not None:
            return best
    return None


def _mark_taken(rows: Rows, proposed: Container[bytes]) -> NDArray[np.bool_]:
    """Which rows a trial has, shape (n,)."""
    return np.array([row.tobytes() in proposed for row in rows], np.bool_)


def _has_new(row: NDArray[np.int64], encoding: Encoding, proposed: Proposed, closed: set[bytes]) -> bool:
    """Whether a neighbour of the row was not proposed. ``closed``: those of which finished trials have all."""
    if (key := row.tobytes()) in closed:
        return False
    moves = encoding.list_neighbours(row)
    if not all(move.tobytes() in proposed for move in moves):
        return True
    if all(move.tobytes() in proposed.finished for move in moves):  # one that runs may be interrupted
        closed.add(key)
    return False
