"""Learning curves of trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..folders import TRAINED, Run
from ..marks import axis as plain_axis
from ..marks import by_run, count_axis, only_colour, percent_axis, spec, tips
from ..markup import Figure, Piece
from ..trials import is_number

#: Epochs of one training that are drawn, evenly.
EPOCHS = 400
#: Epochs whose points have their run's shape, where there are several runs.
SHAPES = 8
_PARTS = {
    "held-out": {"accuracy": "accuracy", "loss": "loss"},
    "training": {"accuracy": "train_accuracy", "loss": "train_loss"},
}


def show_curves(runs: Sequence[Run]) -> Piece | None:
    """Accuracy and loss over the epochs: held-out as lines, on the training images dashed."""
    found = [run for run in runs if run.kind in ("train", "compress", "") and len(run.table("log")) > 0]
    folders = {run.folder.resolve() for run in found}  # what a compression has trained may be there by itself, too
    found = [run for run in found if run.folder.resolve() / TRAINED not in folders]
    figures = [figure for kind in ("accuracy", "loss") if (figure := _figure(found, kind)) is not None]
    return Piece("Learning curves", "", figures) if figures else None


def _figure(runs: Sequence[Run], kind: str) -> Figure | None:
    marks: list[dict[str, Any]] = []
    for run in runs:
        rows = run.table("log")
        drawn = rows[:: max(1, len(rows) // EPOCHS)]
        for i, row in enumerate(drawn):
            shaped = len(runs) == 1 or i % max(1, len(drawn) // SHAPES) == 0 or i == len(drawn) - 1
            for part, columns in _PARTS.items():
                value = row.get(columns[kind])
                if is_number(value) and is_number(row.get("epoch")):
                    marks.append({"x": row["epoch"], "y": value, "run": run.name, "part": part})
                    marks[-1]["shaped"] = shaped
    if not marks:
        return None
    values = [mark["y"] for mark in marks]
    y = percent_axis("y", kind, values) if kind == "accuracy" else plain_axis("y", kind)
    dash = {
        "field": "part",
        "type": "nominal",
        "title": "images",
        "scale": {"domain": list(_PARTS), "range": [[1, 0], [4, 3]]},
        "legend": {"orient": "bottom", "symbolType": "stroke", "symbolSize": 400},
    }
    channels = by_run([run.name for run in runs])
    told = tips(
        ("run", "run", ""),
        ("x", "epoch", "d"),
        ("part", "images", ""),
        ("y", kind, ".2%" if kind == "accuracy" else ".4f"),
    )
    shared = {"x": count_axis("x", "epoch"), "y": y}
    line: dict[str, Any] = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {**shared, **only_colour(channels), "strokeDash": dash, "tooltip": told},
    }
    shapes: dict[
        str, Any
    ] = {  # beside the colours; points of the line itself would leave the legend's strokes without a colour
        "transform": [{"filter": "datum.shaped"}],
        "mark": {"type": "point", "filled": True, "size": 60 if len(runs) > 1 else 20, "opacity": 1},
        "encoding": {**shared, **channels, "tooltip": told},
    }
    caption = (
        "On training images as each batch was trained on: augmented, and before the step that learned from it."
        if kind == "accuracy"
        else "The training loss includes label smoothing and mixed labels where the recipe has them."
    )
    return Figure(f"{kind.capitalize()} by epoch", spec(marks, [line, shapes]), caption, 300)
