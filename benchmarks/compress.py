"""Which way down is best on CIFAR-10: pruning a trained network, eight bits, or training a smaller one of its family?

A network of 2.3 million MACs is trained for 8 epochs on 6,000 images. For a half and a quarter of its MACs:

    prune             effnas compress, and 4 epochs of fine-tuning
    pruned, anew      the network that pruning found, trained from scratch for 12 epochs
    compound          phi < 0 by the paper's coefficients, to the pruned network's MACs within 5 %, for 12 epochs
    tinynet           the same by the rule of Han et al. 2020
    ..., latency      the same two, to the pruned network's latency instead of its MACs

So each way has had 12 epochs. Every network is exported to OpenVINO in 32 and in 8 bits (200 test images calibrate),
and both are measured on the other 9,800 test images: eight bits are a way down by themselves (share 1, the columns
int8), and one that can be added to each other.

Latency is OpenVINO's own, of a model of fixed shape at batch 1 on one thread: a request that holds its image, without
the copies to and from PyTorch, which take as long as networks so small. All are timed in alternation, and compared by
the median over rounds of the ratio to the pruned network in the same round; milliseconds are the fastest round's.
The networks that are to be as fast as the pruned one are chosen by the same measurement among untrained ones: those
within 5 % are timed again, and the one with the most MACs is taken that is not slower by 2 %. A training, an export or
a choice that is made is not made again.

    pip install 'effnas[export]'
    python benchmarks/compress.py [--data ../shared/data/cifar10] [--seeds 0 1 2] [--output outputs/benchmark_compress]

    python benchmarks/compress.py --seeds --figure docs/compress.png    # of the rows that are there, nothing anew

About 17 minutes a seed on one core; the results are benchmarks/results/compress-cifar10.csv, where the rows of other
seeds stay.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from predict_cifar import BASE
from record import find_commit, read_other_rows

from effnas.evaluate.compare.job import run_compare
from effnas.evaluate.compress.job import run_compress
from effnas.evaluate.data import ImageData
from effnas.evaluate.export.inside import put_inside
from effnas.evaluate.export.job import run_export
from effnas.evaluate.export.preprocessing import Preprocessing
from effnas.evaluate.export.subject import Subject
from effnas.evaluate.export.writers import openvino_model
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.scaling.coefficients import PAPER
from effnas.scaling.meet import meet
from effnas.scaling.rules import Rule, make_rule
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.zoo import load_architecture

SHARES = (0.5, 0.25)
#: Of the MACs of scaled networks in those of the pruned one.
TOLERANCE = 0.05
#: The networks that a latency is looked for among lie so far apart in MACs, between these of the pruned network's.
GRID, LEAST, MOST = 1.07, 0.4, 2.2
#: Latencies, in the pruned network's, of those that are timed again; and the highest of the one that is taken.
NEAR, AS_FAST = 0.05, 1.02
EPOCHS, MORE, IMAGES = 8, 4, 7500
RECIPE = Training(epochs=EPOCHS, batch_size=64, lr=0.8, compile=False, precision="fp32", eval_every=EPOCHS)
#: A quarter of the rate: the network is trained already.
FINETUNE = replace(RECIPE, epochs=MORE, eval_every=MORE, lr=RECIPE.lr / 4)
LONG = replace(RECIPE, epochs=EPOCHS + MORE, eval_every=EPOCHS + MORE)
ROUNDS, PASSES = 200, 10
RESULTS = Path(__file__).resolve().parent / "results" / "compress-cifar10.csv"
COLUMNS = ("share", "way", "seed", "macs", "params", "resolution", "accuracy", "before_finetuning", "export_accuracy")
#: ``over_pruned``: the latency in that of the pruned network of the same share, of the network itself at share 1.
TIMES = ("int8_accuracy", "ms", "int8_ms", "over_pruned", "int8_over_pruned", "commit")

#: Ways as the figure names them; of some its lines in eight bits too.
FAMILIES = {
    "prune": "pruned, fine-tuned",
    "pruned, anew": "pruned, trained anew",
    "compound": "compound",
    "tinynet": "tinynet",
}
EIGHT = ("pruned, anew", "compound")

Run = Callable[[], Any]


def train(network: Any, images: ImageData, recipe: Training, seed: int, output: Path) -> float:
    """Accuracy on the test images."""
    if not (output / "summary.json").is_file():
        run_train(network, images, recipe, seed=seed, threads=1, tensorboard=False, output=output, quiet=True)
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    if summary["digest"] != network.digest:
        raise SystemExit(f"{output} is of another network: remove it")
    return float(summary["test_accuracy"])


def export(trained: Path, images: ImageData, output: Path) -> dict[str, Any]:
    """The content of ``export.json`` of a training's folder."""
    if not (output / "export.json").is_file():
        options: dict[str, Any] = {"to": "openvino", "int8": True, "int8_max_drop": 1.0, "images": 9800}
        run_export(str(trained), images, output=output, latency=False, quiet=True, **options)
    found: dict[str, Any] = json.loads((output / "export.json").read_text(encoding="utf-8"))
    return found


