"""Where networks run: which device, in which precision, and what happens when its memory is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ..space.errors import unknown
from .evaluation import EvaluationError


def find_device(name: object) -> torch.device:
    """The device of a name: ``auto`` (the first GPU, else the CPU) or one of PyTorch's, ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        UserError: not a device, or one that this machine lacks; the message names those there are.
    """
    present = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        present.append("mps")
    present.append("cpu")
    if name == "auto":
        return torch.device(present[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in present:
        raise unknown("device (of this machine)", name, ["auto", *present])
    return torch.device(str(wanted))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context: bf16 where ``precision`` is ``bf16``, or ``auto`` on a GPU that computes it; else fp32 as always."""
    on = precision == "bf16"
    if precision == "auto" and device.type == "cuda":
        on = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on)


@contextlib.contextmanager
def out_of_memory(batch_size: int, resolution: int) -> Iterator[None]:
    """What runs out of memory inside, or cannot be normalised, is a candidate without a value: EvaluationError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EvaluationError(f"out of memory at batch size {batch_size}, resolution {resolution}") from error
    except RuntimeError as error:
        if isinstance(error, EvaluationError) or "llocate memory" not in str(error):
            raise
        raise EvaluationError(f"out of memory at batch size {batch_size}, resolution {resolution}") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # BatchNorm of one image, one pixel
            raise
        raise EvaluationError(f"BatchNorm needs more than one value: batch size {batch_size}, 1x1 maps") from error


@contextlib.contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """PyTorch's CPU threads inside, and those there were again outside; None changes nothing."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
