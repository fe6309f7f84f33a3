"""Learning curves as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..drawing.axes import log_axis, percent_axis, whole_axis
from ..drawing.style import (
    BLUE,
    DARK_GREY,
    ORANGE,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
)
from .history import EpochRow

#: Inches, of one panel.
WIDTH, HEIGHT = 3.6, 3.7
#: Epochs up to which each is marked by a dot.
DOTTED = 30
#: A loss so many times the median one makes the axis logarithmic: a bad first epoch would flatten all the others.
FAR = 10


def draw_curves(history: Sequence[EpochRow], path: Path) -> None:
    """Loss, held-out accuracy (where it was measured) and learning rate by epoch.

    Args:
        history: of the whole training.
        path: of the figure without an ending; ``.png`` and ``.svg`` are written, or nothing where there is no epoch.

    Raises:
        OSError: a file cannot be written.
    """
    if not history:
        return
    rows = [row for row in history if row.accuracy is not None]
    number = 3 if rows else 2
    with drawing():
        figure = make_figure(WIDTH * number, HEIGHT)
        panels = figure.subplots(1, number)
        loss, *middle, rate = panels
        dots: dict[str, Any] = {"marker": "o", "markersize": 4} if len(history) <= DOTTED else {}
        epochs = [row.epoch for row in history]
        trained = [row.train_loss for row in history]
        loss.plot(epochs, trained, color=DARK_GREY, label="training (label smoothing, mixing included)", **dots)
        measured = [(row.epoch, row.loss) for row in history if row.loss is not None]
        held_out = {"color": BLUE, "linestyle": "-", "label": "held out (plain labels)", **dots}
        if measured:
            loss.plot(*zip(*measured, strict=True), **{**held_out, "marker": "s"} if dots else held_out)
        _loss_axis(loss, trained + [value for _, value in measured])
        for axes in middle:
            percent = [100 * (row.accuracy or 0.0) for row in rows]
            axes.plot([row.epoch for row in rows], percent, **{**held_out, "marker": "s"} if dots else held_out)
            percent_axis(axes, percent)
            set_title(axes, f"held-out accuracy (%), last {percent[-1]:.2f}", WIDTH - 0.2)
        rates = [row.lr for row in history]
        rate.plot(epochs, rates, color=ORANGE, clip_on=False, **dots)
        rate.set_ylim(bottom=0, top=1.07 * max(rates) or 1)
        set_title(rate, "learning rate, end of epoch", WIDTH - 0.2)
        for axes in panels:
            whole_axis(axes, epochs, "epoch")
            axes.grid()
        place_legend(figure, panels, WIDTH * number)
        save_figure(figure, path)


def _loss_axis(axes: Any, values: Sequence[float]) -> None:
    logarithmic = min(values) > 0 and max(values) > FAR * median(values)
    if logarithmic:
        log_axis(axes, values)
    set_title(axes, f"cross-entropy{' (log scale)' if logarithmic else ''}", WIDTH - 0.2)
