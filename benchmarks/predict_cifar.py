"""A family trained on CIFAR-10, of which phi = -1 to 2 predict phi = 3.

A base of 2.3 million MACs is scaled by the paper's coefficients, and each member is trained with one recipe and three
seeds: 8 epochs on 6,000 images, measured on the test part. `effnas predict` is then given the folders of phi = -1 to 2,
and says the accuracy of phi = 3, which it has not seen.

A training that has finished is not repeated, and one that was stopped continues.

    python benchmarks/predict_cifar.py [--data ../shared/data/cifar10] [--seeds 3] [--output outputs/benchmark_predict]

About 25 minutes on one core; the results are benchmarks/results/predict-cifar10.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from pathlib import Path
from typing import Any

from record import find_commit

from effnas.evaluate.data import ImageData
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.scaling.coefficients import PAPER
from effnas.scaling.compound import scale
from effnas.scaling.predict.job import run_predict
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.stage import Stage

BASE = Architecture(
    (
        Stage("mbconv", 16, 1),
        Stage("mbconv", 24, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 40, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 80, 2, expand_ratio=3),
    ),
    name="cifar",
    stem=16,
    stem_stride=2,
    head=256,
    activation="relu",
    dropout=0.0,
    drop_path=0.0,
    bn_momentum=0.1,
    resolution=32,
    num_classes=10,
)
KNOWN, HIDDEN = (-1, 0, 1, 2), 3
EPOCHS, IMAGES = 8, 7500
RECIPE = Training(epochs=EPOCHS, batch_size=64, lr=0.4, ema_decay=0.99, compile=False, eval_every=EPOCHS)
RESULTS = Path(__file__).resolve().parent / "results" / "predict-cifar10.csv"
COLUMNS = ("phi", "seed", "macs", "params", "accuracy", "seconds", "commit")


def train_members(data: Path, seeds: int, output: Path) -> list[dict[str, Any]]:
    """Train what is not there yet; a row a training."""
    sha = find_commit()
    images = ImageData("parquet", path=str(data), limit=IMAGES, num_classes=10)
    rows = []
    for seed in range(seeds):
        for phi in (*KNOWN, HIDDEN):
            network, folder = scale(BASE, PAPER, phi), output / f"phi{phi}" / f"seed{seed}"
            summary = folder / "summary.json"
            if not summary.is_file():
                run_train(network, images, RECIPE, seed=seed, threads=1, tensorboard=False, output=folder, quiet=True)
            found = json.loads(summary.read_text(encoding="utf-8"))
            total = cost(network)
            row = {"phi": phi, "seed": seed, "macs": total.macs, "params": total.params, "commit": sha}
            row |= {"accuracy": found["test_accuracy"], "seconds": round(found["seconds"], 1)}
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    """Train, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark_predict"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = train_members(given.data, given.seeds, given.output)
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("\n| phi | M MACs | accuracy | sd | predicted from phi = -1..2 |\n|---|---|---|---|---|")
    known = [str(given.output / f"phi{phi}" / f"seed{seed}") for phi in KNOWN for seed in range(given.seeds)]
    said = run_predict(known, phi=HIDDEN, baseline=BASE, output=given.output / "predict")["predictions"][0]
    for phi in (*KNOWN, HIDDEN):
        mine = [row for row in rows if row["phi"] == phi]
        values = [100 * row["accuracy"] for row in mine]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        told = f"{100 * said['accuracy']:.2f} ({100 * said['low']:.2f} to {100 * said['high']:.2f})" * (phi == HIDDEN)
        print(f"| {phi} | {mine[0]['macs'] / 1e6:.2f} | {statistics.fmean(values):.2f} | {sd:.2f} | {told} |")


if __name__ == "__main__":
    main()
