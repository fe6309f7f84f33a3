"""What a network costs on this machine: latency, memory, and fvcore's count beside ours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...space.builders.live_tensors import LiveTensors
from ...space.errors import UserError, check_choice, check_int
from ...space.network import build
from ...space.network_spec import NetworkSpec
from ..arguments import check_threads
from .device import autocast, find_device, finish_work, out_of_memory, torch_threads
from .fvcore_count import count_by_fvcore
from .settings import TIMED_PRECISIONS


@dataclass(frozen=True)
class Profile:
    """Measured on one machine: plain eager PyTorch, channels-last, BatchNorm not folded.

    Args:
        latency: median seconds per batch.
        latency_q1, latency_q3: lower and upper quartile, seconds per batch.
        images_per_second: ``batch_size / latency``.
        peak_memory: bytes of the input and the activations alive at once in a forward pass, weights not counted. On
            a CPU the sum over live tensors (workspaces inside an operator are not seen); on CUDA the
            allocator's peak above the weights, workspaces included; None on other devices.
        batch_size, resolution, threads, device, repeats, precision: of the measurement.
        fvcore: fvcore's count for one image by operator (``conv``, ``linear``, ``batch_norm``, …) and their
            ``total``; our MACs are ``conv + linear``. Empty if not requested.
    """

    latency: float
    latency_q1: float
    latency_q3: float
    images_per_second: float
    peak_memory: int | None
    batch_size: int
    resolution: int
    threads: int
    device: str
    repeats: int
    precision: str = "fp32"
    fvcore: Mapping[str, int] = field(default_factory=dict)


def profile(
    architecture: NetworkSpec,
    *,
    module: nn.Module | None = None,
    batch_size: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    repeats: int = 50,
    warmup: int = 10,
    fvcore: bool = True,
) -> Profile:
    """Measure a network in inference.

    Args:
        architecture: what to build, with random weights; its resolution is the input's.
        module: the network where it is there already; it goes to the device, channels-last, in evaluation mode.
        batch_size: images per forward pass.
        threads: of PyTorch on the CPU, restored afterwards; None: unchanged.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        precision: one of :data:`~effnas.evaluate.machine.settings.TIMED_PRECISIONS`; all but fp32 are autocast.
        repeats: timed passes.
        warmup: passes before them.
        fvcore: count with fvcore too; about a second for a large network.

    Raises:
        UserError: a number out of range, or the machine lacks the device.
        EvaluationError: not enough memory.
    """
    check_choice("precision", precision, TIMED_PRECISIONS)
    check_int("batch_size", batch_size, 1, 1_000_000)
    check_threads(threads)
    check_int("repeats", repeats, 2, 1_000_000)
    check_int("warmup", warmup, 0, 1_000_000)
    place = find_device(device)
    if precision == "fp16" and place.type == "cpu":
        raise UserError("precision=fp16 needs a GPU; on a CPU choose fp32 or bf16")
    with out_of_memory(batch_size, architecture.resolution), torch_threads(threads), torch.inference_mode():
        if module is None:
            with torch.random.fork_rng(devices=[]):
                module = build(architecture)
        model = module.eval()
        counts: dict[str, int] = {}
        if fvcore:
            counted = count_by_fvcore(model, architecture)
            counts = {**counted.operators, "total": counted.total}
        model = model.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        side = architecture.resolution
        shape = (batch_size, architecture.in_channels, side, side)
        images = torch.zeros(shape, device=place).contiguous(memory_format=torch.channels_last)
        with autocast(precision, place):
            memory = _peak_memory(model, shape, place)
            seconds = _times(model, images, warmup, repeats)
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return Profile(
            latency=middle,
            latency_q1=low,
            latency_q3=high,
            images_per_second=batch_size / middle,
            peak_memory=memory,
            batch_size=batch_size,
            resolution=side,
            threads=torch.get_num_threads(),
            device=str(place) if place.type != "cuda" else f"{place} ({torch.cuda.get_device_name(place)})",
            precision=precision,
            repeats=repeats,
            fvcore=counts,
        )


def _times(model: nn.Module, images: Tensor, warmup: int, repeats: int) -> list[float]:
    """Seconds of each timed pass."""
    seconds = []
    for i in range(warmup + repeats):
        finish_work(images.device)
        start = time.perf_counter()
        model(images)
        finish_work(images.device)
        if i >= warmup:
            seconds.append(time.perf_counter() - start)
    return seconds


def _peak_memory(model: nn.Module, shape: tuple[int, ...], device: torch.device) -> int | None:
    """Bytes, as :class:`Profile` states them."""
    if device.type == "cuda":
        finish_work(device)
        weights = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        model(torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last))
        finish_work(device)
        return torch.cuda.max_memory_allocated(device) - weights
    if device.type != "cpu":
        return None
    live = LiveTensors()
    with live:
        model(torch.zeros(shape).contiguous(memory_format=torch.channels_last))
    return live.peak
