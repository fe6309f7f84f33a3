"""The output folder of an ablation: a row for each network, the tests, the figure, the text on the terminal."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ...evaluate.folder import write_json
from ...evaluate.study_result import StudyResult, find_front
from ...report.job import tell_report
from ...search.problem import CONFIRMS
from ...search.record import job_facts, result_of, shown_trials, trial_row, write_rows
from ...search.winner.keeper import Keeper, describe_kept
from ...search.winner.naming import describe_seeds, describe_selection, tell_selection
from ...search.winner.optimism import expect_optimism, seed_noise
from ...space.cost import cost
from ...space.multipliers import DIVISOR
from ...space.tables import text_table
from .figure import ablation_figure
from .paired import LEVEL, compare
from .study import BASE, Member

#: Where nominal and achieved MACs ratio are further apart than this, rounding has made much of the network.
ROUNDED = 1.25


def member_rows(
    study: Study, members: Sequence[Member], seconds_a_batch: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """What each network is, costs and reaches; the base first, then by factor and rule as given.

    ``macs_ratio`` is achieved MACs in the base's, ``nominal_macs_ratio`` depth·width²·resolution² of the multipliers;
    ``latency_ratio`` is the median over the rounds of the ratio to the base in the same round.
    """
    accuracies: dict[tuple[str, float], dict[int, float]] = {}
    for trial in shown_trials(study):
        if trial.state == TrialState.COMPLETE and not trial.user_attrs.get(CONFIRMS):
            key = trial.params["rule"], trial.params["factor"]
            accuracies.setdefault(key, {})[trial.params["seed"]] = result_of(trial)["accuracy"]
    base = cost(members[0].network)
    base_seconds = seconds_a_batch.get(members[0].network.digest)
    rows: list[dict[str, Any]] = []
    first: dict[tuple[float, str], str] = {}
    for member in members:
        network, met = member.network, member.met
        costs, by_seed = cost(network), accuracies.get((member.rule, member.factor), {})
        values, seconds = list(by_seed.values()), seconds_a_batch.get(network.digest)
        sd = statistics.stdev(values) if len(values) > 1 else None
        same = first.setdefault((member.factor, network.digest), member.rule)
        rows.append(
            {
                "factor": member.factor,
                "rule": member.rule,
                "accuracy": statistics.fmean(values) if values else None,
                "standard_error": None if sd is None else sd / math.sqrt(len(values)),
                "sd": sd,
                "seeds": len(values),
                "macs": costs.macs,
                "macs_ratio": costs.macs / base.macs,
                "params": costs.params,
                "activations": costs.activations,
                "peak_memory": costs.peak_memory,
                "latency": None if seconds is None else statistics.median(seconds),
                "latency_ratio": None
                if seconds is None or base_seconds is None
                else statistics.median(a / b for a, b in zip(seconds, base_seconds, strict=True)),
                "resolution": network.resolution,
                "blocks": network.blocks,
                "phi": met.phi,
                "depth": met.multipliers.depth,
                "width": met.multipliers.width,
                "resolution_multiplier": met.multipliers.resolution,
                "nominal_macs_ratio": met.multipliers.macs_ratio,
                "trimmed": met.trimmed,
                "divisor": met.divisor,
                "equal_to": None if same == member.rule else same,
                "digest": network.digest,
                "accuracies": dict(sorted(by_seed.items())),
            }
        )
    return rows


def find_finalists(rows: Sequence[Mapping[str, Any]], reference: str) -> list[Mapping[str, Any]]:
    """Of each budget the row of the best rule and the reference's, each network once."""
    found: list[Mapping[str, Any]] = []
    for factor in dict.fromkeys(row["factor"] for row in rows[1:]):
        done = [row for row in rows[1:] if row["factor"] == factor and row["accuracy"] is not None]
        best = max(done, key=lambda row: row["accuracy"], default=None)
        found += [row for row in done if row is best or row["rule"] == reference]
    return list({(row["factor"], row["digest"]): row for row in found}.values())


