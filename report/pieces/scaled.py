"""A scaled family, and tables of the paper recomputed: a row for each network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..columns import row_table
from ..folders import Run
from ..marks import COLOURS, axis, cost_axis, spec
from ..markup import Figure, Piece
from ..networks import Networks, list_costs
from ..trials import is_number

_SCALED = (
    *("name", "rule", "phi", "depth", "width", "resolution", "params", "macs", "macs_ratio", "nominal_macs_ratio"),
    *("activations", "peak_memory", "latency", "dropout", "file"),
)
_RECOMPUTED = (
    *("name", "note", "depth", "width", "resolution", "paper_macs", "macs", "macs_difference", "macs_agree"),
    *("paper_params", "params", "params_difference", "params_agree"),
)


def show_scaled(run: Run, networks: Networks) -> Piece | None:
    """The networks that a baseline was scaled to, and their MACs over φ."""
    found = run.summary
    if run.kind != "scale":
        return None
    rows = [row for row in found.get("rows") or [found] if isinstance(row, Mapping)]
    if not rows or not is_number(rows[0].get("macs")):
        return None
    body = row_table(rows, _SCALED, f"Networks of {run.name}")
    marks = []
    for row in rows:
        facts = list_costs(row)
        facts |= {key: str(row[key]) for key in ("phi", "depth", "width", "resolution") if row.get(key) is not None}
        index = networks.add(run.name, str(row.get("name")), facts)
        if is_number(row.get("phi")):
            marks.append({"x": row["phi"], "y": row["macs"], "network": index})
    if len(marks) < 2:
        return Piece("What was scaled", body)
    shared: dict[str, Any] = {
        "x": axis("x", "φ", scale={"nice": False, "padding": 12}),
        "y": cost_axis("y", "MACs", [mark["y"] for mark in marks]),
    }
    point = {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": COLOURS[0], "cursor": "pointer"}
    layers = [
        {"mark": {"type": "line", "color": COLOURS[0], "opacity": 0.5}, "encoding": shared},
        {"mark": point, "encoding": shared},
    ]
    return Piece("What was scaled", body, (Figure("MACs over φ", spec(marks, layers), "Click to pin.", 300),))


def show_recomputed(run: Run) -> Piece | None:
    """A table of the paper: its numbers, ours, and by how many percent they differ."""
    if run.kind != "reproduce":
        return None
    rows = [row for row in run.summary.get("rows") or () if isinstance(row, Mapping)]
    if not rows:
        return None
    return Piece("The paper's table, recomputed", row_table(rows, _RECOMPUTED, f"Networks of {run.name}"))
