"""The figure of a grid search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

from ...evaluate.drawing.axes import percent_axis
from ...evaluate.drawing.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREY,
    ORANGE,
    RED,
    SHADES,
    SMALL,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
    shorten,
)
from .ranking import group_networks
from .response import Array, Surface, shares

#: Networks of the ranking that are shown; the table has all.
SHOWN = 25
#: Where depth, width and resolution alone are drawn.
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
#: Steps of the filled contours, and of the outline of the region, along a side.
FINE, COARSE = 40, 20
#: Inches: of the left panel and of a column in it; of the right one and of a row; of both in height at least.
LEFT, COLUMN, RIGHT, ROW, HEIGHT = 6.6, 0.62, 5.8, 0.23, 5.6
#: Inches between two points of one place, and from the stack of one β to the next; of the tallest figure.
APART, BETWEEN, TALLEST = 0.165, 0.16, 16.0
#: Letters of the baseline's name.
NAME_LENGTH = 60


def grid_figure(
    rows: Sequence[dict[str, Any]],
    surface: Surface | str,
    found: Mapping[str, Any],
    name: str,
    output: Path,
    written: str | None = None,
) -> None:
    """Where in the grid the accuracy is, and the ranking with its spread; ``grid.png`` and ``grid.svg``.

    Args:
        rows: as :func:`~effnas.scaling.grid.ranking.add_predictions` leaves them; of points that are one network the
            first is drawn, and nothing where none has an accuracy.
        surface: their fit; without one the points are drawn in the plane of β and γ.
        found: the ``surface`` of ``summary.json``.
        name: of the baseline.
        output: folder.
        written: the digest of the network whose coefficients are written, which gets a frame.
    """
    done = [row for row in rows if row["accuracy"] is not None and row["equal_to"] is None]
    if not done:
        return
    with drawing():
        height, left_width = max(HEIGHT, 1.8 + ROW * min(SHOWN, len(done))), LEFT
        if isinstance(surface, str):
            left_width = max(LEFT, 1.8 + COLUMN * len({row["gamma"] for row in done}))
            stacks = sum(max(sizes) for sizes in _stack_sizes(done).values())
            height = min(TALLEST, max(height, 1.8 + APART * stacks + BETWEEN * len(_stack_sizes(done))))
        figure = make_figure(left_width + RIGHT, height)
        left, right = figure.subplots(1, 2, width_ratios=[left_width, RIGHT])
        if isinstance(surface, str):
            _grid(figure, left, done, written)
        else:
            _surface(figure, left, done, surface, found, written)
        _ranking(right, done)
        set_title(figure, f"{shorten(name, NAME_LENGTH)} scaled to φ = 1", left_width + RIGHT)
        place_legend(figure, [left, right], left_width + RIGHT)
        save_figure(figure, output / "grid")


def _stack_sizes(done: Sequence[Mapping[str, Any]]) -> dict[float, list[int]]:
    """For each β how many points each γ has."""
    places = [(row["beta"], row["gamma"]) for row in done]
    return {beta: [places.count(place) for place in set(places) if place[0] == beta] for beta, _ in sorted(places)}


def mark_written(axes: Any, across: float, up: float) -> None:
    """A frame around the point whose coefficients are written: it need not have the highest mean."""
    frame: dict[str, Any] = {"marker": "s", "facecolors": "none", "edgecolors": BLACK, "linewidths": 1.8, "zorder": 5}
    axes.scatter([across], [up], s=230, clip_on=False, label="the coefficients that are written", **frame)


def _grid(figure: Any, axes: Any, done: Sequence[Mapping[str, Any]], written: str | None) -> None:
    """β over γ as a table; the points that share both, and differ in α, are stacked around their place."""
    gammas = sorted({row["gamma"] for row in done})
    centres, top = {}, 0.0
    for beta, sizes in _stack_sizes(done).items():
        half = (APART * max(sizes) + BETWEEN) / 2
        centres[beta] = top + half
        top += 2 * half
    cells = sorted(done, key=lambda row: (row["gamma"], row["beta"], row["alpha"]))
    x, y, ordered = [], [], []
    for (gamma, beta), group in groupby(cells, key=lambda row: (row["gamma"], row["beta"])):
        stack = list(group)
        for i, row in enumerate(stack):
            x.append(gammas.index(gamma))
            y.append(centres[beta] + (i - (len(stack) - 1) / 2) * APART)
            ordered.append(row)
    accuracies = [100 * row["accuracy"] for row in ordered]
    label = "a network, beside it its α (depth)"
    points = axes.scatter(x, y, c=accuracies, s=55, cmap=SHADES, edgecolors=GREY, linewidths=0.5, label=label)
    if max(accuracies) - min(accuracies) < 1e-9:
        points.set_clim(accuracies[0] - 1, accuracies[0] + 1)
    for across, up, row in zip(x, y, ordered, strict=True):
        beside = (11 if row is done[0] or row.get("digest", "") == written else 7, 0)
        text = f"{row['alpha']:g}"
        axes.annotate(text, (across, up), beside, textcoords="offset points", va="center", fontsize=SMALL)
        if row is done[0]:
            ring = {"facecolors": "none", "edgecolors": RED, "linewidths": 2.0, "label": "the winner"}
            axes.scatter([across], [up], s=150, **ring)
        if row.get("digest", "") == written:
            mark_written(axes, across, up)
    figure.colorbar(points, ax=axes, label="accuracy on held-out images (%)")
    axes.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
    axes.set_yticks([*centres.values()], [f"{beta:g}" for beta in centres])
    axes.set_xlim(-0.6, len(gammas) - 0.3)
    axes.set_ylim(0, top)
    axes.set_xlabel("γ, resolution")
    axes.set_ylabel("β, width (points of one β and γ are stacked)")
    set_title(axes, "the grid", LEFT)


def _ranking(axes: Any, done: Sequence[Mapping[str, Any]]) -> None:
    shown = done[:SHOWN]
    seeds = max(row["seeds"] for row in shown)
    measured = [100 * row["accuracy"] for row in shown]
    spread = [100 * (row["sd"] or 0) for row in shown]
    style: dict[str, Any] = {"ecolor": GREY, "elinewidth": 1.1, "capsize": 2, "markersize": 4.5}
    style |= {"xerr": spread if seeds > 1 else None, "color": BLUE, "fmt": "o"}
    label = "measured, mean ± sd over seeds" if seeds > 1 else "measured"
    axes.errorbar(measured, range(len(shown)), label=label, **style)
    ends = [m + sign * s for m, s in zip(measured, spread, strict=True) for sign in (-1, 1)]
    if all(row["predicted"] is not None for row in shown):
        predicted = [100 * row["predicted"] for row in shown]
        errors = [100 * row["predicted_se"] for row in shown]
        style = {"xerr": errors, "color": ORANGE, "fmt": "d", "elinewidth": 1, "markersize": 4}
        axes.errorbar(
            predicted, [i + 0.3 for i in range(len(shown))], label="surface at ratio 2, ± standard error", **style
        )
        ends += [p + sign * e for p, e in zip(predicted, errors, strict=True) for sign in (-1, 1)]
    percent_axis(axes, ends, "x")
    labels = [f"{r['alpha']:<5g} {r['beta']:<5g} {r['gamma']:<5g} ×{r['macs_ratio']:.2f}" for r in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=SMALL, family="monospace")
    axes.set_ylim(len(shown) - 0.3, -0.7)
    axes.set_xlabel("accuracy (%)" if seeds > 1 else "accuracy (%), one seed: noise unknown")
    more = f" (first {len(shown)} of {len(done)})" if len(done) > len(shown) else ""
    set_title(axes, f"α, β, γ, achieved MACs ratio{more}", RIGHT - 2.2)
    axes.grid(axis="x")


# -- the response surface --------------------------------------------------------------------------------


def _surface(
    figure: Any,
    axes: Any,
    rows: Sequence[dict[str, Any]],
    surface: Surface,
    best: Mapping[str, Any],
    written: str | None,
) -> None:
    """Predicted accuracy between the trained points, the points, the 95 % region and the surface's highest.

    A triangle: depth, width and resolution alone are at its corners.
    """
    from matplotlib.patches import Polygon
    from matplotlib.ticker import MaxNLocator

    groups, growth = group_networks(rows)
    mixture = shares(growth)
    places = mixture @ CORNERS
    hull = Delaunay(places)
    mesh = _mesh(FINE)
    x, y = (mesh @ CORNERS).T
    means = 100 * surface.predict(mesh)[0]
    measured = np.array([100 * group[0]["accuracy"] for group in groups])
    inside = hull.find_simplex(mesh @ CORNERS) >= 0
    low, high = (f([*measured, *means[inside]]) for f in (min, max))
    filled = axes.tricontourf(x, y, means, levels=MaxNLocator(12).tick_values(low, high), cmap=SHADES)
    border = Polygon(places[ConvexHull(places).vertices], transform=axes.transData)
    filled.set_clip_path(border)
    _frame(axes)
    _outline(axes, surface, hull)
    flags = np.array([group[0]["in_region"] for group in groups])
    sizes = np.array([30 + 25 * group[0]["seeds"] for group in groups])
    rims = (
        (~flags, "white", 0.8, "measured (larger: more seeds)"),
        (flags, BLACK, 1.7, "measured, and the highest may be there (95 %)"),
    )
    for shown, edge, width, label in rims:
        if not shown.any():
            continue
        axes.scatter(
            *places[shown].T,
            s=sizes[shown],
            c=measured[shown],
            cmap=SHADES,
            norm=filled.norm,
            edgecolors=edge,
            linewidths=width,
            zorder=3,
            clip_on=False,
            label=label,
        )
    top = next(i for i, group in enumerate(groups) if group[0]["digest"] == best["argmax"]["digest"])
    spans = ", ".join(
        f"{letter} {best['argmax'][name]:g} [{best['intervals'][name][0]:g}, {best['intervals'][name][1]:g}]"
        for letter, name in (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
    )
    star = {"marker": "*", "color": RED, "edgecolors": "white", "linewidths": 0.8, "zorder": 4, "clip_on": False}
    axes.scatter(*places[top], s=260, label=f"the surface's highest: {spans}", **star)
    for group, place in zip(groups, places, strict=True):
        if group[0]["digest"] == written:
            mark_written(axes, *place)
    figure.colorbar(
        filled, ax=axes, label="accuracy (%); filled: predicted at twice the baseline's MACs", shrink=0.8, pad=0.02
    )
    set_title(axes, f"response surface, R² {best['r2']:.2f}", LEFT - 1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.12, 1.12)
    axes.set_ylim(-0.14, 1.0)


def _mesh(steps: int) -> Array:
    """Shares in equal steps, shape (n, 3)."""
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    keep = i + j <= steps
    return np.stack([i[keep], j[keep], steps - i[keep] - j[keep]], axis=1) / steps


def _frame(axes: Any) -> None:
    """The triangle with what each coefficient is along its sides, where the other one of the side is 1."""
    axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.35", linewidth=1)
    names = (("depth alone\nα = 2", (0, -12), "top"), ("width alone\nβ = 1.41", (0, -12), "top"))
    for corner, (text, shift, align) in zip(CORNERS[:2], names, strict=True):
        axes.annotate(text, corner, shift, textcoords="offset points", ha="center", va=align)
    axes.annotate("resolution alone, γ = 1.41", CORNERS[2], (0, 14), textcoords="offset points", ha="center")
    # each coefficient is told on the side that runs from its corner on to the next one
    for i, (letter, power, shift, align) in enumerate(
        (("α", 1, (0, -14), "center"), ("β", 2, (11, 2), "left"), ("γ", 2, (-11, 2), "right"))
    ):
        start, end = CORNERS[i], CORNERS[(i + 1) % 3]
        for share in (0.75, 0.5, 0.25):
            place = share * start + (1 - share) * end
            axes.plot(*place, marker="o", markersize=2, color="0.35")
            text = f"{letter} {2 ** (share / power):.2f}"
            style = {"ha": align, "va": "center", "fontsize": SMALL, "color": DARK_GREY}
            axes.annotate(text, place, shift, textcoords="offset points", **style)


def _outline(axes: Any, surface: Surface, hull: Delaunay) -> None:
    """The border of the region over the plane, where points were trained around."""
    mesh = _mesh(COARSE)
    known = mesh[hull.find_simplex(mesh @ CORNERS) >= 0]
    if len(known) < 3:
        return
    excess = surface.excess(known)
    x, y = (known @ CORNERS).T
    if excess.min() <= 0 < excess.max():
        axes.tricontour(x, y, excess, levels=[0.0], colors=BLACK, linestyles="--", linewidths=1.2)
        axes.plot([], [], color=BLACK, linestyle="--", linewidth=1.2, label="border of where it may be (95 %)")
