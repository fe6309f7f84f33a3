"""The figure of a star: what each dimension is worth alone, and the mixture that the law says is best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluate.drawing.axes import percent_axis
from ...evaluate.drawing.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
    shorten,
)
from .choosing import posterior_of
from .figure import mark_written
from .points import NAMES, read_point
from .posterior import terms
from .response import log_growth

#: Inches; letters of the baseline's name.
WIDTH, HEIGHT, NAME_LENGTH = 8.2, 5.6, 60
#: Of the four kinds of points: mixtures last.
KINDS = (
    ("depth alone (α)", BLUE, "s"),
    ("width alone (β)", GREEN, "o"),
    ("resolution alone (γ)", ORANGE, "^"),
    ("mixtures", RED, "D"),
)
#: The law is drawn from the baseline to so many times its cost, with so many samples.
LARGEST, SAMPLES = 4.5, 30


def star_figure(rows: Sequence[dict[str, Any]], written: str | None, name: str, output: Path) -> None:
    """Accuracy over the achieved cost, one line of the law for each way to grow; ``grid.png`` and ``grid.svg``.

    Args:
        rows: as :func:`~effnas.scaling.grid.ranking.rank_points` gives them; nothing is drawn without an accuracy.
        written: the digest of the network whose coefficients are written.
        name: of the baseline.
        output: folder.
    """
    done = [row for row in rows if row["accuracy"] is not None and row["equal_to"] is None]
    if not done:
        return
    with drawing():
        figure = make_figure(WIDTH, HEIGHT)
        axes = figure.subplots()
        ends = _draw_points(axes, done)
        if any(row["nominal_macs_ratio"] > 1 for row in done):
            _draw_law(axes, done, written)
        for row in done:
            if row["digest"] == written:
                mark_written(axes, row["macs_ratio"], 100 * row["accuracy"])
        percent_axis(axes, ends)
        axes.set_xscale("log", base=2)
        ticks = [1, 1.5, 2, 3, 4]
        axes.set_xlim(0.93, max(LARGEST, 1.06 * max(row["macs_ratio"] for row in done)))
        axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
        axes.minorticks_off()
        axes.grid(axis="both")
        axes.set_xlabel("achieved MACs in the baseline's")
        axes.set_ylabel("accuracy on held-out images (%)")
        set_title(axes, f"{shorten(name, NAME_LENGTH)}, one dimension at a time", WIDTH - 1)
        place_legend(figure, [axes], WIDTH)
        save_figure(figure, output / "grid")


def _kind(row: dict[str, Any]) -> int:
    """The only dimension that has grown, 0 to 2, or 3."""
    grown = [i for i, name in enumerate(NAMES) if row[name] > 1]
    return grown[0] if len(grown) == 1 else 3


def _draw_points(axes: Any, done: Sequence[dict[str, Any]]) -> list[float]:
    """The networks with the spread over seeds; returns what the axis must hold."""
    ends: list[float] = []
    for kind, (label, colour, marker) in enumerate(KINDS):
        shown = [row for row in done if row["nominal_macs_ratio"] > 1 and _kind(row) == kind]
        ends += _bars(axes, shown, colour, marker, label)
    base = [row for row in done if row["nominal_macs_ratio"] == 1]
    return ends + _bars(axes, base, GREY, "o", "the baseline")


def _bars(axes: Any, shown: Sequence[dict[str, Any]], colour: str, marker: str, label: str) -> list[float]:
    if not shown:
        return []
    means = [100 * row["accuracy"] for row in shown]
    spreads = [100 * (row["sd"] or 0) for row in shown]
    style: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 6.5, "capsize": 2, "elinewidth": 1}
    axes.errorbar([row["macs_ratio"] for row in shown], means, yerr=spreads, label=label, zorder=3, **style)
    return [m + sign * s for m, s in zip(means, spreads, strict=True) for sign in (-1, 1)]


def _draw_law(axes: Any, done: Sequence[dict[str, Any]], written: str | None) -> None:
    """What the posterior expects along each arm, and along the mixture that is written."""
    posterior = posterior_of(done)
    ratios = np.geomspace(1, LARGEST, SAMPLES)
    lines = [(*np.eye(3)[kind : kind + 1], colour) for kind, (_, colour, _) in enumerate(KINDS[:3])]
    for row in done:
        if row["digest"] == written and _kind(row) == 3:
            growth = log_growth(read_point(row))
            lines.append((growth / growth.sum(), RED))
    for i, (mixture, colour) in enumerate(lines):
        means = 100 * posterior.weights @ (posterior.means @ terms(np.log(ratios)[:, None] * mixture, posterior.knee).T)
        label = "what the law expects" if i == 0 else None
        axes.plot(ratios, means, color=colour, linewidth=1.3, alpha=0.8, linestyle="--", label=label)
