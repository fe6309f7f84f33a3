"""What ``effnas predict`` writes and prints."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluate.drawing.axes import COUNTS, SECONDS, choose_unit
from ...evaluate.folder import folder_lock, versions, write_csv, write_json
from ...space.tables import text_table
from .checks import Backtest, OffLaw
from .figure import prediction_figure
from .law import Law
from .members import AXES, Member

#: What the units of a cost are followed by.
NOUNS = {"macs": "MACs", "activations": "activations", "params": "parameters", "latency": ""}
COLUMNS = ("name", "phi", *AXES, "accuracy", "low", "high")
#: Rows of a table that the terminal shows.
SHOWN = 12


def write_prediction(
    law: Law,
    axis: str,
    members: Sequence[Member],
    off: Sequence[OffLaw],
    backtests: Sequence[Backtest],
    answers: Mapping[str, Any],
    output: Path,
    command: str,
) -> dict[str, Any]:
    """Write everything and return the content of ``predict.json``.

    Args:
        law: of the members that are on it.
        axis: what they cost.
        members: all, by cost; ``off`` are those that the law does not hold for.
        backtests: of :func:`~effnas.scaling.predict.checks.run_backtests`.
        answers: ``predictions doubling target noise notes``.
        output: folder.
        command: as the user typed it.
    """
    left_out = {one.member.name for one in off}
    summary: dict[str, Any] = {
        "x": axis,
        "predictions": answers["predictions"],
        "law": {"c": law.equation.c, "a": law.equation.a, "b": law.equation.b},
        "backtest": [_backtest(one, axis) for one in backtests],
        "doubling": answers["doubling"],
        "target": answers["target"],
        "members": [
            {
                "name": member.name,
                **{name: member.costs.get(name) for name in AXES},
                "accuracy": member.accuracy,
                "sd": member.sd,
                "runs": member.runs,
                "expected": law.equation.accuracy(member.costs[axis]),
                "on_law": member.name not in left_out,
            }
            for member in members
        ],
        "off_law": [
            {
                "name": one.member.name,
                axis: one.member.costs[axis],
                "accuracy": one.member.accuracy,
                "expected": one.expected.accuracy,
                "low": one.expected.low,
                "high": one.expected.high,
                "reason": one.reason,
            }
            for one in off
        ],
        "noise": answers["noise"],
        "notes": answers["notes"],
        "versions": versions(),
        "command": command,
        "output": str(output),
    }
    with folder_lock(output, "predict"):
        write_csv(output / "predict.csv", COLUMNS, summary["predictions"])
        prediction_figure(summary, law, output)
        write_json(output / "predict.json", summary)
    return summary


def _backtest(one: Backtest, axis: str) -> dict[str, Any]:
    return {
        "from": one.known[-1].costs[axis],
        "from_name": one.known[-1].name,
        "members": len(one.known),
        "name": one.member.name,
        axis: one.member.costs[axis],
        "predicted": one.predicted.accuracy,
        "low": one.predicted.low,
        "high": one.predicted.high,
        "actual": one.member.accuracy,
    }


def unit_of(axis: str, values: Sequence[float]) -> tuple[float, str]:
    """The unit that the values of a cost are told in, by the middle one: how large it is, and its name."""
    middle = [statistics.median_low(values)]
    if axis == "latency":
        size, name = choose_unit(middle, SECONDS)
        return size, {"seconds": "s", "milliseconds": "ms", "microseconds": "µs"}[name]
    size, _ = choose_unit(middle, COUNTS)
    return size, f"{ {1e9: 'G ', 1e6: 'M ', 1e3: 'K ', 1.0: ''}[size] }{NOUNS[axis]}"


def show_cost(axis: str, value: float | None) -> str:
    """A cost in the unit that fits it; – where it is not known."""
    if value is None:
        return "–"
    size, unit = unit_of(axis, [value])
    return f"{value / size:,.3g} {unit}" if value / size < 1e4 else f"{value:.2g} {NOUNS[axis] or 's'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _units(s: Mapping[str, Any]) -> tuple[float, str]:
    return unit_of(s["x"], [member[s["x"]] for member in s["members"]])


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas predict`` prints."""
    s = summary
    size, unit = _units(s)
    law = s["law"]
    on = [member for member in s["members"] if member["on_law"]]
    lines = [
        f"law of {len(on)} members: error = {law['c']:.4f} + {law['a'] * size ** -law['b']:.4g} · ({unit})^−"
        f"{law['b']:.3f}; no size gets beyond {1 - law['c']:.1%}",
        "",
        _members_table(s),
        "",
        "predicted, with 90 % intervals:",
        _predictions_table(s),
        "",
        *_backtest_lines(s),
        *_answers(s),
        *(f"note: {note}" for note in s["notes"]),
        f"written to {s['output']}: predict.png predict.svg predict.csv predict.json",
    ]
    return "\n".join(lines)


