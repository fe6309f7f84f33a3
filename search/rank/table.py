"""The rows of the table: how well each shortcut ranks, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .statistics import Array, Ceiling, bootstrap, kendall, kendall_equal, kendall_top, overlap

#: Members with a result below which nothing is told.
FEWEST = 10


@dataclass(frozen=True)
class Judgement:
    """What a shortcut says.

    Args:
        name: of it.
        values: of the members, larger is better, shape (n,); NaN where it has none.
        passes: images through a network for each member, the mean; None: not known.
        seconds: for each member, the mean.
        beforehand: images through networks before the first member (a supernet's training).
        kind: ``shortcut``, or ``count``.
    """

    name: str
    values: Array
    passes: float | None
    seconds: float
    beforehand: float = 0.0
    kind: str = "shortcut"


@dataclass(frozen=True)
class Reference:
    """What the members are worth.

    Args:
        columns: accuracies by seed, shape (n,) each.
        macs: of the members.
        passes: images through a network in one training, the mean; None: not known.
        seconds: of one training, the mean.
        ceiling: of the seeds.
    """

    columns: Mapping[int, Array]
    macs: Array
    passes: float | None
    seconds: float
    ceiling: Ceiling

    @property
    def mean(self) -> Array:
        """Over the seeds, shape (n,)."""
        return np.asarray(np.mean(list(self.columns.values()), axis=0))


def judge(one: Judgement, reference: Reference) -> dict[str, Any]:
    """The row of a shortcut or a count, over the members that it has a value of."""
    has = np.isfinite(one.values)
    x, y, macs = one.values[has], reference.mean[has], reference.macs[has]
    count = len(reference.macs)
    interval = bootstrap(x, y) if has.sum() >= FEWEST else None
    equal, pairs = kendall_equal(x, y, macs)
    share = _find_share(one, reference)
    tau = math.nan if interval is None else interval.value
    return {
        "shortcut": one.name,
        "kind": one.kind,
        "tau": make_plain(tau),
        "low": None if interval is None else make_plain(interval.low),
        "high": None if interval is None else make_plain(interval.high),
        "tau_over_ceiling": make_plain(tau / reference.ceiling.best) if reference.ceiling.best > 0 else None,
        "tau_top": make_plain(kendall_top(x, y)),
        "tau_equal_macs": make_plain(equal),
        "overlap": overlap(x, y) if len(x) else None,
        "cost": share,
        "trainings": None if share is None else round(share * count),
        "members": int(has.sum()),
        "pairs_equal_macs": pairs,
    }


def _find_share(one: Judgement, reference: Reference) -> float | None:
    """The cost for all members, as a share of one training of each."""
    if one.kind == "count":
        return 0.0
    count = len(reference.macs)
    if one.passes is not None and reference.passes:
        return (one.passes + one.beforehand / count) / reference.passes
    return one.seconds / reference.seconds if reference.passes is None and reference.seconds else None


def make_predictor_row(model: Mapping[str, Any], trainings: int, reference: Reference) -> dict[str, Any]:
    """The row of the model of so many trainings (:func:`~effnas.search.rank.competitors.judge_predictor`)."""
    interval, best, count = model["interval"], reference.ceiling.best, len(reference.macs)
    return {
        "shortcut": f"predictor_{trainings}",
        "kind": "predictor",
        "tau": make_plain(interval.value),
        "low": make_plain(interval.low),
        "high": make_plain(interval.high),
        "tau_over_ceiling": make_plain(interval.value / best) if best > 0 else None,
        "tau_top": make_plain(model["tau_top"]),
        "tau_equal_macs": make_plain(model["tau_equal_macs"]),
        "overlap": make_plain(model["overlap"]),
        "cost": trainings / count,
        "trainings": trainings,
        "members": count - trainings,
        "pairs_equal_macs": None,
    }


def choose_best(
    rows: Sequence[Mapping[str, Any]], shortcuts: Sequence[Judgement], counts: Sequence[Judgement], reference: Reference
) -> dict[str, Any]:
    """The best shortcut and the best count by the first half of the seeds, and their τ with the others."""
    seeds = list(reference.columns)
    halves = seeds[: (len(seeds) + 1) // 2], seeds[(len(seeds) + 1) // 2 :]
    truths = [np.mean([reference.columns[seed] for seed in half], axis=0) for half in halves]
    sides: list[dict[str, Any] | None] = [None, None]
    for kind, group in (("shortcut", shortcuts), ("count", counts)):
        taus = {one.name: [_tau(one.values, truth) for truth in truths] for one in group}
        best = max(taus, key=lambda name: sort_key(taus[name][0]), default=None)
        if best is None or math.isnan(taus[best][0]):
            continue
        for i, half in enumerate(halves):
            sides[i] = (sides[i] or {"seeds": half}) | {
                kind: best,
                "tau" if kind == "shortcut" else "count_tau": make_plain(taus[best][i]),
            }
    return {"selected_on": sides[0], "confirmed_on": sides[1]}


def _tau(values: Array, truth: Array) -> float:
    has = np.isfinite(values)
    return kendall(values[has], truth[has])


def sort_key(tau: float) -> float:
    """The τ itself; what is not known comes last."""
    return -2.0 if math.isnan(tau) else tau


def make_plain(value: float) -> float | None:
    """A number as JSON has it: none is null."""
    return float(value) if math.isfinite(value) else None
