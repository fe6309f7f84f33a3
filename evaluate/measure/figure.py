"""The figure of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..folder import save_figure
from .metrics import Metrics, Predictions, confusion_matrix

#: More classes make a confusion matrix that nobody can read; then the classes' recall is shown.
MATRIX_CLASSES = 50
#: More classes leave no room for numbers in the matrix, or for names beside it.
NUMBER_CLASSES, NAME_LENGTH = 12, 18


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
    from matplotlib.figure import Figure  # a second to import: only when there is something to draw

    side = 4.6 if predictions.num_classes <= NUMBER_CLASSES else 5.4
    figure = Figure(figsize=(4.2 + side + 0.6, side), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[4.2, side + 0.6], squeeze=False)[0]
    _reliability(left, metrics)
    if predictions.num_classes <= MATRIX_CLASSES:
        _matrix(right, confusion_matrix(predictions), classes)
    else:
        _recalls(right.subplots(), metrics)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, output / "evaluation")


def _reliability(figure: Any, metrics: Metrics) -> None:
    """Guo et al. 2017, figure 1: accuracy in each bin of the confidence, and how many images are there."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = [b for b in metrics.bins if b.images]
    centres, width = [50 * (b.low + b.high) for b in bins], 100 * (metrics.bins[0].high - metrics.bins[0].low)
    accuracy = [100 * (b.accuracy or 0) for b in bins]
    confidence = [100 * (b.confidence or 0) for b in bins]
    above.plot([0, 100], [0, 100], color="black", linestyle="--", linewidth=1, label="confidence = accuracy", zorder=3)
    above.bar(centres, accuracy, 0.92 * width, color="tab:blue", alpha=0.85, label="accuracy")
    gaps = [c - a for c, a in zip(confidence, accuracy, strict=True)]
    above.bar(
        centres, gaps, 0.5 * width, accuracy, color="crimson", alpha=0.35, label="gap to the mean confidence", zorder=2
    )
    above.set_ylim(0, 100)
    above.set_ylabel("accuracy (%)")
    above.set_title(f"expected calibration error {metrics.ece:.2%}", loc="left", fontsize=9)
    above.legend(loc="upper left", fontsize=7, framealpha=0.9)
    above.grid(alpha=0.25)
    below.bar(centres, [100 * b.images / metrics.images for b in bins], 0.92 * width, color="tab:gray")
    below.set_xlim(0, 100)
    below.set_xlabel("confidence in the predicted class (%)")
    below.set_ylabel("images (%)")
    below.grid(axis="y", alpha=0.25)


def _matrix(figure: Any, counts: Any, classes: Sequence[str]) -> None:
    """Rows in per cent of the class's images; a class without an image has an empty row."""
    axes = figure.subplots()
    total = counts.sum(1, keepdims=True)
    share = np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(picture, ax=axes, label="of the class's images (%)", shrink=0.85)
    names = [name if len(name) <= NAME_LENGTH else f"{name[:8]}…{name[8 + 1 - NAME_LENGTH :]}" for name in classes]
    size = 8 if len(names) <= NUMBER_CLASSES else 5
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    if len(names) <= NUMBER_CLASSES:
        for i, j in np.argwhere(counts > 0):
            colour = "white" if share[i, j] > 55 else "black"
            axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title("confusion matrix", loc="left", fontsize=9)


def _recalls(axes: Any, metrics: Metrics) -> None:
    recalls = [100 * row.recall for row in metrics.classes if row.recall is not None]
    axes.hist(recalls, np.linspace(0, 100, 21), color="tab:blue", edgecolor="white")
    axes.axvline(100 * metrics.balanced_accuracy, color="crimson", linewidth=1.2, label="mean of the classes")
    axes.set_xlim(0, 100)
    axes.set_xlabel("recall: accuracy within a class (%)")
    axes.set_ylabel("classes")
    fewest, most = (f(row.images for row in metrics.classes if row.images) for f in (min, max))
    each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    axes.set_title(f"{len(recalls):,} classes with {each} image{'s' * (most > 1)} each", loc="left", fontsize=9)
    axes.legend(loc="upper left", fontsize=7, framealpha=0.9)
    axes.grid(axis="y", alpha=0.25)
