"""How stable the compound coefficients are: over seeds, over data sets and over the size of the proxy.

17 points of a wide grid around a small network, whose rounded networks have 1.88 to 2.13 times its MACs, are trained in
six settings: scikit-learn's digits, and CIFAR-10, with more and fewer epochs and images. A seed draws the images, too,
and all points see the same ones, so accuracies are compared within a seed: each has the mean of its seed taken off.
For each setting, and each seed of it alone, the response surface of `effnas grid-alpha-beta-gamma` is fitted: its
highest point, the 95 % region of that (networks in it), and the range of alpha, beta and gamma there.
"Tau" is Kendall's, of the points' mean accuracies in two settings; "lost" is what the coefficients found in one setting
give away in another, by that one's surface; the paper's coefficients with the standard error of the difference.

Every training is added to the file as it ends, and those in it are not repeated.

    python benchmarks/coefficients.py [--data ../shared/data/cifar10] [--seeds 3] [--csv FILE] [--figure FILE]

About 18 minutes on one core; the results are benchmarks/results/coefficients.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from effnas.evaluate.data import ImageData
from effnas.evaluate.evaluation import Evaluation, Report
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.scaling.coefficients import PAPER, Coefficients
from effnas.scaling.compound import scale
from effnas.scaling.grid.job import run_grid_search
from effnas.scaling.grid.points import NAMES, Grid, Scaled
from effnas.scaling.grid.response import Array, Surface, fit_surface, log_growth, shares
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.stage import Stage

BASELINE = Architecture(
    (
        Stage("mbconv", 16, 2),
        Stage("mbconv", 32, 4, stride=2, expand_ratio=3),
        Stage("mbconv", 48, 5, stride=2, expand_ratio=3),
    ),
    name="base",
    stem=16,
    head=128,
    activation="relu",
    dropout=0.0,
    drop_path=0.0,
    resolution=20,
    num_classes=10,
)
GRID = Grid((1.0, 2.0), (1.0, 1.4), (1.0, 1.4), step=0.1, ratio="achieved", tolerance=0.125)
#: Data set, epochs, training images and held-out images of each setting.
SETTINGS = {
    "digits, 4 epochs": ("digits", 4, 1438, 359),
    "digits, 2 epochs": ("digits", 2, 1438, 359),
    "CIFAR-10, 6 epochs": ("cifar10", 6, 1440, 2000),
    "CIFAR-10, 12 epochs": ("cifar10", 12, 1440, 2000),
    "CIFAR-10, 3 epochs": ("cifar10", 3, 1440, 2000),
    "CIFAR-10, half the images": ("cifar10", 6, 720, 2000),
}
#: The setting of ``--figure``.
DRAWN = "CIFAR-10, 12 epochs"
COLUMNS = ("setting", "seed", *NAMES, "macs_ratio", "accuracy", "seconds")


def points() -> list[Coefficients]:
    """One point for each different network."""
    scaled = Scaled(BASELINE)
    found = {scaled.network(p).digest: p for p in GRID.points(scaled)}  # type: ignore[union-attr]
    return list(found.values())


def images(setting: str, seed: int, folder: str) -> ImageData:
    """The images of a setting, drawn by the seed."""
    name, _, train, held_out = SETTINGS[setting]
    if name == "digits":
        return ImageData("digits", holdout=held_out / (train + held_out), split_seed=seed, flip=False, crop=1)
    options: dict[str, Any] = {"path": folder, "image": "image", "label": "label", "num_classes": 10}
    total = train + held_out
    return ImageData("files", limit=total, holdout=held_out / total, split_seed=seed, flip=True, crop=4, **options)


def measure(file: Path, seeds: int, folder: str) -> None:
    """Train what is not in the file yet, seed by seed, so that what a stop leaves is of use."""
    done = {(row["setting"], int(row["seed"]), *(float(row[n]) for n in NAMES)) for row in read(file)}
    scaled, todo = Scaled(BASELINE), points()
    with open(file, "a", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for seed, setting in itertools.product(range(seeds), SETTINGS):
            data, epochs = images(setting, seed, folder), SETTINGS[setting][1]
            recipe = Training(epochs=epochs, warmup_epochs=1.0, eval_every=epochs, compile=False)
            proxy = Proxy(data, recipe, device="cpu", threads=1)
            for p in todo:
                if (setting, seed, p.alpha, p.beta, p.gamma) in done:
                    continue
                begin = time.process_time()
                found = proxy(scale(BASELINE, p, 1), seed=seed, report=lambda epoch, accuracy: None)
                row = {"setting": setting, "seed": seed, **{n: getattr(p, n) for n in NAMES}}
                row |= {"macs_ratio": round(scaled.macs_ratio(p), 4), "accuracy": round(found.accuracy, 5)}
                writer.writerow(row | {"seconds": round(time.process_time() - begin, 2)})
                target.flush()
            print(f"seed {seed}: {setting}", file=sys.stderr, flush=True)


def read(file: Path) -> list[dict[str, str]]:
    """The trainings so far."""
    if not file.exists():
        return []
    with open(file, newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))


def accuracies(rows: Sequence[Mapping[str, str]], setting: str, seeds: Sequence[int]) -> Array:
    """By point and seed, the mean of each seed taken off and that of all put back, shape (points, seeds)."""
    known = {
        (int(r["seed"]), *(float(r[n]) for n in NAMES)): float(r["accuracy"]) for r in rows if r["setting"] == setting
    }
    table = np.array([[known[(seed, p.alpha, p.beta, p.gamma)] for seed in seeds] for p in points()])
    return np.asarray(table - table.mean(axis=0) + table.mean())


def noise(table: Array) -> float:
    """Standard deviation of one training; the seeds' means, which are taken off, cost degrees of freedom."""
    count, seeds = table.shape
    squares = ((table - table.mean(axis=1, keepdims=True)) ** 2).sum()
    return float(np.sqrt(squares / (count - 1) / (seeds - 1)))


