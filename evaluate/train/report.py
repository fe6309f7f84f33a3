"""The output folder of ``effnas train``: the weights, the curves, the summary, its text on the terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...report.job import tell_report
from ...space.cost import cost
from ...space.errors import AGAIN, UserError
from ...space.weights.weights import save_weights
from ..folder import versions, write_json
from ..tracking.tracking import FILES
from .figure import draw_curves
from .history import TrainingResult
from .starting_point import StartingPoint

log = logging.getLogger(__name__)

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.safetensors"
#: What a training writes to its folder.
RESULTS = (
    *(CHECKPOINT, WEIGHTS, "architecture.yaml", "log.csv", "curves.png", "curves.svg", "summary.json", "report.html"),
    *("tensorboard", *FILES),
)


def write_weights(network: nn.Module, start: StartingPoint, output: Path) -> None:
    """Write ``weights.safetensors``.

    Args:
        network: trained.
        start: what it began with.
        output: folder.

    Raises:
        UserError: the file cannot be written.
    """
    pixels = start.split.train.pixels
    with _explained(output):
        save_weights(
            output / WEIGHTS,
            network,
            architecture=start.architecture,
            normalization=(pixels.mean, pixels.std),
            classes=start.split.classes,
        )


def write_training(
    result: TrainingResult, start: StartingPoint, facts: Mapping[str, Any], output: Path
) -> dict[str, Any]:
    """Write the other results and return the content of ``summary.json``.

    Args:
        result: of the training.
        start: what it began with.
        facts: further ones for the summary; ``test_accuracy``, ``test_loss`` and ``test_images`` where it was tested,
            ``test_note`` where it could not be.
        output: folder.

    Raises:
        UserError: a file cannot be written.
    """
    architecture, split, total = start.architecture, start.split, cost(start.architecture)
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
        "test_note": None,
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
    with _explained(output):
        write_json(output / "summary.json", summary)
        try:
            draw_curves(result.history, output / "curves")
        except OSError:
            raise
        except Exception as error:  # of matplotlib: a training without its picture is whole
            log.warning("%s: the curves cannot be drawn (%s: %s)", output, type(error).__name__, error)
    return summary


@contextlib.contextmanager
def _explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = f"{CHECKPOINT} is kept" if (output / CHECKPOINT).is_file() else f"there is no {CHECKPOINT} either"
        raise UserError(f"{output}: the results cannot be written ({error.strerror}); {kept}: {AGAIN}") from error


def summary_text(summary: Mapping[str, Any]) -> str:
    """What the command prints."""
    rate, tested = summary["images_per_second"], summary["test_accuracy"]
    lines = [
        f"{summary['architecture']}: {summary['epochs']} epochs in {summary['seconds']:.0f} s, {rate:,.0f} images/s",
        f"held-out accuracy {summary['accuracy']:.2%}, loss {summary['loss']:.4f}",
    ]
    if tested is not None:
        lines.append(f"test accuracy {tested:.2%}, loss {summary['test_loss']:.4f}")
    if summary["test_note"]:
        lines.append(summary["test_note"])
    output = summary["output"]
    return "\n".join(
        [
            *lines,
            f"written to {output}: {WEIGHTS} architecture.yaml log.csv curves.png curves.svg summary.json {CHECKPOINT}",
            *tell_report(output),
            f"next: effnas evaluate --weights {output}/{WEIGHTS} with the same --data",
        ]
    )
