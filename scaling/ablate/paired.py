"""Whether one rule is better than another: paired t-tests over seeds, corrected for their number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

#: Differences whose corrected p is below this stand.
LEVEL = 0.05
#: Seeds below which no verdict is given: of two differences the spread is hardly known.
FEWEST = 3


def paired(ours: Mapping[int, float], reference: Mapping[int, float]) -> dict[str, Any]:
    """Ours minus the reference's over the seeds that both have: mean, standard error, 95 % interval, t, two-sided p.

    Args:
        ours, reference: accuracies by seed.

    Returns:
        ``seeds difference standard_error low high t p``; the last five are None where there are fewer than two seeds.
        Without any spread p is 0, or 1 where there is no difference either.
    """
    shared = sorted(ours.keys() & reference.keys())
    differences = [ours[seed] - reference[seed] for seed in shared]
    found: dict[str, Any] = {"seeds": len(shared), "difference": statistics.fmean(differences) if shared else None}
    found |= dict.fromkeys(("standard_error", "low", "high", "t", "p"))
    if len(shared) < 2:
        return found
    from scipy.stats import t as student  # most of a second to import

    mean, degrees = found["difference"], len(shared) - 1
    error = statistics.stdev(differences) / math.sqrt(len(shared))
    if error < 1e-12:  # the accuracies' own rounding
        t = 0.0 if abs(mean) < 1e-12 else math.copysign(math.inf, mean)
    else:
        t = mean / error
    half = float(student.ppf(0.975, degrees)) * error
    p = 2 * float(student.sf(abs(t), degrees))
    # JSON knows no infinity
    return (
        found
        | {"standard_error": error, "low": mean - half, "high": mean + half, "p": p}
        | ({"t": t} if math.isfinite(t) else {})
    )


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values corrected so that the chance of any false finding among them stays below the level (Holm 1979)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = largest
    return corrected


def compare(rows: Sequence[Mapping[str, Any]], reference: str) -> list[dict[str, Any]]:
    """Each rule against the reference at the same factor.

    Args:
        rows: with ``rule``, ``factor``, ``digest`` and ``accuracies`` by seed.
        reference: the rule.

    Returns:
        For each pair :func:`paired`'s numbers with ``factor rule reference p_holm stands text``. ``stands`` is None
        where no verdict is possible: one or two seeds, no result, the same network.
    """
    references = {row["factor"]: row for row in rows if row["rule"] == reference}
    found: list[dict[str, Any]] = []
    for row in rows:
        other = references.get(row["factor"])
        if other is None or row is other:
            continue
        same = row["digest"] == other["digest"]
        numbers = paired(row["accuracies"], other["accuracies"])
        if same:
            numbers = {**numbers, **dict.fromkeys(("standard_error", "low", "high", "t", "p"))}
        head = {"factor": row["factor"], "rule": row["rule"], "reference": reference, "same_network": same}
        found.append({**head, **numbers, "p_holm": None, "stands": None})
    tested = [row for row in found if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
        row["stands"] = p < LEVEL if row["seeds"] >= FEWEST else None
    for row in found:
        row["text"] = _verdict(row)
    return found


def _verdict(row: Mapping[str, Any]) -> str:
    if row["same_network"]:
        return "the same network: nothing to compare"
    if row["seeds"] == 0:
        return "no seed has a result for both"
    if row["seeds"] == 1:
        return "no test possible with one seed: use seeds=5 or more"
    if row["seeds"] < FEWEST:
        return "two seeds are too few for a verdict: use seeds=5 or more"
    if not row["stands"]:
        return "does not stand out from the noise"
    return f"stands: {'better' if row['difference'] > 0 else 'worse'} than {row['reference']}"
