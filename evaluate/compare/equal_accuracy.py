"""What equal or better accuracy costs: each network against the nearest one that is not better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .points import Point

#: How the published points together are called beside the families.
PUBLISHED = "published"

Families = Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Pair:
    """A network and what it is compared with: a row of Table 2 of Tan & Le 2019.

    Args:
        member: of a family.
        other: what the reference belongs to: a family's name, or ``published``.
        reference: the most accurate of the others whose accuracy is at most the member's, among equals the cheapest;
            None: all are better.
        params_ratio, macs_ratio: reference over member; None: unknown.
    """

    member: Point
    other: str
    reference: Point | None
    params_ratio: float | None = None
    macs_ratio: float | None = None


@dataclass(frozen=True)
class SpeedUp:
    """The same of latencies measured here in alternation: as Table 4 there.

    Args:
        member, other, reference: as in :class:`Pair`; the reference is one whose latency was measured.
        ratio, low, high: reference over member within a round: median, lowest and highest of the rounds.
    """

    member: Point
    other: str
    reference: Point
    ratio: float
    low: float
    high: float


def equal_accuracy(families: Families, references: Sequence[Point]) -> list[Pair]:
    """One pair for each member of a family and each group of others: every other family, and all that is published.

    Points that are not :func:`comparable` do not meet.
    """
    return [_pair(member, other, nearest(member, points)) for member, other, points in _meetings(families, references)]


def speed_ups(
    families: Families, references: Sequence[Point], rounds: Mapping[Point, Sequence[float]]
) -> list[SpeedUp]:
    """As :func:`equal_accuracy` among the points that ``rounds`` has: seconds per round, of the same rounds for all."""
    found = []
    for member, other, points in _meetings(families, references):
        reference = nearest(member, [point for point in points if point in rounds])
        if member in rounds and reference is not None:
            ratios = [theirs / ours for theirs, ours in zip(rounds[reference], rounds[member], strict=True)]
            found.append(SpeedUp(member, other, reference, statistics.median(ratios), min(ratios), max(ratios)))
    return found


def nearest(member: Point, others: Sequence[Point]) -> Point | None:
    """The most accurate of those that are at most as accurate as ``member``, among equals the cheapest, or None."""

    def rank(point: Point) -> tuple[float, float, float]:
        return point.accuracy, -(point.macs or math.inf), -(point.params or math.inf)

    return max((point for point in others if point.accuracy <= member.accuracy), key=rank, default=None)


def comparable(one: Point, other: Point) -> bool:
    """Whether accuracies are of the same images, as far as known: of ImageNet's or not."""
    return None in (one.imagenet, other.imagenet) or one.imagenet == other.imagenet


def _meetings(families: Families, references: Sequence[Point]) -> Iterator[tuple[Point, str, Sequence[Point]]]:
    for family, members in families.items():
        groups = {name: points for name, points in families.items() if name != family}
        if published := [point for point in references if point.family != family]:
            groups[PUBLISHED] = published
        for other, points in groups.items():
            for member in members:
                if met := [point for point in points if comparable(member, point)]:
                    yield member, other, met


def _pair(member: Point, other: str, reference: Point | None) -> Pair:
    if reference is None:
        return Pair(member, other, None)
    ratios = [
        theirs / ours if theirs and ours else None
        for theirs, ours in ((reference.params, member.params), (reference.macs, member.macs))
    ]
    return Pair(member, other, reference, *ratios)
