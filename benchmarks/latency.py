"""How well `effnas latency fit` ranks networks of Accel-NASBench by their speed on devices, from a few measured ones.

For each device of the archive and each seed, a model is fitted to random networks, and Kendall's tau and the median
relative error are taken over 1,000 others. Beside it the ranking by MACs alone.

    python benchmarks/latency.py [--data ../shared/data/accel_nasbench] [--seeds 5] [--networks 50 300] [--csv FILE]

A minute on one core; the results are benchmarks/results/latency.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
from record import find_commit

from effnas.evaluate.accel_archive import DEVICES, benchmark_space, read_archive
from effnas.evaluate.latency.model import fit_latency, judge
from effnas.space.cost import cost

RESULTS = Path(__file__).resolve().parent / "results" / "latency.csv"
JUDGED = 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/accel_nasbench"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", type=int, nargs="+", default=[50, 300])
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    sha = find_commit()
    archive, space = read_archive(given.data), benchmark_space()
    names = list(space.distributions)
    choices = [list(space.distributions[name].choices) for name in names]
    rows = []
    print("| device | networks | tau: median (range of seeds) | median error | MACs alone |")
    print("|---|---|---|---|---|")
    for device in DEVICES:
        seconds = archive.devices[device]
        known = np.flatnonzero(~np.isnan(seconds))
        for count in given.networks:
            found = []
            for seed in range(given.seeds):
                drawn = np.random.default_rng(seed).permutation(known)[: count + JUDGED]
                networks = [
                    space.build({n: c[k] for n, c, k in zip(names, choices, archive.indices[i], strict=True)})
                    for i in drawn
                ]
                model, _ = fit_latency(networks[:count], seconds[drawn[:count]].tolist(), "accel_nasbench")
                rest, truth = networks[count:], seconds[drawn[count:]].tolist()
                by_macs = judge(np.array([float(cost(network).macs) for network in rest]), truth)["kendall_tau"]
                said = judge(np.array([model(network) for network in rest]), truth)
                found.append({**said, "macs_tau": by_macs})
                rows.append({"device": device, "networks": count, "seed": seed, **found[-1], "commit": sha})
            taus = [one["kendall_tau"] for one in found]
            error, macs = (statistics.median(one[key] for one in found) for key in ("median_error", "macs_tau"))
            span = f"{statistics.median(taus):.3f} ({min(taus):.3f} to {max(taus):.3f})"
            print(f"| {device} | {count} | {span} | {error:.1%} | {macs:.3f} |", flush=True)
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows)


if __name__ == "__main__":
    main()
