"""Where networks run: which device, in which precision, how memory is kept, and what happens when it is full."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

import torch

from ...space.errors import UserError, unknown
from ..evaluation import EvaluationError
from .assignment import assigned_gpu
from .cores import fit_threads

T = TypeVar("T")

#: Of glibc's ``malloc.h``.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def find_device(name: object) -> torch.device:
    """The device of a name: ``auto`` or one of PyTorch's, ``cpu``, ``cuda``, ``cuda:1``.

    ``auto`` is the GPU that was assigned to this process, as to a search's workers, else the first one, else the CPU.

    Raises:
        UserError: not a device, or one that this machine lacks; the message names those there are.
    """
    gpus = torch.cuda.device_count()
    present = [f"cuda:{i}" for i in range(gpus)]
    if torch.backends.mps.is_available():
        present.append("mps")
    present.append("cpu")
    if name == "auto":
        return torch.device(present[assigned_gpu(gpus) if gpus else 0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in present:
        raise unknown("device (of this machine)", name, ["auto", *present])
    return torch.device(str(wanted))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context: ``bf16`` or ``fp16`` where ``precision`` is that, fp32 as always where it is ``fp32``."""
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, enabled=precision != "fp32")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "llocate memory" in str(error)
    )


def free_memory(device: torch.device) -> None:
    """Give back what the allocator holds for nobody."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        release_memory()


def fit_batch(run: Callable[[int], T], batch_size: int, device: torch.device) -> tuple[T, int]:
    """What ``run(batch_size)`` gives, and the batch size, which is halved for as long as memory runs out.

    Raises:
        RuntimeError, MemoryError: it is lacking even at 1.
    """
    while True:
        try:
            return run(batch_size), batch_size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or batch_size == 1:
                raise
        # outside of the handler: the exception's frames hold the tensors that are to go
        batch_size //= 2
        free_memory(device)


@contextlib.contextmanager
def out_of_memory(batch_size: int, resolution: int) -> Iterator[None]:
    """What runs out of memory inside, or cannot be normalised, is a candidate without a value: EvaluationError."""
    try:
        yield
    except EvaluationError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EvaluationError(f"out of memory at batch size {batch_size}, resolution {resolution}") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # BatchNorm of one image, one pixel
            raise
        raise EvaluationError(f"BatchNorm needs more than one value: batch size {batch_size}, 1x1 maps") from error


@contextlib.contextmanager
def explain_out_of_memory(resolution: int) -> Iterator[None]:
    """What runs out of memory inside, with one image at last, is told the user: UserError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory with one image at resolution {resolution}: a smaller resolution or another device may help"
        ) from error


def fork_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A context: outside, torch's random numbers go on as if inside none were drawn, on the CPU and on the device."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def finish_work(device: torch.device) -> None:
    """Wait until the device has done all that it was told: what a clock has to do before it is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """PyTorch's CPU threads inside, as many as fit, and those there were again outside; None changes nothing."""
    before = torch.get_num_threads()
    if (fitting := fit_threads(number)) is not None:
        torch.set_num_threads(fitting)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- the C library's heap, told to keep what a training will want again in a moment -------------------------


@cache
def keep_memory() -> bool:
    """Let this process keep freed memory instead of giving it back, from now on; whether that was possible.

    glibc asks the kernel for every tensor above 32 MB, and returns it when it is freed; the kernel hands out each
    page with a fault and wiped. A training on a CPU pays that anew at every step: EfficientNet-B0 at 224 px, batch
    16, spent half its time on 300,000 faults per step (2 cores: 21 images/s, then 45). Kept, memory is about a tenth
    higher, for what is free lies between what is not; :func:`release_memory` returns it.

    Nothing happens, and nothing is lost but speed, where the C library is another one, or where the environment already
    tunes it (``MALLOC_…_``, ``GLIBC_TUNABLES``).
    """
    library = _glibc()
    if library is None or "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, _LARGEST))


def release_memory() -> None:
    """Return to the system what the C library keeps of freed memory, such as after a large network; 0.1 s per GB."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
