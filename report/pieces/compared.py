"""A comparison of networks, and a transfer to several data sets: accuracy over cost, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..columns import row_table
from ..folders import Run
from ..marks import by_run, cost_axis, only_colour, percent_axis, spec
from ..markup import Figure, Piece, paragraph, percent
from ..networks import COSTS, UNITS, Networks, list_costs
from ..trials import is_number

_COLUMNS = ("name", "family", "accuracy", "standard_error", "runs", "macs", "params", "latency", "resolution", "source")
_TRANSFERRED = (
    *("dataset", "network", "accuracy", "standard_error", "seeds", "part", "macs", "params", "params_ratio"),
    *("resolution", "classes", "train_images", "measured_images", "seconds"),
)
#: The published points, beside the user's families.
PUBLISHED = "published"


def show_comparison(run: Run, networks: Networks) -> Piece | None:
    """Accuracy over each cost that was asked for, the families as lines, published points beside them."""
    found = run.summary
    families = found.get("families")
    if run.kind != "compare" or not isinstance(families, Mapping):
        return None
    rows = [
        *(row | {"group": str(name)} for name, members in families.items() for row in members),
        *(row | {"group": PUBLISHED, "apart": True} for row in found.get("references") or ()),
    ]
    known = [row for row in rows if is_number(row.get("accuracy"))]
    numbers = {id(row): networks.add(run.name, str(row.get("name")), _facts(row)) for row in known}
    figures = []
    for axis in found.get("x") or ("macs",):
        marks = [
            {"x": row[axis], "y": row["accuracy"], "run": row["group"], "network": numbers[id(row)]}
            | {"line": not row.get("apart"), "low": row["accuracy"], "high": row["accuracy"]}
            | _spread(row)
            for row in known
            if is_number(row.get(axis)) and row[axis] > 0
        ]
        if marks and axis in COSTS:
            figures.append(_figure(marks, axis, "Accuracy against " + COSTS[axis][0], "family"))
    body = "".join(paragraph(f"note: {note}", "note") for note in found.get("notes") or ())
    body += row_table(rows, _COLUMNS, f"Networks of {run.name}")
    if pairs := [_pair(one) for one in found.get("pairs") or () if isinstance(one, Mapping)]:
        body += paragraph("At equal accuracy:")
        body += row_table(pairs, list(dict.fromkeys(key for one in pairs for key in one)), f"Pairs of {run.name}")
    return Piece("The networks compared", body, figures)


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pair.items() if isinstance(value, str | int | float)}


def show_transfer(run: Run, networks: Networks) -> Piece | None:
    """Of each data set the networks' accuracy over their parameters, and the table."""
    rows = run.summary.get("rows") if run.kind == "transfer" else None
    rows = list(rows or run.table("transfer")) if run.kind == "transfer" else []
    known = [row for row in rows if is_number(row.get("accuracy")) and is_number(row.get("params"))]
    if not known:
        return None
    marks = [
        {"x": row["params"], "y": row["accuracy"], "run": str(row.get("dataset")), "line": True}
        | {"network": networks.add(run.name, str(row.get("network")), _facts(row))}
        | {"low": row["accuracy"], "high": row["accuracy"]}
        | _spread(row)
        for row in known
    ]
    figure = _figure(marks, "params", "Accuracy against parameters", "data set")
    return Piece("The transfer", row_table(rows, _TRANSFERRED, f"Transfer of {run.name}"), (figure,))


def _spread(row: Mapping[str, Any]) -> dict[str, float]:
    error = row.get("standard_error")
    return {"low": row["accuracy"] - error, "high": row["accuracy"] + error} if is_number(error) else {}


def _facts(row: Mapping[str, Any]) -> dict[str, str]:
    facts = {"accuracy": percent(row["accuracy"])}
    if is_number(row.get("standard_error")):
        facts["standard error"] = percent(row["standard_error"])
    facts |= list_costs(row)
    words = ("resolution", "runs", "seeds", "dataset", "part", "family", "source")
    return facts | {key: str(row[key]) for key in words if row.get(key) not in (None, "")}


def _figure(marks: Sequence[dict[str, Any]], axis: str, title: str, what: str) -> Figure:
    names = list(dict.fromkeys(mark["run"] for mark in marks))
    channels = by_run(names, what)
    x = cost_axis("x", COSTS[axis][0], [mark["x"] for mark in marks], UNITS.get(axis, ""))
    y = percent_axis("y", "accuracy", [mark[key] for mark in marks for key in ("low", "high")])
    shared = {"x": x, "y": y, **only_colour(channels)}
    line = {"transform": [{"filter": "datum.line"}], "mark": {"type": "line", "opacity": 0.6}, "encoding": shared}
    layers: list[dict[str, Any]] = [
        *([line] if any(mark["line"] for mark in marks) else []),  # a layer of nothing has no extent
        {"mark": "rule", "encoding": {**shared, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0.95, "cursor": "pointer"},
            "encoding": {**shared, **channels},
        },
    ]
    caption = "Bars are standard errors over seeds, where there are several. Point at a network, click to pin it."
    return Figure(title, spec(marks, layers), caption, 360, wide=True)
