"""An ablation: rules of scaling at equal cost."""

from __future__ import annotations

from typing import Any

from ..folders import Run
from ..marks import by_run, cost_axis, only_colour, percent_axis, spec
from ..markup import Figure, Piece, count, number, paragraph, percent, table
from ..networks import Networks, list_costs
from ..trials import is_number


def show_rules(run: Run, networks: Networks) -> Piece | None:
    """The networks of each rule over their MACs with standard errors, and the tests."""
    if run.kind != "ablate":
        return None
    base = run.summary.get("base")
    rows = [row for row in run.summary.get("rows", []) if isinstance(row, dict)]
    done = [row for row in rows if is_number(row.get("accuracy")) and is_number(row.get("macs"))]
    if not done:
        return None
    cells = [
        [
            str(row.get("rule")),
            number(row.get("factor"), "g"),
            (percent(row.get("accuracy")), row.get("accuracy")),
            (percent(row.get("standard_error")), row.get("standard_error")),
            number(row.get("seeds")),
            (count(row.get("macs")), row.get("macs")),
            (number(row.get("macs_ratio"), ".3f"), row.get("macs_ratio")),
            (count(row.get("params")), row.get("params")),
            number(row.get("resolution")),
            number(row.get("blocks")),
        ]
        for row in ([base] if isinstance(base, dict) else []) + rows
    ]
    header = ["rule", "×", "accuracy", "s. e.", "seeds", "MACs", "ratio", "parameters", "pixels", "blocks"]
    body = table(header, cells, f"Networks of {run.name}")
    tests = [
        f"× {number(one.get('factor'), 'g')}, {one.get('rule')} against {one.get('reference')}: {one.get('text')}"
        for one in run.summary.get("comparisons", [])
        if isinstance(one, dict)
    ]
    body += "".join(map(paragraph, tests)) + "".join(
        paragraph(f"note: {n}", "note") for n in run.summary.get("notes", [])
    )
    marks = [_mark(run, row, networks) for row in done]
    names = list(dict.fromkeys(mark["run"] for mark in marks))
    caption = "Mean over seeds, with one standard error to both sides where there are several. Click to pin a network."
    return Piece(
        "Rules of scaling", body, (Figure("Accuracy against MACs", _spec(marks, names), caption, 360, wide=True),)
    )


def _mark(run: Run, row: Any, networks: Networks) -> dict[str, Any]:
    error = row.get("standard_error") or 0.0
    facts = {"accuracy": percent(row["accuracy"]), "standard error": percent(row.get("standard_error"))}
    facts |= list_costs(row)
    facts |= {key: number(row.get(key)) for key in ("resolution", "blocks", "depth", "width", "phi")}
    name = f"{row.get('rule')} × {number(row.get('factor'), 'g')}"
    return {
        "x": row["macs"],
        "y": row["accuracy"],
        "low": row["accuracy"] - error,
        "high": row["accuracy"] + error,
        "run": str(row.get("rule")),
        "network": networks.add(run.name, name, facts),
    }


def _spec(marks: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    x = cost_axis("x", "MACs", [mark["x"] for mark in marks])
    y = percent_axis("y", "accuracy", [mark[key] for mark in marks for key in ("low", "high")])
    channels = by_run(names, "rule")
    shared = {"x": x, "y": y, **only_colour(channels)}
    return spec(
        marks,
        [
            {"mark": {"type": "line", "opacity": 0.5}, "encoding": shared},
            {"mark": "rule", "encoding": {**shared, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "cursor": "pointer"},
                "encoding": {**shared, **channels},
            },
        ],
    )
