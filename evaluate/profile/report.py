"""What ``effnas profile`` writes and prints."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...space.tables import text_table
from ..arguments import describe_device
from ..folder import versions, write_csv, write_json

COLUMNS = (
    *("name", "digest", "resolution", "in_channels", "num_classes", "params", "macs", "activations", "peak_memory"),
    *("fvcore_params", "fvcore_macs", "fvcore_activations", "fvcore_total"),
    *("latency", "latency_q1", "latency_q3", "images_per_second", "measured_memory"),
    *("batch_size", "threads", "device", "precision", "repeats"),
)
#: Of a line of text.
WIDTH = 118


def write_profile(rows: Sequence[dict[str, Any]], output: Path, command: str) -> dict[str, Any]:
    """Write ``profile.json`` and ``profile.csv``, and return the content of the former.

    Args:
        rows: of the networks, as :func:`~effnas.evaluate.profile.job.run_profile` describes them.
        output: folder.
        command: as the user typed it.
    """
    for row in rows:
        if row["fvcore"] is not None:
            row["fvcore"]["note"] = explain_difference(row)
    flat = [{**row, **{f"fvcore_{key}": value for key, value in (row["fvcore"] or {}).items()}} for row in rows]
    write_csv(output / "profile.csv", COLUMNS, flat)
    summary = {"networks": list(rows), "versions": versions(), "command": command, "output": str(output)}
    write_json(output / "profile.json", summary)
    return summary


def explain_difference(row: Mapping[str, Any]) -> str:
    """What fvcore's total holds beyond our count, and why the counts differ where they do."""
    other = row["fvcore"]
    parts = []
    if other["others"]:
        rest = ", ".join(f"{name} {number:,}" for name, number in other["others"].items())
        parts.append(f"fvcore's total is {other['total']:,}: it also counts {rest}")
    differing = [
        f"{what} by {other[key] - row[key]:+,}"
        for key, what in (("params", "parameters"), ("macs", "MACs"), ("activations", "activations"))
        if other[key] != row[key]
    ]
    if differing:
        unknown = ", ".join(f"{name} ({other['uncounted'][name]} times)" for name in other["unknown_products"])
        reason = f"fvcore does not count {unknown}" if unknown else "no operator that fvcore leaves out explains it"
        parts.append(f"fvcore differs in {', '.join(differing)}: {reason}")
    else:
        parts.append("the counts of convolutions and matrix products agree")
    return "; ".join(parts)


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas profile`` prints: a table of the networks, then the stages of each."""
    rows = summary["networks"]
    first = rows[0]
    where = describe_device(first["device"], first["threads"])
    passes = sorted({row["repeats"] for row in rows})
    many = f"{passes[0]}" if len(passes) == 1 else f"{passes[0]} to {passes[-1]}"
    images = f"{first['batch_size']} image{'s' * (first['batch_size'] > 1)} per batch"
    how = (
        f"latency and memory: {where}, {first['precision']}, {images}; median and quartiles of {many} passes of plain "
        "PyTorch, random weights"
    )
    parts = [_networks_table(rows), textwrap.fill(how, WIDTH)]
    for row in rows:
        parts.append(f"{row['name']}\n{_stages_table(row)}")
        if row["fvcore"] is not None:
            parts[-1] += "\n" + textwrap.fill(row["fvcore"]["note"], WIDTH)
    return "\n\n".join([*parts, f"written to {summary['output']}: profile.json profile.csv"])


def _networks_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["network", "pixels", "", "parameters", "MACs", "activations", "ms per batch", "quartiles", "images/s"]
    header += ["memory MiB"]
    cells = []
    for row in rows:
        low, middle, high = (f"{1e3 * row[key]:.3g}" for key in ("latency_q1", "latency", "latency_q3"))
        memory = "–" if row["measured_memory"] is None else f"{row['measured_memory'] / 2**20:.1f}"
        counts = [f"{row[key]:,}" for key in ("params", "macs", "activations")]
        line = [row["name"], f"{row['resolution']}²", "effnas", *counts]
        cells.append([*line, middle, f"{low}–{high}", f"{row['images_per_second']:.3g}", memory])
        if row["fvcore"] is not None:
            others = [f"{row['fvcore'][key]:,}" for key in ("params", "macs", "activations")]
            cells.append(["", "", "fvcore", *others, "", "", "", ""])
    return text_table(header, cells)


def _stages_table(row: Mapping[str, Any]) -> str:
    """A builder's network has the parts of its module, where our count is of the whole alone."""
    counted, other = row["stages"][0]["macs"] is not None, row["fvcore"] is not None
    header = ["stage", "out", "parameters", "MACs", "activations", "peak KiB"] if counted else ["part", "parameters"]
    header += ["MACs (fvcore)"] if other else []
    cells = []
    for stage in row["stages"]:
        line = [stage["name"]]
        if counted:
            line += [f"{stage['channels']}×{stage['resolution']}²"]
            line += [f"{stage[key]:,}" for key in ("params", "macs", "activations")]
            line += [f"{stage['peak_memory'] // 1024:,}"]
        else:
            line += [f"{stage['params']:,}"]
        cells.append(line + ([f"{stage['fvcore_macs']:,}"] if other else []))
    return text_table(header, cells)
