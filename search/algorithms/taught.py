"""What a policy learns from: the trials that teach, in the order in which they ended, in batches."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..encoding import Encoding, Rows
from ..remembered import Mark, Memory
from .history import find_row, loss_signs, sum_violations

_START = datetime(1970, 1, 1)


class _Taught(NamedTuple):
    """A trial that teaches: when it ended, its number, and all that is learned from it."""

    ended: float
    number: int
    content: bytes
    trial: FrozenTrial

    @property
    def place(self) -> tuple[float, int]:
        """Where it is in the order."""
        return self.ended, self.number


class Course:
    """The batches of a study that grows; each trial is read once.

    Those with values teach, and the pruned ones that violate constraints; of those, the ones that have all parameters.

    Args:
        encoding: of the parameters.
        directions: of the study.
        size: of a batch.
        name: what the batches are learned by; part of every :meth:`digest`.
    """

    def __init__(self, encoding: Encoding, directions: Sequence[StudyDirection], size: int, name: str) -> None:
        self._encoding, self._signs, self._size = encoding, loss_signs(directions), size
        self._taught: list[_Taught] = []
        #: Of a short study: what was read of each trial, by its number.
        self._read: dict[int, tuple[FrozenTrial, _Taught | None]] = {}
        self._mark: Mark | None = None
        #: After each number of batches, what all of them were.
        self._digests = [blake2b(name.encode(), digest_size=16).digest()]

    def __len__(self) -> int:
        """How many full batches there are."""
        return len(self._taught) // self._size

    def read(self, trials: Iterable[FrozenTrial]) -> None:
        """All the trials of a short study, as they are now."""
        read = {}
        for trial in trials:
            known = self._read.get(trial.number)
            read[trial.number] = known if known is not None and known[0] is trial else (trial, self._look(trial))
        self._read, self._mark = read, None
        taught = sorted((one for _, one in read.values() if one is not None), key=lambda one: one.place)
        pairs = enumerate(zip(taught, self._taught, strict=False))
        same = next((i for i, (new, old) in pairs if new.content != old.content), min(len(taught), len(self._taught)))
        self._taught = taught
        self._forget(same)

    def follow(self, memory: Memory) -> list[FrozenTrial]:
        """What has been finished in a long study since the last call; those trials."""
        trials, self._mark, anew = memory.list_new(self._mark)
        if anew:
            self._read, self._taught = {}, []
            self._forget(0)
        for trial in trials:
            if (one := self._look(trial)) is not None:
                self._forget(bisect_left(self._taught, one.place, key=lambda other: other.place))
                insort(self._taught, one, key=lambda other: other.place)
        return trials

    def _forget(self, first: int) -> None:
        """From that place on the order is another one."""
        del self._digests[first // self._size + 1 :]

    def digest(self, batches: int) -> bytes:
        """What the first so many batches are: equal for equal ones."""
        while len(self._digests) <= batches:
            start = (len(self._digests) - 1) * self._size
            content = b"".join(one.content for one in self._taught[start : start + self._size])
            self._digests.append(blake2b(self._digests[-1] + content, digest_size=16).digest())
        return self._digests[batches]

    def find_batch(self, number: int) -> tuple[Rows, list[FrozenTrial]]:
        """The rows of a batch, shape (size, d), and its trials."""
        batch = self._taught[number * self._size : (number + 1) * self._size]
        width = len(self._encoding.names)
        return np.array([np.frombuffer(one.content, np.int64, width) for one in batch]), [one.trial for one in batch]

    def _look(self, trial: FrozenTrial) -> _Taught | None:
        violation = sum_violations(trial)
        complete = trial.state == TrialState.COMPLETE
        if not complete and not (trial.state == TrialState.PRUNED and violation > 0):
            return None
        row = find_row(self._encoding, trial)
        if row is None:
            return None
        losses: NDArray[np.float64] = np.array(trial.values if complete else self._signs * np.nan) * self._signs
        ended = math.inf if trial.datetime_complete is None else (trial.datetime_complete - _START).total_seconds()
        return _Taught(ended, trial.number, row + losses.tobytes() + np.float64(violation).tobytes(), trial)
