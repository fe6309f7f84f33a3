"""The figure of an ablation, after Figure 8 of Tan & Le 2019."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluate.folder import save_figure

#: Of the rules, always the same: Tableau's, the compound one in red as in the paper.
COLOURS = {
    "compound": "tab:red",
    "depth": "tab:blue",
    "width": "tab:green",
    "resolution": "tab:orange",
    "dwr": "tab:purple",
    "lacs": "tab:brown",
    "published": "tab:pink",
    "tinynet": "tab:cyan",
}
MARKERS = {"compound": "o", "depth": "s", "width": "^", "resolution": "D", "dwr": "v", "lacs": "P", "published": "X"}
#: The rules' points are drawn at MACs so many times apart, for their networks have the same.
APART = 1.012


def ablation_figure(
    base: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    name: str,
    output: Path,
) -> None:
    """Accuracy against achieved MACs, a line for each rule from the base outwards, and the differences that stand.

    Writes ``ablation.png`` and ``ablation.svg``; nothing where no scaled network has an accuracy.

    Args:
        base, rows: of :func:`~effnas.scaling.ablate.report.member_rows`.
        comparisons: of :func:`~effnas.scaling.ablate.paired.compare`; a panel of its own where there are intervals.
        name: of the base.
        output: folder.
    """
    done = [row for row in rows if row["accuracy"] is not None]
    if not done:
        return
    from matplotlib.figure import Figure  # a second to import: only when there is something to draw

    tested = [row for row in comparisons if row["low"] is not None]
    if tested:
        figure = Figure(figsize=(11.5, 4.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
        _differences(right, tested)
    else:
        figure = Figure(figsize=(6.8, 4.9), layout="constrained")
        left = figure.subplots()
    _lines(left, base, done, name)
    save_figure(figure, output / "ablation")


def _lines(axes: Any, base: Mapping[str, Any], done: Sequence[Mapping[str, Any]], name: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    rules = list(dict.fromkeys(row["rule"] for row in done))
    largest = max(row["factor"] for row in done)
    last = {row["rule"]: row["accuracy"] for row in done if row["factor"] == largest}
    for place, rule in enumerate(rules):
        points = sorted((row for row in done if row["rule"] == rule), key=lambda row: row["macs"])
        apart = APART ** (place - (len(rules) - 1) / 2)
        aside = [{**row, "macs": row["macs"] * apart} for row in points]
        joined = aside if base["accuracy"] is None else sorted([base, *aside], key=lambda row: row["macs"])
        colour = COLOURS[rule]
        axes.plot(*_places(joined), color=colour, linewidth=1.8 if rule == "compound" else 1.2, alpha=0.75, zorder=2)
        axes.errorbar(
            *_places(aside),
            yerr=[100 * (row["standard_error"] or 0) for row in points],
            fmt=MARKERS.get(rule, "*"),
            color=colour,
            markersize=5.5,
            elinewidth=1.1,
            capsize=2.5,
            label=rule if rule not in last else f"{rule}, {last[rule]:.1%} at ×{largest:g}",
            zorder=3,
        )
    if base["accuracy"] is not None:
        axes.errorbar(
            [base["macs"] / 1e6],
            [100 * base["accuracy"]],
            yerr=[100 * (base["standard_error"] or 0)],
            fmt="o",
            color="black",
            markersize=6,
            capsize=2.5,
            label=f"base, {base['accuracy']:.1%}",
            zorder=4,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("million MACs as counted (log scale; points are set apart by 1 %)")
    axes.set_ylabel("accuracy on held-out images (%)")
    seeds = max(row["seeds"] for row in done)
    spread = f"mean ± standard error, {seeds} seeds" if seeds > 1 else "one seed: noise unknown"
    axes.set_title(f"{name} scaled by each rule; {spread}", loc="left", fontsize=9)
    axes.margins(x=0.08, y=0.1)
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda i: -last.get(rules[i], 0) if i < len(rules) else 1)
    axes.legend([handles[i] for i in order], [labels[i] for i in order], fontsize=8, framealpha=0.9, loc="best")


def _differences(axes: Any, tested: Sequence[Mapping[str, Any]]) -> None:
    """The 95 % intervals of the differences, those that stand filled."""
    reference = tested[0]["reference"]
    for place, row in enumerate(tested):
        colour = COLOURS[row["rule"]]
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=1.6, zorder=2)
        axes.plot(
            [100 * row["difference"]],
            [place],
            marker=MARKERS.get(row["rule"], "*"),
            color=colour,
            markerfacecolor=colour if row["stands"] else "white",
            markersize=7,
            zorder=3,
        )
    axes.axvline(0, color="black", linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(tested)), [f"{row['rule']} ×{row['factor']:g}" for row in tested], fontsize=8)
    axes.set_ylim(len(tested) - 0.5, -0.5)
    for place in range(1, len(tested)):
        if tested[place]["factor"] != tested[place - 1]["factor"]:
            axes.axhline(place - 0.5, color="0.8", linewidth=0.8)
    axes.set_xlabel(f"difference from {reference} in points of accuracy, 95 % interval")
    verdict = "filled: stands after Holm's correction" if any(r["stands"] is not None for r in tested) else "no verdict"
    axes.set_title(f"paired over seeds; {verdict}", loc="left", fontsize=9)
    axes.grid(axis="x", alpha=0.25)


def _places(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [row["macs"] / 1e6 for row in rows], [100 * row["accuracy"] for row in rows]
