"""``openvino``: the graph and its weights for Intel's runtime, made of the ``torch.export`` program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..subject import Subject
from .onnx_graph import INPUT, describe
from .torch_program import make_program


def write(subject: Subject, path: Path) -> None:
    """``model.xml`` and ``model.bin``, in 32 bits, for any number of images."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(make_program(subject))
    model.inputs[0].get_tensor().set_names({INPUT})
    for name, value in describe(subject).items():
        model.set_rt_info(value, ["effnas", name])
    path.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, path / "model.xml", compress_to_fp16=False)


def read(subject: Subject, path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """What runs it on the CPU, in 32 bits."""
    return open_model(path / "model.xml", threads)


def open_model(path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """Images to the outputs of a model."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(images: Tensor) -> Sequence[Tensor]:
        found = compiled(images.numpy())
        return [torch.from_numpy(found[output].copy()) for output in compiled.outputs]

    return run