def fitted(table: Array) -> Surface:
    """The surface of some seeds of a setting."""
    scaled, seeds = Scaled(BASELINE), table.shape[1]
    ratios = [scaled.macs_ratio(p) for p in points()]
    means = table.mean(axis=1).tolist()
    found = fit_surface(mixture(), means, [seeds] * len(table), noise(table) if seeds > 1 else None, ratios)
    assert isinstance(found, Surface), found
    return found


def mixture() -> Array:
    """Shares of all points."""
    return shares(np.array([log_growth(p) for p in points()]))


def stability(rows: Sequence[Mapping[str, str]], seeds: int) -> str:
    """A row for each setting, all seeds and each alone, in Markdown."""
    lines = [
        "| setting | seeds | accuracies of the points, % | R² | highest at α, β, γ | expected there, % | 95 % region "
        "| α | β | γ |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        every = list(range(seeds))
        for some in [every, *([seed] for seed in every)]:
            table = accuracies(rows, setting, some)
            surface, known = fitted(table), points()
            means, errors = surface.predict(mixture())
            inside = [p for p, keep in zip(known, surface.region(mixture()), strict=True) if keep]
            top, mean = int(np.argmax(means)), 100 * table.mean(axis=1)
            best = known[top]
            spans = [f"{min(getattr(p, n) for p in inside):g} – {max(getattr(p, n) for p in inside):g}" for n in NAMES]
            lines.append(
                f"| {setting} | {'all' if len(some) > 1 else some[0]} | {mean.min():.1f} – {mean.max():.1f} "
                f"| {surface.r2:.2f} | {best.alpha:g}, {best.beta:g}, {best.gamma:g} "
                f"| {100 * means[top]:.1f} ± {100 * errors[top]:.1f} | {len(inside)} of {len(known)} "
                f"| {' | '.join(spans)} |"
            )
    return "\n".join(lines)


def transfer(rows: Sequence[Mapping[str, str]], seeds: int) -> str:
    """What the coefficients of a setting are worth in another, in Markdown."""
    tables = {setting: accuracies(rows, setting, range(seeds)) for setting in SETTINGS}
    means = {setting: fitted(table).predict(mixture())[0] for setting, table in tables.items()}
    lines = ["| tau / lost, points | " + " | ".join(SETTINGS) + " |", "|---" * (len(SETTINGS) + 1) + "|"]
    for one in SETTINGS:
        cells = []
        for other in SETTINGS:
            tau = kendalltau(tables[one].mean(axis=1), tables[other].mean(axis=1)).statistic
            lost = 100 * (means[other].max() - means[other][int(np.argmax(means[one]))])
            cells.append("–" if one == other else f"{tau:.2f} / {lost:.1f}")
        lines.append(f"| found with {one} | {' | '.join(cells)} |")
    cells = []
    for table in tables.values():
        surface = fitted(table)
        known = surface.predict(mixture())[0]
        rows_of = surface.rows(np.stack([mixture()[int(np.argmax(known))], shares(log_growth(PAPER)[None])[0]]))
        gap = rows_of[0] - rows_of[1]
        error = np.sqrt(gap @ surface.covariance @ gap)
        cells.append(f"{100 * gap @ surface.coefficients:.1f} ± {100 * error:.1f}")
    lines.append(f"| the paper's 1.2, 1.1, 1.15 | {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Measured:
    """Looks a training up by network and seed."""

    table: Mapping[tuple[str, int], float]

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        """Nothing is trained."""
        return Evaluation(self.table[architecture.digest, seed], cost(architecture))


def draw(rows: Sequence[Mapping[str, str]], seeds: int, file: Path) -> None:
    """What a grid search draws of the measured accuracies of :data:`DRAWN`."""
    scaled, table = Scaled(BASELINE), accuracies(rows, DRAWN, range(seeds))
    digests = [network.digest for p in points() if (network := scaled.network(p)) is not None]
    known = {(digest, seed): table[i, seed] for i, digest in enumerate(digests) for seed in range(seeds)}
    spans = {name: getattr(GRID, name) for name in (*NAMES, "step", "ratio", "tolerance")}
    with tempfile.TemporaryDirectory() as folder:
        run_grid_search(BASELINE, Measured(known), seeds=seeds, output=folder, quiet=True, **spans)
        shutil.copy(Path(folder) / "grid.png", file)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=Path("coefficients.csv"))
    parser.add_argument("--figure", type=Path, help="draw grid.png of one setting to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure(options.csv, options.seeds, options.data)
    rows = read(options.csv)
    print(f"{sum(float(r['seconds']) for r in rows):.0f} processor seconds; torch {torch.__version__}\n")
    print(stability(rows, options.seeds), transfer(rows, options.seeds), sep="\n\n")
    spreads = {s: noise(accuracies(rows, s, range(options.seeds))) for s in SETTINGS}
    print("\nnoise of a training, points: " + "; ".join(f"{s} {100 * v:.1f}" for s, v in spreads.items()))
    if options.figure is not None:
        draw(rows, options.seeds, options.figure)


if __name__ == "__main__":
    main()
