"""Failures in a row, which end a search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from ...space.errors import AGAIN, UserError
from ..record import reason_of, result_of

#: Different reasons that a message shows.
REASONS = 5


class Streak:
    """Trials that failed one after the other, in this run.

    Args:
        limit: so many are too many; None: never.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._reasons: list[str] = []

    @property
    def is_too_long(self) -> bool:
        """Whether to stop."""
        return self._limit is not None and len(self._reasons) >= self._limit

    def add(self, trial: FrozenTrial) -> None:
        """A trial has finished: one that was evaluated ends the streak, an infeasible one does not."""
        if trial.state == TrialState.FAIL:
            self._reasons.append(reason_of(trial))
        elif not result_of(trial).get("infeasible"):
            self._reasons = []

    def explain(self) -> UserError:
        """The error to stop with: which reasons there were, and how to go on."""
        return UserError(
            f"stopped after {len(self._reasons)} failed trials in a row (max_failures={self._limit}): "
            f"{count_reasons(self._reasons)}. All that was found is written; {AGAIN} to go on with other "
            "candidates; max_failures=null never stops"
        )


def count_reasons(reasons: Sequence[str]) -> str:
    """The different reasons, the most frequent first, with their numbers."""
    found = Counter(reasons).most_common()
    texts = [f"{number} × {reason}" for reason, number in found[:REASONS]]
    return "; ".join(texts) + (f"; and {len(found) - REASONS} other reasons" if len(found) > REASONS else "")
