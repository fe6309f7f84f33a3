"""The points of a grid by accuracy, what the response surface says of them, and which one is chosen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import TrialState

from ...search.problem import CONFIRMS
from ...search.record import result_of, shown_trials
from ...search.winner.optimism import seed_noise
from ..coefficients import Coefficients
from .points import NAMES, Scaled, read_point
from .response import LEVEL, Array, Surface, describe, fit_surface, log_growth, shares

Rows = list[dict[str, Any]]
#: The winner stands out when it leads by more than this many standard errors of the difference of two means.
STANDARD_ERRORS = 2.0
#: Noise in units of the lead beyond which nobody would train so often.
MOST = 20.0


def rank_points(
    study: Study,
    scaled: Scaled,
    points: Sequence[Coefficients],
    latencies: Mapping[str, Mapping[str, Any]],
    candidates: Sequence[Coefficients] | None = None,
    own_pixels: int | None = None,
) -> list[dict[str, Any]]:
    """One row per point, the best mean accuracy first, those without a result last.

    ``equal_to`` is the rank of the first point that rounds to the same network. ``latencies`` are those of
    :class:`~effnas.scaling.grid.latency.LatencyRatios` where the grid holds latency, else empty. ``candidates`` are the
    points of a star that may become the coefficients: they come first, and rows say whether they are; None: all may.
    ``own_pixels``: the side of the images themselves, where it is known.
    """
    accuracies: dict[tuple[float, ...], dict[int, float]] = {}  # by seed: two machines may have taken the same
    for trial in shown_trials(study):
        if trial.state == TrialState.COMPLETE and not trial.user_attrs.get(CONFIRMS):
            key = tuple(trial.params[name] for name in NAMES)
            accuracies.setdefault(key, {})[trial.params["seed"]] = result_of(trial)["accuracy"]
    rows: list[dict[str, Any]] = []
    for p in points:
        network = scaled.network(p)
        if network is None:
            continue  # its trials say why they failed
        values = list(accuracies.get((p.alpha, p.beta, p.gamma), {}).values())
        costs = scaled.cost(network)
        rows.append(
            {
                "alpha": p.alpha,
                "beta": p.beta,
                "gamma": p.gamma,
                "accuracy": statistics.fmean(values) if values else None,
                "sd": statistics.stdev(values) if len(values) > 1 else None,
                "seeds": len(values),
                "macs_ratio": costs.macs / scaled.base.macs,
                "nominal_macs_ratio": p.macs_ratio,
                **_latency(latencies, network.digest),
                "macs": costs.macs,
                "params": costs.params,
                "activations": costs.activations,
                "resolution": network.resolution,
                **({} if own_pixels is None else {"own_pixels": own_pixels}),
                "digest": network.digest,
                **({} if candidates is None else {"candidate": p in candidates}),
            }
        )
    rows.sort(key=lambda row: (*_order(row), abs(row["macs_ratio"] - 2)))
    first: dict[Any, int] = {}
    for rank, row in enumerate(rows, 1):
        same = first.setdefault(row["digest"], rank)
        row["equal_to"] = None if same == rank else same
    return rows


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, float]:
    return row["accuracy"] is None, not is_candidate(row), -(row["accuracy"] or 0)


def is_candidate(row: Mapping[str, Any]) -> bool:
    """Whether the point may become the coefficients: each of a grid may."""
    return bool(row.get("candidate", True))


def _latency(latencies: Mapping[str, Mapping[str, Any]], digest: str) -> dict[str, float]:
    """The columns of a measured latency: seconds per batch and its ratio to the baseline's."""
    known = latencies.get(digest, {})
    return {"latency": known["latency"], "latency_ratio": known["ratio"]} if "ratio" in known else {}


