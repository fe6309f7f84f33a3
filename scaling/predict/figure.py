"""The figure of ``effnas predict``: the law with its interval, and the backtest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate.drawing.axes import COUNTS, SECONDS, choose_unit, cost_axis, percent_axis
from ...evaluate.drawing.style import (
    BLUE,
    COLOURS,
    DARK_GREY,
    GREY,
    MARKERS,
    ORANGE,
    RED,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    shorten,
)
from .law import LEVEL, Law

#: What a cost is called.
NOUNS = {"macs": "MACs", "activations": "activations", "params": "parameters", "latency": "latency"}
#: Inches.
WIDTH, HEIGHT = 11.6, 5.4
#: Samples of the law along its axis; letters of a name.
SAMPLES, NAME = 41, 26
#: Numbers of members that the backtest shows, each with a colour of its own.
SHOWN = len(COLOURS)


def prediction_figure(summary: Mapping[str, Any], law: Law, output: Path) -> None:
    """Draw ``predict.png`` and ``predict.svg``.

    Args:
        summary: the content of ``predict.json``.
        law: of the members.
        output: folder.
    """
    with drawing():
        figure = make_figure(WIDTH, HEIGHT)
        left, right = figure.subplots(1, 2)
        _law_panel(left, summary, law)
        _backtest_panel(right, summary)
        place_legend(figure, [left, right], WIDTH)
        save_figure(figure, output / "predict")


def _law_panel(panel: Any, summary: Mapping[str, Any], law: Law) -> None:
    axis, members = summary["x"], summary["members"]
    asked = summary["predictions"]
    costs = [row[axis] for row in (*members, *asked)]
    size, unit = choose_unit([max(costs)], SECONDS if axis == "latency" else COUNTS)
    unit = {"macs": f"{unit}MACs", "params": f"{unit}parameters", "activations": f"{unit}activations"}.get(axis, unit)
    low, high = cost_axis(panel, [cost / size for cost in costs], unit)
    at = np.geomspace(low * size, high * size, SAMPLES)
    said = [law.predict(float(cost), LEVEL) for cost in at]
    band = [[100 * one.low for one in said], [100 * one.high for one in said]]
    panel.fill_between(at / size, *band, color=BLUE, alpha=0.15, linewidth=0, label="90 % of new members")
    line = [100 * law.equation.accuracy(float(cost)) for cost in at]
    panel.plot(at / size, line, color=BLUE, linewidth=1.6, label="law")
    on = [member for member in members if member["on_law"]]
    off = [member for member in members if not member["on_law"]]
    for shown, colour, marker, label in ((on, BLUE, "o", "members"), (off, RED, "X", "members off the law")):
        if shown:
            panel.errorbar(
                [member[axis] / size for member in shown],
                [100 * member["accuracy"] for member in shown],
                yerr=[100 * (member["sd"] or 0) / math.sqrt(member["runs"]) for member in shown],
                fmt=marker,
                color=colour,
                markersize=6,
                elinewidth=0.8,
                label=label,
                zorder=4,
            )
    panel.errorbar(
        [row[axis] / size for row in asked],
        [100 * row["accuracy"] for row in asked],
        yerr=np.array(
            [[100 * (row["accuracy"] - row["low"]), 100 * (row["high"] - row["accuracy"])] for row in asked]
        ).T,
        fmt="D",
        color=ORANGE,
        markersize=5,
        elinewidth=1.2,
        capsize=3,
        label="predicted",
        zorder=5,
    )
    ends = [100 * row[key] for row in asked for key in ("low", "high")]
    percent_axis(panel, [*ends, *(100 * member["accuracy"] for member in members), line[0], line[-1]])
    panel.set_ylabel("top-1 accuracy (%)")
    panel.set_title("Law of the family")
    panel.grid()


def _backtest_panel(panel: Any, summary: Mapping[str, Any]) -> None:
    axis, rows = summary["x"], summary["backtest"]
    panel.set_title("Backtest: said before, minus what it was")
    if not rows:
        panel.text(0.5, 0.5, "needs a fifth member", transform=panel.transAxes, ha="center", color=DARK_GREY)
        panel.set_xticks([])
        panel.set_yticks([])
        return
    counts = sorted({row["members"] for row in rows})[-SHOWN:]
    rows = [row for row in rows if row["members"] in counts]
    ratios = [row[axis] / row["from"] for row in rows]
    cost_axis(
        panel, [0.97 * min(ratios), *ratios, 1.03 * max(ratios)], f"{NOUNS[axis]}, in those of the largest known member"
    )
    panel.axhline(0, color=GREY, linewidth=1, zorder=1)
    ends = []
    for i, count in enumerate(counts):
        mine = [row for row in rows if row["members"] == count]
        errors = np.array([100 * (row["predicted"] - row["actual"]) for row in mine])
        spans = _spans(mine, "predicted")
        ends += [*(errors - spans[0]), *(errors + spans[1])]
        panel.errorbar(
            [row[axis] / row["from"] * (1 + 0.012 * (i - len(counts) / 2)) for row in mine],
            errors,
            yerr=spans,
            fmt=MARKERS[i % len(MARKERS)],
            color=COLOURS[i],
            markersize=5,
            elinewidth=0.9,
            capsize=2,
            label=f"from {count} members, up to {shorten(mine[0]['from_name'], NAME)}",
        )
    room = 0.07 * (max(*ends, 0) - min(*ends, 0)) + 0.02
    panel.set_ylim(min(*ends, 0) - room, max(*ends, 0) + room)
    panel.set_ylabel("points of accuracy")
    panel.grid()


def _spans(rows: Sequence[Mapping[str, Any]], middle: str) -> NDArray[np.float64]:
    """Lengths of the intervals below and above their middles, in points, shape (2, rows)."""
    return 100 * np.array([[row[middle] - row["low"] for row in rows], [row["high"] - row[middle] for row in rows]])