def _members_table(s: Mapping[str, Any]) -> str:
    size, unit = _units(s)
    several = any(member["runs"] > 1 for member in s["members"])
    rows = []
    for member in s["members"]:
        row = [member["name"], f"{_number(member[s['x']] / size)}", f"{member['accuracy']:.2%}"]
        if several:
            row += [str(member["runs"]), "" if member["sd"] is None else f"{member['sd']:.2%}"]
        difference = 100 * (member["accuracy"] - member["expected"])
        rows.append([*row, f"{difference:+.2f}{'' if member['on_law'] else '  OFF THE LAW'}"])
    return text_table(["member", unit, "top-1", *(["runs", "sd"] if several else []), "from the law"], rows)


def _predictions_table(s: Mapping[str, Any]) -> str:
    axis = s["x"]
    size, unit = _units(s)
    named = any("phi" in row for row in s["predictions"])
    largest = max(member[axis] for member in s["members"])
    rows = []
    for row in s["predictions"]:
        line = [str(row.get("name", "")), f"{row['phi']:g}" if "phi" in row else ""] if named else []
        line += [f"{_number(row[axis] / size)}", f"{row[axis] / largest:.3g}×", f"{row['accuracy']:.2%}"]
        rows.append([*line, f"{row['low']:.2%} to {row['high']:.2%}"])
    header = [*(["network", "phi"] if named else []), unit, "of the largest", "top-1", "90 %"]
    return text_table(header, rows, left=1 if named else 0)


def _backtest_lines(s: Mapping[str, Any]) -> list[str]:
    """What would have been said before: of the largest member in full, of all in one line."""
    rows = s["backtest"]
    if not rows:
        return ["no backtest: it needs a fifth member", ""]
    last = s["members"][-1]["name"]
    lines = []
    for row in [row for row in rows if row["name"] == last][-SHOWN:]:
        half = 50 * (row["high"] - row["low"])
        inside = row["low"] <= row["actual"] <= row["high"]
        lines.append(
            f"had you stopped at {row['from_name']} ({row['members']} members, 1/{row[s['x']] / row['from']:.3g} of "
            f"its cost), I would have said {row['predicted']:.2%} ± {half:.2f} of {last}; it was {row['actual']:.2%}"
            f"{'' if inside else ', OUTSIDE the interval'}"
        )
    if len(rows) > 1:
        misses = [100 * abs(row["predicted"] - row["actual"]) for row in rows]
        hits = sum(row["low"] <= row["actual"] <= row["high"] for row in rows)
        lines.append(
            f"all {len(rows)} backtests: {statistics.fmean(misses):.2f} points off on average, {max(misses):.2f} at "
            f"most; {hits} inside their 90 % intervals"
        )
    return [*lines, ""]


def _answers(s: Mapping[str, Any]) -> list[str]:
    axis, lines = s["x"], []
    double, target = s["doubling"], s["target"]
    at = "" if double["phi"] is None else f" (phi = {double['phi']:g})"
    lines.append(
        f"from {show_cost(axis, double[axis])}{at} on, doubling gains less than {100 * double['gain']:g} points "
        f"({show_cost(axis, double['low'])} to {show_cost(axis, double['high'])})"
    )
    if target is None:
        return lines
    if target[axis] is None:
        lines.append(
            f"{target['accuracy']:.2%} is out of reach: the law ends at {target['limit']:.2%}; with probability "
            f"{target['probability']:.0%} some size has it"
        )
        return lines
    at = "" if target["phi"] is None else f", phi = {target['phi']:g}"
    high = "no size" if target["high"] is None else show_cost(axis, target["high"])
    lines.append(
        f"{target['accuracy']:.2%} needs {show_cost(axis, target[axis])}{at} (90 %: {show_cost(axis, target['low'])} "
        f"to {high}; with probability {target['probability']:.0%} some size has it)"
    )
    return lines
