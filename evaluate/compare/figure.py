"""The figure of ``effnas compare``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..folder import save_figure
from .equal_accuracy import comparable
from .labels import place_labels
from .points import Point

#: What is not of a family of the user's.
GREY, NAME_GREY = "#8c8c8c", "#5f5f5f"
COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:purple", "tab:orange", "tab:brown", "tab:pink", "tab:cyan")
#: Of an axis, the largest unit first: how large it is, and its name.
UNITS = {
    "macs": ((1e9, "billion MACs"), (1e6, "million MACs"), (1e3, "thousand MACs")),
    "params": ((1e6, "million parameters"), (1e3, "thousand parameters")),
    "latency": ((1.0, "seconds"), (1e-3, "milliseconds")),
}


def compare_figure(
    families: Mapping[str, Sequence[Point]],
    references: Sequence[Point],
    *,
    axes: Sequence[str],
    scale: str,
    names: bool,
    notes: Sequence[str],
    output: Path,
) -> None:
    """Accuracy against each of ``axes``, families as lines over the references; ``compare.png``, ``compare.svg``.

    Args:
        families: by name; every point has a value on every axis.
        references: those without a value on an axis are left out there.
        axes: ``macs``, ``params``, ``latency``.
        scale: ``log`` or ``linear``.
        names: write the name beside each point.
        notes: written below.
        output: folder.
    """
    from matplotlib.figure import Figure  # a second to import: only when there is something to draw

    figure = Figure(figsize=(1.0 + 5.6 * len(axes), 4.9), layout="constrained")
    panels = figure.subplots(1, len(axes), squeeze=False)[0]
    labels = [_panel(panel, axis, families, references, scale) for panel, axis in zip(panels, axes, strict=True)]
    if notes:
        wrapped = [textwrap.fill(note, 100 * len(axes), max_lines=3, placeholder=" …") for note in notes]
        figure.supxlabel("\n".join(wrapped), fontsize=7.5, color="firebrick")
    figure.draw_without_rendering()  # the names are placed in pixels
    if names:
        for panel, (points, texts, colours, lines) in zip(panels, labels, strict=True):
            legend = panel.get_legend().get_window_extent()
            place_labels(panel, points, texts, colours, lines, [tuple(legend.extents)])
    figure.set_layout_engine("none")  # they stay where they were placed
    save_figure(figure, output / "compare")


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy) pairs those that no other one beats in both, cheapest first."""
    found: list[tuple[float, float]] = []
    for x, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or accuracy > found[-1][1]:
            found.append((x, accuracy))
    return found


def _panel(
    panel: Any, axis: str, families: Mapping[str, Sequence[Point]], references: Sequence[Point], scale: str
) -> tuple[list[tuple[float, float]], list[str], list[str], list[list[tuple[float, float]]]]:
    """Draw one; points, names, colours and lines for the placing of the names."""
    shown = [point for point in references if getattr(point, axis) is not None]
    mine = [point for points in families.values() for point in points]
    largest = max(getattr(point, axis) for point in mine + shown)
    size, unit = next((entry for entry in UNITS[axis] if largest >= entry[0]), UNITS[axis][-1])

    def at(point: Point) -> tuple[float, float]:
        return getattr(point, axis) / size, 100 * point.accuracy

    groups = [(name, sorted(points, key=at), colour) for (name, points), colour in _coloured(families)]
    lines = []
    published = {name: [p for p in shown if p.family == name] for name in dict.fromkeys(p.family for p in shown)}
    for family, points in published.items():
        places = sorted(map(at, points))
        joined = "-" if family and len(points) > 1 else "none"
        panel.plot(
            *zip(*places, strict=True),
            linestyle=joined,
            linewidth=1,
            marker="o",
            markersize=4,
            color=GREY,
            label=f"published: {family}" if family else "published",
            zorder=2,
        )
        lines.append(places if joined == "-" else [])
    for name, points, colour in groups:
        places = [at(point) for point in points]
        panel.plot(
            *zip(*places, strict=True), color=colour, linewidth=1.8, marker="o", markersize=5, label=name, zorder=4
        )
        bars = [(place, p.standard_error) for place, p in zip(places, points, strict=True) if p.standard_error]
        if bars:
            panel.errorbar(
                *zip(*(place for place, _ in bars), strict=True),
                yerr=[100 * error for _, error in bars],
                fmt="none",
                ecolor=colour,
                elinewidth=0.8,
                capsize=2,
                zorder=3,
            )
        lines += [[(x, y - 100 * error), (x, y + 100 * error)] for (x, y), error in bars]
        lines.append(places)
    steps = front([at(point) for point in mine + [p for p in shown if all(comparable(p, point) for point in mine)]])
    stairs = [steps[0], *(corner for (_, low), (x, high) in pairwise(steps) for corner in ((x, low), (x, high)))]
    if len(steps) > 1:
        panel.plot(*zip(*stairs, strict=True), color="black", linewidth=0.8, linestyle=":", label="front", zorder=1)
        lines.append(stairs)
    panel.set_ylabel("top-1 accuracy (%)")
    _x_axis(panel, unit, scale)
    panel.margins(x=0.08, y=0.07)
    panel.grid(alpha=0.25)
    panel.legend(loc="best", fontsize=8, framealpha=0.9)
    named = [(at(point), point.name, colour) for _, points, colour in groups for point in points]
    named += [(at(point), point.name, NAME_GREY) for point in shown]
    places, texts, colours = (list(column) for column in zip(*named, strict=True))
    return places, texts, colours, lines


def _coloured(families: Mapping[str, Sequence[Point]]) -> list[tuple[tuple[str, Sequence[Point]], str]]:
    return [(item, COLOURS[i % len(COLOURS)]) for i, item in enumerate(families.items())]


def _x_axis(panel: Any, unit: str, scale: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    panel.set_xlabel(f"{unit} (log scale)" if scale == "log" else unit)
    if scale == "log":
        panel.set_xscale("log")
        panel.margins(x=0.08)
        low, high = panel.get_xlim()
        wide = high / low > 12
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        panel.xaxis.set_minor_locator(NullLocator())
    else:
        panel.set_xlim(left=0)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
