"""How far zero-cost proxies may be trusted, and whether they help a model that is trained on real trainings.

Claims checked, on 300 random networks of Accel-NASBench (measured ImageNet accuracies, EfficientNet-B0's widths):

- Kendall's τ of each proxy and of each plain count with the accuracy: over all, within the best 10 %, and among
  networks of equal MACs (bins of 5 %), each with a 95 % bootstrap interval over the networks (2,000 resamples);
- τ, on the other networks, of a ridge regression and of the predictor's Gaussian process on 20, 50 and 100 trained
  networks, with and without proxies and counts among their features (40 random draws; 10 for the Gaussian process).
  "learned" are scores that a model of the decisions predicts (10 folds), as ``algorithm.features`` does;
- what ``predictor`` finds with and without ``algorithm.features``, and a random search with a pre-screen by ``snip``
  (10 seeds): the reward of ``benchmarks/search.py``, with accuracies as ``accel_nasbench`` predicts them, the proxies
  learned from the 300 networks.

The proxies are measured at 112 px, a quarter of the work of the benchmark's 224 px; ``--check`` networks are measured
at both, and the report says how well the ranks agree. ``--variants`` networks are also scored with weights of other
seeds and with photos and their labels in the place of noise. Each network is appended to the CSV as it is done, and
what is there is not measured again: an interrupted run goes on.

    python benchmarks/zero_cost.py [--archive PATH] [--networks 300] [--check 40] [--variants 40] [--csv FILE]
    python benchmarks/zero_cost.py --report

One thread. On a core of an AMD EPYC measuring takes about half an hour, the searches
(``zero_cost_search.csv``, beside the other file) ten minutes, the tables (``--report``) five.
"""

# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import csv
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from PIL import Image
from record import find_commit
from scipy.stats import kendalltau
from sklearn.linear_model import RidgeCV

from effnas.evaluate.accel_archive import benchmark_space, read_archive
from effnas.evaluate.accel_nasbench import AccelNASBench
from effnas.evaluate.evaluation import EvaluationError
from effnas.evaluate.surrogate import fit
from effnas.evaluate.zero_cost import conditions, gradients, learned
from effnas.evaluate.zero_cost.counts import COUNTS
from effnas.evaluate.zero_cost.proxies import PARTS, score_network
from effnas.evaluate.zero_cost.reference import Reference, find_share
from effnas.search.algorithms.member_facts import SpaceKnown
from effnas.search.algorithms.predicting.gaussian import GaussianProcess, learn_kernel
from effnas.search.algorithms.predictor import Predictor
from effnas.search.encoding import Encoding
from effnas.search.objective import MnasNetReward
from effnas.search.seeded import Seeded
from effnas.space.cost import cost_batch

Array = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EFFNAS_DATA") or ROOT.parent / "shared" / "data")
FILE = ROOT / "benchmarks" / "results" / "zero_cost.csv"

#: Measured one after the other, so that each has its own seconds.
GROUPS = {
    "synflow": ("synflow",),
    "naswot": ("naswot",),
    "gradients": ("grad_norm", "snip", "zico"),
    "zen_score": ("zen_score",),
    "az_nas": ("az_expressivity", "az_progressivity", "az_trainability"),
}
MEASURED = tuple(name for names in GROUPS.values() for name in names)
COLUMNS = (
    *("row", "digest", "accuracy", "side", "variant", *COUNTS, *MEASURED),
    *(f"seconds_{group}" for group in GROUPS),
    *("reason", "commit"),
)
SIDE, REAL_SIDE = 112, 224
#: ImageNet's, of 0 to 255.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: Other conditions: weights of another seed, photos.
VARIANTS = ("seed 1", "seed 2", "photos")
#: Of the table of τ; what has no seconds of its own is measured with another.
ROWS = (*COUNTS, "synflow", "naswot", "grad_norm", "snip", "zico", "zen_score", *PARTS[:3], "az_nas")
RESAMPLES, DRAWS, PROCESS_DRAWS, SEEDS = 2000, 40, 10, 10
#: Of the searches: ``predictor`` with these features, or random networks, of so many the best by ``snip``.
METHODS = ("none", "expansion_layers, depth", "snip", "snip, grad_norm", "random, 1", "random, 10", "random, 100")
EVALUATIONS, COUNTED = 100, (10, 15, 20, 30, 50, 100)
#: Features of the models, beside the costs.
SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "expansion_layers, depth": ("expansion_layers", "depth"),
    "synflow": ("synflow",),
    "snip": ("snip",),
    "snip, grad_norm": ("snip", "grad_norm"),
    "all": ("expansion_layers", "depth", *MEASURED),
    "snip, grad_norm, learned": ("snip*", "grad_norm*"),
    "all, learned": ("expansion_layers", "depth", *(f"{name}*" for name in MEASURED)),
}


