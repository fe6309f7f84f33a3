"""The output folder of a ranking of shortcuts: the table, the members, the figure, the text on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluate.folder import write_csv, write_json
from ...evaluate.study_result import StudyResult
from ...report.job import tell_report
from ...space.cost import cost
from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ...space.tables import text_table
from .competitors import count_members, judge_predictor, make_features
from .figure import rank_figure
from .shortcuts import PASSES
from .statistics import TOP, expect_tau, find_ceiling, kendall
from .table import FEWEST, Judgement, Reference, choose_best, judge, make_plain, make_predictor_row, sort_key

#: Decisions in front of a member's columns.
PREFIX = "decision."


def write_rank(
    drawn: Sequence[tuple[Mapping[str, Any], NetworkSpec]],
    found: StudyResult,
    judgements: Sequence[Judgement],
    output: Path,
    *,
    space: str,
    seeds: range,
    seconds: float,
) -> StudyResult:
    """Write everything and return the content of ``summary.json``.

    Args:
        drawn: decisions and network of each member.
        found: of the reference's study.
        judgements: of the shortcuts.
        output: the folder.
        space: its name.
        seeds: of the reference.
        seconds: of this run.

    Raises:
        UserError: too few members have a result for each seed.
    """
    known = found["values"]
    whole = [i for i, (_, n) in enumerate(drawn) if all((n.digest, seed) in known for seed in seeds)]
    if len(whole) < FEWEST:
        raise UserError(
            f"{output}: {len(whole)} members have a result of the reference for each seed, {FEWEST} are needed "
            f"({found['failed']} trainings failed); the same command goes on"
        )
    decisions, networks = [drawn[i][0] for i in whole], [drawn[i][1] for i in whole]
    results = [known[network.digest, seed] for network in networks for seed in seeds]
    passes = [result["metrics"].get(PASSES) for result in results]
    columns = {s: np.array([known[n.digest, s]["accuracy"] for n in networks]) for s in seeds}
    reference = Reference(
        columns=columns,
        macs=np.array([cost(network).macs for network in networks], np.float64),
        passes=None if None in passes else float(np.mean(passes)),
        seconds=float(np.mean([result["seconds"] for result in results])),
        ceiling=find_ceiling(list(columns.values())),
    )
    counts = [Judgement(name, values, 0.0, 0.0, kind="count") for name, values in count_members(networks).items()]
    counts.sort(key=lambda one: -sort_key(kendall(one.values, reference.mean)))
    others = [Judgement(**{**vars(one), "values": one.values[whole]}) for one in judgements]
    rows = [judge(one, reference) for one in (*others, *counts)]
    features = make_features(decisions, networks)
    known_one = columns[seeds[0]]
    truth = reference.mean
    for trainings in sorted({row["trainings"] for row in rows if row["trainings"]}):
        model = judge_predictor(features, known_one, truth, reference.macs, trainings)
        if model is not None:
            rows.append(make_predictor_row(model, trainings, reference))
    at_cost = {row["trainings"]: row["tau"] for row in rows if row["kind"] == "predictor"}
    for row in rows:
        row["predictor_tau"] = at_cost.get(row["trainings"]) if row["kind"] == "shortcut" else None
    members = [
        {f"{PREFIX}{name}": value for name, value in chosen.items()}
        | {"digest": network.digest, "macs": cost(network).macs, "params": cost(network).params}
        | {"accuracy": float(truth[i])}
        | {f"accuracy.{seed}": float(column[i]) for seed, column in columns.items()}
        | {f"shortcut.{one.name}": make_plain(one.values[i]) for one in (*others, *counts)}
        for i, (chosen, network) in enumerate(zip(decisions, networks, strict=True))
    ]
    write_csv(output / "members.csv", list(members[0]), members)
    keep = {name: value for name, value in found.items() if name not in ("values", "seconds", "output")}
    summary: dict[str, Any] = {
        "members": len(whole),
        "ceiling": make_plain(reference.ceiling.best),
        "seed_to_seed": make_plain(reference.ceiling.one),
        "one_training": make_plain(expect_tau(list(columns.values()), reference.ceiling)),
        "rows": rows,
        **choose_best(rows, others, counts, reference),
        "top": max(1, math.ceil(TOP * len(whole))),
        "cost_in": "image passes" if reference.passes is not None else "seconds",
        "space": space,
        "reference_seeds": list(seeds),
        **keep,
        "seconds": round(seconds, 3),
        "output": str(output),
    }
    summary = json.loads(json.dumps(summary))
    write_json(output / "summary.json", summary)
    rank_figure([*others, *counts], rows, truth, reference.ceiling.best, output)
    return StudyResult(summary, trials=found.tables["trials"], members=members, rows=rows)


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas rank`` prints."""

    def number(value: float | None, form: str = ".3f") -> str:
        return "" if value is None else format(value, form).replace("0.", ".", 1)

    cells = [
        [
            row["shortcut"],
            number(row["tau"]),
            "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
            number(row["tau_over_ceiling"], ".2f"),
            number(row["tau_top"], ".2f"),
            number(row["tau_equal_macs"], ".2f"),
            "" if row["overlap"] is None else f"{row['overlap']:.0%}",
            "" if row["cost"] is None else f"{row['cost']:.2%}",
            "" if row["trainings"] is None else str(row["trainings"]),
            number(row["predictor_tau"]),
        ]
        for row in summary["rows"]
    ]
    count, top = summary["members"], summary["top"]
    header = [
        "shortcut",
        "τ",
        "95 % interval",
        "τ / ceiling",
        f"τ of best {top}",
        "τ at equal MACs",
        f"best {top} found",
    ]
    header += ["cost", "trainings", "predictor's τ there"]
    seeds = len(summary["reference_seeds"])
    lines = [
        f"{summary['space']}: {count} members, each trained with {seeds} seeds by {summary['evaluator']}; Kendall's τ "
        "of each shortcut with their mean",
        f"one seed with another: τ {number(summary['seed_to_seed'])}; so the truth itself would have "
        f"{number(summary['ceiling'])} (the ceiling), one more training of each {number(summary['one_training'])}",
        "",
        text_table(header, cells),
        "",
        f"cost: {summary['cost_in']}, as a share of one training of each member; trainings: the same as trainings of "
        "members; the predictor is a ridge regression trained on as many",
        *_tell_verdict(summary),
    ]
    if count < 60:
        error = 1.1 / math.sqrt(count)
        lines.append(
            f"note: {count} members tell a τ of .5 to about ± {error:.2f} (one standard error): use 60 or more"
        )
    if summary["failed"]:
        lines.append(f"{summary['failed']} trainings failed; the first reason: {summary['reasons'][0]}")
    lines.append(f"written to {summary['output']}: summary.json members.csv trials.csv rank.png rank.svg")
    return "\n".join([*lines, *tell_report(summary["output"])])


