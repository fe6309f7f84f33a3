"""``effnas evaluate``: the settings, the run."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...space.built import BuiltNetwork
from ...space.cost import cost
from ...space.errors import UserError, check_choice, check_int
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ..arguments import check_threads
from ..data.labelled_images import LabelledImages
from ..evaluation import EvaluationError
from ..folder import folder_lock, versions
from ..machine.device import explain_out_of_memory, find_device, torch_threads
from ..machine.profile import profile
from ..machine.settings import PRECISIONS, Settings
from ..pretrained import read_pretrained
from ..progress_bar import progress_bar
from .predict import predict
from .report import write_evaluation

#: Timed passes of the latency, at most, and seconds that they may take together.
REPEATS, LATENCY_SECONDS = 50, 5.0


def run_evaluate(
    architecture: NetworkSpec | str | None,
    weights: str | Path | None,
    data: LabelledImages,
    *,
    network: BuiltNetwork | None = None,
    part: str = "test",
    resolution: int | None = None,
    in_channels: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "fp32",
    batch_size: int = 64,
    latency_batch: int | None = 1,
    output: str | Path = "outputs/evaluate",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained network on one part of a data set.

    Args:
        architecture: a string is the name of a zoo network or a file; None: the one that ``weights`` name, or else
            ``network``.
        weights: a file (:func:`~effnas.space.weights.weights.read_weights`).
        data: the images. If they do not say how to normalise, the weights decide.
        network: a network of the user's own builder; files of its networks need it.
        part: ``test``, ``heldout`` (of the training part), ``train`` (the rest of it) or ``all`` (of it).
        resolution: of the input in pixels; None: the architecture's.
        in_channels: of the images; None: the architecture's. Weights for colour images are adapted, as timm does it.
        padding, bn_eps: of the network, if the weights need other values than their format implies.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        threads: of the CPU; None: PyTorch's default.
        precision: ``fp32`` or ``bf16``.
        batch_size: images per forward pass; halved where that does not fit into memory.
        latency_batch: batch size at which latency is measured; None: not measured.
        output: folder of ``summary.json``, ``classes.csv``, ``confusion.csv``, ``predictions.csv``, ``evaluation.png``
            and ``evaluation.svg``.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: a setting is wrong; data, architecture and weights do not fit each other; the output is not finite;
            or memory runs out even for one image.
    """
    check_choice("precision", precision, PRECISIONS)
    check_int("batch_size", batch_size, 1, 1_000_000)
    check_threads(threads)
    if latency_batch is not None:
        check_int("latency_batch", latency_batch, 1, 1_000_000)
    place, output = find_device(device), as_path("output", output)
    start = read_pretrained(
        architecture,
        weights,
        network,
        padding=padding,
        bn_eps=bn_eps,
        resolution=resolution,
        in_channels=in_channels,
    )
    if start.classes is None:
        raise UserError(f"weights: {start.weights.path} has no classifier: fine-tune it on your data (effnas train)")
    found = start.architecture
    images = start.load_part(data, part)
    where = data.title
    if len(images.classes) != found.num_classes:
        raise UserError(
            f"the data ({where}, {part} part) has {len(images.classes)} classes, the weights {start.weights.path} have "
            f"{found.num_classes} (architecture {found.name}: {start.asked_classes}): "
            "measure them on data with their classes, or fine-tune them on yours: effnas train with weights=FILE"
        )
    model = start.load().to(place)
    settings = Settings(precision=precision)
    with folder_lock(output, "evaluate"), torch_threads(threads):
        begin = time.perf_counter()
        with explain_out_of_memory(found.resolution), progress_bar("evaluate", len(images.images), quiet=quiet) as seen:
            predictions, fitted = predict(
                model,
                images.images,
                batch_size=batch_size,
                resolution=found.resolution,
                device=place,
                settings=settings,
                seen=seen,
            )
        seconds = time.perf_counter() - begin
        rate = len(predictions.labels) / seconds
        costs, pixels = cost(found), images.images.pixels
        facts: dict[str, Any] = {
            "architecture": found.name,
            "digest": found.digest,
            "resolution": found.resolution,
            "params": costs.params,
            "macs": costs.macs,
            "weights": str(start.weights.path),
            "weights_note": start.note,
            "data": where,
            "part": part,
            "skipped": list(images.unreadable.reasons),
            "pixels": {
                "stored": pixels.size,
                "center_crop": pixels.center_crop,
                "interpolation": pixels.interpolation,
                "mean": list(pixels.mean),
                "std": list(pixels.std),
            },
            "seconds": seconds,
            "images_per_second": rate,
            "batch_size": fitted,
            "device": str(place),
            "threads": torch.get_num_threads(),
            "precision": settings.precision,
            "latency": None if latency_batch is None else _latency(model, found, latency_batch, place, rate),
            "versions": versions(),
            "command": command,
        }
        return write_evaluation(predictions, images.classes, images.names(), facts, output)


def _latency(
    model: nn.Module, network: NetworkSpec, batch_size: int, device: torch.device, rate: float
) -> dict[str, Any]:
    """Of one batch; the slower the network, the fewer timed passes."""
    passes = min(REPEATS, max(5, round(LATENCY_SECONDS * rate / batch_size)))
    try:
        measured = profile(
            network,
            module=model,
            batch_size=batch_size,
            device=str(device),
            repeats=passes,
            warmup=min(10, passes),
            fvcore=False,
        )
    except EvaluationError as error:
        raise UserError(f"latency_batch={batch_size}: {error}; set a smaller one, or null") from error
    found = asdict(measured)
    return {key: value for key, value in found.items() if key != "fvcore"}