# -- measuring -----------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> None:
    """Append what is missing."""
    archive, space = read_archive(args.archive), benchmark_space()
    rows = np.random.default_rng(0).permutation(len(archive.accuracy))[: args.networks]
    done = {(int(row["row"]), int(row["side"]), row["variant"]) for row in read(args.csv)}
    wanted = [(int(row), SIDE, "") for row in rows]
    for i, row in enumerate(rows[: args.check]):  # spread among the others, so that a run cut short has both
        wanted.insert(4 * i, (int(row), REAL_SIDE, ""))
    wanted += [(int(row), SIDE, variant) for row in rows[: args.variants] for variant in VARIANTS]
    commit = find_commit()
    new = not args.csv.exists()
    with open(args.csv, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for number, (row, side, variant) in enumerate(wanted):
            if (row, side, variant) in done:
                continue
            network = space.build(space.decisions(archive.indices[row])).with_(resolution=side)
            record = {"row": row, "digest": network.digest, "accuracy": archive.accuracy[row], "side": side}
            record |= {"variant": variant, "commit": commit}
            record |= score_network(network.with_(resolution=REAL_SIDE), COUNTS)
            for group, names in GROUPS.items():
                if variant and group != "gradients":
                    continue
                start = time.perf_counter()
                try:
                    with other_conditions(variant):
                        record |= score_network(network, names)
                except EvaluationError as error:
                    record["reason"] = str(error)
                record[f"seconds_{group}"] = round(time.perf_counter() - start, 3)
            writer.writerow(record)
            file.flush()
            print(f"{number + 1}/{len(wanted)}: network {row} at {side} px {variant}", flush=True)


@contextmanager
def other_conditions(variant: str) -> Iterator[None]:
    """The gradients with weights of another seed, or of photos; "": as they are."""
    kind, _, seed = variant.partition(" ")
    if kind == "seed":
        with mock.patch.object(conditions, "SEED", int(seed)):
            yield
    elif kind == "photos":
        images, labels = photos()
        with (
            mock.patch.object(gradients, "draw_images", return_value=images),
            mock.patch.object(gradients, "draw_labels", return_value=labels),
        ):
            yield
    else:
        yield


@cache
def photos() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two batches of ImageNet's images, normalised, and their labels."""
    table = pyarrow.parquet.read_table(DATA / "imagenet_sample" / "validation.parquet").to_pylist()
    chosen = np.random.default_rng(0).permutation(len(table))[: 2 * conditions.BATCH]
    pixels = [Image.open(io.BytesIO(table[i]["image"]["bytes"])).convert("RGB").resize((SIDE, SIDE)) for i in chosen]
    images = torch.from_numpy(np.stack([np.asarray(image) for image in pixels])).permute(0, 3, 1, 2).float()
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    labels = torch.tensor([int(table[i]["label"]) for i in chosen])
    batches = images.contiguous(memory_format=torch.channels_last).split(conditions.BATCH)
    return list(batches), list(labels.split(conditions.BATCH))


def read(file: Path) -> list[dict[str, str]]:
    """The rows that are there."""
    if not file.exists():
        return []
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


# -- how well ranks agree ------------------------------------------------------------------------------------


def tau_between(
    scores: Array, truth: Array, weights: Array | None = None, pairs: NDArray[np.bool_] | None = None
) -> Array:
    """Kendall's τ-b of resamples, shape (m,).

    Args:
        scores, truth: shape (n,).
        weights: how often each network is in each resample, shape (m, n); None: each once.
        pairs: those that count, shape (n, n); None: all.
    """
    first, second = (np.sign(values[:, None] - values[None]) for values in (scores, truth))
    drawn = np.ones((1, len(scores))) if weights is None else weights

    def total(signs: Array) -> Array:
        return np.asarray(((drawn @ (signs if pairs is None else signs * pairs)) * drawn).sum(axis=1))

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total(first * second) / np.sqrt(total(np.abs(first)) * total(np.abs(second))))


