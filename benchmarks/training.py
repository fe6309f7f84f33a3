"""How fast networks train and run, by our engine and by timm's EfficientNets; and a search against plain loops.

Claims checked, on a CPU: at least 2.5 times timm in its default settings (contiguous, fp32, no compilation), at least
1.1 times timm in the best settings for the case; a search's candidates in at most half the time of plain PyTorch loops.

    pip install timm torchvision          # for the first table only; releases that fit the installed torch
    python benchmarks/training.py [--networks b0 b3] [--resolutions 32 96 224] [--passes 3] [--compile] [--csv FILE]
    python benchmarks/training.py --search --data ../shared/data/cifar10 [--candidates 20] [--csv FILE]

Ours is what `effnas train` runs: `train()` over images in memory, normalising included, with the settings that it
chooses itself by timed steps; in inference the network that `measure_accuracy()` runs. timm is run as its users do,
on a batch that lies ready: forward, cross-entropy, backward, SGD with Nesterov momentum. Both have the dropout and
stochastic depth of the published B0. timm's best settings are the fastest of memory format x dtype x threads
(x `--compile`) in a first pass, of which the two fastest are measured in all passes.

Each side has a process of its own, because ours tells its C library to keep memory, and timm must not gain by that;
they work in turn, never at once. Figures are medians over the passes with the lowest and highest in brackets, ratios
those within a pass.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from training_sides import Case, Ours, Setting, Timm, search_by_engine, search_by_loops

import effnas
from effnas.evaluate.train.choosing import native_bf16

#: images a step
BATCHES = {32: 128, 96: 64, 224: 16}


def machine(device: str) -> str:
    """The class of machine, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    if device != "cpu":
        processor = f"{torch.cuda.get_device_name(device)}, {processor}"
    bf16 = "with" if native_bf16(torch.device(device)) else "without"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, effnas {effnas.__version__}"
    return f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {bf16} bf16; {versions}"


