"""Model-based search: a Gaussian process over decisions and costs proposes, a local search picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ...space.errors import check_int, check_number
from ..remembered import MOST, remember
from .history import find_rows, read_history
from .member_facts import Known, add_features
from .predicting.acquisition import DEFAULT_EXPLORATION, MOST_PENDING, Model, propose_best, propose_near, propose_spread
from .predicting.members import Members, PastTrials
from .ranked_sampler import SharedSpaceSampler

if TYPE_CHECKING:
    from .predicting.gaussian import GaussianProcess, Kernel

Array = NDArray[np.float64]

#: The kernel is learned again whenever the trials have grown by this factor, from the youngest ``LEARN`` of them.
GROWTH = 1.15
LEARN = 256
#: Evaluations that a model is conditioned on: the better half and the younger half of more. Their cube is time.
ACTIVE = 320
#: How far below the median of the initial design values of several objectives are told apart (:func:`_fence_values`).
FRONT_DEPTH = 4.0
#: As long as nothing was evaluated, so many of the youngest trials say what the space is.
YOUNGEST = 256


class Predictor(SharedSpaceSampler):
    """What Gaussian processes expect to gain, maximised by local search, as an Optuna sampler.

    A Gaussian process (:mod:`effnas.search.algorithms.predicting.gaussian`) learns each objective from the decisions
    and from what is ``known`` of a network before it is trained: the logarithms of its costs are features, a known
    factor (the reward's ``(MACs / T)^w``) is divided out, an objective that is a cost is not learned at all. Members
    beyond a known limit are never proposed; for limits that only an evaluation checks, what is to be gained is
    multiplied by the probability of meeting them.

    With one objective, each trial draws how far it trusts the model (Berk et al. 2020, *Randomised Gaussian process
    upper confidence bound*): it maximises ``mean + κ × standard deviation``, κ = ``exploration`` × abs(normal), by
    climbing from the best networks so far, their crossings and random ones. With two or three, it maximises the
    hypervolume that a network is expected to add to the front (:mod:`effnas.search.algorithms.predicting.improvement`),
    by climbing from the front. With more, it maximises the least of the bounds over a random direction, whose mean over
    directions is the hypervolume (Golovin and Zhang 2020, *Random hypervolume scalarizations*).

    The first trials are spread out: each is, of random members, the farthest from those before. Running trials count as
    evaluated with the model's mean, so that parallel ones differ, and no network is proposed twice. Numeric parameters
    are searched on 33 levels at most; a parameter that trials do not share is drawn at random.

    A trial depends on the seed, its rank (:func:`effnas.search.seeded.trial_rank`) and the history, nothing else.

    Args:
        startup: trials of the initial design.
        exploration: how large κ may be; 0: what the model takes to be best. With two or three objectives
            the model's deviation counts ``exploration`` / 3 times.
        known: facts about members; None: the decisions are all there is to learn from.
        prior: parameters by name of what is known to be good: the first trial, and most of the initial design is around
            it; then it fades (:class:`effnas.search.algorithms.prior.Prior`).
        seed: None: another search each time.
        features: proxies and counts (:data:`~effnas.evaluate.zero_cost.proxies.PROXIES`) that the model sees too; they
            need ``known``.

    Raises:
        UserError: a setting is outside its range.
    """

    def __init__(
        self,
        startup: int = 10,
        exploration: float = DEFAULT_EXPLORATION,
        known: Known | None = None,
        prior: Mapping[str, Any] | None = None,
        seed: int | None = None,
        features: Sequence[str] = (),
    ) -> None:
        check_int("startup", startup, 1)
        check_number("exploration", exploration, 0, 100)
        super().__init__(seed, youngest=YOUNGEST, include_pruned=False, prior=prior)
        self._startup = startup
        self._exploration = exploration
        self._known = add_features(known, features)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the trials with values have in common (before there are some: those of any state)."""
        shared = super().infer_relative_search_space(study, trial)
        if not shared and self._known is not None:  # the first trial: no limit should be broken by it either
            space = {name: d for name, d in sorted(self._known.distributions.items()) if not d.single()}
            if self._known_good is not None or self._make_members(space, study).limited:
                return dict(space)
        return shared

    def propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """The member that maximises the acquisition; at first, one far from the others."""
        members = self._make_members(search_space, study)
        past = members.past(read_history(study, trial), find_rows(study, members.encoding, trial.number))
        prior = self.make_prior(members.encoding)
        if prior is not None and prior.is_refuted(past.rows, past.values):
            prior = None
        if len(past.values) < self._startup:
            if prior is not None and (not past.keys or prior.is_noticed(rng)):
                return members.encoding.params(propose_near(members, past, prior, rng))
            return members.encoding.params(propose_spread(members, past, rng))
        if prior is not None and not prior.is_noticed(rng):
            prior = None
        from ...evaluate.machine.device import torch_threads  # a search starts without torch

        since = len(past.values) - self._startup
        with torch_threads(1):
            model = self._fit_model(study, past, members)
            return members.encoding.params(propose_best(members, past, model, self._exploration, rng, prior, since))

    def estimates(self, study: Study) -> dict[int, float]:
        """The model's mean of the first objective's noise-free value, for each trial with values, by its number.

        What a network named the best should be judged by where evaluations are noisy: the luckiest of many is not the
        best. Empty before the initial design is complete.
        """
        trials = read_history(study)
        complete = [t.number for t in trials if t.state == TrialState.COMPLETE]
        space = self.find_evaluated_space(study)
        if len(complete) <= self._startup or not space:
            return {}
        members = self._make_members(space, study)
        past = members.read_apart(trials)
        past = replace(past, pending=past.pending[:0])  # what runs tells nothing
        from ...evaluate.machine.device import torch_threads

        with torch_threads(1):
            model = self._fit_model(study, past, members, active=MOST)
            parts = [past.rows[start : start + MOST] for start in range(0, len(past.rows), MOST)]
            means = np.concatenate([model.bounds(members.look(rows), 0.0)[:, 0] for rows in parts]) * members.signs[0]
        by_row = {row.tobytes(): float(mean) for row, mean in zip(past.rows, means, strict=True)}
        return {number: by_row[past.keys[number]] for number in complete if past.keys.get(number) in by_row}

    def _make_members(self, space: Mapping[str, BaseDistribution], study: Study) -> Members:
        known = self._known
        if known is not None and not all(isinstance(d, CategoricalDistribution) for d in space.values()):
            known = None
        key = ("members", study.study_name, repr(space))  # the repr: 1 and true are equal, and other choices
        return self._cache.get(key, lambda: Members(space, known, study.directions))

    def _fit_model(self, study: Study, past: PastTrials, members: Members, active: int = ACTIVE) -> Model:
        features = members.look(past.rows).features
        objectives = self._list_objectives(past, past, members)
        keep = _choose_active(past, active)
        # a kernel is learned from the last trials before a milestone, of which a long study shows few
        lesson = self._make_lesson(study, members)
        taught = past if lesson is None else lesson
        seen = features if lesson is None else members.look(lesson.rows).features
        targets = objectives if lesson is None else self._list_objectives(lesson, past, members)

        def fit(what: tuple[Any, ...], known: _Known, shown: _Known, chosen: NDArray[np.int64]) -> GaussianProcess:
            kernel = self._learn_kernel(study, members, what, known, whole=lesson is not None)
            return _condition(kernel, shown, chosen)

        processes = {
            j: fit(
                ("objective", j),
                _Known(taught.numbers, seen, targets[j], taught.spreads),
                _Known(past.numbers, features, values, past.spreads),
                keep,
            )
            for j, values in objectives.items()
        }
        limits = {}
        for name, (numbers, rows, excess) in past.limits.items():
            shown = _Known(numbers, members.look(rows).features, excess, np.zeros(len(excess)))
            known = shown
            if lesson is not None and name in lesson.limits:
                numbers, rows, excess = lesson.limits[name]
                known = _Known(numbers, members.look(rows).features, excess, np.zeros(len(excess)))
            young = np.arange(max(0, len(shown.values) - active), len(shown.values))
            limits[name] = fit(("limit", name), known, shown, young)
        if len(past.pending):
            waiting = members.look(past.pending[-MOST_PENDING:]).features
            processes = {j: process.believe(waiting) for j, process in processes.items()}
        return Model(processes, limits)

    def _list_objectives(self, past: PastTrials, whole: PastTrials, members: Members) -> dict[int, Array]:
        """What is to be learned of each objective that needs an evaluation; ``whole`` has the initial design."""
        facts = members.look(past.rows).facts
        depth = 1.0 if past.values.shape[1] == 1 else FRONT_DEPTH
        exact = members.look(whole.rows).facts.exact
        return {
            j: _fence_values(past.values[:, j], whole.values[: self._startup, j], depth) / facts.factors[:, j]
            for j in range(past.values.shape[1])
            if not np.isfinite(exact[:, j]).all()
        }

    def _make_lesson(self, study: Study, members: Members) -> PastTrials | None:
        """Of a long study, the last trials before the milestone; None: all are shown."""
        memory = remember(study)
        if not memory.is_long:
            return None
        trials = memory.list_earliest(_find_milestone(memory.finished, self._startup), 2 * LEARN)
        key = ("lesson", study.study_name, repr(members.encoding.space), *(trial.number for trial in trials))
        lesson = self._cache.get(key, lambda: members.read_apart(trials))
        return lesson if len(lesson.values) >= self._startup else None  # nearly all have failed

    def _learn_kernel(
        self, study: Study, members: Members, what: tuple[Any, ...], known: _Known, *, whole: bool
    ) -> Kernel:
        """By the trials before the last milestone, or by the ``whole`` of those that are given."""
        from .predicting.gaussian import learn_kernel

        count = len(known.values) if whole else _find_milestone(len(known.values), self._startup)
        bends = np.zeros(known.features.shape[1], np.bool_)
        bends[: len(members.encoding.bends)] = members.encoding.bends
        # estimates may change while numbers stay
        estimated = known.values[:count].tobytes() if known.spreads.any() else b""

        def learn() -> Kernel:
            young = slice(max(0, count - LEARN), count)
            target = known.values[young] - known.values[young].mean()
            width = target.std() or 1.0
            spreads = known.spreads[young] / width
            return learn_kernel(known.features[young], target / width, bends, spreads=spreads)

        return self._cache.get((study.study_name, *what, known.numbers[:count], estimated), learn)


class _Known(NamedTuple):
    """What there is to learn one thing from: numbers of trials, their features, values and spreads."""

    numbers: tuple[int, ...]
    features: Array
    values: Array
    spreads: Array


def _condition(kernel: Kernel, known: _Known, keep: NDArray[np.int64]) -> GaussianProcess:
    from .predicting.gaussian import GaussianProcess

    return GaussianProcess(kernel, known.features[keep], known.values[keep], known.spreads[keep])


def _find_milestone(count: int, startup: int) -> int:
    """The last number of trials, at most ``count``, at which a kernel is learned."""
    last = startup
    while (following := int(np.ceil(last * GROWTH))) <= count:
        last = following
    return min(last, count)


def _fence_values(values: Array, first: Array, depth: float) -> Array:
    """Without the depth of failures: at most ``depth`` times as far below the ``first`` ones' median as the best above.

    What is as bad as that need not be told apart, and one diverged network must not make all differences between the
    others look like noise. But a front of accuracy and cost has its cheap end below the median.
    """
    middle, best = float(np.median(first)), float(first.max())
    return np.maximum(values, middle - depth * (best - middle)) if best > middle else values


def _choose_active(past: PastTrials, count: int) -> NDArray[np.int64]:
    total = len(past.values)
    if total <= count:
        return np.arange(total)
    # several objectives: each has its share of the better half
    best = [np.argsort(-column, kind="stable")[: count // 2 // past.values.shape[1]] for column in past.values.T]
    return np.unique(np.concatenate([*best, np.arange(total - count // 2, total)]))
