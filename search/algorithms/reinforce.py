"""MnasNet's own controller: a recurrent policy that writes networks token by token, trained by reinforcement."""

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
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
from ..encoding import Encoding
from ..optuna_private import set_system_attr
from ..remembered import remember
from .decision_policy import PPO, PolicyLearner
from .history import find_rows, make_sort_keys, read_history, sum_violations
from .ranked_sampler import SharedSpaceSampler
from .taught import Course

#: Vectors drawn from the policy at once: the first that no trial has is proposed.
DRAWS = 64
#: Random steps, at most, away from them where a long study has all of them.
STEPS = 100
#: System attributes of a trial: after how many batches the policy is recorded with it, and the policy.
POLICY = "effnas:policy"
#: Trials that teach between two policies that are recorded, and bytes above which none is.
SPACING, LARGEST = 1000, 4_000_000
#: Letters of one attribute: MySQL's texts have at most 65,535 bytes.
PART = 45_000
#: The policies after the last so many batches are remembered: trials may be read in another order than they ended in.
KEPT = 10


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
    in which they ended: a resumed search learns them again, once. A long study
    (:data:`~effnas.search.remembered.MOST`) is not read again for that: each trial is looked at when it has ended, and
    the weights are recorded with a trial every :data:`SPACING` trials, for whoever goes on from there. There, what a
    pruner has stopped teaches nothing, and what was proposed before is left by random steps.

    A trial depends on the seed, its rank (:func:`effnas.search.seeded.trial_rank`) and the history, nothing else.

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
            # the repr: 1 and true are equal, and other choices
            (study.study_name, repr(search_space), *study.directions),
            lambda: _Controller(search_space, study.directions, self._batch, self._hidden, self._ppo),
        )
        return controller.propose(study, trial, rng)


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
        self._encoding = Encoding(space)
        self._directions = directions
        self._hidden, self._ppo = hidden, ppo
        self._course = Course(self._encoding, directions, batch, repr((space, directions, batch, hidden, ppo)))
        self._learner = self._new()
        #: How many batches it has learned, and what they were.
        self._learned, self._digest = 0, self._course.digest(0)
        #: The policy after so many batches that were these: of the last ones, and the trials that have it recorded.
        self._states: dict[tuple[int, bytes], bytes] = {}
        self._records: dict[tuple[int, bytes], FrozenTrial] = {}
        #: The largest number of batches whose policy is recorded.
        self._recorded = 0
        self._spacing = max(1, SPACING // batch)
        self._lock = threading.Lock()

    def _new(self) -> PolicyLearner:
        return PolicyLearner(self._encoding.sizes, self._hidden, self._ppo)

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> dict[str, Any]:
        """A vector from the policy that has learned from all full batches of the study."""
        encoding, memory = self._encoding, remember(study)
        noise = rng.gumbel(size=(DRAWS, len(encoding.sizes), encoding.sizes.max()))
        with self._lock, torch_threads(1):
            if memory.is_long:
                self._note(self._course.follow(memory))
                self._learn()
                self._record(study, trial)
            else:
                self._course.read(read_history(study, trial))
                self._learn()
            draws = self._learner.policy.draw(noise)
        taken = find_rows(study, encoding, trial.number)
        row = next((row for row in draws if row.tobytes() not in taken), draws[0])
        if memory.is_long:  # the policy may be sure of itself by now
            for _ in range(STEPS):
                if row.tobytes() not in taken:
                    break
                column = rng.integers(len(row))
                row[column] = (row[column] + rng.integers(1, encoding.sizes[column])) % encoding.sizes[column]
        return encoding.params(row)

    def _learn(self) -> None:
        """From the batches that are new; where others have come among the old ones, from what was known before."""
        total = len(self._course)
        if self._learned > total or self._digest != self._course.digest(self._learned):
            self._learned, self._digest, self._learner = 0, self._course.digest(0), self._new()
            self._skip(total, self._states)
        self._skip(total, self._records)
        for number in range(self._learned, total):
            rows, trials = self._course.find_batch(number)
            self._learner.learn(rows, _compute_advantages(trials, self._directions))
            self._learned, self._digest = number + 1, self._course.digest(number + 1)
            if self._learner.length <= LARGEST:
                self._states[number + 1, self._digest] = self._learner.save()
                while len(self._states) > KEPT:
                    del self._states[next(iter(self._states))]

    def _skip(self, total: int, known: Mapping[tuple[int, bytes], object]) -> None:
        """Batches after which the policy is known."""
        for batches in sorted({number for number, _ in known if self._learned < number <= total}, reverse=True):
            key = batches, self._course.digest(batches)
            found = known.get(key)
            state = _read_state(found) if isinstance(found, FrozenTrial) else found
            if isinstance(state, bytes) and len(state) == self._learner.length:
                self._learner.load(state, batches)
                self._learned, self._digest = key
                return

    def _note(self, trials: Sequence[FrozenTrial]) -> None:
        """Which of these finished trials have a policy recorded."""
        for trial in trials:
            if (key := _read_header(trial)) is not None:
                self._records[key] = trial
                self._recorded = max(self._recorded, key[0])

    def _record(self, study: Study, trial: FrozenTrial) -> None:
        """Record the policy with the trial that asks, where enough was learned since the last one."""
        if self._learned < self._recorded + self._spacing or self._learner.length > LARGEST:
            return
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        others = [key[0] for other in running if (key := _read_header(other)) is not None]  # of other processes
        self._recorded = max((self._recorded, *others))
        if self._learned >= self._recorded + self._spacing:
            self._recorded = self._learned
            _write_state(study, trial, (self._learned, self._digest), self._learner.save())


def _write_state(study: Study, trial: FrozenTrial, key: tuple[int, bytes], state: bytes) -> None:
    text = b64encode(state).decode()
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    for number, part in enumerate(parts):
        set_system_attr(study, trial, f"{POLICY}:{number}", part)
    set_system_attr(study, trial, POLICY, [key[0], key[1].hex(), len(parts)])


def _read_header(trial: FrozenTrial) -> tuple[int, bytes] | None:
    """After how many batches, and which, the policy was as it is recorded with the trial; None: none is."""
    found = trial.system_attrs.get(POLICY)
    return None if found is None else (int(found[0]), bytes.fromhex(found[1]))


def _read_state(trial: FrozenTrial) -> bytes | None:
    attributes = trial.system_attrs
    parts = [attributes.get(f"{POLICY}:{number}", "") for number in range(attributes[POLICY][2])]
    try:
        return b64decode("".join(parts), validate=True)
    except ValueError:
        return None


def _compute_advantages(trials: list[FrozenTrial], directions: Sequence[StudyDirection]) -> NDArray[np.float64]:
    """Shape (n,), mean 0 and variance 1, larger is better; equal ones share their places."""
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    keys: dict[int, tuple[float, ...]] = {t.number: (sum_violations(t), np.inf) for t in trials}
    keys.update(zip([t.number for t in complete], make_sort_keys(complete, directions), strict=True))
    order = {key: place for place, key in enumerate(sorted(set(keys.values())))}
    places = -rankdata([order[keys[t.number]] for t in trials])
    return np.asarray((places - places.mean()) / (places.std() or 1.0))
