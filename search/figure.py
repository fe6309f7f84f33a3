"""Figures of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate.folder import save_figure
from .objective import MnasNetReward, Objective


def search_figure(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    objective: Objective,
    output: Path,
) -> None:
    """Accuracy against MACs: candidates in their order, the front, the baseline, the reward's level lines.

    Writes ``search.png`` and ``search.svg``; nothing where no candidate has an accuracy.
    """
    done = [row for row in rows if row["state"] == "complete" and row["accuracy"] is not None]
    if not done or summary["best"] is None:
        return
    from matplotlib.figure import Figure  # a second to import: only when there is something to draw
    from matplotlib.ticker import MaxNLocator, NullLocator

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    macs = np.array([row["macs"] for row in done]) / 1e6
    accuracy = np.array([row["accuracy"] for row in done]) * 100
    points = axes.scatter(
        macs, accuracy, c=[row["number"] for row in done], cmap="viridis", s=28, alpha=0.85, zorder=3, linewidths=0
    )
    if len(done) > 1:
        figure.colorbar(points, ax=axes, label="trial", pad=0.01, ticks=MaxNLocator(integer=True))
    steps = sorted((row["macs"] / 1e6, row["accuracy"] * 100) for row in front)
    axes.step(*zip(*steps, strict=True), where="post", color="black", linewidth=1.2, label="front", zorder=2)
    best = summary["best"]
    axes.scatter(
        [best["macs"] / 1e6],
        [best["accuracy"] * 100],
        marker="*",
        s=220,
        color="crimson",
        edgecolors="white",
        label=f"baseline (trial {best['number']})",
        zorder=4,
    )
    axes.set_xscale("log")
    pad = max(0.5, 0.06 * (accuracy.max() - np.percentile(accuracy, 10)))
    low, high = max(0.0, float(np.percentile(accuracy, 5)) - pad), min(100.5, float(accuracy.max()) + pad)
    axes.set_ylim(low, high)
    left, right = macs.min() / 1.15, macs.max() * 1.15
    axes.set_xlim(left, right)
    if isinstance(objective, MnasNetReward) and objective.metric == "macs":
        _draw_level_lines(axes, objective, [row["score"] for row in done], (left, right))
    limit = getattr(objective, "max_macs", None)
    if limit is not None and left <= limit / 1e6 <= right:
        axes.axvline(limit / 1e6, color="firebrick", linestyle="--", linewidth=1, label="limit")
    resolutions = {best["architecture"]["resolution"]}
    side = f" at {resolutions.pop()}² pixels"
    axes.set_xlabel(f"million MACs{side} (log scale)")
    axes.set_ylabel(f"accuracy {summary['evaluator_details'].get('accuracy_is', 'on held-out images')} (%)")
    axes.set_title(
        f"{summary['space']}: {len(done)} candidate{'s' * (len(done) > 1)}, {summary['algorithm']}",
        loc="left",
        fontsize=10,
    )
    ticks = log_ticks(left, right)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, framealpha=0.9)
    save_figure(figure, output / "search")


def _draw_level_lines(axes: Any, objective: MnasNetReward, scores: Sequence[float], span: tuple[float, float]) -> None:
    """Curves of equal reward: the best one and the quartiles of the candidates'."""
    x = np.geomspace(*span, 200)
    factor = objective.factor(x * 1e6)
    levels = sorted({float(v) for v in np.percentile(scores, [25, 50, 75, 100])})
    for level in levels:
        last = level == levels[-1]
        axes.plot(
            x,
            100 * level / factor,
            color="tab:gray",
            linestyle=":",
            linewidth=1,
            zorder=1,
            label="equal reward (best and quartiles)" if last else None,
        )


def log_ticks(low: float, high: float) -> list[float]:
    """Four to about ten round numbers between two positive ones, for a logarithmic axis."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for mantissas in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], np.arange(1, 10, 0.5), np.arange(1, 10, 0.1)):
        ticks = [float(f"{m * 10.0**e:.6g}") for e in exponents for m in mantissas if low <= m * 10.0**e <= high]
        if len(ticks) >= 4:
            return ticks
    return ticks or [float(f"{math.sqrt(low * high):.4g}")]
