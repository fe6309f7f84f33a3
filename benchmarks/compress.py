"""Which way down is best on CIFAR-10: pruning a trained network, or training a smaller one of its family?

A network of 2.3 million MACs is trained for 8 epochs on 6,000 images. For a half and a quarter of its MACs:

    prune           effnas compress, and 4 epochs of fine-tuning
    pruned, anew    the network that pruning found, trained from scratch for 12 epochs
    compound        phi < 0 by the paper's coefficients, to the pruned network's MACs within 5 %, for 12 epochs
    tinynet         the same by the rule of Han et al. 2020

So each way has had 12 epochs. All are measured on the test images. A training that has finished is not repeated.

    python benchmarks/compress.py [--data ../shared/data/cifar10] [--seeds 3] [--output outputs/benchmark_compress]

About 25 minutes on one core; the results are benchmarks/results/compress-cifar10.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from predict_cifar import BASE
from record import find_commit

from effnas.evaluate.compress.job import run_compress
from effnas.evaluate.data import ImageData
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.scaling.coefficients import PAPER
from effnas.scaling.meet import meet
from effnas.scaling.rules import make_rule
from effnas.space.cost import cost
from effnas.space.zoo import load_architecture

SHARES = (0.5, 0.25)
#: Of the MACs of scaled networks in those of the pruned one.
TOLERANCE = 0.05
EPOCHS, MORE, IMAGES = 8, 4, 7500
RECIPE = Training(epochs=EPOCHS, batch_size=64, lr=0.8, compile=False, precision="fp32", eval_every=EPOCHS)
#: A quarter of the rate: the network is trained already.
FINETUNE = replace(RECIPE, epochs=MORE, eval_every=MORE, lr=RECIPE.lr / 4)
LONG = replace(RECIPE, epochs=EPOCHS + MORE, eval_every=EPOCHS + MORE)
RESULTS = Path(__file__).resolve().parent / "results" / "compress-cifar10.csv"
COLUMNS = ("share", "way", "seed", "macs", "params", "accuracy", "before_finetuning", "commit")


def train(network: Any, images: ImageData, recipe: Training, seed: int, output: Path) -> float:
    """Accuracy on the test images."""
    if not (output / "summary.json").is_file():
        run_train(network, images, recipe, seed=seed, threads=1, tensorboard=False, output=output, quiet=True)
    return float(json.loads((output / "summary.json").read_text(encoding="utf-8"))["test_accuracy"])


def run_seed(images: ImageData, seed: int, output: Path, sha: str) -> list[dict[str, Any]]:
    """A row for each way and share."""
    rows = []

    def add(share: float, way: str, network: Any, accuracy: float, before: float | None = None) -> None:
        total = cost(network)
        row = {"share": share, "way": way, "seed": seed, "macs": total.macs, "params": total.params}
        rows.append({**row, "accuracy": accuracy, "before_finetuning": before, "commit": sha})
        print(rows[-1], flush=True)

    parent = output / f"parent{seed}"
    add(1.0, "parent", BASE, train(BASE, images, RECIPE, seed, parent))
    for share in SHARES:
        folder = output / f"pruned{share}-{seed}"
        found = run_compress(
            parent / "weights.safetensors",
            images,
            FINETUNE,
            target_macs=share,
            divisor=4,
            seed=seed,
            threads=1,
            output=folder,
            quiet=True,
        )
        left = load_architecture(str(folder / "architecture.yaml"))
        add(share, "prune", left, found["trained"]["test_accuracy"], found["pruned"]["accuracy"])
        add(share, "pruned, anew", left, train(left, images, LONG, seed, output / f"anew{share}-{seed}"))
        for name in ("compound", "tinynet"):
            rule = make_rule(name, coefficients=PAPER if name == "compound" else None)
            small = meet(BASE, rule, cost(left).macs, TOLERANCE).network
            add(share, name, small, train(small, images, LONG, seed, output / f"{name}-as-pruned{share}-{seed}"))
    return rows


def main() -> None:
    """Train, prune, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark_compress"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    sha = find_commit()
    images = ImageData("parquet", path=str(given.data), limit=IMAGES, num_classes=10, flip=True, crop=2)
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        rows += run_seed(images, seed, given.output, sha)
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print("\n| share | way | M MACs | thousand parameters | accuracy | sd |\n|---|---|---|---|---|---|")
    for share, way in dict.fromkeys((row["share"], row["way"]) for row in rows):
        mine = [row for row in rows if (row["share"], row["way"]) == (share, way)]
        values = [100 * row["accuracy"] for row in mine]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        macs, params = (statistics.fmean(row[name] for row in mine) for name in ("macs", "params"))
        print(
            f"| {share} | {way} | {macs / 1e6:.2f} | {params / 1e3:.0f} | {statistics.fmean(values):.2f} | {sd:.2f} |"
        )


if __name__ == "__main__":
    main()
