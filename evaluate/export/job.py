"""``effnas export``: the settings, the run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...space.built import BuiltNetwork
from ...space.errors import UserError, check_int, check_number
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ..arguments import as_list, check_threads
from ..data.labelled_images import LabelledImages
from ..folder import check_owner, folder_lock, list_visible, set_aside
from ..machine.cores import fit_threads
from ..machine.device import explain_out_of_memory
from ..pretrained import read_pretrained
from ..progress_bar import progress_bar
from .formats import Format, Run, find_formats, write_format
from .images import ProofImages, find_images, split_images
from .inside import RESIZE, put_inside
from .int8 import Quantized, check_int8, prove_int8, quantize
from .proof import as_run, ask_all, prove, prove_resizing
from .report import RESULT, read_facts, summarize, write_documents
from .subject import Subject, check_weights, find_weights, read_summary, recorded_data
from .timing import time_formats
from .writers.timm_folder import is_timm_there

#: Where an export is put together; what it holds moves up when all is proved.
STAGING = ".staging"
#: Images of noise, where there are no others.
NOISE = 3


def run_export(
    weights: Sequence[str] | str = (),
    data: LabelledImages | None = None,
    *,
    to: Sequence[str] | str = ("python", "torch_export"),
    architecture: NetworkSpec | str | None = None,
    network: BuiltNetwork | None = None,
    preprocess_inside: bool = False,
    resize_inside: bool = False,
    int8: bool = False,
    int8_max_drop: float = 0.01,
    calibration: int = 200,
    part: str = "test",
    images: int = 500,
    resolution: int | None = None,
    in_channels: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
    license: str | None = None,
    latency: bool = True,
    threads: int | None = 1,
    restart: bool = False,
    output: str | Path = "outputs/export",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a trained network in other runtimes' formats, and prove each of them.

    Each export is asked the same images as the network in PyTorch, at two batch sizes; one that answers otherwise is
    an error, and nothing is written. ``safetensors`` (``weights.safetensors`` and ``config.json``) is always there:
    :func:`~effnas.evaluate.export.pretrained_folder.load_pretrained` reads it.

    Args:
        weights: a file (:func:`~effnas.space.weights.weights.read_weights`), or the folder of a run.
        data: images for the proofs and the accuracies; None: those that the run was trained on, where its
            ``summary.json`` says them and they can be read, else noise.
        to: names of :data:`~effnas.evaluate.export.formats.FORMATS`.
        architecture: of the weights; a string is the name of a zoo network or a file; None: the one that they name, or
            else ``network``.
        network: a network of the user's own builder; files of its networks need it.
        preprocess_inside: graphs take images in units of 0 to 255 and normalise them themselves.
        resize_inside: graphs take decoded images, uint8 (n, channels, height, width) of any size, and do all the rest
            themselves: crop, resize and normalisation.
        int8: make ``onnx`` and ``openvino`` in eight bits too.
        int8_max_drop: of their accuracy, as a fraction: operations that cost more stay in 32 bits.
        calibration: images of the part that ranges are measured on; accuracies are of the others.
        part: of the data: ``test``, ``heldout``, ``train`` or ``all``.
        images: of the part, at most, for agreement and accuracy.
        resolution, in_channels, padding, bn_eps: as :func:`~effnas.evaluate.measure.job.run_evaluate`.
        license: of the weights, for the model card.
        latency: measure all formats on this machine.
        threads: of the CPU, of every runtime, when they are timed; None: the runtime's own number.
        restart: begin anew: what the folder holds is kept under other names, with a number.
        output: folder of ``export.json``, ``README.md``, ``config.json`` and the formats' files.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``export.json``.

    Raises:
        UserError: an option is wrong, the weights, data and network do not fit each other, a format's packages are not
            installed, the network cannot be exported so, a proof failed, or the folder is not empty.
    """
    check_int("images", images, 1, 10_000_000)
    check_int("calibration", calibration, 10, 100_000)
    check_number("int8_max_drop", int8_max_drop, 0, 1)
    check_threads(threads)
    threads = fit_threads(threads)
    output, file = as_path("output", output), find_weights(_one(weights))
    inside = RESIZE if resize_inside else preprocess_inside
    rows = find_formats(to, any_size=resize_inside)
    if not restart:
        _check_empty(output)
    start = read_pretrained(
        architecture,
        str(file),
        network,
        padding=padding,
        bn_eps=bn_eps,
        resolution=resolution,
        in_channels=in_channels,
    )
    check_weights(start)
    rows = find_formats(to, start.architecture)
    run = read_summary(file.parent / "summary.json")
    source = data if data is not None else recorded_data(run)
    more = calibration if int8 else 0
    size = start.architecture.resolution
    with explain_out_of_memory(size):
        told = find_images(start, source, data is not None, part, images + more, whole=inside == RESIZE)
    quantized = check_int8([row.name for row in rows], told.labels is not None) if int8 else []
    plain = start.load().eval().requires_grad_(False)
    module = put_inside(plain, told.preprocessing, inside)
    names = start.weights.classes or told.classes
    subject = Subject(module, start.architecture, told.preprocessing, names, plain, inside=inside)
    if told.ready is None:
        subject_images = ProofImages(subject.noise(NOISE, seed=1), None, f"{NOISE} images of noise: {told.note}")
    else:
        subject_images = ProofImages(told.whole or subject.given(told.ready), told.labels, told.note)
    calibrate, subject_images = split_images(subject_images, more)
    with explain_out_of_memory(size):
        logits = subject.logits(subject_images.first(1))
    if not torch.isfinite(logits).all():
        raise UserError(f"weights: the network's output is not finite: {file} is damaged, or of another network")
    facts = read_facts(run, start, file, license)
    with folder_lock(output, "export"), explain_out_of_memory(size):
        if restart:
            set_aside(output, sorted(list_visible(output)))
        else:
            _check_empty(output)
        staging = output / STAGING
        shutil.rmtree(staging, ignore_errors=True)  # of a killed run
        staging.mkdir()
        try:
            classes = ask_all(as_run(module), subject_images)
            resizing = None
            if told.whole and told.ready is not None:
                ready = told.ready[len(told.ready) - len(subject_images) :]
                resizing = prove_resizing(subject, subject_images, ready, classes).to_dict()
            task = _Task(subject, subject_images, classes, calibrate, staging, threads, int8_max_drop)
            found, torch_latency = _export(rows, quantized, task, latency, quiet)
            facts |= {"torch_latency": torch_latency, "threads": threads if latency else None, "resizing": resizing}
            summary = summarize(subject, found, facts, command, output)
            write_documents(subject, summary, staging)
            for entry in sorted(staging.iterdir(), key=lambda path: path.name == RESULT):  # it is the last
                os.replace(entry, output / entry.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return summary


def _one(weights: Sequence[str] | str) -> str:
    given = as_list(weights)
    if not given:
        raise UserError("weights: none given; name a run's folder or a file: effnas export weights.safetensors")
    if len(given) > 1:
        told = ", ".join(map(str, given))
        raise UserError(f"weights: name one run's folder or one file of weights, got {len(given)}: {told:.200}")
    return str(given[0])


def _check_empty(output: Path) -> None:
    check_owner(output, "export")
    names = sorted(list_visible(output))
    if names:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UserError(
            f"{output}: is not empty ({shown}); choose another folder with -o DIR, or restart=true, which keeps what "
            "is there under other names"
        )


@dataclass(frozen=True)
class _Task:
    """What is exported to where.

    Args:
        subject: the network.
        images: that prove its exports.
        classes: that PyTorch gives them, int64 (n,).
        calibrate: images for the ranges of eight bits.
        folder: for the files.
        threads: of the CPU.
        max_drop: of the accuracy in eight bits.
    """

    subject: Subject
    images: ProofImages
    classes: Tensor
    calibrate: ProofImages
    folder: Path
    threads: int | None
    max_drop: float


def _export(
    rows: Sequence[Format], quantized: Sequence[Quantized], task: _Task, latency: bool, quiet: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Write, open, prove and time all formats; what export.json says of each, and the latency in PyTorch."""
    subject, images, folder = task.subject, task.images, task.folder
    found: dict[str, dict[str, Any]] = {}
    runs: dict[str, Run] = {"torch": as_run(subject.module)}

    def add(row: Format) -> None:
        write_format(row, subject, folder)
        opened = row.open(subject, folder / row.file, task.threads)
        proof = prove(row, subject, opened, images, task.classes, _runner(row.name))
        found[row.name] = {"file": row.file, "bytes": _size(folder / row.file), "proof": proof.to_dict()}
        if row.name not in ("safetensors", "python", "timm"):  # these are PyTorch's own
            runs[row.name] = as_run(opened)
        seen(len(found))

    with progress_bar("export", len(rows) + len(quantized), quiet=quiet) as seen:
        for row in (row for row in rows if row.most is None):
            add(row)
        for eight in quantized:
            kept = quantize(eight, subject, folder, task.calibrate, task.max_drop)
            run = runs[eight.name] = eight.open(folder / eight.file, task.threads)
            proof = prove_int8(eight, subject, run, images, task.classes, task.max_drop, _runner(eight.of))
            found[eight.name] = {"file": eight.file, "bytes": _size(folder / eight.file), "proof": proof.to_dict()}
            found[eight.name] |= {"calibration": task.calibrate.of, "kept_in_float": kept}
            seen(len(found))
        for row in (row for row in rows if row.most is not None):  # LiteRT's JAX has threads, and NNCF forks before it
            add(row)
    if latency:
        slower = {eight.name: eight.of for eight in quantized}
        times = time_formats(runs, images.first(1), task.threads, slower)
        for name, told in found.items():
            told["latency"] = times.get(name)
        return found, times["torch"]
    return found, None


def _runner(name: str) -> str:
    """What ran an export for its proof, with its version."""
    if name == "timm" and not is_timm_there():
        return "its own code in torch; timm is not installed here, and has not opened it"
    package = {"onnx": "onnxruntime", "litert": "ai_edge_litert"}.get(name, name)
    if name in ("safetensors", "python", "torchscript", "torch_export"):
        package = "torch"
    return f"{package} {metadata.version(package)}"


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