def show(scores: Array, truth: Array, **which: Any) -> str:
    """τ, and the 95 % interval over resampled networks."""
    count = len(scores)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
    low, high = np.nanpercentile(tau_between(scores, truth, weights, **which), [2.5, 97.5])
    return f"{tau_between(scores, truth, **which)[0]:.3f} ({low:.3f} to {high:.3f})".replace("0.", ".")


def columns_of(rows: Sequence[dict[str, str]]) -> dict[str, Array]:
    """Scores by name, ``az_nas`` by the ranks among these networks."""
    found = {name: np.array([float(row[name]) for row in rows]) for name in ("accuracy", *COUNTS, *MEASURED)}
    shares = [(found[part].argsort().argsort() + 1) / len(rows) for part in PARTS]
    return found | {"az_nas": np.sum(np.log(shares), axis=0)}


def select(rows: Sequence[dict[str, str]], side: int, variant: str = "") -> dict[int, dict[str, str]]:
    """The measurements under these conditions, by network."""
    return {int(r["row"]): r for r in rows if int(r["side"]) == side and r["variant"] == variant and not r["reason"]}


def report_ranks(rows: Sequence[dict[str, str]]) -> None:
    """Tables of τ, and how far other conditions change the ranks."""
    main, real = select(rows, SIDE), select(rows, REAL_SIDE)
    found = columns_of(list(main.values()))
    truth, macs = found["accuracy"], found["log_macs"]
    best = truth >= np.quantile(truth, 0.9)
    bins = np.floor(macs / np.log(1.05))
    equal = (bins[:, None] == bins[None]) & ~np.eye(len(bins), dtype=bool)
    print(f"\n{len(main)} networks, {best.sum()} in the best 10 %, {equal.sum() // 2:,} pairs of equal MACs\n")
    print("| | all | best 10 % | equal MACs | seconds |\n|---|---|---|---|---|")
    for name in ROWS:
        group = next((g for g, names in GROUPS.items() if name in names or g == name), None)
        spent = [float(row[f"seconds_{group}"]) for row in main.values()] if group else [0.0]
        table = (
            show(found[name], truth),
            show(found[name][best], truth[best]),
            show(found[name], truth, pairs=equal),
            f"{statistics.median(spent):.2f}" if group else "–",
        )
        print(f"| `{name}` | {' | '.join(table)} |")
    both = [row for row in main if row in real]
    small, large = (columns_of([rows[row] for row in both]) for rows in (main, real))
    print(f"\n{len(both)} networks at {SIDE} and {REAL_SIDE} px: tau between the two, and of each with the accuracy\n")
    print("| | between | 112 px | 224 px |\n|---|---|---|---|")
    for name in (*MEASURED, "az_nas"):
        taus = (
            kendalltau(a, b).statistic
            for a, b in ((small[name], large[name]), (small[name], small["accuracy"]), (large[name], small["accuracy"]))
        )
        print(f"| `{name}` | {' | '.join(f'{tau:.3f}' for tau in taus)} |")
    print("\nother conditions: tau with the usual ones, and with the accuracy\n")
    print("| | networks | " + " | ".join(f"`{name}`" for name in GROUPS["gradients"]) + " |\n|---|---|---|---|---|")
    for variant in ("", *VARIANTS):
        other = select(rows, SIDE, variant)
        common = [row for row in select(rows, SIDE, VARIANTS[0]) if row in other and row in main]
        if not common:
            continue
        cells = []
        for name in GROUPS["gradients"]:
            usual, now = (np.array([float(which[row][name]) for row in common]) for which in (main, other))
            accuracy = np.array([float(main[row]["accuracy"]) for row in common])
            cells.append(f"{kendalltau(usual, now).statistic:.3f}, {kendalltau(now, accuracy).statistic:.3f}")
        print(f"| {variant or 'as usual'} | {len(common)} | {' | '.join(cells)} |")


