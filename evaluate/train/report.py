"""The output folder of ``effnas train``: the weights, the curves, the summary, its text on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...space.cost import cost
from ...space.errors import UserError
from ...space.weights.weights import save_weights
from ..folder import versions, write_json
from .figure import draw_curves
from .history import TrainingResult
from .starting_point import StartingPoint

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.safetensors"


def write_training(
    network: nn.Module, result: TrainingResult, start: StartingPoint, facts: Mapping[str, Any], output: Path
) -> dict[str, Any]:
    """Write the results and return the content of ``summary.json``.

    Args:
        network: trained.
        result: of the training.
        start: what it began with.
        facts: further ones for the summary; ``test_accuracy``, ``test_loss`` and ``test_images`` where it was tested.
        output: folder.

    Raises:
        UserError: a file cannot be written.
    """
    architecture, split, total = start.architecture, start.split, cost(start.architecture)
    pixels = split.train.pixels
    summary: dict[str, Any] = {
        "architecture": architecture.name,
        "digest": architecture.digest,
        "resolution": architecture.resolution,
        "params": total.params,
        "macs": total.macs,
        "classes": len(split.classes),
        "weights": start.note,
        "train_images": len(split.train),
        "heldout_images": len(split.heldout),
        "accuracy": result.accuracy,
        "loss": result.loss,
        "test_images": None,
        "test_accuracy": None,
        "test_loss": None,
        "train_loss": result.train_loss,
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "settings": result.settings,
        **facts,
        "versions": versions(),
        "output": str(output),
    }
    try:
        save_weights(
            output / WEIGHTS,
            network,
            architecture=architecture,
            normalization=(pixels.mean, pixels.std),
            classes=split.classes,
        )
        draw_curves(result.history, output / "curves")
        write_json(output / "summary.json", summary)
    except OSError as error:
        raise UserError(
            f"{output}: the results cannot be written ({error.strerror}); {CHECKPOINT} is kept: run the same command "
            "again"
        ) from error
    return summary


def summary_text(summary: Mapping[str, Any]) -> str:
    """What the command prints."""
    rate, tested = summary["images_per_second"], summary["test_accuracy"]
    lines = [
        f"{summary['architecture']}: {summary['epochs']} epochs in {summary['seconds']:.0f} s, {rate:,.0f} images/s",
        f"held-out accuracy {summary['accuracy']:.2%}, loss {summary['loss']:.4f}",
    ]
    if tested is not None:
        lines.append(f"test accuracy {tested:.2%}, loss {summary['test_loss']:.4f}")
    output = summary["output"]
    return "\n".join(
        [
            *lines,
            f"written to {output}: {WEIGHTS} architecture.yaml log.csv curves.png curves.svg summary.json {CHECKPOINT}",
            f"next: effnas evaluate --weights {output}/{WEIGHTS} with the same --data",
        ]
    )
