"""The learning rate of larger members of a family on CIFAR-10: is the smallest's good, or does a rule help?

A base of 1.8 million MACs is scaled by the paper's coefficients to phi = 1 and 2. Each member is trained at learning
rates from 0.1 to 6.4 (for 256 images per step, doubling), for 6 epochs on 4,000 images, and measured on 4,000 others.
The rate of phi = 0 is the peak of a parabola through its accuracies over the logarithm of the rate. For each rule the
accuracy of phi = 1 and 2 at the rate that the rule makes of it is read from their own curves:

    reuse           the same rate
    depth^-3/2      times (blocks / blocks of phi = 0)^(-3/2)
    1/sqrt(width)   times (width multiplier)^(-1/2)
    muP-like        the same rate; that of BatchNorm, the depthwise and the first convolution times the width
                    multiplier w, that of the classifier divided by it (Yang et al. 2021, table 8, SGD): trained anew

The regret is what the best of all rates would have given, less that. A rule is worth shipping if its mean over phi
beats reuse by more than one standard error over the seeds.

A training that is in the CSV file is not repeated.

    python benchmarks/lr_rules.py [--data ../shared/data/cifar10] [--seeds 3]
    python benchmarks/lr_rules.py --report                                     # the table from the CSV file
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from record import find_commit
from torch import nn

from effnas.evaluate.data import ImageData
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train import optimizers
from effnas.evaluate.train.recipe import Training
from effnas.scaling.coefficients import PAPER
from effnas.scaling.compound import scale
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.stage import Stage

BASE = Architecture(
    (
        Stage("mbconv", 16, 1),
        Stage("mbconv", 24, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 40, 3, stride=2, expand_ratio=3),
        Stage("mbconv", 80, 3, expand_ratio=3),
    ),
    name="cifar",
    stem=16,
    stem_stride=2,
    head=256,
    activation="relu",
    dropout=0.0,
    drop_path=0.0,
    bn_momentum=0.1,
    resolution=24,
    num_classes=10,
)
PHIS = (0, 1, 2)
RATES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
EPOCHS, IMAGES = 6, 8000
RESULTS = Path(__file__).resolve().parent / "results" / "lr-rules-cifar10.csv"
COLUMNS = ("way", "phi", "rate", "seed", "accuracy", "loss", "macs", "blocks", "width", "seconds", "commit")
#: What the rules multiply phi = 0's rate by, from the ratio of blocks and the width multiplier.
RULES = {
    "reuse": lambda depth, width: 1.0,
    "depth^-3/2": lambda depth, width: depth**-1.5,
    "1/sqrt(width)": lambda depth, width: width**-0.5,
    "muP-like": lambda depth, width: 1.0,
}


@contextmanager
def mup_like(width: float) -> Iterator[None]:
    """Learning rates by the kind of weight: fan-in and fan-out that grow, or only one of them."""
    plain = optimizers.parameter_groups

    def grouped(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
        groups = plain(model, weight_decay, layer_decay)
        names = {id(p): name for name, p in model.named_parameters()}
        found: dict[tuple[float, float], list[Any]] = {}
        for group in groups:
            for p in group["params"]:
                vector = p.ndim == 1 or p.shape[1] in (1, 3)  # BatchNorm and biases; depthwise; of the image
                scale = 1 / width if p.ndim == 2 else width if vector else 1.0
                if p.ndim == 1 and names[id(p)].startswith("classifier"):
                    scale = 1.0  # its size does not grow
                found.setdefault((group["weight_decay"], scale), []).append(p)
        return [{"params": ps, "weight_decay": decay, "lr_scale": scale} for (decay, scale), ps in found.items()]

    with mock.patch.object(optimizers, "parameter_groups", grouped):
        yield


def train_all(data: Path, seeds: int, file: Path) -> None:
    """Train what the file does not have yet, seed after seed, and append a row each."""
    sha = find_commit()
    done = {(row["way"], row["phi"], row["rate"], row["seed"]) for row in read_rows(file)}
    images = ImageData("parquet", path=str(data), limit=IMAGES, holdout=0.5, num_classes=10, flip=True, crop=2)
    for seed in range(seeds):
        for way, phis in (("plain", PHIS), ("muP-like", PHIS[1:])):
            for phi in phis:
                network, width = scale(BASE, PAPER, phi), PAPER.beta**phi
                for rate in RATES if way == "plain" else RATES[1:-1]:
                    if (way, phi, rate, seed) in done:
                        continue
                    recipe = Training(
                        epochs=EPOCHS, lr=rate, eval_every=EPOCHS, compile=False, precision="fp32",
                        memory_format="channels_last",
                    )  # fmt: skip
                    start = time.perf_counter()
                    try:
                        with mup_like(width if way == "muP-like" else 1.0):
                            found = Proxy(images, recipe, device="cpu", threads=1)(
                                network, seed=seed, report=lambda *_: None
                            )
                        accuracy, loss = found.accuracy, found.metrics["loss"]
                    except RuntimeError as error:  # the loss is not finite: no accuracy but that of chance
                        print(error, flush=True)
                        accuracy, loss = 0.1, math.nan
                    row = {"way": way, "phi": phi, "rate": rate, "seed": seed, "accuracy": accuracy, "loss": loss}
                    row |= {"macs": cost(network).macs, "blocks": network.blocks, "width": round(width, 4)}
                    row |= {"seconds": round(time.perf_counter() - start, 1), "commit": sha}
                    new = not file.is_file()
                    with file.open("a", newline="", encoding="utf-8") as out:
                        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
                        if new:
                            writer.writeheader()
                        writer.writerow(row)
                    print(row, flush=True)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """What was trained."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        numbers = {"phi": int, "rate": float, "seed": int, "accuracy": float, "blocks": int, "width": float}
        return [{**row, **{name: kind(row[name]) for name, kind in numbers.items()}} for row in csv.DictReader(lines)]


