"""The output folder of a grid search: the ranked points, the coefficients, the figure, the text on the terminal."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from ..search.record import result_of
from ..search.report import job_facts, shown_trials, trial_row, write_csv
from ..space.files import write_text
from ..space.tables import text_table
from .coefficients import Coefficients
from .grid_figure import grid_figure
from .grid_points import NAMES, Scaled

#: The winner stands out when it leads by more than so many standard errors of a difference of two means.
STANDARD_ERRORS = 2.0
#: A winner whose achieved MACs ratio is so far from 2 may have won by its size.
FAIR = 0.3


def rank_points(study: Study, scaled: Scaled, points: Sequence[Coefficients]) -> list[dict[str, Any]]:
    """One row a point, the best mean accuracy first, those without a result last.

    ``equal_to`` is the rank of the first point that rounds to the same network.
    """
    accuracies: dict[tuple[float, ...], dict[int, float]] = {}  # by seed: two machines may have taken the same
    for trial in shown_trials(study):
        if trial.state == TrialState.COMPLETE:
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
                "macs": costs.macs,
                "params": costs.params,
                "activations": costs.activations,
                "resolution": network.resolution,
                "digest": network.digest,
            }
        )
    rows.sort(key=lambda row: (row["accuracy"] is None, -(row["accuracy"] or 0), abs(row["macs_ratio"] - 2)))
    first: dict[Any, int] = {}
    for rank, row in enumerate(rows, 1):
        same = first.setdefault(row["digest"], rank)
        row["equal_to"] = None if same == rank else same
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the winner stands out of the noise: its lead over the next *different* network in standard errors.

    The noise is the standard deviation over seeds, pooled over all points that have several.
    """
    ranked = [row for row in rows if row["accuracy"] is not None]
    best = ranked[0]
    other = next((row for row in ranked if row["digest"] != best["digest"]), None)
    spreads = [(row["sd"], row["seeds"] - 1) for row in ranked if row["sd"] is not None]
    if other is None:
        return {"stands_out": None, "text": "there is nothing to compare the winner with"}
    lead = best["accuracy"] - other["accuracy"]
    if not spreads:
        text = f"leads by {lead:.2%}; one training a point says nothing of the noise: use seeds=3 or more"
        return {"stands_out": None, "lead": lead, "text": text}
    noise = math.sqrt(sum(sd**2 * n for sd, n in spreads) / sum(n for _, n in spreads))
    error = noise * math.sqrt(1 / best["seeds"] + 1 / other["seeds"])
    stands = lead > STANDARD_ERRORS * error
    within = sum(best["accuracy"] - row["accuracy"] <= STANDARD_ERRORS * error for row in ranked[1:])
    text = f"leads by {lead:.2%}, {'more' if stands else 'not more'} than {STANDARD_ERRORS:g} standard errors "
    text += f"({STANDARD_ERRORS * error:.2%}) of a difference: "
    text += "it stands out of the noise" if stands else f"{within} other points are as good, as far as this can tell"
    return {"stands_out": stands, "lead": lead, "noise_sd": noise, "standard_error": error, "text": text}


def write_grid(
    study: Study,
    scaled: Scaled,
    points: Sequence[Coefficients],
    output: Path,
    *,
    seed: int,
    seconds: float,
    evaluator: str,
    command: str,
) -> dict[str, Any]:
    """Write everything and return the content of ``summary.json``."""
    trials = shown_trials(study)
    trial_rows = [trial_row(t, ("accuracy",)) for t in trials]
    write_csv(output / "trials.csv", trial_rows)
    rows = rank_points(study, scaled, points)
    write_csv(output / "points.csv", rows)
    baseline, costs = scaled.baseline, scaled.base
    baseline.save(output / "baseline.yaml")
    summary: dict[str, Any] = {"best": None, "verdict": None}
    if rows and rows[0]["accuracy"] is not None:
        summary["best"] = rows[0]
        summary["verdict"] = verdict(rows)
        Coefficients(*(rows[0][name] for name in NAMES)).save(output / "coefficients.yaml")
    summary |= {
        "points": rows,
        "baseline": {"name": baseline.name, "digest": baseline.digest, "macs": costs.macs, "params": costs.params}
        | {"resolution": baseline.resolution, "architecture": baseline.to_dict()},
        "reasons": [row["reason"] for row in trial_rows if row["state"] == "failed"],
        "algorithm": "grid",
        "space": "alpha, beta, gamma",
        "objective": "accuracy",
        **job_facts(study, trials, seconds, seed=seed, evaluator=evaluator, command=command, output=output),
    }
    write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    grid_figure(rows, baseline.name, output)
    return summary


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas grid-alpha-beta-gamma`` prints."""
    rows = []
    for i, row in enumerate(summary["points"], 1):
        accuracy = "failed" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        spread = "" if row["sd"] is None else f"{row['sd']:.2%}"
        rows.append(
            [
                str(i),
                *(f"{row[name]:g}" for name in NAMES),
                accuracy,
                spread,
                str(row["seeds"]),
                f"{row['nominal_macs_ratio']:.3f}",
                f"{row['macs_ratio']:.3f}",
                f"{row['macs'] / 1e6:,.3f}",
                f"{row['params'] / 1e6:,.4f}",
                f"{row['resolution']}²",
                "" if row["equal_to"] is None else f"= {row['equal_to']}",
            ]
        )
    header = ["rank", "alpha", "beta", "gamma", "accuracy", "sd", "seeds", "nominal", "achieved"]
    header += ["M MACs", "M params", "pixels", "network"]
    base, best = summary["baseline"], summary["best"]
    unfair = ""
    if abs(best["macs_ratio"] - 2) > FAIR:
        unfair = (
            f"; it has {best['macs_ratio']:.2f} times the baseline's MACs, not 2: whole blocks and channels are coarse"
        )
    return "\n".join(
        [
            f"{base['name']} ({base['macs'] / 1e6:,.3f} M MACs at {base['resolution']}²) scaled to φ = 1: "
            f"{len(rows)} points, {summary['trials']} trainings in {summary['seconds']:.0f} s; "
            "MACs ratios against the baseline",
            "",
            text_table(header, rows),
            "",
            f"alpha {best['alpha']:g}, beta {best['beta']:g}, gamma {best['gamma']:g} "
            f"{summary['verdict']['text']}{unfair}",
            f"written to {summary['output']}: coefficients.yaml baseline.yaml points.csv trials.csv summary.json "
            "grid.png grid.svg",
            f"next: effnas scale --coefficients {summary['output']}/coefficients.yaml "
            f"--baseline {summary['output']}/baseline.yaml --family 0..3",
        ]
    )
