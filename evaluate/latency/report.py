"""What ``effnas latency`` writes and prints."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..folder import versions, write_csv, write_json
from .figure import latency_figure
from .model import Array, LatencyModel

MEASURED, MODEL = "measurements.csv", "latency.json"


def write_fit(
    model: LatencyModel, said: Array, seconds: Sequence[float], facts: Mapping[str, Any], output: Path
) -> dict[str, Any]:
    """Write the model and what its cross-validation says of it, and return the content of ``summary.json``."""
    model.save(output / MODEL)
    summary: dict[str, Any] = {"task": "fit", "space": model.space, **model.judged, **facts}
    summary |= {
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "versions": versions(),
        "output": str(output),
    }
    latency_figure(said.tolist(), seconds, summary, output)
    write_json(output / "summary.json", summary)
    return summary


def write_measured(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], output: Path, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the measurements, and at the end, when there are ``facts``, the summary, which is returned."""
    write_csv(output / MEASURED, columns, rows)
    if facts is None:
        return {}
    seconds = [float(row["seconds"]) for row in rows]
    summary = {"task": "measure", "rows": len(rows), **facts, "seconds_low": min(seconds), "seconds_high": max(seconds)}
    summary |= {"seconds_median": statistics.median(seconds), "versions": versions(), "output": str(output)}
    write_json(output / "summary.json", summary)
    return summary


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas latency`` prints."""
    s = summary
    span = f"{1e3 * s['seconds_low']:.4g} to {1e3 * s['seconds_high']:.4g} ms"
    if s["task"] == "measure":
        return "\n".join(
            [
                f"{s['rows']} networks of {s['space']} measured: {span}, median {1e3 * s['seconds_median']:.4g} ms",
                f"{s['measured']}; median of {s['rounds']} rounds in alternation, after one that warms up",
                f"written to {s['output']}: {MEASURED} summary.json",
                f"next: effnas latency fit {s['output']}/{MEASURED} --space {s['space']} -o {s['output']}-model",
            ]
        )
    left_out = f" (of {s['networks']})" * (s["networks"] > s["rows"])
    return "\n".join(
        [
            f"latency of space {s['space']} from {s['rows']} networks{left_out}, {span}",
            f"by cross-validation: Kendall's tau {s['kendall_tau']:.3f}, median error {s['median_error']:.1%}",
            f"written to {s['output']}: {MODEL} summary.json latency.png latency.svg",
            f"next: effnas scale --target-latency 10ms --latency-model {s['output']}/{MODEL}, or in Python "
            "effnas.load_latency(FILE)(architecture)",
        ]
    )
