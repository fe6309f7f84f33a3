"""What samplers read from the trials so far: who may be a parent, who is better, what was proposed before.

The trials of a study are ``history(study, trial)``; the other functions take such a list, or part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ...evaluate.non_dominated import non_dominated
from ..encoding import Encoding
from ..remembered import INTERRUPTED, Proposed, remember


def read_history(study: Study, trial: FrozenTrial | None = None) -> list[FrozenTrial]:
    """The trials, but for one, oldest first, as if the interrupted ones had never been."""
    aside = None if trial is None else trial.number
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.number != aside and not t.user_attrs.get(INTERRUPTED)]


def find_shared_space(trials: list[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The parameters of several values that all trials have, sorted: their order must not depend on the storage."""
    if not trials:
        return {}
    first, *rest = (t.distributions for t in trials)
    shared = {name: space for name, space in sorted(first.items()) if not space.single()}
    for spaces in rest:
        shared = {name: space for name, space in shared.items() if spaces.get(name) == space}
    return shared


def find_parents(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Those with values; as long as there are none, the pruned ones that violate constraints.

    So a search with tight limits finds its way to them.
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.distributions]
    if complete:
        return complete
    return [t for t in trials if t.state == TrialState.PRUNED and t.distributions and sum_violations(t) > 0]


def draw_value(study: Study, trial: FrozenTrial, name: str, space: BaseDistribution, rng: np.random.Generator) -> Any:
    """A random value of one parameter."""
    return RandomSampler(int(rng.integers(2**32))).sample_independent(study, trial, name, space)


def find_proposed(study: Study, trial: FrozenTrial, names: Iterable[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Says of parameters whether another trial has the same under these names, whatever became of it.

    Of a long study too, of which samplers are shown a part only.
    """
    names = tuple(names)

    def freeze(params: Mapping[str, Any]) -> Hashable | None:
        if not all(name in params for name in names):
            return None
        values = tuple(params[name] for name in names)
        try:
            hash(values)
        except TypeError:  # choices that are lists, of a user's own study
            return repr(values)
        return values

    proposed = remember(study).collect(("params", names), lambda other: freeze(other.params), trial.number)
    return lambda params: freeze(params) in proposed


def find_rows(study: Study, encoding: Encoding, aside: int) -> Proposed:
    """The bytes of the rows of all trials but one, of a long study too; of those that have all the parameters."""

    return remember(study).collect(("rows", repr(encoding.space)), partial(find_row, encoding), aside)


def find_row(encoding: Encoding, trial: FrozenTrial) -> bytes | None:
    """The bytes of the trial's row; None: it has not all the parameters."""
    distributions = trial.distributions
    for name, space in encoding.space.items():
        own = distributions.get(name)
        if own is not space and own != space:  # most are the same object, and comparing choices takes time
            return None
    return encoding.rows([trial.params]).tobytes()


def sum_violations(trial: FrozenTrial) -> float:
    """The sum of the violated constraints; 0 where all hold or none is set."""
    return sum(value for value in trial.constraints.values() if value > 0)


def loss_signs(directions: Sequence[StudyDirection]) -> NDArray[np.float64]:
    """What values are multiplied by so that smaller is better, shape (m,)."""
    return np.array([-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions])


def make_sort_keys(trials: list[FrozenTrial], directions: Sequence[StudyDirection]) -> list[tuple[float, ...]]:
    """The smallest key wins: by violation, then by loss or, of several, by front and crowding distance.

    The fronts are those of all ``trials``, whatever they violate (Deb et al. 2002, *NSGA-II*).
    """
    violations = [sum_violations(t) for t in trials]
    if any(t.values is None for t in trials):  # pruned ones, as long as there is nothing else
        return [(v,) for v in violations]
    signs = loss_signs(directions)
    losses = np.array([t.values for t in trials]).reshape(len(trials), len(signs)) * signs
    if losses.shape[1] == 1:
        return [(v, float(loss)) for v, loss in zip(violations, losses[:, 0], strict=True)]
    fronts, spacing = sort_fronts(losses)
    return [(v, float(f), -float(c)) for v, f, c in zip(violations, fronts, spacing, strict=True)]


def sort_fronts(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row, shape (n, m): how many fronts are before its own, and its crowding distance there, each (n,)."""
    fronts, spacing = np.zeros(len(losses)), np.zeros(len(losses))
    rows = np.arange(len(losses))
    while len(rows):
        front = non_dominated(losses[rows], ("minimize",) * losses.shape[1])
        fronts[rows[~front]] += 1
        spacing[rows[front]] = measure_crowding(losses[rows[front]])
        rows = rows[~front]
    return fronts, spacing


def measure_crowding(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Crowding distance of each row of one front, shape (n, m) → (n,): infinite at the ends of every objective."""
    distance = np.zeros(len(losses))
    for column in np.clip(losses, -1e300, 1e300).T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if ordered[0] != ordered[-1]:
            gaps = (ordered[2:] / 2 - ordered[:-2] / 2) / (ordered[-1] / 2 - ordered[0] / 2)
            distance[order] += np.r_[np.inf, gaps, np.inf]
    return distance
