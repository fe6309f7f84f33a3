"""``litert``: a flatbuffer for LiteRT, which was TensorFlow Lite.

The converter refuses a symbolic number of images (litert-torch 0.10.0), and not every network that it made for one can
be resized to more (``resize_tensor_input``). So the file takes one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ....space.files import write_bytes
from ..silence import silenced
from ..subject import Subject


def write(subject: Subject, path: Path) -> None:
    """The file."""
    with silenced("litert_torch"), torch.no_grad():
        import litert_torch

        write_bytes(path, litert_torch.convert(subject.module, (subject.example[:1],)).model_content())


def read(subject: Subject, path: Path, threads: int | None) -> Callable[[Tensor], Sequence[Tensor]]:
    """What runs it, on the CPU."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (entry,), outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: Tensor) -> Sequence[Tensor]:
        interpreter.set_tensor(entry["index"], images.numpy())
        interpreter.invoke()
        return [torch.from_numpy(interpreter.get_tensor(output["index"])) for output in outputs]

    return run