def main() -> None:
    """Train, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.report:
        train_all(given.data, given.seeds, given.csv)
    print(report(read_rows(given.csv)))


def report(rows: list[dict[str, Any]]) -> str:
    """The accuracies, and each rule's regret."""
    found = {(row["way"], row["phi"], row["rate"], row["seed"]): row["accuracy"] for row in rows}
    facts = {row["phi"]: (row["blocks"], row["width"]) for row in rows}
    counts = {s: sum(key[3] == s for key in found) for s in {key[3] for key in found}}
    seeds = [s for s, count in sorted(counts.items()) if count == max(counts.values())]  # those that are complete
    lines = [
        f"{len(seeds)} seeds; accuracy in per cent",
        "",
        "| way | phi | " + " | ".join(f"{r:g}" for r in RATES) + " |",
    ]
    lines.append("|" + "---|" * (len(RATES) + 2))
    for way, phi in (("plain", 0), ("plain", 1), ("plain", 2), ("muP-like", 1), ("muP-like", 2)):
        means = [
            statistics.fmean(found[way, phi, r, s] for s in seeds) if (way, phi, r, seeds[0]) in found else math.nan
            for r in RATES
        ]
        cells = ["–" if math.isnan(mean) else f"{100 * mean:.1f}" for mean in means]
        lines.append(f"| {way} | {phi} | " + " | ".join(cells) + " |")
    base = find_peak([statistics.fmean(found["plain", 0, r, s] for s in seeds) for r in RATES])
    lines += ["", f"best rate of phi = 0: {base:.2f}", "", "| rule | rates | regret at 1 | at 2 | against reuse |"]
    lines.append("|---|---|---|---|---|")
    gains: dict[str, dict[tuple[int, int], float]] = {}
    for name, rule in RULES.items():
        way, cells, rates = name if name == "muP-like" else "plain", [], []
        gains[name] = {}
        for phi in PHIS[1:]:
            rate = base * rule(facts[phi][0] / facts[0][0], facts[phi][1])
            rates.append(f"{rate:.2f}")
            known = [r for r in RATES if (way, phi, r, seeds[0]) in found]
            for s in seeds:
                curve = [found[way, phi, r, s] for r in known]
                gains[name][phi, s] = float(np.interp(math.log2(rate), np.log2(known), curve))
            best = max(statistics.fmean(found["plain", phi, r, s] for s in seeds) for r in RATES)
            cells.append(f"{100 * (best - statistics.fmean(gains[name][phi, s] for s in seeds)):.2f}")
        differences = [
            statistics.fmean(gains[name][phi, s] - gains["reuse"][phi, s] for phi in PHIS[1:]) for s in seeds
        ]
        error = statistics.stdev(differences) / math.sqrt(len(seeds)) if len(seeds) > 1 else math.nan
        against = "–" if name == "reuse" else f"{100 * statistics.fmean(differences):+.2f} ± {100 * error:.2f}"
        lines.append(f"| {name} | {', '.join(rates)} | {' | '.join(cells)} | {against} |")
    return "\n".join(lines)


def find_peak(accuracies: list[float]) -> float:
    """The rate at which a parabola is highest that goes through the best accuracy and two on either side."""
    best = min(max(int(np.argmax(accuracies)), 2), len(RATES) - 3)
    near = slice(best - 2, best + 3)
    x = np.log2(RATES[near])
    a, b, _ = np.polyfit(x, accuracies[near], 2)
    return float(2 ** np.clip(-b / (2 * a), x[0], x[-1])) if a < 0 else RATES[int(np.argmax(accuracies))]


if __name__ == "__main__":
    main()
