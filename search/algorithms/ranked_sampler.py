"""What our samplers have in common: a trial depends on the seed, its rank and the history, nothing else."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial

from ..encoding import Encoding
from ..seeded import HistoryCache, choose_seed, derive_seed, trial_rank
from .history import find_shared_space, read_history
from .prior import Prior, check_prior, holds_value


class RankedSampler(BaseSampler):
    """Ranks trials (:func:`effnas.search.seeded.trial_rank`) and draws at random what a relative space leaves out.

    Args:
        seed: None: another search each time.
        prior: parameters by name of what is known to be good; None: nothing is.

    Raises:
        UserError: the seed is not one, or the prior is none.
    """

    def __init__(self, seed: int | None, prior: Mapping[str, Any] | None = None) -> None:
        self._seed = choose_seed(seed)
        self._known_good = check_prior(prior)

    @abstractmethod
    def propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """The values of a trial, by name, for a search space that is not empty.

        Args:
            study: with the history.
            trial: that asks.
            search_space: what :meth:`infer_relative_search_space` gave.
            rng: the trial's own, which depends on the seed and its rank.
        """

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Rank the trial."""
        trial_rank(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As :meth:`propose`; nothing for an empty space."""
        if not search_space:
            return {}
        rng = np.random.default_rng((self._seed, trial_rank(study, trial)))
        return self.propose(study, trial, search_space, rng)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value: the parameter is new, or not one that the trials share; of the first trial, the prior's."""
        if self._known_good is not None and trial_rank(study, trial) == 0:
            value = self._known_good.get(param_name)
            if holds_value(param_distribution, value):
                return value
        seed = derive_seed(self._seed, trial_rank(study, trial), zlib.crc32(param_name.encode()))
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)

    def make_prior(self, encoding: Encoding) -> Prior | None:
        """The prior over these parameters; None: nothing is known of them."""
        known = self._known_good
        return None if known is None or not set(known) & set(encoding.names) else Prior(encoding, known)

    def reseed_rng(self) -> None:
        """Nothing to do: Optuna asks for it so that parallel trials differ, and ranks already do."""


class SharedSpaceSampler(RankedSampler):
    """Searches the parameters that the evaluated trials have in common, and remembers what it read of the history.

    Args:
        seed: as :class:`RankedSampler` takes it.
        youngest: as long as no trial was evaluated, so many of the youngest of any state say what the space is.
        include_pruned: whether trials without a value were evaluated too.
        prior: as :class:`RankedSampler` takes it.
    """

    def __init__(
        self,
        seed: int | None,
        youngest: int = 20,
        include_pruned: bool = True,
        prior: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(seed, prior)
        self._youngest = youngest
        self._space = IntersectionSearchSpace(include_pruned=include_pruned)
        self._cache = HistoryCache()

    def find_evaluated_space(self, study: Study) -> dict[str, BaseDistribution]:
        """The parameters of several values that the evaluated trials have in common."""
        return {name: space for name, space in self._space.calculate(study).items() if not space.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the evaluated trials have in common (before there is one: the youngest trials of any state)."""
        if space := self.find_evaluated_space(study):
            return space
        return find_shared_space([t for t in read_history(study, trial) if t.distributions][-self._youngest :])
