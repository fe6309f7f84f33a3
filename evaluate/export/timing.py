"""Latency of every format on this machine, measured in alternation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..machine.device import torch_threads
from .formats import Run

#: Rounds over all of them, the odd ones in reverse; passes of one in a round, and seconds that they may take.
ROUNDS, PASSES, SECONDS = 11, 8, 0.25


def time_formats(
    runs: Mapping[str, Run], images: Tensor, threads: int | None, slower: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Seconds per batch of each: the median over rounds of a round's median, with the lowest and highest.

    Args:
        runs: by name.
        images: the batch.
        threads: of PyTorch.
        slower: what a run is compared with. Its ``speedup`` is the median of the rounds' ratios, with their quartiles:
            what the machine does meanwhile meets both alike.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    with torch_threads(threads):
        for run in runs.values():
            run(images)  # warms up
        for number in range(ROUNDS):
            for name in reversed(list(runs)) if number % 2 else runs:
                found[name].append(_round(runs[name], images))
    times: dict[str, dict[str, Any]] = {
        name: {"seconds": statistics.median(values), "low": min(values), "high": max(values), "rounds": ROUNDS}
        for name, values in found.items()
    }
    for name, other in slower.items():
        low, middle, high = statistics.quantiles(
            [one / mine for mine, one in zip(found[name], found[other], strict=True)], n=4, method="inclusive"
        )
        times[name]["speedup"] = {"over": other, "median": middle, "low": low, "high": high}
    return times


def _round(run: Run, images: Tensor) -> float:
    begin = time.perf_counter()
    passes: list[float] = []
    while len(passes) < PASSES and (len(passes) < 2 or time.perf_counter() - begin < SECONDS):
        start = time.perf_counter()
        run(images)
        passes.append(time.perf_counter() - start)
    return statistics.median(passes)
