"""The figure of a grid search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

from ...evaluate.folder import save_figure
from .ranking import group_networks
from .response import Array, Surface, shares

#: Networks of the ranking that are shown; the table has all.
SHOWN = 25
#: Where depth, width and resolution alone are drawn.
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
#: Steps of the filled contours, and of the outline of the region, along a side.
FINE, COARSE = 40, 20


def grid_figure(
    rows: Sequence[dict[str, Any]], surface: Surface | str, found: Mapping[str, Any], name: str, output: Path
) -> None:
    """Where in the grid the accuracy is, and the ranking with its spread; ``grid.png`` and ``grid.svg``.

    Args:
        rows: as :func:`~effnas.scaling.grid.ranking.add_predictions` leaves them; of points that are one network the
            first is drawn, and nothing where none has an accuracy.
        surface: their fit; without one the points are drawn in the plane of β and γ.
        found: the ``surface`` of ``summary.json``.
        name: of the baseline.
        output: folder.
    """
    done = [row for row in rows if row["accuracy"] is not None and row["equal_to"] is None]
    if not done:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, max(5.4, 1.5 + 0.22 * min(SHOWN, len(done)))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    if isinstance(surface, str):
        _grid(figure, left, done)
    else:
        _surface(figure, left, done, surface, found)
    _ranking(right, done)
    figure.suptitle(f"{name} scaled to φ = 1", fontsize=10)
    save_figure(figure, output / "grid")


def _grid(figure: Any, axes: Any, done: Sequence[Mapping[str, Any]]) -> None:
    """β over γ; the points that share both, and differ in α, are stacked around their place."""
    betas = sorted({row["beta"] for row in done})
    step = min((b - a for a, b in pairwise(betas)), default=0.05)
    cells = sorted(done, key=lambda row: (row["gamma"], row["beta"], row["alpha"]))
    x, y, ordered = [], [], []
    for (gamma, beta), group in groupby(cells, key=lambda row: (row["gamma"], row["beta"])):
        stack = list(group)
        gap = min(0.22, 0.8 / len(stack)) * step
        for i, row in enumerate(stack):
            x.append(gamma)
            y.append(beta + (i - (len(stack) - 1) / 2) * gap)
            ordered.append(row)
    points = axes.scatter(x, y, c=[100 * row["accuracy"] for row in ordered], s=55, cmap="viridis")
    for across, up, row in zip(x, y, ordered, strict=True):
        axes.annotate(f"{row['alpha']:g}", (across, up), (6, 0), textcoords="offset points", va="center", fontsize=6)
        if row is done[0]:
            axes.scatter([across], [up], s=150, facecolors="none", edgecolors="crimson", linewidths=1.8)
    figure.colorbar(points, ax=axes, label="accuracy on held-out images (%)")
    axes.set_xticks(sorted({row["gamma"] for row in done}))
    axes.set_yticks(betas)
    axes.set_xlabel("γ, resolution")
    axes.set_ylabel("β, width (points at one place are stacked by α)")
    axes.set_title("the grid; beside each point its α, depth; ringed: the winner", loc="left", fontsize=9)
    axes.margins(0.1)


def _ranking(axes: Any, done: Sequence[Mapping[str, Any]]) -> None:
    shown = done[:SHOWN]
    seeds = max(row["seeds"] for row in shown)
    axes.errorbar(
        [100 * row["accuracy"] for row in shown],
        range(len(shown)),
        xerr=[100 * (row["sd"] or 0) for row in shown] if seeds > 1 else None,
        fmt="o",
        color="tab:blue",
        ecolor="tab:gray",
        elinewidth=1,
        capsize=2,
        markersize=4,
        label="measured",
    )
    if all(row["predicted"] is not None for row in shown):
        axes.errorbar(
            [100 * row["predicted"] for row in shown],
            [i + 0.28 for i in range(len(shown))],
            xerr=[100 * row["predicted_se"] for row in shown],
            fmt="d",
            color="tab:orange",
            elinewidth=0.8,
            markersize=3,
            label="surface at ratio 2, ± standard error",
        )
        axes.legend(loc="best", fontsize=7)
    labels = [f"{r['alpha']:<5g} {r['beta']:<5g} {r['gamma']:<5g} ×{r['macs_ratio']:.2f}" for r in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=7, family="monospace")
    axes.invert_yaxis()
    axes.set_xlabel("accuracy (%), mean ± sd over seeds" if seeds > 1 else "accuracy (%), one seed: noise unknown")
    more = f" (first {len(shown)} of {len(done)})" if len(done) > len(shown) else ""
    axes.set_title(f"α, β, γ and the achieved MACs ratio{more}", loc="left", fontsize=9)
    axes.grid(axis="x", alpha=0.25)


# -- the response surface --------------------------------------------------------------------------------


def _surface(figure: Any, axes: Any, rows: Sequence[dict[str, Any]], surface: Surface, best: Mapping[str, Any]) -> None:
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
    filled = axes.tricontourf(x, y, means, levels=MaxNLocator(12).tick_values(low, high), cmap="viridis")
    border = Polygon(places[ConvexHull(places).vertices], transform=axes.transData)
    filled.set_clip_path(border)
    _frame(axes)
    _outline(axes, surface, hull)
    flags = np.array([group[0]["in_region"] for group in groups])
    sizes = np.array([30 + 25 * group[0]["seeds"] for group in groups])
    for shown, edge, width in ((~flags, "white", 0.8), (flags, "black", 1.6)):
        axes.scatter(
            *places[shown].T,
            s=sizes[shown],
            c=measured[shown],
            cmap="viridis",
            norm=filled.norm,
            edgecolors=edge,
            linewidths=width,
            zorder=3,
            clip_on=False,
        )
    top = next(i for i, group in enumerate(groups) if group[0]["digest"] == best["argmax"]["digest"])
    axes.scatter(*places[top], s=260, marker="*", color="crimson", edgecolors="white", linewidths=0.8, zorder=4)
    figure.colorbar(filled, ax=axes, label="accuracy (%)", shrink=0.75, pad=0.02)
    spans = ", ".join(
        f"{letter} {best['argmax'][name]:g} [{best['intervals'][name][0]:g}, {best['intervals'][name][1]:g}]"
        for letter, name in (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
    )
    axes.set_title(
        f"response surface, R² {best['r2']:.2f}; star: its highest, {spans}\n"
        "filled: predicted at exactly twice the baseline; points: as measured, larger with more seeds\n"
        "black rims and dashed line: where the highest is, at 95 %",
        loc="left",
        fontsize=8.5,
        pad=18,
    )
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.12, 1.12)
    axes.set_ylim(-0.12, 0.95)


def _mesh(steps: int) -> Array:
    """Shares in equal steps, shape (n, 3)."""
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    keep = i + j <= steps
    return np.stack([i[keep], j[keep], steps - i[keep] - j[keep]], axis=1) / steps


def _frame(axes: Any) -> None:
    """The triangle with what each coefficient is along its sides, where the other one of the side is 1."""
    axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.35", linewidth=1)
    names = (("depth alone\nα = 2", (0, -10), "top"), ("width alone\nβ = 1.41", (0, -10), "top"))
    for corner, (text, shift, align) in zip(CORNERS[:2], names, strict=True):
        axes.annotate(text, corner, shift, textcoords="offset points", ha="center", va=align, fontsize=9)
    axes.annotate("resolution alone, γ = 1.41", CORNERS[2], (0, 8), textcoords="offset points", ha="center", fontsize=9)
    # each coefficient is told on the side that runs from its corner on to the next one
    for i, (letter, power, shift, align) in enumerate(
        (("α", 1, (0, -11), "center"), ("β", 2, (8, 0), "left"), ("γ", 2, (-8, 2), "right"))
    ):
        start, end = CORNERS[i], CORNERS[(i + 1) % 3]
        for share in (0.75, 0.5, 0.25):
            place = share * start + (1 - share) * end
            axes.plot(*place, marker="o", markersize=2, color="0.35")
            text = f"{letter} {2 ** (share / power):.2f}"
            axes.annotate(
                text, place, shift, textcoords="offset points", ha=align, va="center", fontsize=7, color="0.35"
            )


def _outline(axes: Any, surface: Surface, hull: Delaunay) -> None:
    """The border of the region over the plane, where points were trained around."""
    mesh = _mesh(COARSE)
    known = mesh[hull.find_simplex(mesh @ CORNERS) >= 0]
    if len(known) < 3:
        return
    excess = surface.excess(known)
    x, y = (known @ CORNERS).T
    if excess.min() <= 0 < excess.max():
        axes.tricontour(x, y, excess, levels=[0.0], colors="black", linestyles="--", linewidths=1.1)
