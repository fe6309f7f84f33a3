"""A family: the law of its members' errors, what it predicts, and what it would have said before."""

from __future__ import annotations

from typing import Any

from ..folders import Run
from ..marks import COLOURS, GREY, cost_axis, percent_axis, spec, tips
from ..markup import Figure, Piece, count, number, paragraph, percent, seconds, table
from ..networks import COSTS, UNITS
from ..trials import is_number

#: Points along the law's line.
STEPS = 60


def show_family(run: Run) -> Piece | None:
    """The members, the law through them, predictions with 90 % intervals, and the backtest."""
    found = run.summary
    axis, law = found.get("x"), found.get("law")
    if run.kind != "predict" or axis not in COSTS or not isinstance(law, dict):
        return None
    form = seconds if axis == "latency" else count
    members = [row for row in found.get("members", []) if is_number(row.get(axis))]
    predictions = [row for row in found.get("predictions", []) if is_number(row.get(axis))]
    marks = [_mark(row, axis, "member" if row.get("on_law", True) else "off the law") for row in members]
    marks += [_mark(row, axis, "predicted") for row in predictions]
    ends = [row[axis] for row in (*members, *predictions)]
    marks += _line(law, min(ends), max(ends)) if ends and min(ends) > 0 else []
    words = (
        f"The law of {sum(bool(row.get('on_law', True)) for row in members)} members: error = {law['c']:.4f} + "
        f"{law['a']:.4g} · ({COSTS[axis][0]})^−{law['b']:.3f}. No size gets beyond {percent(1 - law['c'])}."
    )
    body = paragraph(words) + "".join(paragraph(f"note: {note}", "note") for note in found.get("notes", []))
    body += _predictions(run, predictions, axis, form) + _backtest(run, found.get("backtest", []), axis, form)
    caption = "Members as they were trained, the law, and what it predicts of larger ones, with 90 % intervals."
    figure = Figure(f"Accuracy against {COSTS[axis][0]}", _spec(marks, axis), caption, 340, wide=True)
    return Piece("The family, and its prediction", body, (figure,))


def _mark(row: Any, axis: str, kind: str) -> dict[str, Any]:
    name = row.get("name") or (f"φ = {row['phi']:g}" if is_number(row.get("phi")) else "")
    return {
        "x": row[axis],
        "y": row.get("accuracy"),
        "low": row.get("low"),
        "high": row.get("high"),
        "kind": kind,
        "name": str(name)[:300],
        "line": False,
    }


def _line(law: Any, low: float, high: float) -> list[dict[str, Any]]:
    found = []
    for i in range(STEPS + 1):
        x = low * (high / low) ** (i / STEPS)
        found.append({"x": x, "y": 1 - law["c"] - law["a"] * x ** -law["b"], "line": True, "name": "the law"})
    return found


def _spec(marks: list[dict[str, Any]], axis: str) -> dict[str, Any]:
    values: list[Any] = [v for mark in marks for v in (mark["y"], mark.get("low"), mark.get("high")) if is_number(v)]
    x = cost_axis("x", COSTS[axis][0], [mark["x"] for mark in marks], UNITS.get(axis, ""))
    y = percent_axis("y", "accuracy", values)
    kinds = ["member", "off the law", "predicted"]
    legend = {"orient": "bottom", "title": None}
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": kinds, "range": [COLOURS[0], COLOURS[3], COLOURS[1]]},
        "legend": legend,
    }
    shape = {"field": "kind", "type": "nominal", "scale": {"domain": kinds, "range": ["circle", "cross", "diamond"]}}
    told = tips(
        *(("name", "network", ""), ("kind", "", ""), ("x", COSTS[axis][0], ".4s"), ("y", "accuracy", ".2%")),
        *(("low", "low (90 %)", ".2%"), ("high", "high (90 %)", ".2%")),
    )
    told[1]["title"] = "which is"
    return spec(
        marks,
        [
            {
                "transform": [{"filter": "datum.line"}],
                "mark": {"type": "line", "color": GREY, "strokeDash": [5, 4]},
                "encoding": {"x": x, "y": y},
            },
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour},
            },
            {
                "transform": [{"filter": "!datum.line"}],
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "shape": {**shape, "legend": legend}, "tooltip": told},
            },
        ],
    )


def _predictions(run: Run, rows: list[Any], axis: str, form: Any) -> str:
    if not rows:
        return ""
    cells = [
        [
            row.get("name") or "",
            (number(row.get("phi"), "g"), row.get("phi")),
            (form(row[axis]), row[axis]),
            (percent(row.get("accuracy")), row.get("accuracy")),
            (f"{percent(row.get('low'))} to {percent(row.get('high'))}", f"{row.get('low')} {row.get('high')}"),
        ]
        for row in rows
    ]
    return table(["network", "φ", COSTS[axis][0], "accuracy", "90 %"], cells, f"Predictions of {run.name}")


def _backtest(run: Run, rows: list[Any], axis: str, form: Any) -> str:
    if not rows:
        return paragraph("No backtest: it needs a fifth member.", "note")
    cells = [
        [
            f"{row.get('from_name', '')} ({row.get('members', '?')} members)",
            row.get("name") or "",
            (form(row.get(axis)), row.get(axis)),
            (percent(row["predicted"]), row["predicted"]),
            (f"{percent(row['low'])} to {percent(row['high'])}", f"{row['low']} {row['high']}"),
            (percent(row["actual"]), row["actual"]),
            (f"{100 * (row['predicted'] - row['actual']):+.2f}", row["predicted"] - row["actual"]),
            "yes" if row["low"] <= row["actual"] <= row["high"] else "NO",
        ]
        for row in rows
    ]
    hits = sum(line[-1] == "yes" for line in cells)
    header = ["had you stopped at", "it would have said of", COSTS[axis][0], "predicted", "90 %", "it was"]
    words = f"Backtest: {hits} of {len(cells)} inside their 90 % intervals."
    return paragraph(words) + table([*header, "points off", "inside"], cells, f"Backtest of {run.name}", left=2)
