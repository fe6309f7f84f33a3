"""The response surface of a grid as a triangle: depth, width and resolution alone at its corners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

from .ranking import group_networks
from .response import Array, Surface, shares

#: Where depth, width and resolution alone are drawn.
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
#: Steps of the filled contours, and of the outline of the region, along a side.
FINE, COARSE = 40, 20


def draw_surface(
    figure: Any, axes: Any, rows: Sequence[dict[str, Any]], surface: Surface, best: Mapping[str, Any]
) -> None:
    """Predicted accuracy between the trained points, the points, the 95 % region and the surface's highest.

    Args:
        figure, axes: of matplotlib.
        rows: with a result, as :func:`~effnas.scaling.grid.ranking.add_predictions` leaves them.
        surface: their fit.
        best: the ``surface`` of ``summary.json``.
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
