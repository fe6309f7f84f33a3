"""The output folder of ``effnas compare``: the points, what equal accuracy costs, the figure, the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...space.files import remove_leftovers
from ...space.tables import text_table
from ..folder import make_folder, versions, write_csv, write_json
from .equal_accuracy import PUBLISHED, Families, Pair, SpeedUp
from .figure import compare_figure
from .points import Point
from .references import printed_points

COLUMNS = (
    "family",
    "name",
    "accuracy",
    "standard_error",
    "runs",
    "params",
    "macs",
    "latency",
    "resolution",
    "of",
    "latency_of",
    "architecture",
    "summary",
    "source",
)


def write_comparison(
    families: Families,
    references: Sequence[Point],
    *,
    axes: Sequence[str],
    scale: str,
    names: bool,
    pairs: Sequence[Pair],
    speed_ups: Sequence[SpeedUp],
    rounds: Mapping[Point, Sequence[float]],
    notes: Sequence[str],
    output: Path,
    command: str,
) -> dict[str, Any]:
    """Write everything and return the content of ``compare.json``.

    Args:
        families, references: what is shown.
        axes, scale, names: of the figure.
        pairs, speed_ups: of :mod:`~effnas.evaluate.compare.equal_accuracy`.
        rounds: seconds per round of the latencies that were measured here.
        notes: what makes numbers incomparable.
        output: folder.
        command: as the user typed it.
    """
    shown = (*(p for points in families.values() for p in points), *references)
    summary: dict[str, Any] = {
        "x": list(axes),
        "families": {name: [asdict(point) for point in points] for name, points in families.items()},
        "references": [asdict(point) for point in references],
        "pairs": [_row(pair) for pair in pairs],
        "speed_ups": [_row(pair) for pair in speed_ups],
        "latency_rounds": [{"family": p.family, "name": p.name, "seconds": list(s)} for p, s in rounds.items()],
        "notes": list(notes),
        "versions": versions(),
        "command": command,
        "output": str(output),
    }
    make_folder(output)
    remove_leftovers(output, held=False)
    write_csv(output / "compare.csv", COLUMNS, map(asdict, shown))
    compare_figure(families, references, axes=axes, scale=scale, names=names, notes=notes, output=output)
    write_json(output / "compare.json", summary)
    return summary


def _row(pair: Pair | SpeedUp) -> dict[str, Any]:
    """Plain numbers, the two networks by family and name."""
    row = asdict(pair)
    for key, point in (("member", pair.member), ("reference", pair.reference)):
        prefix = "" if key == "member" else "reference_"
        row[key] = point and point.name
        row |= {f"{prefix}{field}": point and getattr(point, field) for field in ("family", "accuracy", "latency")}
    return row


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas compare`` prints."""
    s = summary
    lines = []
    for name, points in s["families"].items():
        lines += [f"{name}:", _points_table(points), ""]
    if s["pairs"]:
        lines += ["at equal or better accuracy (ratios: the other's over ours)", _pairs_table(s["pairs"]), ""]
    if s["speed_ups"]:
        count = len(s["latency_rounds"][0]["seconds"])
        lines += [
            f"speed-up at equal or better accuracy, measured here in alternation, median of {count} rounds",
            _speed_table(s["speed_ups"]),
            *([_table4()] if any(pair["other"] == PUBLISHED for pair in s["speed_ups"]) else []),
            "",
        ]
    lines += [f"note: {note}" for note in s["notes"]]
    return "\n".join([*lines, f"written to {s['output']}: compare.png compare.svg compare.csv compare.json"])


def _points_table(points: Sequence[Mapping[str, Any]]) -> str:
    timed = any(point["latency"] is not None for point in points)
    digits = 1 if max(p["macs"] or 0 for p in points) >= 1e7 else 3
    rows = []
    for p in sorted(points, key=lambda p: (p["macs"] or 0, p["params"] or 0)):
        error = "" if p["standard_error"] is None else f"± {p['standard_error']:.2%}"
        row = [
            p["name"],
            f"{p['accuracy']:.2%}",
            error,
            str(p["runs"]),
            _millions(p["params"], 3),
            _millions(p["macs"], digits),
        ]
        row += [f"{p['resolution']}²" if p["resolution"] else "–"]
        rows.append(row + ([_milliseconds(p["latency"])] if timed else []))
    header = ["network", "top-1", "s. e.", "runs", "M params", "M MACs", "pixels"]
    return text_table(header + (["ms"] if timed else []), rows)


def _pairs_table(pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for p in pairs:
        row = [_named(p), f"{p['accuracy']:.2%}"]
        if p["reference"] is None:
            rows.append([*row, f"none of {_other(p)} is this low", "", "", ""])
            continue
        rows.append(
            [
                *row,
                p["reference"] if p["other"] == PUBLISHED else f"{p['reference']} ({p['other']})",
                f"{p['reference_accuracy']:.2%}",
                *(_times(p[key]) for key in ("params_ratio", "macs_ratio")),
            ]
        )
    return text_table(["network", "top-1", "against", "top-1", "params", "MACs"], rows)


def _speed_table(pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            _named(p),
            f"{p['accuracy']:.2%}",
            _milliseconds(p["latency"]),
            p["reference"] if p["other"] == PUBLISHED else f"{p['reference']} ({p['other']})",
            f"{p['reference_accuracy']:.2%}",
            _milliseconds(p["reference_latency"]),
            _times(p["ratio"]),
            f"{_times(p['low'])} to {_times(p['high'])}",
        ]
        for p in pairs
    ]
    return text_table(["network", "top-1", "ms", "against", "top-1", "ms", "speed-up", "rounds"], rows)


def _table4() -> str:
    """The paper's own two, for comparison."""
    b1, resnet, b7, gpipe = (point.latency or 0 for point in printed_points("table4"))
    return (
        "(Tan & Le 2019, Table 4, on one core of a Xeon E5-2690: "
        f"B1 {b1:g} s, ResNet-152 {resnet:g} s, {resnet / b1:.1f}×; B7 {b7:g} s, GPipe {gpipe:g} s, {gpipe / b7:.1f}×)"
    )


def _named(pair: Mapping[str, Any]) -> str:
    """With its family where that meets another one."""
    return str(pair["member"] if pair["other"] == PUBLISHED else f"{pair['member']} ({pair['family']})")


def _other(pair: Mapping[str, Any]) -> str:
    return "the published ones" if pair["other"] == PUBLISHED else str(pair["other"])


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}×"


def _millions(value: int | None, digits: int) -> str:
    return "–" if value is None else f"{value / 1e6:,.{digits}f}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{1e3 * value:,.2f}"
