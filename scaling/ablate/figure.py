"""The figure of an ablation, after Figure 8 of Tan & Le 2019."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluate.drawing.axes import choose_unit, cost_axis, percent_axis
from ...evaluate.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
    shorten,
)

#: Of the rules, always the same, the compound one in red as in the paper.
COLOURS = {
    "compound": RED,
    "depth": BLUE,
    "width": GREEN,
    "resolution": ORANGE,
    "dwr": PURPLE,
    "lacs": SKY,
    "published": "#7a4b1e",
    "tinynet": "#666666",
}
MARKERS = {
    "compound": "o",
    "depth": "s",
    "width": "^",
    "resolution": "D",
    "dwr": "v",
    "lacs": "P",
    "published": "X",
    "tinynet": "p",
}
#: The rules' points are drawn at MACs so many times apart, for their networks have the same.
APART = 1.012
#: Inches: of the left panel, of the right one, of both in height; and of each of the right one's rows.
LEFT, RIGHT, HEIGHT, ROW = 6.8, 4.9, 5.0, 0.24
#: Letters of a network's name.
NAME_LENGTH = 40


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
    tested = [row for row in comparisons if row["low"] is not None]
    with drawing():
        width = LEFT + RIGHT if tested else LEFT
        figure = make_figure(width, max(HEIGHT, 1.6 + ROW * len(tested)))
        panels = figure.subplots(1, 2, width_ratios=[LEFT, RIGHT]) if tested else [figure.subplots()]
        _lines(panels[0], base, done, shorten(name, NAME_LENGTH))
        if tested:
            _differences(panels[1], tested)
        place_legend(figure, panels, width)
        save_figure(figure, output / "ablation")


def _lines(axes: Any, base: Mapping[str, Any], done: Sequence[Mapping[str, Any]], name: str) -> None:
    rules = list(dict.fromkeys(row["rule"] for row in done))
    largest = max(row["factor"] for row in done)
    last = {row["rule"]: row["accuracy"] for row in done if row["factor"] == largest}
    size, unit = choose_unit([row["macs"] for row in done])
    costs, ends = [], []

    def places(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
        return [row["macs"] / size for row in rows], [100 * row["accuracy"] for row in rows]

    def bars(rows: Sequence[Mapping[str, Any]]) -> list[float]:
        errors: list[float] = [100 * (row["standard_error"] or 0) for row in rows]
        costs.extend(places(rows)[0])
        for accuracy, error in zip(places(rows)[1], errors, strict=True):
            ends.extend([accuracy - error, accuracy + error])
        return errors

    for rule in sorted(rules, key=lambda rule: -last.get(rule, 0)):
        points = sorted((row for row in done if row["rule"] == rule), key=lambda row: row["macs"])
        apart = APART ** (rules.index(rule) - (len(rules) - 1) / 2)
        aside = [{**row, "macs": row["macs"] * apart} for row in points]
        joined = aside if base["accuracy"] is None else sorted([base, *aside], key=lambda row: row["macs"])
        width = 1.8 if rule == "compound" else 1.2
        axes.plot(*places(joined), color=COLOURS[rule], linewidth=width, alpha=0.75, zorder=2)
        axes.errorbar(
            *places(aside),
            yerr=bars(aside),
            fmt=MARKERS[rule],
            color=COLOURS[rule],
            markersize=6,
            elinewidth=1.1,
            capsize=2.5,
            label=rule if rule not in last else f"{rule}, {last[rule]:.1%} at ×{largest:g}",
            zorder=3,
        )
    if base["accuracy"] is not None:
        label = f"base, {base['accuracy']:.1%}"
        style = {"fmt": "o", "color": BLACK, "markersize": 6.5, "capsize": 2.5, "label": label, "zorder": 4}
        axes.errorbar(*places([base]), yerr=bars([base]), **style)
    cost_axis(axes, costs, f"{unit}MACs as counted; rules are set apart by 1 %")
    percent_axis(axes, ends)
    axes.set_ylabel("accuracy on held-out images (%)")
    seeds = max(row["seeds"] for row in done)
    spread = f"mean ± standard error, {seeds} seeds" if seeds > 1 else "one seed: noise unknown"
    set_title(axes, f"{name} scaled by each rule; {spread}", LEFT - 0.8)
    axes.grid()


def _differences(axes: Any, tested: Sequence[Mapping[str, Any]]) -> None:
    """The 95 % intervals of the differences, those that stand filled."""
    reference = tested[0]["reference"]
    for place, row in enumerate(tested):
        colour = COLOURS[row["rule"]]
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=1.6, zorder=2)
        axes.plot(
            [100 * row["difference"]],
            [place],
            marker=MARKERS[row["rule"]],
            color=colour,
            markerfacecolor=colour if row["stands"] else "white",
            markersize=7.5,
            zorder=3,
        )
    axes.axvline(0, color=BLACK, linewidth=0.9, zorder=1)
    axes.set_yticks(range(len(tested)), [f"{row['rule']} ×{row['factor']:g}" for row in tested], fontsize=SMALL)
    axes.set_ylim(len(tested) - 0.4, -0.6)
    for place in range(1, len(tested)):
        if tested[place]["factor"] != tested[place - 1]["factor"]:
            axes.axhline(place - 0.5, color="0.8", linewidth=0.8)
    axes.set_xlabel(f"difference from {reference}, points of accuracy; 95 % interval")
    judged = any(row["stands"] is not None for row in tested)
    verdict = "filled marks stand after Holm's correction" if judged else "no verdict"
    set_title(axes, f"paired over seeds; {verdict}", RIGHT - 1.2)
    axes.grid(axis="x")