def time_all(runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """Milliseconds of each in alternation, for each round the median of its passes."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 1):
        for name in reversed(list(runs)) if number % 2 else runs:
            passes = []
            for _ in range(PASSES):
                begin = time.perf_counter()
                runs[name]()
                passes.append(time.perf_counter() - begin)
            if number:
                found[name].append(1e3 * statistics.median(passes))
    return found


def ratio(mine: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds."""
    return statistics.median(one / two for one, two in zip(mine, other, strict=True))


def open_fixed(file: Path, side: int) -> Run:
    """An OpenVINO model for one image, which it holds."""
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape([1, 3, side, side])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.get_input_tensor().data[:] = np.random.default_rng(0).standard_normal((1, 3, side, side))
    return request.infer  # type: ignore[no-any-return]


def open_untrained(network: Any, folder: Path) -> Run:
    """A network with random weights, in OpenVINO; what is in the folder is not written again."""
    if not folder.is_dir():
        preprocessing = Preprocessing(network.resolution, 3, (0.0,) * 3, (1.0,) * 3)
        module = put_inside(network.module(), preprocessing, False)
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent))
        openvino_model.write(Subject(module, network, preprocessing, None, module), staging)
        staging.replace(folder)
    return open_fixed(folder / "model.xml", network.resolution)


def find_candidates(rule: Rule, macs: int) -> list[Any]:
    """The rule's networks of less MACs than the base has, around those of a network; each once."""
    found = {}
    for step in range(1, 40):
        wanted = cost(BASE).macs / GRID**step
        if LEAST * macs < wanted < MOST * macs:
            with contextlib.suppress(UserError):  # nothing is as near
                network = meet(BASE, rule, wanted, GRID / 2 - 0.5).network
                found[network.digest] = network
    return list(found.values())


def meet_latency(rule: Rule, left: Any, output: Path, record: Path) -> Any:
    """The network of a rule with the most MACs among those as fast as ``left``; the choice is kept in a file."""
    if not record.is_file():
        networks = {n.digest: n for n in find_candidates(rule, cost(left).macs)}
        runs = {key: open_untrained(n, output / "untrained" / key[:16]) for key, n in networks.items()}
        runs["left"] = open_untrained(left, output / "untrained" / left.digest[:16])
        told = []
        for _ in range(2):
            times = time_all(runs)
            told.append({key: ratio(times[key], times["left"]) for key in runs if key != "left"})
            near = [key for key, value in told[-1].items() if abs(value - 1) <= NEAR]
            near = near or [min(told[-1], key=lambda key: abs(told[-1][key] - 1))]
            runs = {key: runs[key] for key in ("left", *near)}
        fast = [key for key in near if told[-1][key] <= AS_FAST] or near
        chosen = networks[max(fast, key=lambda key: cost(networks[key]).macs)]
        by_macs = [{key: cost(n).macs for key, n in networks.items()}, *told]
        record.write_text(json.dumps({"network": chosen.to_dict(), "told": by_macs}), encoding="utf-8")
    return Architecture.from_dict(json.loads(record.read_text(encoding="utf-8"))["network"])


