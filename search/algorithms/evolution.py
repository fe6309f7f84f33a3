"""Regularised evolution (Real et al. 2019, *Regularized Evolution for Image Classifier Architecture Search*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...space.errors import check_int, check_number
from ..encoding import Encoding
from .history import draw_value, find_parents, find_proposed, find_shared_space, make_sort_keys, read_history
from .ranked_sampler import RankedSampler


class Evolution(RankedSampler):
    """Ageing evolution as an Optuna sampler (algorithm 1 of the paper), for any study and any search space.

    The population is the ``population`` youngest completed trials: the oldest dies when a new one completes, however
    good it was. Each new trial is a mutated copy of the winner of a tournament. In a study of several objectives the
    tournament goes by front, then by crowding distance (Deb et al. 2002, NSGA-II); where Optuna's constraints are set,
    the lesser violation goes first. Failed, pruned and running trials have no offspring; but as long as no trial has
    completed, the pruned ones that violate constraints do, so that a search with tight limits finds its way to them.

    A trial depends on the seed, its rank (:func:`effnas.search.seeded.trial_rank`) and the history, nothing else.

    Args:
        population: P of the paper.
        tournament: S of the paper: how many of the population compete to be the parent.
        startup: trials drawn at random first; None: ``population``.
        repeat_prob: a mutation changes one decision, and with this probability one more, and so on; the paper's is 0.
        attempts: at most this many other mutations where a child was proposed before, of growing distance.
        prior: parameters by name of what is known to be good: the first trial, and most of the random ones are around
            it (:class:`effnas.search.algorithms.prior.Prior`).
        seed: None: another search each time.

    Raises:
        UserError: a setting is outside its range.
    """

    def __init__(
        self,
        population: int = 20,
        tournament: int = 10,
        startup: int | None = None,
        repeat_prob: float = 0.0,
        attempts: int = 100,
        prior: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        check_int("population", population, 1)
        check_int("tournament", tournament, 1, population)
        if startup is not None:
            check_int("startup", startup, 1)
        check_number("repeat_prob", repeat_prob, 0, 1, open_high=True)
        check_int("attempts", attempts, 0)
        super().__init__(seed, prior)
        self._population = population
        self._tournament = tournament
        self._startup = population if startup is None else startup
        self._repeat_prob = repeat_prob
        self._attempts = attempts

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the possible parents have in common (before there is one: the youngest trials of any state)."""
        trials = read_history(study, trial)
        return find_shared_space(
            self._find_living(trials) or [t for t in trials if t.distributions][-self._population :]
        )

    def propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """A random vector at first, then the mutated winner of a tournament; new, where a few attempts make it so."""
        trials = read_history(study, trial)
        living = self._find_living(trials)
        if not living or sum(t.state.is_finished() for t in trials) < self._startup:
            base = child = self._draw_first(study, trial, search_space, rng)
        else:
            keys = make_sort_keys(living, study.directions)
            drawn = rng.choice(len(living), size=min(self._tournament, len(living)), replace=False)
            winner = living[min(drawn, key=lambda i: keys[i])]
            base = {name: winner.params[name] for name in search_space}
            child = self._mutate(study, trial, base, search_space, rng)
        was_proposed = find_proposed(study, trial, search_space)
        for attempt in range(1, self._attempts + 1):
            if not was_proposed(child):
                break
            if attempt % 10 == 0:  # few neighbours seem to be left: a step further
                base = child
            child = self._mutate(study, trial, base, search_space, rng)
        return child

    def _draw_first(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """At random; or, of a prior, a vector around it."""
        encoding = Encoding(search_space)
        prior = self.make_prior(encoding)
        if prior is not None and prior.is_noticed(rng):
            return encoding.params(prior.draw(2, rng)[1])
        return {name: draw_value(study, trial, name, space, rng) for name, space in search_space.items()}

    def _find_living(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        return find_parents(trials)[-self._population :]

    def _mutate(
        self,
        study: Study,
        trial: FrozenTrial,
        params: dict[str, Any],
        search_space: dict[str, BaseDistribution],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        child, names = dict(params), list(search_space)
        while True:
            name = names[rng.integers(len(names))]
            space, old = search_space[name], child[name]
            if isinstance(space, CategoricalDistribution):
                index = int(rng.integers(len(space.choices) - 1))
                child[name] = space.choices[index + (index >= space.to_internal_repr(old))]
            else:
                draws = (draw_value(study, trial, name, space, rng) for _ in range(20))
                child[name] = next((new for new in draws if new != old), old)
            if rng.random() >= self._repeat_prob:
                return child
