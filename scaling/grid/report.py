"""The output folder of a grid search: the ranked points, the coefficients, the figure, the text on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study

from ...evaluate.folder import write_json
from ...evaluate.study_result import StudyResult, find_front
from ...report.job import tell_report
from ...search.record import job_facts, shown_trials, trial_row, write_rows
from ...search.winner.keeper import Keeper, describe_kept
from ...search.winner.naming import describe_seeds, describe_selection, tell_selection
from ...space.multipliers import DIVISOR
from ...space.tables import text_table
from ..coefficients import Coefficients
from .choosing import choose_row, describe_posterior, expect_selection
from .figure import grid_figure
from .points import NAMES, POWERS, Scaled, read_point
from .ranking import add_predictions, held_ratio, is_candidate, rank_points, surface_of, verdict
from .star_figure import star_figure

__all__ = ["rank_points", "summary_text", "verdict", "write_grid"]

#: A winner whose achieved MACs ratio is so far from 2 may have won by its size.
FAIR = 0.3


def write_grid(
    study: Study,
    scaled: Scaled,
    rounds: Sequence[Sequence[Coefficients]],
    output: Path,
    keeper: Keeper,
    *,
    candidates: Sequence[Coefficients] | None,
    own_pixels: int | None,
    choose: str,
    until: Mapping[str, Any] | None,
    latencies: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    seed: int,
    seconds: float,
    evaluator: str,
    command: str,
) -> StudyResult:
    """Write everything and return the content of ``summary.json``.

    ``rounds`` are the points of the grid and of each further round; ``keeper`` has the networks' weights, ``choose`` is
    one of :data:`~effnas.scaling.grid.choosing.CHOICES`, ``until`` what further trainings have decided, ``candidates``,
    ``own_pixels`` and ``latencies`` as for :func:`rank_points`, ``settings`` the grid's.
    """
    trials = shown_trials(study)
    trial_rows = [trial_row(t, ("accuracy",)) for t in trials]
    write_rows(output / "trials.csv", trial_rows)
    rows = rank_points(study, scaled, [p for points in rounds for p in points], latencies, candidates, own_pixels)
    rounds_of = {(p.alpha, p.beta, p.gamma): i for i, points in enumerate(rounds) for p in points}
    for row in rows:
        row["round"] = rounds_of[tuple(row[name] for name in NAMES)]
    fitted = surface_of(rows)
    surface = add_predictions(rows, fitted)
    write_rows(output / "points.csv", rows)
    baseline, costs = scaled.baseline, scaled.base
    baseline.save(output / "baseline.yaml")
    summary: dict[str, Any] = {"best": None, "chosen_by": None, "verdict": None, "surface": surface, "posterior": None}
    summary["until"] = until
    if rows and rows[0]["accuracy"] is not None and is_candidate(rows[0]):
        summary["verdict"], summary["posterior"] = verdict(rows), describe_posterior(rows)
        summary["best"], summary["chosen_by"] = choose_row(rows, surface, summary["posterior"], choose)
        chosen, reported = (
            describe_seeds(trials, summary["best"]["digest"], confirms=confirms) for confirms in (False, True)
        )
        optimism = expect_selection(rows, fitted, summary["chosen_by"])
        summary |= describe_selection(chosen, reported, optimism)
        read_point(summary["best"]).save(output / "coefficients.yaml")
    summary |= {
        "grid": dict(settings),
        "points": rows,
        "rounds": [len(points) for points in rounds],
        "baseline": {"name": baseline.name, "digest": baseline.digest, "macs": costs.macs, "params": costs.params}
        | {"resolution": baseline.resolution, "architecture": baseline.to_dict()},
        "weights": keeper.conclude(study),
        "reasons": [row["reason"] for row in trial_rows if row["state"] == "failed"],
        "algorithm": "grid",
        "space": "alpha, beta, gamma",
        "objective": "accuracy",
        **job_facts(study, trials, seconds, seed=seed, evaluator=evaluator, command=command, output=output),
    }
    write_json(output / "summary.json", summary)
    written = None if summary["best"] is None else summary["best"]["digest"]
    if candidates is None:
        grid_figure(rows, fitted, surface, baseline.name, output, written)
    else:
        star_figure(rows, written, baseline.name, output)
    return StudyResult(summary, trials=trial_rows, front=find_front(rows), points=rows)


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas grid-alpha-beta-gamma`` prints."""
    rows = []
    timed = "latency_ratio" in summary["points"][0]
    expected = any(row["predicted"] is not None for row in summary["points"])
    equal = Counter(row["equal_to"] for row in summary["points"])
    for i, row in enumerate(summary["points"], 1):
        if row["equal_to"] is not None:  # points.csv has them
            continue
        accuracy = "failed" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        spread = "" if row["sd"] is None else f"{row['sd']:.2%}"
        rows.append(
            [
                str(i),
                *(f"{row[name]:g}" for name in NAMES),
                accuracy,
                spread,
                *([_expected(row)] if expected else []),
                str(row["seeds"]),
                f"{row['nominal_macs_ratio']:.3f}",
                f"{row['macs_ratio']:.3f}",
                *([f"{row['latency_ratio']:.3f}"] if timed else []),
                f"{row['macs'] / 1e6:,.3f}",
                f"{row['params'] / 1e6:,.4f}",
                f"{row['resolution']}²",
                f"{equal[i] + 1:d}",
            ]
        )
    header = ["rank", "alpha", "beta", "gamma", "accuracy", "sd", *["predicted ± se"] * expected, "seeds"]
    header += ["nominal", "achieved", *["latency"] * timed, "M MACs", "M params", "pixels", "points"]
    base, divisor = summary["baseline"], summary["grid"].get("divisor", DIVISOR)
    by = "" if divisor == DIVISOR else f" --divisor {divisor}"
    return "\n".join(
        [
            f"{base['name']} ({base['macs'] / 1e6:,.3f} M MACs at {base['resolution']}²) scaled to φ = 1: "
            f"{_counted(summary)}, {len(rows)} different networks, "
            f"{summary['trials'] - summary['duplicates']} trainings in {summary['seconds']:.0f} s; "
            f"MACs{' and latency' * timed} ratios against the baseline",
            "",
            text_table(header, rows),
            "",
            *_conclusion(summary),
            *([summary["until"]["text"]] if summary["until"] else []),
            *tell_selection(f"the chosen point ({_named(summary['best'])})", summary),
            f"written to {summary['output']}: coefficients.yaml baseline.yaml points.csv trials.csv summary.json "
            "grid.png grid.svg",
            *tell_report(summary["output"]),
            *describe_kept(summary["weights"]),
            f"next: effnas scale --coefficients {summary['output']}/coefficients.yaml{by} "
            f"--baseline {summary['output']}/baseline.yaml --family 0..3",
        ]
    )