def run_seed(images: ImageData, seed: int, output: Path, sha: str) -> list[dict[str, Any]]:
    """A row for each way and share."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}

    def add(share: float, way: str, network: Any, trained: Path, accuracy: float, before: float | None = None) -> None:
        total, folder = cost(network), output / f"export-{way}-{share}-{seed}"
        proof = export(trained, images, folder)["formats"]["openvino_int8"]["proof"]
        row = {"share": share, "way": way, "seed": seed, "macs": total.macs, "params": total.params}
        row |= {"resolution": network.resolution, "accuracy": accuracy, "before_finetuning": before, "commit": sha}
        rows.append(row | {"export_accuracy": proof["accuracy_before"], "int8_accuracy": proof["accuracy_after"]})
        for bits, name in (("", "openvino"), (" int8", "openvino_int8")):
            runs[f"{share} {way}{bits}"] = open_fixed(folder / name / "model.xml", network.resolution)
        print(rows[-1], flush=True)

    parent = output / f"parent{seed}"
    add(1.0, "parent", BASE, parent, train(BASE, images, RECIPE, seed, parent))
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
        add(share, "prune", left, folder / "trained", found["trained"]["test_accuracy"], found["pruned"]["accuracy"])
        anew = output / f"anew{share}-{seed}"
        add(share, "pruned, anew", left, anew, train(left, images, LONG, seed, anew))
        for name in ("compound", "tinynet"):
            rule = make_rule(name, coefficients=PAPER if name == "compound" else None)
            small, place = meet(BASE, rule, cost(left).macs, TOLERANCE).network, f"{name}-as-pruned{share}-{seed}"
            add(share, name, small, output / place, train(small, images, LONG, seed, output / place))
            place = f"{name}-as-fast{share}-{seed}"
            small = meet_latency(rule, left, output, output / f"{place}.json")
            add(share, f"{name}, latency", small, output / place, train(small, images, LONG, seed, output / place))
    times = time_all(runs)
    for row in rows:
        name = f"{row['share']} {row['way']}"
        pruned = name if row["share"] == 1 else f"{row['share']} prune"
        for bits, column in (("", ""), (" int8", "int8_")):
            mine = times[name + bits]
            row |= {f"{column}ms": round(min(mine), 4)}
            row |= {f"{column}over_pruned": round(ratio(mine, times[pruned + bits]), 3)}
    return rows


def main() -> None:
    """Train, prune, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark_compress"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, help="draw accuracies against MACs and latency to this file")
    given = parser.parse_args()
    sha = find_commit()
    images = ImageData("parquet", path=str(given.data), limit=IMAGES, num_classes=10, flip=True, crop=2)
    for seed in given.seeds:
        made = run_seed(images, seed, given.output, sha)
        rows = sorted(read_other_rows(given.csv, "seed", [seed]) + made, key=lambda row: int(row["seed"]))
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, (*COLUMNS, *TIMES), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    rows = read_other_rows(given.csv, "seed", ())
    print_table(rows)
    if given.figure is not None:
        draw(rows, given.figure)


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """The means over seeds, by ``effnas compare``: a line for each way, from the network itself down."""
    points: list[dict[str, Any]] = []
    for way, family in FAMILIES.items():
        for bits, name in (("", ""), ("int8_", ", 8 bits")):
            found = [row for row in rows if row["way"].removesuffix(", latency") in (way, "parent")]
            for share, exact in dict.fromkeys((row["share"], row["way"]) for row in found):
                mine = [row for row in found if (row["share"], row["way"]) == (share, exact)]
                point = {"name": f"{exact} {share}", "family": family + name}
                point["accuracy"] = statistics.fmean(row[f"{bits}accuracy"] for row in mine)
                point["macs"] = round(statistics.fmean(row["macs"] for row in mine))
                point["latency"] = statistics.fmean(row[f"{bits}ms"] for row in mine) / 1e3
                if not bits or way in EIGHT:
                    points.append(point)
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "points.csv").open("w", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, points[0])
            writer.writeheader()
            writer.writerows(points)
        how: dict[str, Any] = {"x": ("macs", "latency"), "names": False}
        run_compare(f"{folder}/points.csv", output=folder, **how)
        shutil.copy(Path(folder) / "compare.png", file)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Means over seeds, with the standard errors of accuracies."""
    print("\n| share | way | M MACs | 1000 parameters | top-1 | int8 | ms | over pruned | ms, int8 | over pruned |")
    print("|---" * 10 + "|")
    for share, way in dict.fromkeys((float(row["share"]), row["way"]) for row in rows):
        mine = [row for row in rows if (row["share"], row["way"]) == (share, way)]

        def mean(column: str, mine: Sequence[Mapping[str, Any]] = mine) -> float:
            return statistics.fmean(row[column] for row in mine)

        cells = [str(share), way, f"{mean('macs') / 1e6:.2f}", f"{mean('params') / 1e3:.0f}"]
        for column in ("accuracy", "int8_accuracy"):
            error = statistics.stdev(row[column] for row in mine) / len(mine) ** 0.5 if len(mine) > 1 else 0.0
            cells.append(f"{100 * mean(column):.2f} ± {100 * error:.2f}")
        for bits in ("", "int8_"):
            ratios = [row[f"{bits}over_pruned"] for row in mine]
            cells += [f"{mean(f'{bits}ms'):.3f}", f"{mean(f'{bits}over_pruned'):.2f} ({min(ratios)}–{max(ratios)})"]
        print(f"| {' | '.join(cells)} |")
    for share in SHARES:
        print_differences(share, rows)


def print_differences(share: float, rows: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy of each way less that of the pruned network of the same seed: the mean, and its standard error."""
    for column in ("accuracy", "int8_accuracy"):
        of = {(row["way"], row["seed"]): 100 * row[column] for row in rows if row["share"] == share}
        for way in dict.fromkeys(way for way, _ in of if way != "prune"):
            found = [of[way, seed] - of["prune", seed] for name, seed in of if name == way]
            error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
            print(f"{share} {column}: {way} less prune: {statistics.fmean(found):+.2f} ± {error:.2f}")


if __name__ == "__main__":
    main()
