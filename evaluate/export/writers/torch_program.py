"""``torch_export``: the graph of ``torch.export``, for any number of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ....space.files import replacing
from ..subject import Subject


def make_program(subject: Subject) -> torch.export.ExportedProgram:
    """The graph; the number of images is a symbol in it."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        return torch.export.export(subject.module, (subject.example,), dynamic_shapes=(subject.any_size,))


def write(subject: Subject, path: Path) -> None:
    """The file."""
    program = make_program(subject)
    with replacing(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file)


def read(subject: Subject, path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """What runs it."""
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(file).module()

    @torch.inference_mode()
    def run(images: Tensor) -> Sequence[Tensor]:
        found = module(images)
        return found if isinstance(found, tuple) else (found,)

    return run
