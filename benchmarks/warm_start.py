"""Whether a grid search may start its candidates from the smaller network's weights, and train them for less.

A small network is trained on 1,800 images of CIFAR-10. Then some points of an α-β-γ grid, so wide that depth, width
and resolution alone are in it, are trained from random weights ("cold") and from that network's, grown ("warm";
`evaluator.initial`), for several numbers of epochs.
The reference is the mean accuracy of each point over all seeds of the longest cold training. Compared with it:
Kendall's tau of the ranking of one seed, and what its winner lacks in reference accuracy to the best point. The longest
cold training is compared with the mean of its other seeds: more than that no method can be expected to reach.
"Together" is the tau of the means over the seeds, as a grid search with so many seeds ranks by.
Accuracy is the mean over the points, on held-out images. Processor seconds are those of one point; what the smaller
network takes, once, is told apart. Median over the seeds, with the lowest and highest in brackets.

    python benchmarks/warm_start.py [--data ../shared/data/cifar10] [--seeds 3] [--points 8] [--csv FILE]

About 12 minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.stats import kendalltau

from effnas.evaluate.data import ImageData
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.scaling.compound import scale
from effnas.scaling.grid.job import grid_points
from effnas.space.architecture import Architecture
from effnas.space.stage import Stage

SMALL = Architecture(
    (
        Stage("mbconv", 16),
        Stage("mbconv", 24, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 40, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 64, 2, expand_ratio=3),
    ),
    stem=16,
    head=128,
    activation="relu",
    dropout=0.0,
    drop_path=0.0,
    resolution=16,
    num_classes=10,
)
#: Start and epochs of what is compared; the first is the reference.
METHODS = (("cold", 24), ("cold", 8), ("cold", 4), ("warm", 8), ("warm", 4), ("warm", 2))
#: Epochs of the smaller network.
BEFORE = 24


@dataclass(frozen=True)
class Run:
    """One training."""

    start: str
    epochs: int
    seed: int
    point: int
    accuracy: float
    seconds: float


def machine() -> str:
    """The class of machine, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, one thread, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}"


def recipe(epochs: int) -> Training:
    """The short recipe of ``training=proxy``, measured at the end only."""
    return Training(epochs=epochs, warmup_epochs=min(1.0, epochs / 4), eval_every=epochs, compile=False)


def measure(networks: Sequence[Architecture], data: ImageData, seeds: int, folder: Path) -> list[Run]:
    """All trainings, seed by seed and point by point, so that all methods see the same moments of the machine."""
    runs = []
    for seed in range(seeds):
        begin = time.process_time()
        settings = {"device": "cpu", "threads": 1, "test": False, "tensorboard": False, "quiet": True}
        output = folder / str(seed)
        summary = run_train(SMALL, data, recipe(BEFORE), seed=seed, output=output, **settings)  # type: ignore[arg-type]
        runs.append(Run("smaller", BEFORE, seed, -1, summary["accuracy"], time.process_time() - begin))
        for point, network in enumerate(networks):
            print(f"seed {seed}: point {point + 1} of {len(networks)}", file=sys.stderr, flush=True)
            for number, (start, epochs) in enumerate(METHODS):
                weights = str(output / "weights.safetensors") if start == "warm" else None
                proxy = Proxy(data, recipe(epochs), device="cpu", threads=1, initial=weights)
                begin = time.process_time()
                # no first weights and no order of images in common: agreement is not to come from there
                found = proxy(network, seed=1000 * (number + 1) + seed, report=lambda epoch, accuracy: None)
                runs.append(Run(start, epochs, seed, point, found.accuracy, time.process_time() - begin))
    return runs


def shown(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Median and range."""
    return f"{form(statistics.median(values))} [{form(min(values))}, {form(max(values))}]"


def table(runs: Sequence[Run], seeds: int, points: int) -> str:
    """Markdown."""

    def accuracies(start: str, epochs: int, seed: int) -> list[float]:
        found = {r.point: r.accuracy for r in runs if (r.start, r.epochs, r.seed) == (start, epochs, seed)}
        return [found[point] for point in range(points)]

    def mean(rows: Sequence[Sequence[float]]) -> list[float]:
        return [statistics.mean(column) for column in zip(*rows, strict=True)]

    reference = [accuracies(*METHODS[0], seed) for seed in range(seeds)]
    lines = [
        "| start | epochs | accuracy, % | processor seconds | Kendall tau | together | winner below the best, points |",
        "|---|---|---|---|---|---|---|",
    ]
    for start, epochs in METHODS:
        taus, losses, means, seconds = [], [], [], []
        for seed in range(seeds):
            truth = mean([row for i, row in enumerate(reference) if (start, epochs) != METHODS[0] or i != seed])
            own = accuracies(start, epochs, seed)
            taus.append(float(kendalltau(own, truth).statistic))
            losses.append(100 * (max(truth) - truth[own.index(max(own))]))
            means.append(100 * statistics.mean(own))
            seconds.append(
                statistics.mean(r.seconds for r in runs if (r.start, r.epochs, r.seed) == (start, epochs, seed))
            )
        all_seeds = mean([accuracies(start, epochs, seed) for seed in range(seeds)])
        together = "–" if (start, epochs) == METHODS[0] else f"{kendalltau(all_seeds, mean(reference)).statistic:.2f}"
        lines.append(
            f"| {start} | {epochs} | {shown(means, '{:.1f}'.format)} | {shown(seconds, '{:.1f}'.format)} | "
            f"{shown(taus, '{:.2f}'.format)} | {together} | {shown(losses, '{:.1f}'.format)} |"
        )
    spread = [100 * value for value in mean(reference)]
    smaller = [r for r in runs if r.start == "smaller"]
    once, before = [r.seconds for r in smaller], [100 * r.accuracy for r in smaller]
    lines += [
        "",
        f"Reference accuracies of the {points} points: {min(spread):.1f} to {max(spread):.1f} %. "
        f"The smaller network, {BEFORE} epochs: {shown(before, '{:.1f}'.format)} %, "
        f"{shown(once, '{:.0f}'.format)} processor seconds, once.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10", help="folder of train.parquet")
    parser.add_argument("--limit", type=int, default=6000, help="images; 70 %% of them are held out")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2")
    parser.add_argument("--points", type=int, default=8, help="of the grid's, evenly spread over it")
    parser.add_argument("--csv", type=Path, help="write every training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = ImageData("files", options.data, limit=options.limit, holdout=0.7, flip=True, crop=4)
    # depth, width and resolution alone are in it; of points that round to one network, the first
    grid = grid_points((1.0, 2.0), (1.0, 1.4), (1.0, 1.4), step=0.1)
    distinct = list({scale(SMALL, point, 1).digest: point for point in reversed(grid)}.values())[::-1]
    chosen = [distinct[round(i * (len(distinct) - 1) / (options.points - 1))] for i in range(options.points)]
    print(machine())
    print("points (alpha, beta, gamma):", *(f"({p.alpha:g}, {p.beta:g}, {p.gamma:g})" for p in chosen))
    with tempfile.TemporaryDirectory() as folder:
        runs = measure([scale(SMALL, p, 1) for p in chosen], data, options.seeds, Path(folder))
    print(table(runs, options.seeds, options.points))
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(runs[0])))
            writer.writeheader()
            writer.writerows(asdict(run) for run in runs)


if __name__ == "__main__":
    main()