# -- what it adds to a model ---------------------------------------------------------------------------------


def standardise(table: Array) -> Array:
    """Columns of mean 0 and deviation 1."""
    width = table.std(axis=0)
    return np.asarray((table - table.mean(axis=0)) / np.where(width > 1e-9, width, 1.0))


def learn_scores(indices: NDArray[np.int64], found: dict[str, Array]) -> dict[str, Array]:
    """Each score as a model of the other nine tenths of the networks predicts it, and how well."""
    describe = learned.ProxyFeatures(benchmark_space(), ()).describe(indices)
    folds = np.random.default_rng(0).permutation(len(indices)) % 10
    print("\nscores learned from nine tenths of the networks: tau with the true ones\n")
    predicted = {}
    for name in MEASURED:
        values = np.empty(len(indices))
        for fold in range(10):
            out = folds == fold
            values[out] = fit(describe[~out], found[name][~out]).predict(describe[out])[0]
        predicted[name] = values
        print(f"- `{name}`: {kendalltau(values, found[name]).statistic:.3f}")
    return predicted


def ridge(features: Array, truth: Array, train: NDArray[np.int64], test: NDArray[np.int64]) -> Array:
    """Predictions; the penalty by cross-validation."""
    return np.asarray(RidgeCV(np.geomspace(0.01, 1000, 16)).fit(features[train], truth[train]).predict(features[test]))


def gaussian_process(features: Array, truth: Array, train: NDArray[np.int64], test: NDArray[np.int64]) -> Array:
    """The predictor's."""
    values = truth[train]
    kernel = learn_kernel(features[train], (values - values.mean()) / values.std())
    return GaussianProcess(kernel, features[train], values).predict(features[test])[0]


def report_models(archive: str, rows: Sequence[dict[str, str]]) -> None:
    """τ on the networks that the models have not seen."""
    main, space = select(rows, SIDE), benchmark_space()
    indices = read_archive(archive).indices[list(main)]
    found = columns_of(list(main.values()))
    predicted = learn_scores(indices, found)
    columns = found | {f"{name}*": values for name, values in predicted.items()}
    logarithms = [np.log(found["activations"]), found["log_macs"], found["log_params"]]
    encoding = Encoding(space.distributions)
    levels = encoding.rows([space.decisions(row) for row in indices])
    one_hot = np.hstack([np.eye(size)[levels[:, i]] for i, size in enumerate(encoding.sizes)])
    tables = {
        "ridge, decisions one-hot": (ridge, one_hot, DRAWS),
        "ridge, no decisions": (ridge, one_hot[:, :0], DRAWS),
        "Gaussian process, decisions": (gaussian_process, encoding.features(levels), PROCESS_DRAWS),
    }
    print("\ntau on unseen networks, mean and standard deviation over draws of the trained ones; * learned\n")
    for title, (model, decisions, draws) in tables.items():
        print(f"\n| {title} | 20 | 50 | 100 |\n|---|---|---|---|")
        for label, names in SETS.items():
            extra = [
                np.log(columns[n]) if n.strip("*") in ("snip", "grad_norm") and min(columns[n]) > 0 else columns[n]
                for n in names
            ]
            features = np.hstack([decisions, standardise(np.stack([*logarithms, *extra], axis=1))])
            cells = []
            for count in (20, 50, 100):
                taus = []
                for draw in range(draws):
                    order = np.random.default_rng(draw).permutation(len(features))
                    train, test = order[:count], order[count:]
                    guess = model(features, found["accuracy"], train, test)
                    taus.append(kendalltau(guess, found["accuracy"][test]).statistic)
                cells.append(f"{statistics.fmean(taus):.3f} ± {statistics.stdev(taus):.3f}")
            print(f"| {label} | {' | '.join(cells)} |", flush=True)


