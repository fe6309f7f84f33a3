"""How many trainings there may be until the choice is decided, and which they are."""

from __future__ import annotations

from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from ...search.problem import CONFIRMS, MAX_SEEDS
from ...search.record import is_counted
from ...space.errors import UserError, check_choice, check_int
from .deciding import BATCH, INDIFFERENT, find_next_trainings, is_decided
from .points import Scaled, read_point
from .ranking import STANDARD_ERRORS, Rows

#: What a grid goes on for: until its points are trained, or until one of them is surely no worse than the others.
UNTIL = ("trained", "decided")


class Spending:
    """The trainings of a grid that goes on until its choice is decided.

    Args:
        most: trainings in all, the grid's own included.
        seed: the first of a network.
        last: how many seeds a network may have.
    """

    def __init__(self, most: int, seed: int, last: int) -> None:
        self.most, self._seed, self._last = most, seed, last
        #: What came of it, for ``summary.json``; None: the grid itself is not trained yet.
        self.result: dict[str, Any] | None = None

    def check(self, own: int) -> None:
        """Raise :class:`~effnas.space.errors.UserError` where the grid's own trainings are more than there may be."""
        if self.most < own:
            raise UserError(
                f"max_trainings must be at least the {own} that the points need with these seeds, got {self.most}"
            )

    def look_at(self, study: Study, scaled: Scaled, rows: Rows, choose: str, digest: str) -> list[tuple[str, int]]:
        """The next trainings, as digests and seeds; none where the choice (``digest``) is decided or all are spent."""
        tried: dict[str, set[int]] = {}
        failed: set[str] = set()
        for trial in study.get_trials(deepcopy=False):
            if not is_counted(trial) or trial.user_attrs.get(CONFIRMS):
                continue
            network = scaled.network(read_point(trial.params))
            if network is None:
                continue
            tried.setdefault(network.digest, set()).add(trial.params["seed"])
            if trial.state != TrialState.COMPLETE:
                failed.add(network.digest)
        spent = sum(map(len, tried.values()))
        full = {name for name, seeds in tried.items() if len(seeds) >= self._last}
        found = find_next_trainings(rows, choose, digest, min(BATCH, self.most - spent), failed | full)
        decided = not found and is_decided(rows, choose, digest)
        self.result = {"decided": decided, "trainings": spent, "max_trainings": self.most}
        self.result["text"] = self._tell(decided, spent, bool(found))
        more = []
        for name in found:
            seed = next(s for s in range(self._seed, self._seed + MAX_SEEDS) if s not in tried[name])
            tried[name].add(seed)
            more.append((name, seed))
        return more

    def _tell(self, decided: bool, spent: int, goes_on: bool) -> str:
        rule = f"by more than {100 * INDIFFERENT:g} points, at {STANDARD_ERRORS:g} standard errors"
        if decided:
            return f"decided after {spent} trainings: no other candidate may be better {rule}"
        why = "" if goes_on or spent >= self.most else "; no other training would help"
        return (
            f"not decided after {spent} of at most {self.most} trainings: another candidate may be better {rule}{why}"
        )


def make_spending(until: str, most: int | None, seed: int, confirm: int) -> Spending | None:
    """What ``until`` and ``max_trainings`` say; None: no further trainings.

    Raises:
        UserError: they are not settings of a grid, or one is given without the other.
    """
    check_choice("until", until, UNTIL)
    if until == "decided":
        if most is None:
            raise UserError("until=decided needs max_trainings: how many trainings there may be in all")
        check_int("max_trainings", most, 1, 1_000_000)
        return Spending(most, seed, MAX_SEEDS - confirm)
    if most is not None:
        raise UserError(f"max_trainings applies with until=decided, got max_trainings={most} and until={until}")
    return None