def describe_winners(
    trials: Sequence[FrozenTrial], rows: Sequence[Mapping[str, Any]], reference: str
) -> list[dict[str, Any]]:
    """Of each budget: the best rule, the evaluations that chose it and those that report it.

    ``difference`` is from the reference over the same seeds; None of the reference itself, or where there are none.
    """
    found = []
    noise = seed_noise(rows)
    for factor in dict.fromkeys(row["factor"] for row in rows[1:]):
        done = [row for row in rows[1:] if row["factor"] == factor and row["accuracy"] is not None]
        best = max(done, key=lambda row: row["accuracy"], default=None)
        if best is None:
            continue
        other = next((row for row in done if row["rule"] == reference), None)
        sides: list[dict[str, Any] | None] = []
        for confirms in (False, True):
            ours = describe_seeds(trials, best["digest"], confirms=confirms)
            theirs = None if other is None else describe_seeds(trials, other["digest"], confirms=confirms)
            if ours is not None:
                known = theirs is not None and best["rule"] != reference
                ours["difference"] = ours["accuracy"] - theirs["accuracy"] if known and theirs else None
                ours |= {"factor": factor, "rule": best["rule"]}
            sides.append(ours)
        distinct = list({row["digest"]: row for row in done}.values())
        optimism = None
        if noise is not None:
            errors = [noise / math.sqrt(row["seeds"]) for row in distinct]
            optimism = expect_optimism([row["accuracy"] for row in distinct], errors)
        found.append({"factor": factor, "rule": best["rule"], **describe_selection(sides[0], sides[1], optimism)})
    return found


