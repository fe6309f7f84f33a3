"""The figure of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..drawing.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    RED,
    SMALL,
    drawing,
    make_figure,
    place_legend,
    save_figure,
    set_title,
    shorten,
)
from .metrics import Metrics, Predictions, confusion_matrix

#: More classes make a confusion matrix that nobody can read; then the classes' recall is shown.
MATRIX_CLASSES = 50
#: More classes leave no room for numbers in the matrix; letters of a name beside it.
NUMBER_CLASSES, NAME_LENGTH = 12, 18
#: Inches: of the left panel, of the right one, and of a class in the matrix with its names around it.
LEFT, RIGHT, CELL, NAMES = 4.6, 5.0, 0.15, 2.4


def evaluation_figure(
    predictions: Predictions, metrics: Metrics, classes: Sequence[str], title: str, output: Path
) -> None:
    """How far confidence can be trusted, and what is taken for what; ``evaluation.png`` and ``evaluation.svg``.

    Args:
        predictions, metrics: of one measurement.
        classes: names.
        title: the network and the images.
        output: folder.
    """
    matrix = predictions.num_classes <= MATRIX_CLASSES
    side = max(RIGHT, CELL * predictions.num_classes + NAMES) if matrix else RIGHT
    with drawing():
        width = LEFT + side + 0.6
        figure = make_figure(width, side + 0.9)
        grid = figure.add_gridspec(3, 2, width_ratios=[LEFT, side + 0.6], height_ratios=[3, 1, max(1e-3, side - RIGHT)])
        above = figure.add_subplot(grid[0, 0])
        below = figure.add_subplot(grid[1, 0], sharex=above)
        right = figure.add_subplot(grid[:, 1])
        _reliability(above, below, metrics)
        if matrix:
            _matrix(figure, right, confusion_matrix(predictions), classes)
        else:
            _recalls(right, metrics)
        set_title(figure, title, width - 0.5)
        place_legend(figure, [above, right], width)
        save_figure(figure, output / "evaluation")


def _reliability(above: Any, below: Any, metrics: Metrics) -> None:
    """Guo et al. 2017, figure 1: accuracy in each bin of the confidence, and how many images are there."""
    bins = [b for b in metrics.bins if b.images]
    centres, width = [50 * (b.low + b.high) for b in bins], 100 * (metrics.bins[0].high - metrics.bins[0].low)
    accuracy = [100 * (b.accuracy or 0) for b in bins]
    confidence = [100 * (b.confidence or 0) for b in bins]
    above.plot([0, 100], [0, 100], color=BLACK, linestyle="--", linewidth=1, label="confidence = accuracy", zorder=3)
    above.bar(centres, accuracy, 0.92 * width, color=BLUE, alpha=0.85, label="accuracy")
    gaps = [c - a for c, a in zip(confidence, accuracy, strict=True)]
    style = {"color": ORANGE, "alpha": 0.6, "hatch": "///", "edgecolor": "white", "linewidth": 0.0}
    above.bar(centres, gaps, 0.5 * width, accuracy, label="gap to the mean confidence", zorder=2, **style)
    above.set_ylim(0, 100)
    above.set_ylabel("accuracy (%)")
    set_title(above, f"expected calibration error {metrics.ece:.2%}", LEFT - 0.8)
    above.grid()
    above.tick_params(labelbottom=False)
    below.bar(centres, [100 * b.images / metrics.images for b in bins], 0.92 * width, color=GREY)
    below.set_xlim(0, 100)
    below.set_ylim(bottom=0)
    below.set_xlabel("confidence in the predicted class (%)")
    below.set_ylabel("images (%)")
    below.grid(axis="y")


def _matrix(figure: Any, axes: Any, counts: Any, classes: Sequence[str]) -> None:
    """Rows in per cent of the class's images; a class without an image has an empty row."""
    total = counts.sum(1, keepdims=True)
    share = np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(picture, ax=axes, label="of the class's images (%)", shrink=0.85)
    names = [shorten(name, NAME_LENGTH) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=SMALL)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    if len(names) <= NUMBER_CLASSES:
        for i, j in np.argwhere(counts > 0):
            colour = "white" if share[i, j] > 55 else BLACK
            axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", fontsize=SMALL, color=colour)
    set_title(axes, "confusion matrix", RIGHT - 1)


def _recalls(axes: Any, metrics: Metrics) -> None:
    recalls = [100 * row.recall for row in metrics.classes if row.recall is not None]
    axes.hist(recalls, np.linspace(0, 100, 21), color=BLUE, edgecolor="white", label="classes")
    label = "mean recall of the classes"
    axes.axvline(100 * metrics.balanced_accuracy, color=RED, linewidth=1.4, linestyle="-.", label=label)
    axes.set_xlim(0, 100)
    axes.set_xlabel("recall: accuracy within a class (%)")
    axes.set_ylabel("classes")
    fewest, most = (f(row.images for row in metrics.classes if row.images) for f in (min, max))
    each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    set_title(axes, f"{len(recalls):,} classes with {each} image{'s' * (most > 1)} each", RIGHT - 0.8)
    axes.grid(axis="y")
