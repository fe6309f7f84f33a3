"""``executorch``: a program for phones and boards, whose layers XNNPACK runs; made of the ``torch.export`` program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ....space.files import write_bytes
from ..silence import silenced
from ..subject import Subject

#: Images at once, at most: the program plans its memory for them.
MOST = 8


def write(subject: Subject, path: Path) -> None:
    """The file."""
    with silenced("executorch"), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        batch = torch.export.Dim("batch", min=1, max=MOST)
        program = torch.export.export(subject.module, (subject.example,), dynamic_shapes=({0: batch},))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        write_bytes(path, lowered.to_executorch().buffer)


def read(subject: Subject, path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """What runs it, on the CPU; the number of threads is the runtime's own."""
    with silenced("executorch"):
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(path.read_bytes())
        method = program.load_method("forward")

    # the method lives in its program, which owns what it gives: the default argument keeps it
    def run(images: Tensor, program: object = program) -> Sequence[Tensor]:
        return [output.clone() for output in method.execute((images.contiguous(),))]

    return run