def write_ablation(
    study: Study,
    members: Sequence[Member],
    output: Path,
    keeper: Keeper,
    *,
    reference: str,
    tolerance: float,
    seconds_a_batch: Mapping[str, Sequence[float]],
    latency_of: str,
    seed: int,
    seconds: float,
    evaluator: str,
    command: str,
) -> StudyResult:
    """Write everything and return the content of ``summary.json``."""
    trials = shown_trials(study)
    trial_rows = [trial_row(t, ("accuracy",)) for t in trials]
    write_rows(output / "trials.csv", trial_rows)
    rows = member_rows(study, members, seconds_a_batch)
    (output / "networks").mkdir(exist_ok=True)
    for member, row in zip(members, rows, strict=True):
        name = BASE if member.rule == BASE else f"{member.rule}_x{member.factor:g}"
        row["file"] = str(member.network.save(output / "networks" / f"{name}.yaml"))
    comparisons = compare(rows, reference)
    write_rows(output / "ablation.csv", [{k: v for k, v in row.items() if k != "accuracies"} for row in rows])
    write_rows(output / "comparisons.csv", comparisons)
    summary: dict[str, Any] = {
        "base": {"name": members[0].network.name} | rows[0],
        "rows": rows[1:],
        "reference": reference,
        "comparisons": comparisons,
        "winners": (winners := describe_winners(trials, rows, reference)),
        # of the largest budget
        **{key: winners[-1][key] if winners else None for key in ("selected_on", "confirmed_on", "optimism")},
        "notes": _notes(rows),
        "tolerance": tolerance,
        "latency_of": latency_of if seconds_a_batch else None,
        "weights": keeper.conclude(study),
        "reasons": [row["reason"] for row in trial_rows if row["state"] == "failed"],
        **job_facts(study, trials, seconds, seed=seed, evaluator=evaluator, command=command, output=output),
    }
    # a seed is a name of JSON's, which are texts
    summary = json.loads(json.dumps(summary))
    write_json(output / "summary.json", summary)
    ablation_figure(summary["base"], summary["rows"], comparisons, summary["base"]["name"], output)
    return StudyResult(summary, trials=trial_rows, front=find_front(rows), networks=rows, comparisons=comparisons)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where networks are not quite what their rules say."""
    trims, rounded, same = [], [], []
    for row in rows[1:]:
        what = f"{row['rule']} ×{row['factor']:g}"
        changes = [f"width × {row['trimmed']:.3f}"] if row["trimmed"] != 1 else []
        changes += [f"widths in multiples of {row['divisor']}"] if row["divisor"] != DIVISOR else []
        if changes:
            trims.append(f"{what} ({', '.join(changes)})")
        ratio = row["nominal_macs_ratio"] / row["macs_ratio"]
        if not 1 / ROUNDED <= ratio <= ROUNDED:
            rounded.append(f"{what} (nominal {row['nominal_macs_ratio']:.2f})")
        if row["equal_to"]:
            same.append(f"{what} is the same network as {row['equal_to']}")
    notes = [f"trimmed to meet the budget: {', '.join(trims)}"] if trims else []
    if any(row["divisor"] != DIVISOR for row in rows[1:]) and rows[0]["latency"] is not None:
        notes.append(f"widths that are not multiples of {DIVISOR} can be slower than their MACs suggest")
    if rounded:
        notes.append(
            f"rounding to whole blocks, channels and pixels changes much: {', '.join(rounded)}; a base with more "
            "blocks per stage, or depth_rounding=nearest, follows the rules more closely"
        )
    return notes + same


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas ablate`` prints."""
    base, rows = summary["base"], summary["rows"]
    wide = max([row["blocks"] or 0 for row in (base, *rows)]) > 0
    timed = base["latency"] is not None
    header = ["model", "×", "top-1", "s. e.", "seeds", "M MACs", "ratio", "M params", "M activations", "peak MB"]
    header += (["ms", "× base"] if timed else []) + ["px"] + (["blocks"] if wide else [])
    cells = []
    for row in (base, *rows):
        line = [
            _label(row, base["name"]),
            f"{row['factor']:g}",
            "failed" if row["accuracy"] is None else f"{row['accuracy']:.2%}",
            "" if row["standard_error"] is None else f"{100 * row['standard_error']:.2f}",
            str(row["seeds"]),
            f"{row['macs'] / 1e6:,.2f}",
            f"{row['macs_ratio']:.3f}",
            f"{row['params'] / 1e6:,.3f}",
            f"{row['activations'] / 1e6:,.3f}",
            f"{row['peak_memory'] / 1e6:,.2f}",
        ]
        if timed:
            line += [f"{1e3 * row['latency']:.2f}", f"{row['latency_ratio']:.2f}"]
        cells.append([*line, str(row["resolution"]), *([str(row["blocks"])] if wide else [])])
    count = sum(row["p"] is not None for row in summary["comparisons"])
    lines = [
        f"{base['name']} scaled by {len({row['rule'] for row in rows})} rules to the same achieved MACs (within "
        f"{summary['tolerance']:.1%}): {summary['trials']} trainings in {summary['seconds']:.0f} s",
        "",
        text_table(header, cells),
        "",
        f"difference from {summary['reference']} in points of accuracy, paired over the seeds"
        + (f" (t-test, Holm over {count} comparisons, level {LEVEL:g})" if count else ""),
        _comparison_table(summary["comparisons"]),
        "",
        *(line for one in summary["winners"] for line in tell_selection(f"{one['rule']} ×{one['factor']:g}", one)),
        *(f"note: {note}" for note in summary["notes"]),
    ]
    if timed:
        lines.append(f"latency: {summary['latency_of']}, here, in alternation, before training")
    if summary["failed"]:
        lines.append(f"{summary['failed']} trainings failed; the first reason: {summary['reasons'][0]}")
    files = "summary.json ablation.csv comparisons.csv trials.csv ablation.png ablation.svg networks/"
    lines += [f"written to {summary['output']}: {files}", *tell_report(summary["output"])]
    return "\n".join([*lines, *describe_kept(summary["weights"])])


def _label(row: Mapping[str, Any], name: str) -> str:
    """As in the paper's Tables 3 and 7: "by depth (d=2.04)"; the multipliers that are not 1."""
    if row["rule"] == BASE:
        return f"base ({name})"
    values = {"d": row["depth"], "w": row["width"], "r": row["resolution_multiplier"]}
    shown = ", ".join(f"{key}={value:.2f}" for key, value in values.items() if value != 1)
    by = "by " if row["rule"] in ("depth", "width", "resolution") else ""
    return f"{by}{row['rule']} ({shown})"


def _comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> str:
    def number(value: float | None, form: str, scale: float = 1) -> str:
        return "" if value is None else format(scale * value, form)

    cells = [
        [
            row["rule"],
            f"{row['factor']:g}",
            number(row["difference"], "+.2f", 100),
            number(row["standard_error"], ".2f", 100),
            "" if row["low"] is None else f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}",
            str(row["seeds"]),
            number(row["p"], ".3g"),
            number(row["p_holm"], ".3g"),
            row["text"],
        ]
        for row in comparisons
    ]
    header = ["rule", "×", "difference", "s. e.", "95 % interval", "seeds", "p", "p (Holm)", "verdict"]
    return text_table(header, cells)
