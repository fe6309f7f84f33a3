"""Which member to evaluate next: far from the others at first, then where most can be gained."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ....evaluate.non_dominated import non_dominated
from ...encoding import Rows
from ...feasible import descend_to_limits
from ..prior import Prior
from .improvement import divide_region
from .members import Members, MemberView, PastTrials

if TYPE_CHECKING:
    from .gaussian import GaussianProcess

Array = NDArray[np.float64]

#: Random members that are compared for the initial design; half as many, and as many crossings, begin a climb.
DRAWS = 256
#: The most objectives whose front is divided into boxes: their number grows with the front's size to the power m / 2.
MOST_BOXED = 3
#: At which the expected hypervolume is what the model expects.
DEFAULT_EXPLORATION = 3.0
#: The reference point of the hypervolume lies below the worst value of each objective, by this share of their range.
MARGIN = 0.1
#: Running trials that a proposal takes notice of, the youngest: the model has chosen those, the oldest not.
MOST_PENDING = 320
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

    def predict(self, view: MemberView) -> tuple[Array, Array]:
        """Means and standard deviations of the values, each of shape (n, m); what is exact has no deviation."""
        means, deviations = view.facts.exact.copy(), np.zeros_like(view.facts.exact)
        for column, process in self.processes.items():
            mean, deviation = process.predict(view.features)
            factor = view.facts.factors[:, column]
            means[:, column], deviations[:, column] = mean * factor, deviation * np.abs(factor)
        return means, deviations

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
    parts = (seen[start : start + DRAWS] for start in range(0, len(seen), DRAWS))  # all at once may not fit the memory
    distance = np.min([((features[:, None] - part[None]) ** 2).sum(axis=2).min(axis=1) for part in parts], axis=0)
    return members.canonical(drawn[int(np.argmax(distance))])


def propose_near(members: Members, past: PastTrials, prior: Prior, rng: np.random.Generator) -> NDArray[np.int64]:
    """The known member, or where it breaks a limit, the nearest one that does not; then new ones drawn around it."""
    drawn = prior.draw(DRAWS, rng)
    excess = members.look(drawn).facts.excess
    row, _ = descend_to_limits(
        drawn[0], float(excess[0]), members.encoding.sizes, lambda rows: members.look(rows).facts.excess
    )
    for candidate in (row, *drawn[excess <= 0]):
        if (canonical := members.canonical(candidate)).tobytes() not in past.seen:
            return canonical
    return propose_spread(members, past, rng)


def propose_best(
    members: Members,
    past: PastTrials,
    model: Model,
    exploration: float,
    rng: np.random.Generator,
    prior: Prior | None = None,
    since: int = 0,
) -> NDArray[np.int64]:
    """The member with the largest acquisition, as far as climbing finds it.

    Of one objective, that is a randomised upper confidence bound; of two or three, the expected improvement of the
    hypervolume; of more, the bound along a random direction.

    Args:
        members: of the space.
        past: what the trials say.
        model: of the objectives and of the limits that only evaluations check.
        exploration: how large the factor of the bound's deviation may be; of the expectation's, 3 times that.
        rng: of the trial.
        prior: what the trial takes notice of; None: nothing.
        since: evaluations after the initial design, by which the prior has faded.
    """
    measure = _measure_volume if 2 <= past.values.shape[1] <= MOST_BOXED else _measure_bound
    gain_of, parents = measure(members, past, model, exploration, rng)
    known_inside = past.feasible.any()
    power = 0.0 if prior is None else prior.fade(since)

    def score(rows: Rows) -> Array:
        view = members.look(rows)
        gain = gain_of(view)
        if model.limits:
            chance = np.maximum(model.probability(view), 1e-9)
            if known_inside:
                gain = np.where(gain > 0, gain * chance, gain / chance)
            else:  # nothing meets the limits yet: look for what does
                gain = np.log(chance)
        if prior is not None and power:
            weight = np.exp(power * prior.log_density(rows))
            gain = np.where(gain > 0, gain * weight, gain / weight)
        beyond = view.facts.excess > 0
        gain[beyond] = -1e12 * (1 + view.facts.excess[beyond])
        gain[[row.tobytes() in past.seen for row in rows]] = -np.inf
        return np.asarray(gain)

    encoding = members.encoding
    pool = np.unique(
        np.concatenate(
            [
                *(encoding.list_neighbours(past.rows[i]) for i in parents.widened),
                encoding.cross_rows(past.rows[parents.crossed], DRAWS // 2, rng),
                encoding.random(DRAWS // 2, rng),
                *([prior.draw(DRAWS // 2, rng)] if prior is not None and power else []),
            ]
        ),
        axis=0,
    )
    return _climb_pool(members, score, pool, past.seen)


class _Parents(NamedTuple):
    """Evaluated members whose neighbours are looked at, and those that are crossed: their numbers."""

    widened: NDArray[np.int64]
    crossed: NDArray[np.int64]


def _measure_bound(
    members: Members, past: PastTrials, model: Model, exploration: float, rng: np.random.Generator
) -> tuple[Callable[[MemberView], Array], _Parents]:
    """By how much the upper confidence bound of each member exceeds the best so far."""
    kappa = exploration * abs(rng.standard_normal())
    scalar = _make_scalarisation(past, rng)
    level = scalar(model.bounds(members.look(past.rows), 0.0))
    level[~past.feasible] = -np.inf
    incumbent = level.max()
    order = np.argsort(-level, kind="stable")
    return (
        lambda view: scalar(model.bounds(view, kappa)) - incumbent,
        _Parents(order[:PARENTS], order[: 2 * PARENTS]),
    )


def _measure_volume(
    members: Members, past: PastTrials, model: Model, exploration: float, rng: np.random.Generator
) -> tuple[Callable[[MemberView], Array], _Parents]:
    """How much hypervolume each member is expected to add to the front of the means of what was evaluated.

    What the model does not know is worth what it may turn out to be, with the model's deviation times ``exploration``
    / 3, so that the default is the expectation itself.
    """
    means, _ = model.predict(members.look(past.rows))
    numbers = np.flatnonzero(past.feasible) if past.feasible.any() else np.arange(len(means))
    inside = means[numbers]
    low, high = inside.min(axis=0), inside.max(axis=0)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1e-12))
    reached = inside
    if len(past.pending):  # what they are expected to add is not to be added again
        reached = np.concatenate([inside, model.predict(members.look(past.pending[-MOST_PENDING:]))[0]])
    boxes = divide_region((reached - high) / width, np.full(len(width), -1 - MARGIN))
    front = numbers[non_dominated(inside, ("maximize",) * inside.shape[1])]
    widened = front if len(front) <= 2 * PARENTS else np.sort(rng.choice(front, 2 * PARENTS, replace=False))

    trust = exploration / DEFAULT_EXPLORATION

    def gain_of(view: MemberView) -> Array:
        mean, deviation = model.predict(view)
        return boxes.expect_gain((mean - high) / width, deviation * trust / width)

    return gain_of, _Parents(widened, front)


def _climb_pool(
    members: Members, score: Callable[[Rows], Array], pool: Rows, seen: Container[bytes]
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
