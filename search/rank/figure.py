"""The figure of a ranking: one scatter a shortcut, what it says against what the reference measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...evaluate.drawing.axes import percent_axis
from ...evaluate.drawing.style import (
    BLUE,
    GREY,
    RED,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
    shorten,
)
from .statistics import TOP, Array, list_best

if TYPE_CHECKING:
    from .table import Judgement

#: Panels side by side; inches of one; letters of a name.
COLUMNS, WIDTH, HEIGHT, LETTERS = 4, 2.9, 2.6, 28


def rank_figure(
    judgements: Sequence[Judgement], rows: Sequence[Mapping[str, Any]], truth: Array, ceiling: float, output: Path
) -> None:
    """A panel for each shortcut and count: its value against the accuracy, the best members in red.

    Writes ``rank.png`` and ``rank.svg``.

    Args:
        judgements: of the shortcuts and counts.
        rows: of the table.
        truth: accuracy of the members, the mean over seeds.
        ceiling: the highest τ that can be expected.
        output: folder.
    """
    shown = [one for one in judgements if np.isfinite(one.values).any()]
    if not shown:
        return
    taus = {row["shortcut"]: row["tau"] for row in rows}
    best = np.zeros(len(truth), bool)
    best[list_best(truth, max(1, math.ceil(TOP * len(truth))))] = True
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    width = WIDTH * columns + 0.4
    with drawing():
        figure = make_figure(width, HEIGHT * lines + 0.9)
        panels = np.atleast_1d(figure.subplots(lines, columns)).ravel()
        for place, axes in enumerate(panels):
            if place >= len(shown):
                axes.set_axis_off()
                continue
            one = shown[place]
            has = np.isfinite(one.values)
            for part, colour, label in ((~best, BLUE, "members"), (best, RED, "the best tenth")):
                chosen = has & part
                axes.scatter(
                    one.values[chosen], 100 * truth[chosen], s=16, color=colour, alpha=0.8, linewidths=0, label=label
                )
            _value_axis(axes, one.values[has])
            percent_axis(axes, 100 * truth)
            tau = taus.get(one.name)
            set_title(axes, f"{shorten(one.name, LETTERS)}\nτ {'unknown' if tau is None else f'{tau:.2f}'}", WIDTH)
            if place % columns == 0:
                axes.set_ylabel("accuracy (%)")
            axes.tick_params(axis="x", colors=GREY)
            axes.grid()
        told = "unknown" if math.isnan(ceiling) else f"{ceiling:.2f}"
        set_title(
            figure, f"accuracy of a training in full against what each shortcut says; ceiling of τ {told}", width - 0.6
        )
        place_legend(figure, list(panels[: len(shown)]), width)
        save_figure(figure, output / "rank")


def _value_axis(axes: Any, values: Array) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    room = 0.07 * ((high - low) or abs(high) or 1.0)
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(3))
