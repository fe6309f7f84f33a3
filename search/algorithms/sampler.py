"""What our samplers have in common: a trial depends on the seed, its rank and the history, nothing else."""

from __future__ import annotations

import secrets
import zlib
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...space.errors import check_int
from ..seeded import Memory, derive_seed, trial_rank
from .history import common, history


class RankedSampler(BaseSampler):
    """Ranks trials (:func:`effnas.search.seeded.trial_rank`) and draws at random what a relative space leaves out.

    Args:
        seed: None: another search each time.

    Raises:
        UserError: the seed is not one.
    """

    def __init__(self, seed: int | None) -> None:
        if seed is not None:
            check_int("seed", seed, 0, 2**32 - 1)
        self._seed = secrets.randbits(32) if seed is None else seed

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Rank the trial."""
        trial_rank(study, trial)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value: the parameter is new, or not one that the trials share."""
        seed = derive_seed(self._seed, trial_rank(study, trial), zlib.crc32(param_name.encode()))
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Nothing to do: Optuna asks for it so that parallel trials differ, and ranks already do."""


class SharedSpaceSampler(RankedSampler):
    """Searches the parameters that the evaluated trials have in common, and remembers what it read of the history.

    Args:
        seed: as :class:`RankedSampler` takes it.
        youngest: as long as no trial was evaluated, so many of the youngest of any state say what the space is.
    """

    def __init__(self, seed: int | None, youngest: int = 20) -> None:
        super().__init__(seed)
        self._youngest = youngest
        self._space = IntersectionSearchSpace(include_pruned=True)
        self._memory = Memory()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What the evaluated trials have in common (before there is one: the youngest trials of any state)."""
        space = self._space.calculate(study)
        if not space:
            return common([t for t in history(study, trial) if t.distributions][-self._youngest :])
        return {name: distribution for name, distribution in space.items() if not distribution.single()}