def _tell_verdict(summary: Mapping[str, Any]) -> list[str]:
    """Which shortcuts pay: those clearly better than the best count, and than the predictor at their cost."""
    rows = summary["rows"]
    shortcuts = [row for row in rows if row["kind"] == "shortcut" and row["tau"] is not None]
    counts = [row for row in rows if row["kind"] == "count" and row["tau"] is not None]
    best = max(counts, key=lambda row: row["tau"], default=None)
    lines = []
    for row in shortcuts:
        rivals = {f"{best['shortcut']} ({best['tau']:.2f})": best["tau"]} if best else {}
        if row["predictor_tau"] is not None:
            rivals[f"the predictor ({row['predictor_tau']:.2f})"] = row["predictor_tau"]
        behind = [name for name, tau in rivals.items() if row["tau"] <= tau]
        unsure = [name for name, tau in rivals.items() if row["low"] is not None and row["low"] <= tau < row["tau"]]
        if behind:
            lines.append(f"{row['shortcut']} does not pay: no better than {' and '.join(behind)}")
        elif unsure:
            lines.append(f"{row['shortcut']}: not surely better than {' and '.join(unsure)}")
        else:
            lines.append(f"{row['shortcut']} pays: above {' and '.join(rivals) or 'nothing to compare with'}")
    chosen, told = summary["selected_on"], summary["confirmed_on"]
    if chosen and told and "shortcut" in chosen and told.get("tau") is not None:
        lines.append(
            f"the best by seeds {_list(chosen['seeds'])} is {chosen['shortcut']}: τ {told['tau']:.3f} with seeds "
            f"{_list(told['seeds'])}, which chose nothing ({chosen['tau']:.3f} where it was chosen)"
        )
    return lines


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
