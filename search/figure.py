"""The figure of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate.drawing.axes import BYTES, COUNTS, SECONDS, choose_unit, cost_axis, percent_axis
from ..evaluate.drawing.style import (
    BLACK,
    DARK_GREY,
    GREY,
    RED,
    SHADES,
    TEXT,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
    wrap,
)
from .objective import COST_METRICS, MnasNetReward, Objective
from .record import kind_of, worth_of

#: Inches.
WIDTH, HEIGHT = 7.2, 5.2
#: Accuracies so many times as far below the others' quartiles as these are apart would flatten the rest: they are
#: told at the lower edge.
FAR = 4.0
#: A limit so many times outside of the candidates' costs is not drawn.
NEAR = 1.5


def search_figure(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    objective: Objective,
    output: Path,
) -> None:
    """Accuracy, or merit, against a cost: candidates in their order, the front, the baseline, the reward's level lines.

    The cost is MACs; where the objective is several numbers, the first of them that is a cost.

    Writes ``search.png`` and ``search.svg``; nothing where no candidate has an accuracy.
    """
    metric = _cost_metric(objective)
    done = [row for row in rows if row["state"] == "complete" and worth_of(row) is not None and _cost(row, metric)]
    if summary["best"] is None or not done:
        return
    best = next((row for row in done if row["number"] == summary["best"]["number"]), done[0])
    with drawing():
        figure = make_figure(WIDTH, HEIGHT)
        axes = figure.subplots()
        size, label = _unit(metric, [_cost(row, metric) for row in done])
        costs = np.array([_cost(row, metric) for row in done]) / size
        limit = getattr(objective, f"max_{metric}", None)
        shown = [*costs, *([limit / size] if limit and costs.min() / NEAR < limit / size < costs.max() * NEAR else [])]
        span = cost_axis(axes, shown, label + _pixels(done, summary["best"]["architecture"]))
        _draw_candidates(figure, axes, done, costs)
        _draw_front(axes, front, metric, size, objective)
        axes.scatter(
            [_cost(best, metric) / size],
            [_worth(best)],
            marker="*",
            s=240,
            color=RED,
            edgecolors="white",
            label=f"baseline (trial {best['number']})",
            zorder=5,
        )
        if isinstance(objective, MnasNetReward) and objective.metric == metric:
            _draw_level_lines(axes, objective, [row["score"] for row in done], span, size)
        if len(shown) > len(done):
            axes.axvline(shown[-1], color=RED, linestyle="--", linewidth=1.2, label=f"limit, {shown[-1]:,.4g}")
        kind, details = kind_of(best), summary["evaluator_details"]
        usual = "on held-out images" if kind == "accuracy" else "among networks of the space"
        meaning = f"{kind}{':' * (kind == 'merit')} {details.get(f'{kind}_is', usual)} (%)"
        axes.set_ylabel(wrap(meaning, HEIGHT - 1.6, TEXT))
        axes.grid()
        set_title(axes, _title(rows, done, summary), WIDTH - 1.8)
        place_legend(figure, [axes], WIDTH)
        save_figure(figure, output / "search")


def _cost_metric(objective: Objective) -> str:
    costs = [name for name in objective.names if name in COST_METRICS] if len(objective.names) > 1 else []
    return costs[0] if costs else "macs"


def _cost(row: Mapping[str, Any], metric: str) -> float:
    """Of a trial; 0 where it is not known."""
    return float(row.get(metric) or row.get(f"score.{metric}") or 0)


def _worth(row: Mapping[str, Any]) -> float:
    """Of a trial: its accuracy or merit in per cent."""
    return 100 * (worth_of(row) or 0.0)


def _unit(metric: str, values: Sequence[float]) -> tuple[float, str]:
    """Of the axis of costs, and its label."""
    if metric == "latency":
        size, name = choose_unit(values, SECONDS)
        return size, f"latency, {name} per batch"
    if metric == "peak_memory":
        size, name = choose_unit(values, BYTES)
        return size, f"peak memory, {name}"
    size, name = choose_unit(values, COUNTS[1:])
    return size, name + {"macs": "MACs", "params": "parameters", "activations": "activations"}[metric]


def _pixels(done: Sequence[Mapping[str, Any]], network: Mapping[str, Any]) -> str:
    """The resolution, where it is not searched."""
    if len({row.get("decision.resolution") for row in done}) > 1:
        return ""
    return f" at {network['resolution']}² pixels"


def _title(rows: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    states = [row["state"] for row in rows]
    others = {state: states.count(state) for state in ("failed", "pruned", "infeasible")}
    counts = [f"{len(done)} candidate{'s' * (len(done) > 1)}", *(f"{n} {state}" for state, n in others.items() if n)]
    return f"{summary['space']}: {', '.join(counts)}; {summary['algorithm']}"


def _draw_candidates(figure: Any, axes: Any, done: Sequence[Mapping[str, Any]], costs: Any) -> None:
    """Points by accuracy, those far below the others at the lower edge."""
    from matplotlib.ticker import MaxNLocator

    accuracy = np.array([_worth(row) for row in done])
    low, high = np.percentile(accuracy, [25, 75])
    floor = low - FAR * max(high - low, 1.0)
    inside = accuracy >= floor if accuracy.min() < floor else np.ones(len(done), bool)
    percent_axis(axes, accuracy[inside])
    numbers = np.array([row["number"] for row in done])
    points = axes.scatter(
        costs[inside],
        accuracy[inside],
        c=numbers[inside],
        cmap=SHADES,
        s=34,
        alpha=0.85,
        zorder=3,
        linewidths=0,
        label=None if len(done) > 1 else "candidate",
    )
    if len(done) > 1:
        points.set_clim(numbers.min(), numbers.max())
        bar = figure.colorbar(points, ax=axes, label="candidates: number of the trial", pad=0.02)
        bar.locator = MaxNLocator(8, steps=[1, 2, 5, 10], integer=True)
        bar.update_ticks()
    if not inside.all():
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.05 * (high - low), high)
        ends = dict.fromkeys(f"{value:.4g}" for value in (accuracy[~inside].min(), accuracy[~inside].max()))
        axes.scatter(
            costs[~inside],
            np.full((~inside).sum(), low - 0.02 * (high - low)),
            c=numbers[~inside],
            cmap=SHADES,
            norm=points.norm,
            marker="v",
            s=44,
            zorder=3,
            edgecolors=DARK_GREY,
            linewidths=0.6,
            label=f"{(~inside).sum()} below: {' to '.join(ends)} %",
        )


def _draw_front(axes: Any, front: Sequence[Mapping[str, Any]], metric: str, size: float, objective: Objective) -> None:
    """Stairs where it is of the two numbers that are drawn; elsewhere its members are ringed."""
    members = sorted((_cost(row, metric) / size, _worth(row)) for row in front if _cost(row, metric))
    if len(members) < 2:  # the baseline, or what is best but for it
        return
    names = {name.replace("merit", "accuracy") for name in objective.names if len(objective.names) > 1}
    if (names or {"accuracy", "macs"}) == {"accuracy", metric}:
        axes.step(*zip(*members, strict=True), where="post", color=BLACK, linewidth=1.3, label="front", zorder=2)
    else:
        label = f"front of {', '.join(objective.names).replace('_', ' ')}"
        rings = {"facecolors": "none", "edgecolors": BLACK, "s": 80, "linewidths": 1.2}
        axes.scatter(*zip(*members, strict=True), label=label, zorder=4, **rings)


def _draw_level_lines(
    axes: Any, objective: MnasNetReward, scores: Sequence[float], span: tuple[float, float], size: float
) -> None:
    """Curves of equal reward: the best one and the quartiles of the candidates'."""
    x = np.geomspace(*span, 200)
    factor = objective.factor(x * size)
    levels = sorted({float(v) for v in np.percentile(scores, [25, 50, 75, 100])})
    limits = axes.get_ylim()
    for level in levels:
        label = "equal reward (best and quartiles)" if level == levels[-1] else None
        axes.plot(x, 100 * level / factor, color=GREY, linestyle=":", linewidth=1.2, zorder=1, label=label)
    axes.set_ylim(limits)
