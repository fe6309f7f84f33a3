"""What a model-based sampler has to go by: the members of a space, what is known of them, what the trials say."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from ...encoding import Rows
from ..history import loss_signs
from ..history_table import HistoryColumns, HistoryTable
from ..member_facts import Facts, Known

Array = NDArray[np.float64]

#: Random members that the scale of the known features is measured on.
SCALE_DRAWS = 256


@dataclass(frozen=True)
class MemberView:
    """Members as the models see them."""

    features: Array
    facts: Facts


@dataclass(frozen=True)
class PastTrials:
    """What the trials say, larger values being better.

    Args:
        rows, values, numbers: of the evaluations, shapes (n, d) and (n, m), oldest first; a result that was taken over
            from an equal trial is not an evaluation of its own.
        spreads: standard deviation of the accuracy behind the values where that is an estimate, else 0, shape (n,).
        feasible: whether no limit was broken, shape (n,).
        limits: excess over each limit that evaluations check: numbers of trials, rows, ``cost / limit - 1``.
        pending: rows of running trials.
        keys: the bytes of each trial's row, by its number.
        seen: the rows of all trials, of those of a long study too that are not shown here.
    """

    rows: Rows
    values: Array
    numbers: tuple[int, ...]
    spreads: Array
    feasible: NDArray[np.bool_]
    limits: dict[str, tuple[tuple[int, ...], Rows, Array]]
    pending: Rows
    keys: dict[int, bytes]
    seen: Container[bytes]

    @classmethod
    def of(cls, columns: HistoryColumns, known: Container[str], seen: Container[bytes]) -> PastTrials:
        """``known``: the constraints that need no evaluation."""
        rows, legal = columns.rows, columns.legal
        evaluated: dict[Any, int] = {}
        for i in np.flatnonzero(legal & np.isfinite(columns.losses).all(axis=1)):
            evaluated.setdefault((rows[i].tobytes(), tuple(columns.losses[i])), int(i))
        limits: dict[str, dict[tuple[bytes, float], int]] = {}
        for i in np.flatnonzero(legal & columns.finished):
            for name, excess in columns.constraints[i].items():
                if name not in known and math.isfinite(excess):
                    limits.setdefault(name, {}).setdefault((rows[i].tobytes(), excess), int(i))
        chosen = np.array(list(evaluated.values()), np.int64)
        return cls(
            rows=rows[chosen],
            values=-columns.losses[chosen],
            numbers=tuple(columns.numbers[chosen].tolist()),
            spreads=columns.spreads[chosen],
            feasible=columns.violations[chosen] <= 0,
            limits={
                name: (
                    tuple(columns.numbers[list(at.values())].tolist()),
                    rows[list(at.values())],
                    np.array([excess for _, excess in at]),
                )
                for name, at in limits.items()
            },
            pending=rows[legal & ~columns.finished],
            keys={int(columns.numbers[i]): rows[i].tobytes() for i in np.flatnonzero(legal)},
            seen=seen,
        )


class Members:
    """A space, what is known of its members, and the trials in it.

    Args:
        space: the parameters.
        known: facts; None where there are none, or the parameters are not all categorical.
        directions: of the study.

    Attributes:
        encoding: of the space.
        signs: 1 for an objective that is maximised, -1 for one that is minimised: inside, larger is better.
        limited: whether a limit is known.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], known: Known | None, directions: Sequence[StudyDirection]
    ) -> None:
        self._directions = directions
        self._table = HistoryTable(space, directions)
        self.encoding = encoding = self._table.encoding
        self._known = known
        self.signs = -loss_signs(directions)
        self.limited = False
        self._center = self._width = np.zeros(0)
        if known is not None:
            drawn = known.facts(encoding.columns(encoding.random(SCALE_DRAWS, np.random.default_rng(0))))
            width = drawn.features.std(axis=0)
            self._center, self._width = drawn.features.mean(axis=0), np.where(width > 0, width, 1.0)
            self.limited = bool((drawn.excess > -1).any())

    @property
    def limits(self) -> tuple[str, ...]:
        """The constraints of a trial that need no evaluation."""
        return () if self._known is None else self._known.limits

    def past(self, trials: list[FrozenTrial], seen: Container[bytes]) -> PastTrials:
        """What the trials say; ``seen``: the rows of all."""
        return PastTrials.of(self._table.read(trials), self.limits, seen)

    def read_apart(self, trials: list[FrozenTrial]) -> PastTrials:
        """As :meth:`past`, of other trials than the next call's: what was read of those stays."""
        columns = HistoryTable(self.encoding.space, self._directions).read(trials)
        return PastTrials.of(columns, self.limits, frozenset())

    def look(self, rows: Rows) -> MemberView:
        """The members as the models see them."""
        features = self.encoding.features(rows)
        if self._known is None:
            shape = (len(rows), len(self.signs))
            facts = Facts(np.zeros((len(rows), 0)), np.full(len(rows), -1.0), np.full(shape, np.nan), np.ones(shape))
            return MemberView(features, facts)
        facts = self._known.facts(self.encoding.columns(rows))
        facts = replace(facts, exact=facts.exact * self.signs)
        return MemberView(np.hstack([features, (facts.features - self._center) / self._width]), facts)

    def canonical(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row that stands for all those of equal effect."""
        if self._known is None:
            return row
        params = self._known.canonical(self.encoding.params(row))
        return np.asarray(self.encoding.rows([params])[0])
