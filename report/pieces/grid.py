"""The grid of α, β and γ: where in the triangle of depth, width and resolution the accuracy is."""

from __future__ import annotations

import math
from typing import Any

from ..folders import Run
from ..marks import shades, spec
from ..markup import Figure, Piece, count, number, paragraph, percent, table
from ..networks import Networks
from ..trials import is_number

#: Rows of the table.
ROWS = 40
_NAMES = ("alpha", "beta", "gamma")
#: Growth of the MACs with each coefficient: depth once, width and resolution twice.
_POWERS = (1, 2, 2)


def show_grid(run: Run, networks: Networks) -> Piece | None:
    """The points of a grid search in the plane of their shares of the growth, and as a table."""
    points = run.summary.get("points") or run.table("points")
    rows = [row for row in points if all(is_number(row.get(name)) for name in _NAMES)]
    done = [row for row in rows if is_number(row.get("accuracy"))]
    if run.kind != "grid-alpha-beta-gamma" or not done:
        return None
    best = run.summary.get("best") or {}
    marks: list[dict[str, Any]] = []
    for row in done:
        growth = [power * math.log(row[name]) for name, power in zip(_NAMES, _POWERS, strict=True)]
        if sum(growth) <= 0 or row.get("candidate") in (False, "False"):  # of a star: the baseline, and larger arms
            continue
        depth, _, side = (part / sum(growth) for part in growth)
        chosen = all(row[name] == best.get(name) for name in _NAMES)
        marks.append({"x": side + depth / 2, "y": depth * math.sqrt(3) / 2, "v": row["accuracy"], "best": chosen})
        marks[-1]["network"] = networks.add(run.name, _named(row) + ", the chosen point" * chosen, _facts(row))
    table_rows = [
        [
            _named(row),
            (percent(row["accuracy"]), row["accuracy"]),
            (percent(row.get("sd")), row.get("sd")),
            number(row.get("seeds")),
            (number(row.get("nominal_macs_ratio"), ".3f"), row.get("nominal_macs_ratio")),
            (number(row.get("macs_ratio"), ".3f"), row.get("macs_ratio")),
            (count(row.get("macs")), row.get("macs")),
            (count(row.get("params")), row.get("params")),
            number(row.get("resolution")),
        ]
        for row in sorted(done, key=lambda row: -row["accuracy"])[:ROWS]
    ]
    header = ["α, β, γ", "accuracy", "sd", "seeds", "nominal MACs ratio", "achieved", "MACs", "parameters", "pixels"]
    body = "".join(paragraph(words) for words in _verdict(run))
    if len(done) > ROWS:
        body += paragraph(f"The first {ROWS} of {len(done)} points; points.csv has all.", "note")
    body += table(header, table_rows, f"Points of {run.name}")
    caption = (
        "Each point is a network at φ = 1; its place says how the growth of the MACs is shared: a corner is depth, "
        "width or resolution alone. Colour is accuracy on held-out images, a ring the chosen point. Click to pin."
    )
    if len(marks) < len(done):
        caption += " A star's baseline and its networks of four times the cost are in the table alone."
    return Piece("The grid", body, (Figure("Accuracy over α, β, γ", _spec(marks), caption, 400),))


def _named(row: Any) -> str:
    return ", ".join(f"{symbol} {row[name]:g}" for symbol, name in zip("αβγ", _NAMES, strict=True))


def _facts(row: Any) -> dict[str, str]:
    facts = {"accuracy": percent(row["accuracy"]), "sd over seeds": percent(row.get("sd"))}
    facts |= {"achieved MACs ratio": number(row.get("macs_ratio"), ".3f"), "MACs": count(row.get("macs"))}
    return facts | {"parameters": count(row.get("params")), "resolution": f"{row.get('resolution')}²"}


def _verdict(run: Run) -> list[str]:
    verdict, surface = run.summary.get("verdict") or {}, run.summary.get("surface") or {}
    first = (run.summary.get("points") or [{}])[0]
    words = [f"{_named(first)} {verdict['text']}."] if verdict.get("text") and all(n in first for n in _NAMES) else []
    if surface.get("fitted"):
        words.append(
            f"A response surface over {surface.get('points')} networks has R² {number(surface.get('r2'), '.2f')}."
        )
    elif surface.get("text"):
        words.append(f"No response surface: {surface['text']}.")
    until = run.summary.get("until") or {}
    return [*words, f"{until['text']}."] if until.get("text") else words


def _spec(marks: list[dict[str, Any]]) -> dict[str, Any]:
    top = math.sqrt(3) / 2
    none: dict[str, Any] = {"axis": None, "scale": {"domain": [-0.12, 1.12], "nice": False}}
    up: dict[str, Any] = {"axis": None, "scale": {"domain": [-0.1, top + 0.1], "nice": False}}
    x, y = ({"field": name, "type": "quantitative", **how} for name, how in (("x", none), ("y", up)))
    edges = [{"x": a, "y": b, "o": i} for i, (a, b) in enumerate([(0, 0), (1, 0), (0.5, top), (0, 0)])]
    corners = [
        {"x": 0, "y": -0.05, "t": "width (β)"},
        {"x": 1, "y": -0.05, "t": "resolution (γ)"},
        {"x": 0.5, "y": top + 0.05, "t": "depth (α)"},
    ]
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": edges},
            "mark": {"type": "line", "color": "#808080", "strokeWidth": 1},
            "encoding": {"x": x, "y": y, "order": {"field": "o"}},
        },
        {
            "data": {"values": corners},
            "mark": {"type": "text", "fontSize": 12},
            "encoding": {"x": x, "y": y, "text": {"field": "t"}},
        },
        {
            "mark": {
                "type": "point",
                "filled": True,
                "size": 110,
                "opacity": 1,
                "stroke": "#808080",
                "cursor": "pointer",
            },
            "encoding": {"x": x, "y": y, "color": shades("v", "accuracy")},
        },
        {
            "transform": [{"filter": "datum.best"}],
            "mark": {"type": "point", "size": 330, "color": "#D55E00", "strokeWidth": 2.5, "filled": False},
            "encoding": {"x": x, "y": y},
        },
    ]
    if not any(mark["best"] for mark in marks):
        del layers[-1]  # a layer of nothing has no extent
    return spec(marks, layers, view={"stroke": None})
