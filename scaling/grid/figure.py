"""The figure of a grid search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from ...evaluate.folder import save_figure
from .response import Surface
from .surface_figure import draw_surface

#: Networks of the ranking that are shown; the table has all.
SHOWN = 25


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
        draw_surface(figure, left, done, surface, found)
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
    axes.set_ylabel("β, width (points of one place are stacked by α)")
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
    axes.set_xlabel("accuracy (%), mean ± sd over seeds" if seeds > 1 else "accuracy (%), one seed: noise is not known")
    more = f" (first {len(shown)} of {len(done)})" if len(done) > len(shown) else ""
    axes.set_title(f"α, β, γ and the achieved MACs ratio{more}", loc="left", fontsize=9)
    axes.grid(axis="x", alpha=0.25)
