"""Which way down is best on CIFAR-10: pruning a trained network, eight bits, or training a smaller one of its family?

A network of 2.3 million MACs is trained for 8 epochs on 6,000 images. For a half and a quarter of its MACs:

    prune             effnas compress, and 4 epochs of fine-tuning
    pruned, anew      the network that pruning found, trained from scratch for 12 epochs
    compound          phi < 0 by the paper's coefficients, to the pruned network's MACs within 5 %, for 12 epochs
    tinynet           the same by the rule of Han et al. 2020
    ..., latency      the same two, to the pruned network's latency instead of its MACs

So each way has had 12 epochs. Every network is exported to OpenVINO in 32 and in 8 bits (200 test images calibrate),
and both are measured on the other 9,800 test images: eight bits are a way down by themselves (share 1, the columns
int8), and one that can be added to each other. At the end all of a seed's exports are timed in alternation: one
thread, batch 1, the fastest of 15 rounds. A training or an export that has finished is not repeated, and the choice of
a network by its latency is kept: make it on an idle machine.

    pip install 'effnas[export]'
    python benchmarks/compress.py [--data ../shared/data/cifar10] [--seeds 3] [--output outputs/benchmark_compress]

About 50 minutes on one core; the results are benchmarks/results/compress-cifar10.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from predict_cifar import BASE
from record import find_commit

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
from effnas.space.cost import cost
from effnas.space.zoo import load_architecture

SHARES = (0.5, 0.25)
#: Of the MACs of scaled networks in those of the pruned one.
TOLERANCE = 0.05
#: MACs, in those of the pruned network, of those that its latency is looked for among.
FACTORS = (0.6, 0.75, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.4, 2.8)
EPOCHS, MORE, IMAGES = 8, 4, 7500
RECIPE = Training(epochs=EPOCHS, batch_size=64, lr=0.8, compile=False, precision="fp32", eval_every=EPOCHS)
#: A quarter of the rate: the network is trained already.
FINETUNE = replace(RECIPE, epochs=MORE, eval_every=MORE, lr=RECIPE.lr / 4)
LONG = replace(RECIPE, epochs=EPOCHS + MORE, eval_every=EPOCHS + MORE)
ROUNDS, PASSES = 15, 20
RESULTS = Path(__file__).resolve().parent / "results" / "compress-cifar10.csv"
COLUMNS = ("share", "way", "seed", "macs", "params", "accuracy", "before_finetuning", "export_accuracy")
TIMES = ("int8_accuracy", "ms", "int8_ms", "commit")

Run = Callable[[torch.Tensor], Any]


def train(network: Any, images: ImageData, recipe: Training, seed: int, output: Path) -> float:
    """Accuracy on the test images."""
    if not (output / "summary.json").is_file():
        run_train(network, images, recipe, seed=seed, threads=1, tensorboard=False, output=output, quiet=True)
    return float(json.loads((output / "summary.json").read_text(encoding="utf-8"))["test_accuracy"])


def export(trained: Path, images: ImageData, output: Path) -> dict[str, Any]:
    """The content of ``export.json`` of a training's folder."""
    if not (output / "export.json").is_file():
        options: dict[str, Any] = {"to": "openvino", "int8": True, "int8_max_drop": 1.0, "images": 9800}
        run_export(str(trained), images, output=output, latency=False, quiet=True, **options)
    found: dict[str, Any] = json.loads((output / "export.json").read_text(encoding="utf-8"))
    return found


def time_all(runs: Mapping[str, Run]) -> dict[str, float]:
    """Milliseconds of each at batch 1, in alternation: the fastest round's median, which other jobs lengthen least."""
    images = torch.zeros(1, 3, 32, 32)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 1):
        for name in reversed(list(runs)) if number % 2 else runs:
            passes = []
            for _ in range(PASSES):
                begin = time.perf_counter()
                runs[name](images)
                passes.append(time.perf_counter() - begin)
            if number:
                found[name].append(statistics.median(passes))
    return {name: 1e3 * min(values) for name, values in found.items()}


