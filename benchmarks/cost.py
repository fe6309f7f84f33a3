"""What a network costs, by four counters side by side: what they say, and how long they take.

Claims checked: one network at least 1,000 times faster than fvcore, a million networks a minute by batch.
One process, the counters in turn within each repeat; medians with the lowest and highest repeat in brackets.

    python benchmarks/cost.py [--repeats 7] [--threads 1] [--networks 200000] [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fvcore
import numpy as np
import torch
from fvcore.nn import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

import effnas
from effnas.space.architecture import Architecture
from effnas.space.cost import cost, cost_batch
from effnas.space.network import build
from effnas.space.space import SHIPPED, load_space
from effnas.space.zoo import zoo

#: cost() is timed over so many calls, the others over one
CALLS = 500


def machine() -> str:
    """The class of machine: processor, cores, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
    versions += f"fvcore {fvcore.__version__}, effnas {effnas.__version__}"
    return f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used; {versions}"


def by_fvcore(model: torch.nn.Module, image: torch.Tensor) -> FlopCountAnalysis:
    """fvcore's analysis, counted."""
    found = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    found.total()
    return found


def by_torch(model: torch.nn.Module, image: torch.Tensor) -> int:
    """torch.utils.flop_counter's count; two a multiply-accumulate."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return int(counter.get_total_flops())


def made(a: Architecture, device: str = "cpu") -> tuple[torch.nn.Module, torch.Tensor]:
    """The module and one image."""
    with torch.device(device):
        return build(a).eval(), torch.zeros(1, a.in_channels, a.resolution, a.resolution)


def seconds(call: Callable[[], Any], calls: int = 1) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def shown(values: list[float]) -> str:
    """Median and range, in a fitting unit."""
    unit, factor = next((u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if statistics.median(values) * f >= 1)
    low, mid, high = (f"{x * factor:.3g}" for x in (min(values), statistics.median(values), max(values)))
    return f"{mid} {unit} ({low}–{high})"


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def what_they_say(a: Architecture) -> list[list[str]]:
    """The same network by each counter, in MACs."""
    model, image = made(a)
    analysis = by_fvcore(model, image)
    parts = analysis.by_operator()
    rows = [
        ["effnas.cost", f"{cost(a).macs:,}", "convolutions and linear layers"],
        ["fvcore, conv + linear", f"{int(parts['conv'] + parts['linear']):,}", "the same"],
        ["fvcore, total", f"{int(analysis.total()):,}", "also BatchNorm and the last pooling, but not SE's"],
        ["torch.utils.flop_counter / 2", f"{by_torch(model, image) // 2:,}", "counts two for a MAC"],
    ]
    try:
        said = f"{int(by_fvcore(*made(a, 'meta')).total()):,}"
    except Exception as error:
        said = f"fails: {type(error).__name__}"
    return [*rows, ["fvcore, meta device", said, ""]]


def one_network(a: Architecture, repeats: int) -> dict[str, list[float]]:
    """Seconds of each counter, in turn, ``repeats`` times."""
    model, image = made(a)
    meta, nothing = made(a, "meta")
    subjects: dict[str, tuple[Callable[[], Any], int]] = {
        "effnas.cost": (lambda: cost(a), CALLS),
        "build the module": (lambda: build(a), 1),
        "fvcore": (lambda: by_fvcore(model, image), 1),
        "torch.utils.flop_counter": (lambda: by_torch(model, image), 1),
        "torch.utils.flop_counter, meta device": (lambda: by_torch(meta, nothing), 1),
    }
    for call, _ in subjects.values():
        call()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, (call, calls) in subjects.items():
            times[name].append(seconds(call, calls))
    return times


def main() -> None:
    """Measure, print Markdown and, if asked, write CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--networks", type=int, default=200_000, help="in a batch")
    parser.add_argument("--csv", type=Path, help="also write every repeat here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    records: list[tuple[str, str, int, float]] = []

    print(f"{machine()}; {options.repeats} repeats.")
    b0 = zoo("efficientnet_b0")
    table("EfficientNet-B0 at 224², in MACs", ["counter", "MACs", "what it counts"], what_they_say(b0))

    measured = {name: one_network(zoo(name), options.repeats) for name in ("efficientnet_b0", "efficientnet_b7")}
    ours = {name: statistics.median(times["effnas.cost"]) for name, times in measured.items()}
    rows = []
    for counter in measured["efficientnet_b0"]:
        row = [counter]
        for name, times in measured.items():
            row += [shown(times[counter]), f"{statistics.median(times[counter]) / ours[name]:,.0f}×"]
            records += [(name, counter, i, value) for i, value in enumerate(times[counter])]
        rows.append(row)
    table("One network", ["", "B0, 224²", "", "B7, 600²", ""], rows)

    rows = []
    for space in (load_space(path.stem) for path in sorted(SHIPPED.glob("*.yaml"))):
        indices = space.sample_indices(options.networks, np.random.default_rng(0))
        cost_batch(space.batch(indices[:1000]))  # warm-up
        values = [seconds(lambda s=space, i=indices: cost_batch(s.batch(i))) for _ in range(options.repeats)]
        records += [(space.name, "cost_batch", i, value / options.networks) for i, value in enumerate(values)]
        rate = [options.networks / value * 60 / 1e6 for value in values]
        rows.append([space.name, f"{statistics.median(rate):.1f} ({min(rate):.1f}–{max(rate):.1f})"])
    table("By batch: decisions in, all four costs out", ["space", "million networks a minute"], rows)

    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["subject", "counter", "repeat", "seconds_per_network"])
            writer.writerows(records)


if __name__ == "__main__":
    main()