def held_ratio(row: Mapping[str, Any]) -> float:
    """The ratio of a rounded network that the grid holds to 2: of latencies where they were measured, else of MACs."""
    ratio: float = row.get("latency_ratio", row["macs_ratio"])
    return ratio


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the winner stands out from the noise: its lead over the next *different* network in standard errors.

    The noise is the standard deviation over seeds, pooled over all points that have several.
    """
    ranked = [row for row in rows if row["accuracy"] is not None and is_candidate(row)]
    if not ranked:
        return {"stands_out": None, "text": "has the highest accuracy, but is no candidate"}
    best = ranked[0]
    other = next((row for row in ranked if row["digest"] != best["digest"]), None)
    noise = seed_noise([row for row in rows if row["accuracy"] is not None])
    if other is None:
        return {"stands_out": None, "text": "there is nothing to compare the winner with"}
    lead = best["accuracy"] - other["accuracy"]
    if noise is None:
        text = f"leads by {lead:.2%}; one training per point says nothing about the noise: use seeds=3 or more"
        return {"stands_out": None, "lead": lead, "text": text}
    error = noise * math.sqrt(1 / best["seeds"] + 1 / other["seeds"])
    stands = lead > STANDARD_ERRORS * error
    within = sum(best["accuracy"] - row["accuracy"] <= STANDARD_ERRORS * error for row in ranked[1:])
    text = f"leads by {lead:.2%}, {'more' if stands else 'no more'} than {STANDARD_ERRORS:g} standard errors "
    text += f"({STANDARD_ERRORS * error:.2%}) of the difference: "
    text += "it stands out from the noise" if stands else f"{within} other points may be as good"
    if not stands and 0 < noise < MOST * lead:
        text += (
            f"; if the lead is real, {math.ceil(2 * (STANDARD_ERRORS * noise / lead) ** 2)} trainings of each show it"
        )
    return {"stands_out": stands, "lead": lead, "noise_sd": noise, "standard_error": error, "text": text}


def group_networks(rows: Sequence[dict[str, Any]]) -> tuple[list[list[dict[str, Any]]], Array]:
    """The rows of each different network, and the mean growth of its points, shape (n, 3); not the baseline's."""
    by_digest: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["nominal_macs_ratio"] > 1:
            by_digest.setdefault(row["digest"], []).append(row)
    groups = list(by_digest.values())
    growth = [np.mean([log_growth(read_point(row)) for row in group], axis=0) for group in groups]
    return groups, np.array(growth).reshape(-1, 3)


@dataclass(frozen=True)
class Trained:
    """The different networks of a grid that have a result.

    Args:
        groups: the rows of each.
        growth: the mean of its points, shape (n, 3).
        noise: standard deviation over seeds, pooled; None: one seed says nothing of it.
    """

    groups: list[list[dict[str, Any]]]
    growth: Array
    noise: float | None

    @property
    def mixture(self) -> Array:
        """Shares of depth, width and resolution, shape (n, 3)."""
        return shares(self.growth)

    @property
    def ratios(self) -> list[float]:
        """What the grid holds to 2, of each network."""
        return [held_ratio(group[0]) for group in self.groups]

    def read(self, name: str) -> list[Any]:
        """A column, a value a network."""
        return [group[0][name] for group in self.groups]


def list_trained(rows: Sequence[dict[str, Any]]) -> Trained:
    """The different networks among the rows that have a result."""
    done = [row for row in rows if row["accuracy"] is not None]
    return Trained(*group_networks(done), seed_noise([row for row in done if row["equal_to"] is None]))


def surface_of(rows: Sequence[dict[str, Any]]) -> Surface | str:
    """The response surface over the networks with a result, or the reason why there is none."""
    if any("candidate" in row for row in rows):
        return "a star has too few mixtures of twice the cost"
    found = list_trained(rows)
    if not found.groups:
        return "no network has a result"
    return fit_surface(found.mixture, found.read("accuracy"), found.read("seeds"), found.noise, found.ratios)


def add_predictions(rows: list[dict[str, Any]], surface: Surface | str) -> dict[str, Any]:
    """Give every row what the surface predicts there, and return the ``surface`` of ``summary.json``.

    Rows get ``predicted`` (at a ratio of exactly 2), ``predicted_se``, ``as_good`` (not significantly below the
    highest) and ``in_region`` (of the maximiser, at 95 %); None without a surface. Equal networks have one prediction.
    """
    empty = dict.fromkeys(("predicted", "predicted_se", "as_good", "in_region"))
    for row in rows:
        row.update(empty)
    done = [row for row in rows if row["accuracy"] is not None]
    groups, growth = group_networks(done)
    if isinstance(surface, str):
        return {"points": len(groups), "fitted": False, "text": surface}
    mixture = shares(growth)
    means, errors = surface.predict(mixture)
    good, region = surface.not_below(mixture), surface.region(mixture)
    for i, group in enumerate(groups):
        for row in group:
            row.update(predicted=float(means[i]), predicted_se=float(errors[i]))
            row.update(as_good=bool(good[i]), in_region=bool(region[i]))
    top = int(np.argmax(means))
    best = typical_row(groups[top], growth[top])
    inside = [row for row in done if row["in_region"]]
    return {
        "points": len(groups),
        "fitted": True,
        **describe(surface),
        "noise_sd": seed_noise([row for row in done if row["equal_to"] is None]),
        "argmax": {key: best[key] for key in (*NAMES, "predicted", "predicted_se", "digest")},
        "as_good": int(good.sum()),
        "region": {
            "level": LEVEL,
            "networks": int(region.sum()),
            "points": [[row[name] for name in NAMES] for row in inside],
        },
        "intervals": {name: [f(row[name] for row in inside) for f in (min, max)] for name in NAMES},
    }


def typical_row(group: Sequence[dict[str, Any]], growth: Array) -> dict[str, Any]:
    """Of the points of one network the one in their middle."""
    return min(
        group,
        key=lambda row: float(np.abs(log_growth(read_point(row)) - growth).sum().round(9)),
    )
