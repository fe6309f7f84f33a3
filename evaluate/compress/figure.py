"""The figure of ``effnas compress``: what each cut cost, and where the MACs went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...space.architecture import Architecture
from ...space.cost import cost
from ..drawing.axes import choose_unit, cost_axis
from ..drawing.style import BLUE, GREY, RED, SMALL, drawing, make_figure, place_legend, save_figure, set_title, shorten

#: Inches: of the figure; of a layer's two bars, and of what is above and below them.
WIDTH, BAR, AROUND, LEAST = 10.0, 0.3, 1.9, 4.4


def compress_figure(record: Mapping[str, Any], before: Architecture, after: Architecture, output: Path) -> None:
    """Draw ``compress.png`` and ``compress.svg``.

    Args:
        record: the content of ``compress.json``.
        before, after: the network, and what is left of it: as many stages.
        output: folder.
    """
    names = ["stem", *(f"stage {i}" for i in range(len(before.stages))), "head"]
    with drawing():
        figure = make_figure(WIDTH, max(LEAST, BAR * len(names) + AROUND))
        left, right = figure.subplots(1, 2)
        _draw_cuts(left, record)
        _draw_layers(right, names, before, after)
        set_title(figure, _title(record), WIDTH - 0.5)
        place_legend(figure, [left, right], WIDTH)
        save_figure(figure, output / "compress")


def _title(record: Mapping[str, Any]) -> str:
    ends = [("before", record["before"]["accuracy"]), ("pruned", record["pruned"]["accuracy"])]
    if (trained := record.get("trained")) is not None:
        ends.append(("fine-tuned", trained["accuracy"]))
    told = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in ends)
    share = record["pruned"]["macs"] / record["before"]["macs"]
    name = shorten(record["before"]["name"] or "the network", 40)
    return f"{name}: {share:.0%} of the MACs are left; accuracy on held-out images: {told}"


def _draw_cuts(panel: Any, record: Mapping[str, Any]) -> None:
    steps = [(record["before"]["macs"], record["loss"]), *((cut["macs"], cut["loss"]) for cut in record["cuts"])]
    size, unit = choose_unit([steps[0][0]])
    macs, losses = [step[0] / size for step in steps], [step[1] for step in steps]
    panel.plot(macs, losses, "-", color=BLUE, linewidth=1, zorder=2)
    panel.plot(macs[1:], losses[1:], "o", color=BLUE, markersize=4.5, label="after a cut", zorder=3)
    panel.plot(macs[:1], losses[:1], "s", color=RED, markersize=6, label="before the first one", zorder=3)
    cost_axis(panel, macs, f"{unit}MACs left", "linear")
    panel.set_ylabel("loss on calibration images")
    panel.grid()
    set_title(panel, f"{len(steps) - 1} cuts, without fine-tuning", WIDTH / 2 - 1)


def _draw_layers(panel: Any, names: list[str], before: Architecture, after: Architecture) -> None:
    rows = [[row.macs for row in cost(network).stages] for network in (before, after)]
    size, unit = choose_unit(rows[0])
    for shift, color, label, macs in ((-0.2, GREY, "before", rows[0]), (0.2, BLUE, "left", rows[1])):
        places = [place + shift for place in range(len(names))]
        panel.barh(places, [value / size for value in macs], 0.38, color=color, label=label)
    panel.set_yticks(range(len(names)), names, fontsize=SMALL)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlabel(f"{unit}MACs")
    panel.grid(axis="x")
    set_title(panel, "of each part of the network", WIDTH / 2 - 1)