def open_untrained(network: Any) -> Run:
    """A network with random weights, in OpenVINO."""
    preprocessing = Preprocessing(network.resolution, 3, (0.0,) * 3, (1.0,) * 3)
    module = put_inside(network.module(), preprocessing, False)
    subject = Subject(module, network, preprocessing, None, module)
    with tempfile.TemporaryDirectory() as folder:
        openvino_model.write(subject, Path(folder))
        run = openvino_model.open_model(Path(folder) / "model.xml", 1)
    side = network.resolution
    return lambda images: run(torch.nn.functional.interpolate(images, (side, side)) if side != 32 else images)


def meet_latency(rule: Rule, left: Any, record: Path) -> Any:
    """The network of a rule whose latency is nearest to that of ``left``; the choice is kept in a file."""
    macs = cost(left).macs
    networks = [meet(BASE, rule, factor * macs, 0.1).network for factor in FACTORS if factor * macs < cost(BASE).macs]
    if not record.is_file():
        times = time_all({"left": open_untrained(left), **{str(i): open_untrained(n) for i, n in enumerate(networks)}})
        chosen = min(range(len(networks)), key=lambda i: abs(times[str(i)] / times["left"] - 1))
        record.write_text(json.dumps({"chosen": chosen, "times": times}), encoding="utf-8")
    return networks[json.loads(record.read_text(encoding="utf-8"))["chosen"]]


def run_seed(images: ImageData, seed: int, output: Path, sha: str) -> list[dict[str, Any]]:
    """A row for each way and share."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}

    def add(share: float, way: str, network: Any, trained: Path, accuracy: float, before: float | None = None) -> None:
        total, folder = cost(network), output / f"export-{way}-{share}-{seed}"
        proof = export(trained, images, folder)["formats"]["openvino_int8"]["proof"]
        row = {"share": share, "way": way, "seed": seed, "macs": total.macs, "params": total.params}
        row |= {"accuracy": accuracy, "before_finetuning": before, "commit": sha}
        rows.append(row | {"export_accuracy": proof["accuracy_before"], "int8_accuracy": proof["accuracy_after"]})
        for bits, name in (("", "openvino"), (" int8", "openvino_int8")):
            run, side = openvino_model.open_model(folder / name / "model.xml", 1), network.resolution
            given = torch.zeros(1, 3, side, side)
            runs[f"{share} {way}{bits}"] = lambda _, run=run, given=given: run(given)  # type: ignore[misc]
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
            small = meet_latency(rule, left, output / f"{place}.json")
            add(share, f"{name}, latency", small, output / place, train(small, images, LONG, seed, output / place))
    times = time_all(runs)
    for row in rows:
        name = f"{row['share']} {row['way']}"
        row |= {"ms": round(times[name], 4), "int8_ms": round(times[f"{name} int8"], 4)}
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
            writer = csv.DictWriter(file, (*COLUMNS, *TIMES), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print("\n| share | way | M MACs | thousand parameters | ms | accuracy | sd | ms, 8 bits | accuracy | sd |")
    print("|---" * 10 + "|")
    for share, way in dict.fromkeys((row["share"], row["way"]) for row in rows):
        mine = [row for row in rows if (row["share"], row["way"]) == (share, way)]

        def cells(column: str, factor: float, mine: list[dict[str, Any]] = mine) -> tuple[float, float]:
            values = [factor * row[column] for row in mine]
            return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

        text = f"| {share} | {way} | {cells('macs', 1e-6)[0]:.2f} | {cells('params', 1e-3)[0]:.0f} "
        for ms, accuracy in (("ms", "accuracy"), ("int8_ms", "int8_accuracy")):
            mean, sd = cells(accuracy, 100)
            text += f"| {cells(ms, 1)[0]:.3f} | {mean:.2f} | {sd:.2f} "
        print(f"{text}|")


if __name__ == "__main__":
    main()
