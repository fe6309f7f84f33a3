"""Does compound scaling beat depth, width or resolution alone? `effnas ablate` on CIFAR-10 (docs/ablation.md).

One small base is grown by each rule to 2 and 4 times its MACs as counted, and every network is trained with the same
recipe, images and seeds. What is printed and written is the command's own; the CSV file has a row a training, with the
commit and the class of machine. An interrupted run goes on, more seeds add to it.

    OMP_NUM_THREADS=1 python benchmarks/scaling_ablation.py [--data ../shared/data/cifar10] [--seeds 5] [--csv FILE]
    python benchmarks/scaling_ablation.py --full      # on a GPU: EfficientNet-B0 for 32 pixels, all of CIFAR-10
    python benchmarks/scaling_ablation.py --csv FILE --figure ablation.png    # of the trainings in FILE, none anew

Half an hour on one core; `--full` has never been run by us (no GPU at hand).
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from record import find_commit

from effnas.evaluate.data import ImageData
from effnas.evaluate.evaluation import Evaluation, Report
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.scaling.ablate.job import run_ablation
from effnas.scaling.ablate.report import summary_text
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.stage import Stage
from effnas.space.zoo import zoo

RULES = ("compound", "depth", "width", "resolution", "dwr")
#: Three blocks a stage, so that a depth of α = 1.2 can be had: ⌈1.2 · 3⌉ = 4.
SMALL = Architecture(
    (Stage("mbconv", 16, 3, expand_ratio=3), Stage("mbconv", 32, 3, stride=2, expand_ratio=3)),
    stem=16,
    stem_stride=2,
    head=96,
    activation="relu",
    dropout=0.1,
    drop_path=0.0,
    bn_momentum=0.1,
    resolution=32,
    num_classes=10,
    name="small",
)


def b0_for_32_pixels() -> Architecture:
    """EfficientNet-B0 with a total stride of 4 where it has 32: stem and the first two strides are left out."""
    b0 = zoo("efficientnet_b0")
    stages = [replace(stage, stride=1) if i in (1, 2) else stage for i, stage in enumerate(b0.stages)]
    return b0.with_(stages=tuple(stages), stem_stride=1, resolution=32, num_classes=10, bn_momentum=0.1, name="b0_32px")


def machine() -> str:
    """The class of machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} thread"


def write_rows(summary: dict[str, Any], path: Path, of: str) -> None:
    """A row a training; ``of`` is the commit."""
    shared = {"commit": of, "machine": machine(), "torch": torch.__version__}
    names = ("macs", "macs_ratio", "params", "activations", "peak_memory", "latency", "resolution", "blocks")
    names += ("phi", "depth", "width", "resolution_multiplier", "trimmed", "divisor")
    rows = [
        {"rule": row["rule"], "factor": row["factor"], "seed": int(seed), "accuracy": accuracy}
        | {name: row[name] for name in names}
        | shared
        for row in (summary["base"], *summary["rows"])
        for seed, accuracy in row["accuracies"].items()
    ]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True)
class Measured:
    """Looks a training up by what the network costs, its resolution and the seed."""

    table: Mapping[tuple[int, ...], float]

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        """Nothing is trained."""
        found = cost(architecture)
        return Evaluation(self.table[found.params, found.macs, architecture.resolution, seed], found)


def draw(path: Path, rules: Sequence[str], depth_rounding: str, file: Path) -> None:
    """What an ablation draws of the trainings of :data:`SMALL` in a file."""
    with open(path, newline="", encoding="utf-8") as rows:
        table = {
            (int(row["params"]), int(row["macs"]), int(row["resolution"]), int(row["seed"])): float(row["accuracy"])
            for row in csv.DictReader(rows)
        }
    seeds = 1 + max(seed for *_, seed in table)
    options: dict[str, Any] = {"rules": rules, "depth_rounding": depth_rounding, "seeds": seeds, "latency": False}
    with tempfile.TemporaryDirectory() as folder:
        run_ablation(SMALL, Measured(table), output=folder, quiet=True, **options)
        shutil.copy(Path(folder) / "ablation.png", file)


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10", help="folder of train.parquet")
    parser.add_argument("--full", action="store_true", help="the large one, for a GPU")
    parser.add_argument("--limit", type=int, default=5000, help="images, 40 %% of them held out; not with --full")
    parser.add_argument("--epochs", type=int, help="default 8, with --full 100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rules", nargs="+", default=RULES)
    parser.add_argument("--depth-rounding", default="up", help="up or nearest")
    parser.add_argument("--timeout", type=float, help="seconds after which no training starts")
    parser.add_argument("--output", type=Path, help="default outputs/benchmark_ablation, with --full …_full")
    parser.add_argument("--csv", type=Path, help="write every training")
    parser.add_argument("--figure", type=Path, help="draw what --csv holds to this file, and train nothing")
    options = parser.parse_args()
    if options.figure is not None:
        if options.csv is None:
            parser.error("--figure needs --csv, the file of the trainings")
        return draw(options.csv, options.rules, options.depth_rounding, options.figure)
    started_from = find_commit()
    epochs = options.epochs or (100 if options.full else 8)
    # what "auto" would choose could differ between the networks that are compared
    recipe = Training(epochs=epochs, eval_every=epochs, precision="fp32", memory_format="channels_last", compile=False)
    if options.full:
        base = b0_for_32_pixels()
        data = ImageData("files", options.data, holdout=0.1, flip=True, crop=4)
        recipe = replace(
            recipe, batch_size=128, lr=0.4, warmup_epochs=min(5, epochs / 4), label_smoothing=0.1, precision="bf16"
        )
        evaluator = Proxy(data, recipe)
    else:
        base = SMALL
        data = ImageData("files", options.data, limit=options.limit, holdout=0.4, flip=True, crop=4)
        evaluator = Proxy(data, recipe, device="cpu", threads=1)
    device = "cuda" if options.full and torch.cuda.is_available() else "cpu"
    default = "outputs/benchmark_ablation" + ("_full" if options.full else "")
    summary = run_ablation(
        base,
        evaluator,
        rules=options.rules,
        depth_rounding=options.depth_rounding,
        seeds=options.seeds,
        timeout=options.timeout,
        latency_device=device,
        output=options.output or default,
        command="benchmarks/scaling_ablation.py",
        job={"evaluator": repr(evaluator)},
    )
    print(machine(), f"torch {torch.__version__}", f"commit {started_from}", f"load {os.getloadavg()[0]:.1f}", sep=", ")
    print(summary_text(summary))
    if options.csv:
        write_rows(summary, options.csv, started_from)


if __name__ == "__main__":
    main()
