"""How searches went on: the best score so far, and each trial's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..folders import Run
from ..marks import axis, by_run, count_axis, only_colour, spec, tips
from ..markup import Figure, Piece
from ..trials import complete_trials, is_number, maximizes


def show_progress(runs: Sequence[Run], limit: int) -> Piece | None:
    """The best of the first objective after each trial; of each run thinned to what the limit leaves."""
    found = {run.name: (run, rows) for run in runs if len(rows := _scored(run)) > 1}
    if not found:
        return None
    lines: list[dict[str, Any]] = []
    dots: list[dict[str, Any]] = []
    for name, (run, rows) in found.items():
        better = max if maximizes(run) else min
        best = rows[0]["score"]
        for i, row in enumerate(rows):
            now = better(best, row["score"])
            if i == 0 or now != best or i == len(rows) - 1:
                lines.append({"x": row["number"], "y": now, "run": name, "line": True})
            best = now
        step = max(1, len(rows) * len(found) // max(20, limit))
        dots += [{"x": row["number"], "y": row["score"], "run": name, "line": False} for row in rows[::step]]
    channels = by_run(list(found))
    shared = {"x": count_axis("x", "trial"), "y": axis("y", "score"), **channels}
    told = tips(("run", "run", ""), ("x", "trial", "d"), ("y", "score", ".5g"))
    figure = spec(
        [*lines, *dots],
        [
            {
                "transform": [{"filter": "!datum.line"}],
                "mark": {"type": "point", "filled": True, "size": 24, "opacity": 0.6},
                "encoding": {**shared, "tooltip": told},
            },
            {
                "transform": [{"filter": "datum.line"}],
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
                "encoding": {**only_colour(shared), "tooltip": told},
            },
        ],
    )
    caption = "Points are trials, the line is the best of them so far (of several objectives: of the first)."
    return Piece("Best so far", "", (Figure("Best score so far", figure, caption, 300, wide=True),))


def _scored(run: Run) -> list[dict[str, Any]]:
    rows = [row for row in complete_trials(run) if is_number(row.get("score")) and is_number(row.get("number"))]
    return sorted(rows, key=lambda row: row["number"]) if run.kind == "search" else []