def find_rewards(archive: str, rows: Sequence[dict[str, str]], method: str, seed: int) -> list[float]:
    """The best reward after each of 100 evaluations.

    Args:
        archive: of Accel-NASBench, whose predicted accuracies count.
        rows: the measurements, from which scores are learned.
        method: features of ``predictor``; or ``random, N``: of N random networks for each evaluation, the one with the
            best share × factor of the reward by ``snip`` (a pre-screen), or the first.
        seed: of the search.
    """
    main, space = select(rows, SIDE), benchmark_space()
    indices = read_archive(archive).indices[list(main)]
    found = columns_of(list(main.values()))
    oracle, objective = AccelNASBench(str(archive)), MnasNetReward()

    def measured(_: Any, names: Sequence[str], __: int) -> tuple[list[Any], Reference]:
        return [space.decisions(row) for row in indices], Reference({name: found[name].tolist() for name in names})

    def factor(row: NDArray[np.int64]) -> Array:
        return objective.factor(cost_batch(space.batch(row)).macs)

    best: list[float] = []
    with mock.patch.object(learned, "measure_members", measured):
        if method.startswith("random"):
            scores = learned.ProxyFeatures(space, ("snip",))
            known = scores.look(indices)[:, 0]
            rng, count = np.random.default_rng(seed), int(method.partition(", ")[2])
            while len(best) < EVALUATIONS:
                row = space.sample_indices(count, rng)
                shares = np.array([find_share(known, score) for score in scores.look(row)[:, 0]])
                row = row[[int(np.argmax(shares * factor(row)))]]
                best.append(float(oracle.predict(row)[0][0] * factor(row)[0]))
            return np.maximum.accumulate(best).tolist()
        names = tuple(name for name in method.split(", ") if name != "none")
        algorithm = partial(Predictor, known=SpaceKnown(space, objective), features=names)
        study = optuna.create_study(direction="maximize", sampler=Seeded(algorithm, seed))
        while len(best) < EVALUATIONS:
            trial = study.ask(dict(space.distributions))
            row = space.indices([space.canonical(trial.params)])
            study.tell(trial, float(oracle.predict(row)[0][0] * factor(row)[0]))
            best.append(study.best_value)
    return best


def search(args: argparse.Namespace, rows: Sequence[dict[str, str]]) -> None:
    """Append the searches that are missing to the CSV beside the measurements', for ``--seconds`` at most."""
    file = args.csv.with_name("zero_cost_search.csv")
    done = {(row["method"], int(row["seed"])) for row in read(file)}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start, commit = time.monotonic(), find_commit()
    with open(file, "a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not done:
            writer.writerow(["method", "seed", *(str(count) for count in COUNTED), "commit"])
        for seed in range(SEEDS):
            for method in METHODS:
                if (method, seed) in done or time.monotonic() - start > args.seconds:
                    continue
                best = find_rewards(args.archive, rows, method, seed)
                writer.writerow([method, seed, *(f"{best[count - 1]:.6f}" for count in COUNTED), commit])
                stream.flush()


def report_search(file: Path) -> None:
    """The reward that was found, with and without features."""
    rows = read(file)
    print("\nbest reward so far, median (quartiles) over the seeds\n")
    print(f"| | seeds | {' | '.join(map(str, COUNTED))} |\n|{'---|' * (len(COUNTED) + 2)}")
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if mine:
            cells = [np.percentile([float(row[str(count)]) for row in mine], [50, 25, 75]) for count in COUNTED]
            texts = (f"{middle:.4f} ({low:.4f}–{high:.4f})".replace("0.", ".") for middle, low, high in cells)
            print(f"| {method} | {len(mine)} | {' | '.join(texts)} |", flush=True)


def main() -> None:
    """Measure, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", default=DATA / "accel_nasbench", help="of Accel-NASBench, or its folder")
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--check", type=int, default=40, help="of them, measured at 224 px too")
    parser.add_argument("--variants", type=int, default=40, help="of them, scored under other conditions too")
    parser.add_argument("--csv", type=Path, default=FILE, help="where the measurements are kept")
    parser.add_argument("--seconds", type=float, default=3600.0, help="after which no further search begins")
    parser.add_argument("--report", action="store_true", help="only the tables of what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.report:
        measure(args)
    rows = read(args.csv)
    if not args.report:
        search(args, rows)
    report_ranks(rows)
    report_models(args.archive, rows)
    report_search(args.csv.with_name("zero_cost_search.csv"))


if __name__ == "__main__":
    main()
