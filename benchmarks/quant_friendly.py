"""What ReLU6 without squeeze-and-excitation costs in 32 bits, and gains in eight: on CIFAR-10, at equal MACs.

Members of the space `quant_friendly` are drawn. Each has a twin with the same blocks, SE of 0.25 and SiLU, as
EfficientNets have; its width is fitted so that its MACs agree within 2 %. Both are made small (about 2.5 million MACs
at 32 pixels), trained with one recipe (10 epochs on 12,000 images) and exported to OpenVINO and ONNX in 32 and in 8
bits: 200 test images calibrate, 5,000 others measure. The formats of a pair are timed together, in alternation, as
compress.py does it: one thread, batch 1, the fastest round, and the median over rounds of the ratio of 32 bits to 8.

    pip install 'effnas[export]'
    python benchmarks/quant_friendly.py [--data ../shared/data/cifar10] [--members 0 1 2 3]

About 8 minutes a pair on one core. What is finished under --output is not made again. The rows go to
benchmarks/results/quant-friendly.csv with the commit; those of other members stay.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compress import Run, open_fixed, ratio, time_all
from record import find_commit, read_other_rows

from effnas import cost, load_space, run_export, run_train
from effnas.evaluate.data import ImageData
from effnas.evaluate.export.writers import onnx_graph
from effnas.evaluate.train.recipe import Training
from effnas.space.architecture import Architecture
from effnas.space.multipliers import round_filters

TARGET, TOLERANCE = 2.5e6, 0.02
RECIPE = Training(epochs=10, batch_size=64, lr=0.4, ema_decay=0.99, compile=False, precision="fp32", eval_every=10)
LIMIT, HOLDOUT = 12_500, 0.04
RESULTS = Path(__file__).resolve().parent / "results" / "quant-friendly.csv"
COLUMNS = ("member", "kind", "macs", "params", "format", "accuracy", "accuracy_int8", "kept_in_float")
TIMES = ("ms", "ms_int8", "speedup", "commit")


def fit(member: Architecture, target: float, name: str) -> Architecture:
    """The member for 32 pixels, its width such that it has about so many MACs: stem of stride 1, widths of 4."""
    best: Architecture | None = None
    for width in np.linspace(0.1, 0.6, 101):
        stages = tuple(replace(s, channels=round_filters(s.channels, width, 4)) for s in member.stages)
        ends = {"stem": round_filters(member.stem, width, 4), "head": round_filters(member.head, width, 4)}
        found = member.with_(
            **ends,
            stages=stages,
            stem_stride=1,
            resolution=32,
            num_classes=10,
            drop_path=0.0,
            bn_momentum=0.1,
            name=name,
        )
        if best is None or abs(cost(found).macs - target) < abs(cost(best).macs - target):
            best = found
    assert best is not None
    return best


def draw_pairs(count: int) -> list[tuple[Architecture, Architecture]]:
    """Members, small, each with its twin; those that have none of equal MACs are left out."""
    space, rng, found = load_space("quant_friendly"), np.random.default_rng(0), []
    while len(found) < count:
        member = space.build(space.sample(rng))
        assert isinstance(member, Architecture)
        friendly = fit(member, TARGET, f"friendly{len(found)}")
        stages = tuple(replace(stage, se_ratio=0.25) for stage in member.stages)
        usual = fit(member.with_(stages=stages, activation="silu"), cost(friendly).macs, f"usual{len(found)}")
        if abs(cost(usual).macs / cost(friendly).macs - 1) <= TOLERANCE:
            found.append((friendly, usual))
    return found


def measure(network: Architecture, images: ImageData, output: Path) -> dict[str, Any]:
    """The content of ``export.json``; what is there already is not made again."""
    trained, exported = output / f"{network.name}-run", output / f"{network.name}-export"
    if not (trained / "summary.json").is_file():
        run_train(network, images, RECIPE, threads=1, tensorboard=False, output=trained, quiet=True)
    if not (exported / "export.json").is_file():
        options: dict[str, Any] = {
            "to": ("onnx", "openvino"),
            "int8": True,
            "int8_max_drop": 1.0,
            "images": 5000,
            "latency": False,
        }
        run_export(str(trained), images, output=exported, quiet=True, **options)
    found: dict[str, Any] = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    return found


def time_pair(folders: dict[str, Path]) -> dict[str, list[float]]:
    """Milliseconds of the exports of a pair in every round, by kind and format."""
    runs: dict[str, Run] = {}
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32))
    for kind, folder in folders.items():
        for eight in ("", "_int8"):
            session = onnx_graph.open_session(folder / f"model{eight.replace('_', '.')}.onnx", 1)
            runs[f"{kind} onnx{eight}"] = functools.partial(session, image)
            runs[f"{kind} openvino{eight}"] = open_fixed(folder / f"openvino{eight}" / "model.xml", 32)
    return time_all(runs)


def rows_of(
    number: int, kind: str, network: Architecture, found: dict[str, Any], times: dict[str, list[float]], sha: str
) -> list[dict[str, Any]]:
    """One for each format."""
    rows = []
    for name in ("onnx", "openvino"):
        slow, fast = times[f"{kind} {name}"], times[f"{kind} {name}_int8"]
        small = found["formats"][f"{name}_int8"]
        total = cost(network)
        row: dict[str, Any] = {"member": number, "kind": kind, "macs": total.macs, "params": total.params}
        row |= {"format": name, "accuracy": small["proof"]["accuracy_before"]}
        row |= {"accuracy_int8": small["proof"]["accuracy_after"], "kept_in_float": len(small["kept_in_float"])}
        row |= {"ms": round(min(slow), 4), "ms_int8": round(min(fast), 4), "commit": sha}
        rows.append(row | {"speedup": round(ratio(slow, fast), 3)})
    return rows


def main() -> None:
    """Train, export, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--members", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark_quant_friendly"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    sha = find_commit()
    images = ImageData("parquet", str(given.data), limit=LIMIT, holdout=HOLDOUT, num_classes=10, flip=True, crop=4)
    pairs = draw_pairs(max(given.members) + 1)
    for number in given.members:
        kinds = dict(zip(("quant_friendly", "SE and SiLU"), pairs[number], strict=True))
        told = {kind: measure(network, images, given.output) for kind, network in kinds.items()}
        times = time_pair({kind: given.output / f"{network.name}-export" for kind, network in kinds.items()})
        rows = read_other_rows(given.csv, "member", [number])
        for kind, network in kinds.items():
            rows += rows_of(number, kind, network, told[kind], times, sha)
            print(rows[-1], flush=True)
        rows.sort(key=lambda row: int(row["member"]))
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, (*COLUMNS, *TIMES), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print_table(rows)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Means over members, with the standard errors of the differences within pairs."""
    header = "| format | networks | M MACs | top-1, 32 bits | 8 bits | lost | ms, 32 bits | 8 bits | speed-up |"
    print(f"\n{header}\n|{'---|' * 9}")
    for name, kind in dict.fromkeys((row["format"], row["kind"]) for row in rows):
        mine = [row for row in rows if (row["format"], row["kind"]) == (name, kind)]

        def mean(column: str, mine: list[dict[str, Any]] = mine) -> float:
            return statistics.fmean(row[column] for row in mine)

        cells = [name, kind, f"{mean('macs') / 1e6:.2f}", f"{mean('accuracy'):.2%}", f"{mean('accuracy_int8'):.2%}"]
        cells.append(tell([row["accuracy"] - row["accuracy_int8"] for row in mine]))
        cells += [f"{mean('ms'):.3f}", f"{mean('ms_int8'):.3f}", f"{mean('speedup'):.2f}"]
        print(f"| {' | '.join(cells)} |")
    for column in ("accuracy", "accuracy_int8"):
        for name in ("onnx", "openvino"):
            of = {(row["member"], row["kind"]): row[column] for row in rows if row["format"] == name}
            pairs = [of[n, "quant_friendly"] - of[n, "SE and SiLU"] for n, kind in of if kind == "SE and SiLU"]
            print(f"{name} {column}: quant_friendly less SE and SiLU: {tell(pairs)}")


def tell(fractions: list[float]) -> str:
    """The mean and its standard error, in points."""
    error = statistics.stdev(fractions) / len(fractions) ** 0.5 if len(fractions) > 1 else 0.0
    return f"{100 * statistics.fmean(fractions):.2f} ± {100 * error:.2f}"


if __name__ == "__main__":
    main()
