"""Which member to evaluate next: far from the others at first, then where most can be gained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ....evaluate.non_dominated import non_dominated
from ...encoding import Rows
from ...feasible import descend_to_limits
from .members import Members, MemberView, PastTrials

if TYPE_CHECKING:
    from .gaussian import GaussianProcess

Array = NDArray[np.float64]

#: Random members that are compared for the initial design; half as many, and as many crossings, begin a climb.
DRAWS = 256
#: Of the climb: parents whose neighbours it looks at, climbers, and their steps.
PARENTS, CLIMBERS, STEPS = 12, 10, 8


@dataclass(frozen=True)
class Model:
    """The learned objectives by column, and the limits that only evaluations check."""

    processes: dict[int, GaussianProcess]
    limits: dict[str, GaussianProcess]

    def bounds(self, view: MemberView, kappa: float) -> Array:
        """Upper confidence bounds of the values, shape (n, m); what is exact has no more than itself."""
        values = view.facts.exact.copy()
        for column, process in self.processes.items():
            mean, deviation = process.predict(view.features)
            values[:, column] = (mean + kappa * deviation) * view.facts.factors[:, column]
        return values

    def probability(self, view: MemberView) -> Array:
        """Of meeting all limits that only evaluations check, shape (n,)."""
        chance = np.ones(len(view.features))
        for process in self.limits.values():
            mean, deviation = process.predict(view.features)
            chance *= ndtr(-mean / deviation)
        return chance


def propose_spread(members: Members, past: PastTrials, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of random members within the limits, the farthest from all others so far."""
    drawn = members.encoding.random(DRAWS, rng)
    view = members.look(drawn)
    inside = view.facts.excess <= 0
    if not inside.any():
        nearest = int(np.argmin(view.facts.excess))
        row, _ = descend_to_limits(
            drawn[nearest],
            float(view.facts.excess[nearest]),
            members.encoding.sizes,
            lambda rows: members.look(rows).facts.excess,
        )
        drawn = np.concatenate([row[None], members.encoding.list_neighbours(row)])
        view = members.look(drawn)
        inside = view.facts.excess <= 0
    fresh = np.array([row.tobytes() not in past.seen for row in drawn])
    for mask in (inside & fresh, fresh, np.ones(len(drawn), np.bool_)):
        if mask.any():
            drawn, features = drawn[mask], view.features[mask]
            break
    others = np.concatenate([past.rows, past.pending])
    if not len(others):
        return members.canonical(drawn[0])
    seen = members.look(others).features
    distance = ((features[:, None] - seen[None]) ** 2).sum(axis=2).min(axis=1)
    return members.canonical(drawn[int(np.argmax(distance))])


def propose_best(
    members: Members, past: PastTrials, model: Model, exploration: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The member with the largest randomised upper confidence bound, as far as climbing finds it."""
    kappa = exploration * abs(rng.standard_normal())
    scalar = _make_scalarisation(past, rng)
    measured = members.look(past.rows)
    level = scalar(model.bounds(measured, 0.0))
    level[~past.feasible] = -np.inf
    incumbent = level.max()

    def score(rows: Rows) -> Array:
        view = members.look(rows)
        gain = scalar(model.bounds(view, kappa)) - incumbent
        if model.limits:
            chance = np.maximum(model.probability(view), 1e-9)
            if np.isfinite(incumbent):
                gain = np.where(gain > 0, gain * chance, gain / chance)
            else:  # nothing meets the limits yet: look for what does
                gain = np.log(chance)
        beyond = view.facts.excess > 0
        gain[beyond] = -1e12 * (1 + view.facts.excess[beyond])
        gain[[row.tobytes() in past.seen for row in rows]] = -np.inf
        return np.asarray(gain)

    encoding = members.encoding
    order = np.argsort(-level, kind="stable")
    pool = np.unique(
        np.concatenate(
            [
                *(encoding.list_neighbours(past.rows[i]) for i in order[:PARENTS]),
                encoding.cross_rows(past.rows[order[: 2 * PARENTS]], DRAWS // 2, rng),
                encoding.random(DRAWS // 2, rng),
            ]
        ),
        axis=0,
    )
    return _climb_pool(members, score, pool, past.seen)


def _climb_pool(
    members: Members, score: Callable[[Rows], Array], pool: Rows, seen: frozenset[bytes]
) -> NDArray[np.int64]:
    """The best of the pool, improved one level at a time; a network that was never proposed, where one is left."""
    values = score(pool)
    found = {row.tobytes(): (value, row) for row, value in zip(pool, values, strict=True)}
    climbers = [(values[i], pool[i]) for i in np.argsort(-values, kind="stable")[:CLIMBERS]]
    for _ in range(STEPS):
        moves = [members.encoding.list_neighbours(row) for _, row in climbers]
        scores = np.split(score(np.concatenate(moves)), np.cumsum([len(m) for m in moves])[:-1])
        climbed = {}
        for (value, _), steps, gains in zip(climbers, moves, scores, strict=True):
            best = int(np.argmax(gains))
            if gains[best] > value and steps[best].tobytes() not in found:  # where another climber was, it goes on
                climbed[steps[best].tobytes()] = (gains[best], steps[best])
        if not climbed:
            break
        found |= climbed
        climbers = list(climbed.values())
    for value, row in sorted(found.values(), key=lambda item: -item[0]):
        if value == -np.inf:
            break
        canonical = members.canonical(row)
        if canonical.tobytes() not in seen:
            return canonical
    _, row = max(found.values(), key=lambda item: item[0])  # everything near has been proposed
    return np.asarray(row)


def _make_scalarisation(past: PastTrials, rng: np.random.Generator) -> Callable[[Array], Array]:
    """One number of the values, larger being better: itself, or the least along a random direction of the front."""
    count = past.values.shape[1]
    if count == 1:
        return lambda values: values[:, 0].copy()
    inside = past.values[past.feasible] if past.feasible.any() else past.values
    front = inside[non_dominated(inside, ("maximize",) * count)]
    low, high = inside.min(axis=0), front.max(axis=0)  # not the front's worst: its ends could never grow
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1e-12))
    low = low - 0.1 * width
    direction = np.abs(rng.standard_normal(count)) + 1e-3
    direction /= np.linalg.norm(direction)
    return lambda values: np.asarray(((values - low) / width / direction).min(axis=1))
