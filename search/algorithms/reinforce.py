"""MnasNet's own controller: a recurrent policy that writes networks token by token, trained by reinforcement."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from ...evaluate.machine.device import torch_threads
from ...space.errors import check_int, check_number
from .decision_policy import PPO, PolicyLearner
from .history import make_sort_keys, read_history, sum_violations
from .history_table import HistoryColumns, HistoryTable
from .ranked_sampler import SharedSpaceSampler

#: Vectors drawn from the policy at once: the first that no trial has is proposed.
DRAWS = 64


class Reinforce(SharedSpaceSampler):
    """Proximal policy optimisation (Tan et al. 2019, MnasNet, section 4.2; Schulman et al. 2017) as an Optuna sampler.

    An LSTM reads the decisions made so far and gives the probabilities of the next one. At first all are equal; after
    every ``batch`` trials they are changed by PPO's clipped objective and an entropy bonus. A trial's advantage is its
    place among its batch, best 1 to worst -1 (then scaled to variance 1): the baseline is the batch's middle, and it is
    the same for one objective as for several, where the places go by front, then by crowding distance. Trials that
    violate constraints come last, by their violation; those that failed or were pruned for another reason teach
    nothing. Of the vectors that the policy draws the first new one is proposed. Numeric parameters are searched on 33
    levels at most.

    The first weights are the same in every search; so the weights are a function of the finished trials, in the order
    in which they ended: a resumed search learns them again, once. A trial depends on the seed, its rank
    (:func:`effnas.search.seeded.trial_rank`) and the history, nothing else.

    Args:
        batch: trials that the policy learns from at once.
        epochs: gradient steps per batch.
        learning_rate: of Adam.
        clip: epsilon of PPO: how far a probability's ratio counts.
        entropy: weight of the mean entropy of a decision, nats.
        hidden: width of the LSTM.
        seed: None: another search each time.

    Raises:
        UserError: a setting is outside its range.
    """

    #: All trials: each batch has changed the policy (:class:`effnas.search.seeded.Seeded`).
    sees = None

    def __init__(
        self,
        batch: int = 10,
        epochs: int = 10,
        learning_rate: float = 0.005,
        clip: float = 0.2,
        entropy: float = 0.03,
        hidden: int = 64,
        seed: int | None = None,
    ) -> None:
        check_int("batch", batch, 2)
        check_int("epochs", epochs, 1)
        check_number("learning_rate", learning_rate, 0, 1, open_low=True)
        check_number("clip", clip, 0, 1, open_low=True)
        check_number("entropy", entropy, 0, 100)
        check_int("hidden", hidden, 1)
        super().__init__(seed)
        self._batch = batch
        self._hidden = hidden
        self._ppo = PPO(epochs, learning_rate, clip, entropy)

    def propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """A vector from the policy; new, unless it insists on one that was proposed before."""
        controller = self._cache.get(
            (*search_space.items(), *study.directions),
            lambda: _Controller(search_space, study.directions, self._batch, self._hidden, self._ppo),
        )
        return controller.propose(read_history(study, trial), rng)


class _Controller:
    """A policy that learns from batches as they come; threads may share it.

    Args:
        space: what it decides.
        directions: of the study.
        batch, hidden, ppo: as :class:`Reinforce` has them.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        directions: Sequence[StudyDirection],
        batch: int,
        hidden: int,
        ppo: PPO,
    ) -> None:
        self._table = HistoryTable(space, directions)
        self._directions = directions
        self._batch = batch
        self._hidden = hidden
        self._ppo = ppo
        self._learner = self._new()
        #: What it has learned from.
        self._split_batches: list[bytes] = []
        self._lock = threading.Lock()

    def _new(self) -> PolicyLearner:
        return PolicyLearner(self._table.encoding.sizes, self._hidden, self._ppo)

    def propose(self, trials: list[FrozenTrial], rng: np.random.Generator) -> dict[str, Any]:
        """A vector from the policy that has learned from all full batches of the trials."""
        encoding = self._table.encoding
        noise = rng.gumbel(size=(DRAWS, len(encoding.sizes), encoding.sizes.max()))
        with self._lock, torch_threads(1):
            past = self._table.read(trials)
            self._learn(trials, past)
            draws = self._learner.policy.draw(noise)
        taken = {row.tobytes() for row in past.rows}
        return encoding.params(next((row for row in draws if row.tobytes() not in taken), draws[0]))

    def _learn(self, trials: list[FrozenTrial], past: HistoryColumns) -> None:
        """From the batches that are new; from all, if the trials are not those it has learned from."""
        batches = _split_batches(past, self._batch)
        content = [b"".join(a[batch].tobytes() for a in (past.rows, past.losses, past.violations)) for batch in batches]
        known = len(self._split_batches)
        if self._split_batches != content[:known]:
            known, self._learner = 0, self._new()
        for batch in batches[known:]:
            advantages = _compute_advantages([trials[i] for i in batch], self._directions)
            self._learner.learn(past.rows[batch], advantages)
        self._split_batches = content


def _split_batches(past: HistoryColumns, size: int) -> list[NDArray[np.int64]]:
    """The numbers of the trials that teach something, in the order in which they ended, in full batches."""
    pruned = (past.states == TrialState.PRUNED.value) & (past.violations > 0)
    teach = np.flatnonzero(((past.states == TrialState.COMPLETE.value) | pruned) & past.legal)
    teach = teach[np.argsort(past.ended[teach], kind="stable")]
    return [teach[start : start + size] for start in range(0, len(teach) - size + 1, size)]


def _compute_advantages(trials: list[FrozenTrial], directions: Sequence[StudyDirection]) -> NDArray[np.float64]:
    """Shape (n,), mean 0 and variance 1, larger is better; equal ones share their places."""
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    keys: dict[int, tuple[float, ...]] = {t.number: (sum_violations(t), np.inf) for t in trials}
    keys.update(zip([t.number for t in complete], make_sort_keys(complete, directions), strict=True))
    order = {key: place for place, key in enumerate(sorted(set(keys.values())))}
    places = -rankdata([order[keys[t.number]] for t in trials])
    return np.asarray((places - places.mean()) / (places.std() or 1.0))
