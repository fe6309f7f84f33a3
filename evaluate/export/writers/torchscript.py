"""``torchscript``: a traced program that PyTorch runs without Python's code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ....space.files import replacing
from ..subject import Subject


def write(subject: Subject, path: Path) -> None:
    """The file."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its tracer, and of TorchScript itself, which still is what many run
        traced = torch.jit.trace(subject.module, (subject.example,), check_trace=False)  # type: ignore[no-untyped-call]
        with replacing(path) as file:
            torch.jit.save(traced, file)


def read(subject: Subject, path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """What runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.jit.load(path)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(images: Tensor) -> Sequence[Tensor]:
        found = program(images)
        return found if isinstance(found, tuple) else (found,)

    return run
