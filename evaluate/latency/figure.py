"""The figure of ``effnas latency fit``: what was measured against what the model says without having seen it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..drawing.axes import SECONDS, choose_unit, cost_axis, log_axis
from ..drawing.style import BLUE, GREY, drawing, make_figure, place_legend, save_figure, set_title

#: Inches.
WIDTH, HEIGHT = 6.0, 5.6


def latency_figure(said: Sequence[float], seconds: Sequence[float], summary: Mapping[str, Any], output: Path) -> None:
    """Draw ``latency.png`` and ``latency.svg``; ``said`` are the predictions of the cross-validation."""
    with drawing():
        figure = make_figure(WIDTH, HEIGHT)
        panel = figure.subplots()
        size, unit = choose_unit([max(seconds)], SECONDS)
        x, y = [second / size for second in seconds], [value / size for value in said]
        panel.plot(x, y, "o", color=BLUE, markersize=4, label="networks", zorder=3)
        low, high = cost_axis(panel, x, f"measured, {unit}")
        log_axis(panel, [*y, low, high])
        panel.plot([low, high], [low, high], color=GREY, linewidth=1, label="as measured", zorder=1)
        panel.set_ylabel(f"said by cross-validation, {unit}")
        panel.grid()
        text = f"{summary['space']}: tau {summary['kendall_tau']:.3f}, median error {summary['median_error']:.1%}"
        set_title(panel, text, WIDTH - 1)
        place_legend(figure, [panel], WIDTH)
        save_figure(figure, output / "latency")
