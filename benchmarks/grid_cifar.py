"""The coefficients of a grid and of a star on CIFAR-10: how much they differ by the seeds, and what they are worth.

A small network (that of ``coefficients.py``) on 1,440 images, 6 epochs, 2,000 held out. Each of four runs has two seeds
of its own: a grid of the 17 points of ``coefficients.py`` takes 34 trainings, a star 20, of which those of four times
the cost take longer. What they write is scaled to φ = 1 and φ = 2 and trained with four seeds that no run has used,
beside the published coefficients. "Spread" is the standard deviation of the shares of depth, width and resolution over
the four runs, their mean; "accuracy" the mean over the four runs, with its standard error over them.

    python benchmarks/grid_cifar.py [--data ../shared/data/cifar10] [--folder outputs/grid-cifar] [--csv FILE]

Half an hour on one core. What is trained stands in the folder and the CSV file, and is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
from coefficients import BASELINE, GRID, SETTINGS, images, points
from record import find_commit

from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.scaling.coefficients import PAPER, Coefficients
from effnas.scaling.compound import scale
from effnas.scaling.grid.job import run_grid_search
from effnas.scaling.grid.points import NAMES
from effnas.scaling.grid.response import log_growth, shares
from effnas.space.cost import cost

SETTING = "CIFAR-10, 6 epochs"
RUNS, SEEDS, FRESH, PHIS = 4, 2, range(100, 104), (1, 2)
RESULTS = Path(__file__).resolve().parent / "results" / "grid-cifar10.csv"
COLUMNS = ("way", "run", *NAMES, "trainings", "phi", "seed", "macs_ratio", "accuracy", "commit")


def make_proxy(folder: str) -> Proxy:
    """The training of all."""
    epochs = SETTINGS[SETTING][1]
    recipe = Training(epochs=epochs, warmup_epochs=1.0, eval_every=epochs, compile=False)
    return Proxy(images(SETTING, 0, folder), recipe, device="cpu", threads=1)


def search(way: str, run: int, proxy: Proxy, folder: Path) -> tuple[Coefficients, int]:
    """What a run writes, and the trainings that it took."""
    ranges = {name: getattr(GRID, name) for name in NAMES} | {"step": GRID.step, "tolerance": GRID.tolerance}
    options = {"method": way, "ratio": "achieved"} | (ranges if way == "grid" else {})
    summary = run_grid_search(
        BASELINE, proxy, seeds=SEEDS, seed=SEEDS * run, keep=0, report=False, output=folder / f"{way}-{run}", **options
    )
    return Coefficients(*(summary["best"][name] for name in NAMES)), summary["trials"] - summary["duplicates"]


def main() -> None:
    """Search, train what is lacking, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/cifar10")
    parser.add_argument("--folder", type=Path, default=Path("outputs/grid-cifar"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    options = parser.parse_args()
    proxy = make_proxy(options.data)
    found = [(way, run, *search(way, run, proxy, options.folder)) for way in ("grid", "star") for run in range(RUNS)]
    print(f"{len(points())} networks in the grid")
    known = {}
    if options.csv.exists():
        with options.csv.open(newline="") as file:
            known = {tuple(row[n] for n in (*NAMES, "phi", "seed")): row for row in csv.DictReader(file)}
    rows = []
    macs = cost(BASELINE).macs
    for way, run, chosen, trainings in (*found, ("published", 0, PAPER, 0)):
        for phi in PHIS:
            network = scale(BASELINE, chosen, phi)
            for seed in FRESH:
                key = (*(str(getattr(chosen, name)) for name in NAMES), str(phi), str(seed))
                if key not in known:
                    evaluation = proxy(network, seed=seed, report=lambda epoch, accuracy: None)
                    ratio = evaluation.cost.macs / macs
                    values = {"macs_ratio": round(ratio, 4), "accuracy": round(evaluation.accuracy, 5)}
                    known[key] = dict(zip((*NAMES, "phi", "seed"), key, strict=True)) | values
                    known[key] |= {"commit": find_commit()}
                rows.append(known[key] | {"way": way, "run": run, "trainings": trainings})
        write(options.csv, rows)
    tabulate(rows)


def write(file: Path, rows: list[dict[str, object]]) -> None:
    """All rows so far."""
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def tabulate(rows: list[dict[str, object]]) -> None:
    """Print what was found."""
    print("| way | trainings | spread of the shares | φ = 1 | φ = 2 | α, β, γ of the runs |\n|---|---|---|---|---|---|")
    for way in ("grid", "star", "published"):
        own = [row for row in rows if row["way"] == way]
        chosen = list(dict.fromkeys((row["run"], *(float(str(row[n])) for n in NAMES)) for row in own))
        mixture = shares(np.array([log_growth(Coefficients(*values)) for _, *values in chosen]))
        cells = []
        for phi in PHIS:
            runs = [
                statistics.fmean(
                    float(str(r["accuracy"])) for r in own if r["run"] == run and str(r["phi"]) == str(phi)
                )
                for run, *_ in chosen
            ]
            error = statistics.stdev(runs) / len(runs) ** 0.5 if len(runs) > 1 else 0.0
            cells.append(f"{100 * statistics.fmean(runs):.2f} ± {100 * error:.2f}")
        names = "; ".join(", ".join(f"{v:g}" for v in values) for _, *values in chosen)
        spread = f"{mixture.std(axis=0, ddof=1).mean():.2f}" if len(chosen) > 1 else "–"
        print(f"| {way} | {own[0]['trainings']} | {spread} | {' | '.join(cells)} | {names} |")


if __name__ == "__main__":
    main()
