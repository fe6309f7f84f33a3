"""Model-based search: a Gaussian process over decisions and costs proposes, a local search picks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from ..evaluate.device import torch_threads
from ..space.errors import check_int, check_number
from .encoding import Encoding, Rows
from .feasible import descend
from .gaussian import GaussianProcess, Kernel, learn_kernel
from .history import common, history, loss_signs
from .known import Facts, Known
from .objective import non_dominated
from .sampler import RankedSampler
from .seeded import Memory, trial_rank

Array = NDArray[np.float64]

#: The kernel is learned anew whenever the trials have grown by this factor, from the youngest ``LEARN`` of them.
GROWTH = 1.15
LEARN = 256
#: Evaluations that a model is conditioned on: the better half and the younger half of more. Their cube is time.
ACTIVE = 320
#: Random members that are compared for the initial design and for the scale of the known features.
DRAWS = 256
#: Of the local search: parents whose neighbours it looks at, climbers, and their steps.
PARENTS, CLIMBERS, STEPS = 12, 10, 8


class Predictor(RankedSampler):
    """Randomised upper confidence bounds of Gaussian processes, maximised by local search, as an Optuna sampler.

    A Gaussian process (:mod:`effnas.search.gaussian`) learns each objective from the decisions and from what is
    ``known`` of a network before it is trained: the logarithms of its costs are features, a known factor (the reward's
    ``(MACs / T)^w``) is divided out, an objective that is a cost is not learned at all. Each trial draws how far it
    trusts the model (Berk et al. 2020, *Randomised Gaussian process upper confidence bound*): it maximises ``mean + κ ×
    standard deviation``, κ = ``exploration`` × abs(normal), by climbing from the best networks so far, their crossings
    and random ones. With several objectives it maximises the least of them over a random direction, whose mean over
    directions is the hypervolume (Golovin and Zhang 2020, *Random hypervolume scalarizations*). Members beyond a known
    limit are never proposed; for limits that only an evaluation checks, what is to be gained is multiplied by the
    probability of meeting them.

    The first trials are spread out: each is, of random members, the farthest from those before. Running trials count as
    evaluated with the model's mean, so that parallel ones differ, and no network is proposed twice. Numeric parameters
    are searched on 33 levels at most; a parameter that trials do not share is drawn at random.

    A trial depends on the seed, its rank (:func:`effnas.search.seeded.trial_rank`) and the history, nothing else.

    Args:
        startup: trials of the initial design.
        exploration: how large κ may be; 0: what the model takes to be best.
        known: facts about members; None: the decisions are all there is to learn from.
        seed: None: another search each time.

    Raises:
        UserError: a setting is outside its range.
    """

    def __init__(
        self, startup: int = 10, exploration: float = 3.0, known: Known | None = None, seed: int | None = None
    ) -> None:
        check_int("startup", startup, 1)
        check_number("exploration", exploration, 0, 100)
        super().__init__(seed)
        self._startup = startup
        self._exploration = exploration
        self._known = known
        self._memory = Memory()
        self._space = IntersectionSearchSpace()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the trials with values have in common (before there are some: those of any state)."""
        shared = {name: d for name, d in self._space.calculate(study).items() if not d.single()}
        shared = shared or common([t for t in history(study, trial) if t.distributions][-DRAWS:])
        if not shared and self._known is not None:  # the first trial: no limit should be broken by it either
            space = {name: d for name, d in sorted(self._known.distributions.items()) if not d.single()}
            if self._members(space, study).limited:
                return dict(space)
        return shared

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The member that maximises the acquisition; at first, one far from the others."""
        if not search_space:
            return {}
        rng = np.random.default_rng((self._seed, trial_rank(study, trial)))
        members = self._members(search_space, study)
        past = _Past.of(history(study, trial), members)
        with torch_threads(1):
            if len(past.values) < self._startup:
                return members.encoding.params(_spread(members, past, rng))
            model = self._model(study, past, members)
            return members.encoding.params(_propose(members, past, model, self._exploration, rng))

    def estimates(self, study: Study) -> dict[int, float]:
        """The model's mean of the first objective's noise-free value, for each trial with values, by its number.

        What a network named the best should be judged by where evaluations are noisy: the luckiest of many is not the
        best. Empty before the initial design is complete.
        """
        trials = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        space = {name: d for name, d in self._space.calculate(study).items() if not d.single()}
        if len(trials) <= self._startup or not space:
            return {}
        members = self._members(space, study)
        past = _Past.of(trials, members)
        with torch_threads(1):
            model = self._model(study, past, members, active=len(past.values))
            means = model.bounds(members.look(past.rows), 0.0)[:, 0] * members.signs[0]
        by_row = {row.tobytes(): float(mean) for row, mean in zip(past.rows, means, strict=True)}
        return {seen.number: by_row[seen.key] for seen in members.seen(trials) if seen.key in by_row}

    def _members(self, space: Mapping[str, BaseDistribution], study: Study) -> _Members:
        known = self._known
        if known is not None and not all(isinstance(d, CategoricalDistribution) for d in space.values()):
            known = None
        signs = -loss_signs(study.directions)
        key = ("members", study.study_name, repr(space))  # the repr: 1 and true are equal, and other choices
        return self._memory.get(key, lambda: _Members(Encoding(space), known, signs))

    def _model(self, study: Study, past: _Past, members: _Members, active: int = ACTIVE) -> _Model:
        view = members.look(past.rows)
        learned = [
            (j, _fenced(past.values[:, j], self._startup) / view.facts.factors[:, j])
            for j in range(past.values.shape[1])
            if not (np.isfinite(view.facts.exact[:, j])).all()
        ]
        keep = _active(past, active)

        def last(count: int) -> NDArray[np.int64]:
            return np.arange(max(0, count - active), count)

        processes = {
            j: self._process(study, members, ("objective", j), past.numbers, view.features, values, keep)
            for j, values in learned
        }
        limits = {
            name: self._process(
                study, members, ("limit", name), numbers, members.look(rows).features, excess, last(len(rows))
            )
            for name, (numbers, rows, excess) in past.limits.items()
        }
        if len(past.pending):
            waiting = members.look(past.pending).features
            processes = {j: process.believing(waiting) for j, process in processes.items()}
        return _Model(processes, limits)

    def _process(
        self,
        study: Study,
        members: _Members,
        what: tuple[Any, ...],
        numbers: tuple[int, ...],
        features: Array,
        values: Array,
        keep: NDArray[np.int64],
    ) -> GaussianProcess:
        count = _milestone(len(values), self._startup)
        bends = np.zeros(features.shape[1], np.bool_)
        bends[: len(members.encoding.bends)] = members.encoding.bends

        def learn() -> Kernel:
            young = slice(max(0, count - LEARN), count)
            target = values[young] - values[young].mean()
            return learn_kernel(features[young], target / (target.std() or 1.0), bends)

        kernel = self._memory.get((study.study_name, *what, numbers[:count]), learn)
        return GaussianProcess(kernel, features[keep], values[keep])


@dataclass(frozen=True)
class _Seen:
    """A trial: its row (and the bytes of it), its values where they are finite, its excess over learned limits."""

    number: int
    row: NDArray[np.int64]
    key: bytes
    finished: bool
    values: tuple[float, ...] | None
    feasible: bool
    excess: dict[str, float]

    @classmethod
    def of(cls, trial: FrozenTrial, members: _Members) -> _Seen:
        row = members.encoding.rows([trial.params])[0]
        constraints, finished = dict(trial.constraints), trial.state.is_finished()
        usable = trial.state == TrialState.COMPLETE and all(map(math.isfinite, trial.values))
        return cls(
            number=trial.number,
            row=row,
            key=row.tobytes(),
            finished=finished,
            values=tuple(trial.values) if usable else None,
            feasible=all(value <= 0 for value in constraints.values()),
            excess={
                name: value
                for name, value in constraints.items()
                if finished and name not in members.limits and math.isfinite(value)
            },
        )


@dataclass(frozen=True)
class _View:
    """Members as the models see them."""

    features: Array
    facts: Facts


class _Members:
    """The encoded space and what is known of its members.

    ``signs`` are 1 for an objective that is maximised, -1 for one that is minimised: inside, larger is better.
    """

    def __init__(self, encoding: Encoding, known: Known | None, signs: Array) -> None:
        self.encoding = encoding
        self.known = known
        self.signs = signs
        self.limited = False
        self._finished: dict[int, _Seen] = {}
        self._center = self._width = np.zeros(0)
        if known is not None:
            drawn = known.facts(encoding.columns(encoding.random(DRAWS, np.random.default_rng(0))))
            width = drawn.features.std(axis=0)
            self._center, self._width = drawn.features.mean(axis=0), np.where(width > 0, width, 1.0)
            self.limited = bool((drawn.excess > -1).any())

    def seen(self, trials: list[FrozenTrial]) -> list[_Seen]:
        """The trials that have these parameters, as far as they matter; finished ones are looked at once."""
        found = []
        for t in trials:
            seen = self._finished.get(t.number)
            if seen is None:
                if not all(t.distributions.get(name) == space for name, space in self.encoding.space.items()):
                    continue
                seen = _Seen.of(t, self)
                if t.state.is_finished():
                    self._finished[t.number] = seen
            found.append(seen)
        return found

    @property
    def limits(self) -> tuple[str, ...]:
        return () if self.known is None else self.known.limits

    def look(self, rows: Rows) -> _View:
        features = self.encoding.features(rows)
        if self.known is None:
            shape = (len(rows), len(self.signs))
            facts = Facts(np.zeros((len(rows), 0)), np.full(len(rows), -1.0), np.full(shape, np.nan), np.ones(shape))
            return _View(features, facts)
        facts = self.known.facts(self.encoding.columns(rows))
        facts = replace(facts, exact=facts.exact * self.signs)
        return _View(np.hstack([features, (facts.features - self._center) / self._width]), facts)

    def canonical(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.known is None:
            return row
        params = self.known.canonical(self.encoding.params(row))
        return np.asarray(self.encoding.rows([params])[0])


@dataclass(frozen=True)
class _Past:
    """What the trials say, larger values being better.

    Args:
        rows, values, numbers: of the evaluations, shapes (n, d) and (n, m), oldest first; a result that was taken over
            from an equal trial is not an evaluation of its own.
        feasible: whether no limit was broken, shape (n,).
        limits: excess over each limit that evaluations check: numbers of trials, rows, ``cost / limit - 1``.
        pending: rows of running trials.
        seen: rows of all trials.
    """

    rows: Rows
    values: Array
    numbers: tuple[int, ...]
    feasible: NDArray[np.bool_]
    limits: dict[str, tuple[tuple[int, ...], Rows, Array]]
    pending: Rows
    seen: frozenset[bytes]

    @classmethod
    def of(cls, trials: list[FrozenTrial], members: _Members) -> _Past:
        trials_seen = members.seen(trials)
        complete: dict[Any, _Seen] = {}
        limits: dict[str, dict[tuple[bytes, float], _Seen]] = {}
        for seen in trials_seen:
            if seen.values is not None:
                complete.setdefault((seen.key, seen.values), seen)
            for name, excess in seen.excess.items():
                limits.setdefault(name, {}).setdefault((seen.key, excess), seen)
        chosen, width = list(complete.values()), len(members.encoding.names)

        def rows(some: Iterable[_Seen]) -> Rows:
            return np.array([seen.row for seen in some], np.int64).reshape(-1, width)

        return cls(
            rows=rows(chosen),
            values=np.array([seen.values for seen in chosen]).reshape(-1, len(members.signs)) * members.signs,
            numbers=tuple(seen.number for seen in chosen),
            feasible=np.array([seen.feasible for seen in chosen], np.bool_),
            limits={
                name: (tuple(s.number for s in at.values()), rows(at.values()), np.array([excess for _, excess in at]))
                for name, at in limits.items()
            },
            pending=rows(seen for seen in trials_seen if not seen.finished),
            seen=frozenset(seen.key for seen in trials_seen),
        )


@dataclass(frozen=True)
class _Model:
    """The learned objectives by column, and the limits that only evaluations check."""

    processes: dict[int, GaussianProcess]
    limits: dict[str, GaussianProcess]

    def bounds(self, view: _View, kappa: float) -> Array:
        """Upper confidence bounds of the values, shape (n, m); what is exact has no more than itself."""
        values = view.facts.exact.copy()
        for column, process in self.processes.items():
            mean, deviation = process.predict(view.features)
            values[:, column] = (mean + kappa * deviation) * view.facts.factors[:, column]
        return values

    def probability(self, view: _View) -> Array:
        """Of meeting all limits that only evaluations check, shape (n,)."""
        chance = np.ones(len(view.features))
        for process in self.limits.values():
            mean, deviation = process.predict(view.features)
            chance *= ndtr(-mean / deviation)
        return chance


def _milestone(count: int, startup: int) -> int:
    """The last number of trials, at most ``count``, at which a kernel is learned."""
    last = startup
    while (following := int(np.ceil(last * GROWTH))) <= count:
        last = following
    return min(last, count)


def _fenced(values: Array, startup: int) -> Array:
    """Without the depth of failures: of the initial design, as far below the median as the best is above it.

    What is as bad as that need not be told apart, and one diverged network must not make all differences between the
    others look like noise.
    """
    middle, best = float(np.median(values[:startup])), float(values[:startup].max())
    return np.maximum(values, 2 * middle - best) if best > middle else values


def _active(past: _Past, count: int) -> NDArray[np.int64]:
    total = len(past.values)
    if total <= count:
        return np.arange(total)
    # several objectives: each has its share of the better half
    best = [np.argsort(-column, kind="stable")[: count // 2 // past.values.shape[1]] for column in past.values.T]
    return np.unique(np.concatenate([*best, np.arange(total - count // 2, total)]))


def _spread(members: _Members, past: _Past, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of random members within the limits, the farthest from all others so far."""
    drawn = members.encoding.random(DRAWS, rng)
    view = members.look(drawn)
    inside = view.facts.excess <= 0
    if not inside.any():
        nearest = int(np.argmin(view.facts.excess))
        row, _ = descend(
            drawn[nearest],
            float(view.facts.excess[nearest]),
            members.encoding.sizes,
            lambda rows: members.look(rows).facts.excess,
        )
        drawn = np.concatenate([row[None], members.encoding.neighbours(row)])
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


def _propose(
    members: _Members, past: _Past, model: _Model, exploration: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    kappa = exploration * abs(rng.standard_normal())
    scalar = _scalarisation(past, rng)
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
                *(encoding.neighbours(past.rows[i]) for i in order[:PARENTS]),
                encoding.crossed(past.rows[order[: 2 * PARENTS]], DRAWS // 2, rng),
                encoding.random(DRAWS // 2, rng),
            ]
        ),
        axis=0,
    )
    return _climb(members, score, pool, past.seen)


def _climb(members: _Members, score: Callable[[Rows], Array], pool: Rows, seen: frozenset[bytes]) -> NDArray[np.int64]:
    """The best of the pool, improved one level at a time; a network that was never proposed, where one is left."""
    values = score(pool)
    found = {row.tobytes(): (value, row) for row, value in zip(pool, values, strict=True)}
    climbers = [(values[i], pool[i]) for i in np.argsort(-values, kind="stable")[:CLIMBERS]]
    for _ in range(STEPS):
        moves = [members.encoding.neighbours(row) for _, row in climbers]
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


def _scalarisation(past: _Past, rng: np.random.Generator) -> Callable[[Array], Array]:
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