def _counted(summary: Mapping[str, Any]) -> str:
    """How many points, and how many of them are finer ones."""
    rounds = summary["rounds"]
    text, finer = f"{sum(rounds)} points", len(rounds) - 1
    if summary["grid"].get("method") == "star":
        return f"a star of {text}"
    return f"{text} ({' + '.join(map(str, rounds))} in {finer} finer round{'s' * (finer > 1)})" if finer else text


def _conclusion(summary: Mapping[str, Any]) -> list[str]:
    """The best point, what the surface says, and which of the two was chosen."""
    best, first, surface = summary["best"], summary["points"][0], summary["surface"]
    lines = [f"{_named(first)} {summary['verdict']['text']}{_unfair(first)}"]
    if surface["fitted"]:
        argmax, region = surface["argmax"], surface["region"]
        spans = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in surface["intervals"].items())
        lines.append(
            f"response surface over {surface['points']} different networks (R² {surface['r2']:.2f}): highest at "
            f"{_named(argmax)}, where it expects {argmax['predicted']:.2%} ± {argmax['predicted_se']:.2%}; "
            f"{region['level']:.0%} region of the highest: {region['networks']} networks, {spans}"
        )
        if region["networks"] == surface["points"]:
            lines.append("it cannot tell any two apart; more seeds, longer trainings or a wider grid may help")
    elif summary["chosen_by"] != "posterior":
        return [*lines, f"no response surface: {surface['text']}; the coefficients are the best point's"]
    chosen = {"surface": "the surface's highest", "point": "the best point"}.get(summary["chosen_by"])
    if chosen is None:
        posterior = summary["posterior"]
        chosen = (
            "the highest expected accuracy over φ = 1 and 2: of its shares against those of the published 1.2, 1.1, "
            f"1.15 it is expected to gain {posterior['ahead']:.2%} ± {posterior['ahead_sd']:.2%}"
        )
        if posterior["ahead"] < posterior["ahead_sd"]:
            chosen += ", so there is little evidence against the published ones"
    lines.append(f"coefficients: {_named(best)}, {chosen}{_unfair(best) if best != first else ''}{_at_end(summary)}")
    return lines


def _at_end(summary: Mapping[str, Any]) -> str:
    """Which coefficients are where their range ends though they could go on."""
    ends = []
    for name in NAMES if NAMES[0] in summary["grid"] else ():  # a star has no ranges
        value, (low, high) = summary["best"][name], summary["grid"][name]
        alone = high ** POWERS[name] > 1.9  # it doubles the MACs by itself
        if value == low > 1 or (value == high > low and not alone):
            ends.append(name)
    if not ends:
        return ""
    return f"; {' and '.join(ends)} at the end of {'its range' if len(ends) == 1 else 'their ranges'}: try wider ones"


def _expected(row: Mapping[str, Any]) -> str:
    return "" if row["predicted"] is None else f"{row['predicted']:.2%} ± {row['predicted_se']:.2%}"


def _named(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {row[name]:g}" for name in NAMES)


def _unfair(row: Mapping[str, Any]) -> str:
    if abs(held_ratio(row) - 2) <= FAIR:
        return ""
    return f"; it has {row['macs_ratio']:.2f} times the baseline's MACs, not 2: whole blocks and channels are coarse"