def serve(connection: Connection, side: type[Ours | Timm], device: str) -> None:
    """A side's process: answers what is asked until the pipe is closed."""
    worker = side(device)
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, getattr(worker, method)(*arguments)))
        except Exception as error:  # such as out of memory: that setting is out
            connection.send((False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"))


class Side:
    """The other end of the pipe."""

    def __init__(self, side: type[Ours | Timm], device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, side, device), daemon=True)
        self.process.start()
        theirs.close()

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Raises RuntimeError with what went wrong there."""
        self.connection.send((method, arguments))
        good, answer = self.connection.recv()
        if not good:
            raise RuntimeError(answer)
        return answer


@contextmanager
def sides(device: str) -> Iterator[tuple[Side, Side]]:
    """Both, ended afterwards."""
    both = Side(Ours, device), Side(Timm, device)
    try:
        yield both
    finally:
        for side in both:
            side.connection.close()
            side.process.join(10)
            side.process.kill()


def timm_settings(device: str, with_compile: bool) -> list[Setting]:
    """The default first."""
    threads = sorted({torch.get_num_threads(), 1, max(1, torch.get_num_threads() // 2)}, reverse=True)
    if device != "cpu":
        threads = threads[:1]
    found = itertools.product((False, True) if with_compile else (False,), threads, ("contiguous", "channels_last"))
    return [Setting(form, dtype, n, compiled) for compiled, n, form in found for dtype in ("fp32", "bf16")]


def compare(case: Case, ours: Side, timm: Side, settings: list[Setting], passes: int) -> dict[str, list[float]]:
    """Images/s of each pass, by subject: ``ours``, timm ``default`` and ``best``; and what those settings are."""
    first: dict[Setting, float] = {}
    for setting in settings:
        try:
            first[setting] = timm("rate", case, setting)
        except RuntimeError as error:
            print(f"timm {case} {setting}: {error}", file=sys.stderr)
    fastest = sorted(first, key=lambda s: -first[s])[:2]
    ours("rate", case)
    rates: dict[Any, list[float]] = {
        subject: [] for subject in ("ours", *{settings[0]: None, **dict.fromkeys(fastest)})
    }
    for _ in range(passes):
        for subject, list_ in rates.items():
            list_.append(ours("rate", case) if subject == "ours" else timm("rate", case, subject))
    best = max(fastest, key=lambda s: statistics.median(rates[s]))
    return {
        "ours": rates["ours"],
        "default": rates[settings[0]],
        "best": rates[best],
        "what": [ours("note"), str(best)],
    }  # type: ignore[list-item]


def shown(values: list[float], digits: int = 3) -> str:
    """Median and range."""
    low, middle, high = (
        f"{x:.{digits}g}" if x < 1000 else f"{x:,.0f}" for x in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low}–{high})"


def against_timm(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the table; the records."""
    records: list[dict[str, Any]] = []
    settings = timm_settings(options.device, options.compile)
    print(
        "| network, pixels, batch | | ours | timm default | timm best | ours/default | ours/best | ours | timm's best |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with sides(options.device) as (ours, timm):
        for network, resolution, mode in itertools.product(options.networks, options.resolutions, options.modes):
            case = Case(network, resolution, BATCHES.get(resolution, 32), mode, options.seconds)
            found = compare(case, ours, timm, settings, options.passes)
            ratios = {
                name: [a / b for a, b in zip(found["ours"], found[name], strict=True)] for name in ("default", "best")
            }
            cells = [shown(found[name]) for name in ("ours", "default", "best")]
            cells += [shown(ratios[name]) for name in ("default", "best")]
            what = f"{network.upper()}, {resolution}, {case.batch_size}"
            print(f"| {what} | {mode} | {' | '.join(cells)} | {' | '.join(map(str, found['what']))} |", flush=True)
            for i in range(options.passes):
                row = {name: found[name][i] for name in ("ours", "default", "best")}
                records.append({"network": network, "resolution": resolution, "mode": mode, "pass": i, **row})
    return records


def against_loops(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the table; the records."""
    context = multiprocessing.get_context("spawn")
    subjects = {
        "ours, 1 worker": (search_by_engine, 1),
        "ours, 2 workers": (search_by_engine, 2),
        "plain PyTorch loop": (search_by_loops, 2),
    }
    records: list[dict[str, Any]] = []
    for name, (function, workers) in subjects.items():
        answers, theirs = context.Pipe(duplex=False)
        arguments = (theirs, str(options.data), options.candidates, workers, options.device)
        process = context.Process(target=function, args=arguments)
        process.start()
        theirs.close()
        seconds, accuracies = answers.recv()
        process.join()
        records.append({"subject": name, "seconds": seconds, "accuracy": statistics.fmean(accuracies)})
        print(f"{name}: {seconds:.0f} s", file=sys.stderr)
    plain = records[-1]["seconds"]
    print(f"| {options.candidates} candidates | seconds | ratio | mean accuracy |\n|---|---|---|---|")
    for r in records:
        print(f"| {r['subject']} | {r['seconds']:.0f} | {plain / r['seconds']:.2f} | {r['accuracy']:.3f} |")
    return records


def main() -> None:
    """Measure, print Markdown and, if asked, write CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=[f"b{i}" for i in range(8)], default=["b0", "b3"])
    parser.add_argument("--resolutions", nargs="+", type=int, default=[32, 96, 224])
    parser.add_argument("--modes", nargs="+", choices=["training", "inference"], default=["training", "inference"])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, about")
    parser.add_argument(
        "--compile", action="store_true", help="try timm under torch.compile too; a minute a network and more"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--search", action="store_true", help="the second comparison")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"), help="CIFAR-10, for --search")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--csv", type=Path, help="also write every pass here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EFFNAS_CACHE"] = folder  # the engine chooses its settings anew
        print(f"{machine(options.device)}.\n", flush=True)
        records = against_loops(options) if options.search else against_timm(options)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)


if __name__ == "__main__":
    main()
