"""Learning curves as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..folder import save_figure
from .history import EpochRow

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
    from matplotlib.figure import Figure  # a second to import

    rows = [row for row in history if row.accuracy is not None]
    panels = 3 if rows else 2
    figure = Figure(figsize=(3.6 * panels, 3.4), layout="constrained")
    loss, *middle, rate = figure.subplots(1, panels)
    dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) <= DOTTED else {}
    epochs = [row.epoch for row in history]
    trained = [row.train_loss for row in history]
    loss.plot(epochs, trained, color="tab:gray", label="training (label smoothing, mixing included)", **dots)
    measured = [(row.epoch, row.loss) for row in history if row.loss is not None]
    if measured:
        loss.plot(*zip(*measured, strict=True), color="tab:blue", label="held out (plain labels)", **dots)
    _loss_axis(loss, trained + [value for _, value in measured])
    for axes in middle:
        percent = [100 * (row.accuracy or 0.0) for row in rows]
        axes.plot([row.epoch for row in rows], percent, color="tab:blue", **dots)
        axes.set_title(f"held-out accuracy (%), last {percent[-1]:.2f}", loc="left", fontsize=10)
    rate.plot(epochs, [row.lr for row in history], color="tab:orange", clip_on=False, **dots)
    rate.set_ylim(bottom=0)
    rate.set_title("learning rate, end of epoch", loc="left", fontsize=10)
    for axes in (loss, *middle, rate):
        _epoch_axis(axes, epochs)
    save_figure(figure, path)


def _loss_axis(axes: Any, values: Sequence[float]) -> None:
    """The legend is above the lines: wherever inside it is, some training runs under it."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    logarithmic = min(values) > 0 and max(values) > FAR * median(values)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.25 if logarithmic else high + 0.25 * (high - low))
    axes.set_title(f"cross-entropy{' (log scale)' if logarithmic else ''}", loc="left", fontsize=10)
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9)


def _epoch_axis(axes: Any, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    if len(epochs) == 1:  # a dot in the middle, and no tick beside it
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xticks(epochs)
