"""How far a law can be trusted: the members that are off it, and what it would have said of them before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .law import FEWEST, LEVEL, Law, Prediction, fit_law
from .members import Member

#: A member outside this interval of the law of the others is off it.
OFF_LEVEL = 0.99


@dataclass(frozen=True)
class OffLaw:
    """A member that the others' law does not hold for, and why it is thought so."""

    member: Member
    expected: Prediction
    reason: str


@dataclass(frozen=True)
class Backtest:
    """What the ``known`` smallest members would have said of a larger one."""

    known: tuple[Member, ...]
    member: Member
    predicted: Prediction


def fit_members(members: Sequence[Member], axis: str, noise: float) -> Law:
    """The law of members over one of their costs; ``noise`` as :func:`~effnas.scaling.predict.law.fit_law`."""
    return fit_law(
        [member.costs[axis] for member in members],
        [member.accuracy for member in members],
        runs=[member.runs for member in members],
        noise=noise,
        axis=axis,
    )


def find_off_law(members: Sequence[Member], axis: str, noise: float) -> tuple[list[Member], list[OffLaw]]:
    """The members that a law holds for, and those that it does not: the worst first, and then again without it.

    A member is off the law when its accuracy is outside the 99 % interval that all others give it. At least four stay.

    Args:
        members: by cost.
        axis: what they cost.
        noise: of one training, as a share of the error.
    """
    kept, off = list(members), list[OffLaw]()
    while _sizes(kept, axis) > FEWEST:
        worst: tuple[float, Member, Prediction] | None = None
        for member in kept:
            others = [other for other in kept if other is not member]
            if _sizes(others, axis) < FEWEST:
                continue
            said = fit_members(others, axis, noise).predict(member.costs[axis], OFF_LEVEL)
            outside = max(said.low - member.accuracy, member.accuracy - said.high) / (said.high - said.low)
            if outside > 0 and (worst is None or outside > worst[0]):
                worst = outside, member, said
        if worst is None:
            break
        _, member, said = worst
        kept = [other for other in kept if other is not member]
        off.append(OffLaw(member, said, _reason(member, said, members, axis)))
    return kept, off


def falls(members: Sequence[Member], axis: str) -> list[tuple[Member, Member]]:
    """Members that are less accurate than a smaller one, each with the best of these."""
    found = []
    for member in members:
        smaller = [other for other in members if other.costs[axis] < member.costs[axis]]
        best = max(smaller, key=lambda other: other.accuracy, default=None)
        if best is not None and best.accuracy > member.accuracy:
            found.append((member, best))
    return found


def run_backtests(members: Sequence[Member], axis: str, noise: float) -> list[Backtest]:
    """For each number of the smallest members, from four on, what they would have said of each larger one.

    The first members' own law is used, whatever is known of them since.
    """
    found = []
    for count in range(FEWEST, len(members)):
        known = tuple(members[:count])
        larger = [member for member in members[count:] if member.costs[axis] > known[-1].costs[axis]]
        if _sizes(known, axis) < FEWEST or not larger:
            continue
        law = fit_members(known, axis, noise)
        found += [Backtest(known, member, law.predict(member.costs[axis], LEVEL)) for member in larger]
    return found


def _sizes(members: Sequence[Member], axis: str) -> int:
    return len({member.costs[axis] for member in members})


def _reason(member: Member, said: Prediction, members: Sequence[Member], axis: str) -> str:
    if any(member is fallen for fallen, _ in falls(members, axis)):
        return "its accuracy falls below that of a smaller member: it may overfit, or need another recipe at its size"
    if member.accuracy < said.low:
        return "it is below the law of the others: a recipe that changed, a training that went wrong, or overfitting"
    return "it is above the law of the others: a recipe that changed, or another kind of network"
