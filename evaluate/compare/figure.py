"""The figure of ``effnas compare``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..drawing.axes import COUNTS, SECONDS, choose_unit, cost_axis, percent_axis
from ..drawing.labels import place_labels
from ..drawing.style import (
    BLACK,
    COLOURS,
    DARK_GREY,
    GREY,
    MARKERS,
    RED,
    SMALL,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    shorten,
    wrap,
)
from .equal_accuracy import comparable
from .points import Point

#: Inches, of one panel and of all in height.
PANEL, HEIGHT = 5.8, 5.6
#: Letters of a network's or family's name, and of a note for each inch of the figure.
NAME_LENGTH, NOTE_LETTERS = 28, 36


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
    with drawing():
        width = 1.0 + PANEL * len(axes)
        figure = make_figure(width, HEIGHT)
        panels = list(figure.subplots(1, len(axes), squeeze=False)[0])
        labels = [_panel(panel, axis, families, references, scale) for panel, axis in zip(panels, axes, strict=True)]
        if notes:
            short = [textwrap.shorten(note, int(NOTE_LETTERS * width), placeholder=" …") for note in notes]
            text = "\n".join(wrap(note, width - 0.4, SMALL) for note in short)
            figure.suptitle(text, fontsize=SMALL, color=RED)
        place_legend(figure, panels, width)
        figure.draw_without_rendering()  # the names are placed in pixels
        if names:
            for panel, (points, texts, colours, lines) in zip(panels, labels, strict=True):
                if left_out := place_labels(panel, points, texts, colours, lines):
                    panel.set_xlabel(f"{panel.get_xlabel()}; {left_out} names have no room")
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
    size, unit = choose_unit([largest], SECONDS if axis == "latency" else COUNTS)
    unit = {"macs": f"{unit}MACs", "params": f"{unit}parameters", "latency": f"latency, {unit} per batch"}[axis]

    def at(point: Point) -> tuple[float, float]:
        return getattr(point, axis) / size, 100 * point.accuracy

    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(families)}
    markers = {name: MARKERS[1:][i % (len(MARKERS) - 1)] for i, name in enumerate(families)}
    groups = [(name, sorted(points, key=at), colours[name]) for name, points in families.items()]
    lines, ends = [], []
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
            label=f"published: {shorten(family, NAME_LENGTH)}" if family else "published",
            zorder=2,
        )
        lines.append(places if joined == "-" else [])
    for name, points, colour in groups:
        places = [at(point) for point in points]
        style = {"color": colour, "linewidth": 1.8, "marker": markers[name], "markersize": 6, "zorder": 4}
        panel.plot(*zip(*places, strict=True), label=shorten(name, NAME_LENGTH), **style)
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
        whiskers = [[(x, y - 100 * error), (x, y + 100 * error)] for (x, y), error in bars]
        lines += whiskers
        ends += [y for whisker in whiskers for _, y in whisker]
        lines.append(places)
    steps = front([at(point) for point in mine + [p for p in shown if all(comparable(p, point) for point in mine)]])
    stairs = [steps[0], *(corner for (_, low), (x, high) in pairwise(steps) for corner in ((x, low), (x, high)))]
    if len(steps) > 1:
        panel.plot(*zip(*stairs, strict=True), color=BLACK, linewidth=1, linestyle=":", label="front", zorder=1)
        lines.append(stairs)
    panel.set_ylabel("top-1 accuracy (%)")
    named = [(at(point), shorten(point.name, NAME_LENGTH), colour) for _, points, colour in groups for point in points]
    named += [(at(point), shorten(point.name, NAME_LENGTH), DARK_GREY) for point in shown]
    places, texts, inks = (list(column) for column in zip(*named, strict=True))
    cost_axis(panel, [x for x, _ in places], unit, scale)
    percent_axis(panel, [*(y for _, y in places), *ends])
    panel.grid()
    return places, texts, inks, lines
