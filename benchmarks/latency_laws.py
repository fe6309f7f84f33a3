"""How fast mobile-type networks are: time = c · activations^p · MACs^q · parameters^r, on three devices of timm's.

timm publishes images per second of 1,325 ImageNet results on an RTX 4090, an RTX 5090 and a CPU. The law is fitted to
those of mobile type (EfficientNet, MobileNet, MNasNet, FBNet, GhostNet, LCNet, TinyNet, …), one point for a network and
an image size, by least squares on logarithms; an exponent within two of least squares' standard errors of 0 is left
out. The errors that are stated are wider, those of a bootstrap over families: networks of one family are not so many
witnesses. tau and the median error are of families that the fit has not seen.

    python benchmarks/latency_laws.py [--data ../shared/data/timm_results/networks.csv]
    python benchmarks/latency_laws.py --write        # evaluate/latency/laws.json, which latency_model=rtx4090 reads
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from record import find_commit
from scipy.stats import kendalltau

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "latency-laws.csv"
LAWS = ROOT / "evaluate" / "latency" / "laws.json"
MOBILE = re.compile(
    r"(?:tf_|test_)?(efficientnet|mobilenet|mnasnet|semnasnet|spnasnet|fbnet|hardcorenas|mixnet|tinynet|lcnet|ghostnet|"
    r"repghostnet|rexnet|mobileone)"
)
#: Of each law: the column of images a second, and what was measured.
DEVICES = {
    "rtx4090": ("img_s_rtx4090_amp_nhwc", "NVIDIA RTX 4090, mixed precision, channels last"),
    "rtx5090": ("img_s_rtx5090_amp_nchw", "NVIDIA RTX 5090, mixed precision, channels first"),
    "i9_10940x": ("img_s_i9_10940x_fp32_batch1", "Intel i9-10940X, float32, batch 1"),
}
COSTS = ("activations", "macs", "params")
DRAWS = 2000


def read_points(file: Path, column: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Families, logarithms of the costs (n, 3) and of seconds per image (n,); one row for a network and a size."""
    found: dict[tuple[str, str], tuple[str, list[float], list[float]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if (match := MOBILE.match(row["model"])) is None or not row[column]:
                continue
            costs = [1e6 * float(row["mactivations"]), 1e9 * float(row["gmacs"]), 1e6 * float(row["params_m"])]
            key = (row["model"], row["img_size"])
            found.setdefault(key, (match[1], costs, []))[2].append(-math.log(float(row[column])))
    points = list(found.values())
    return [p[0] for p in points], np.log([p[1] for p in points]), np.array([np.mean(p[2]) for p in points])


def solve(x: np.ndarray, y: np.ndarray, used: list[int]) -> np.ndarray:
    """The constant and the exponents, 0 where one is not used, shape (4,)."""
    found = np.zeros(4)
    table = np.column_stack([np.ones(len(x)), x[:, used]])
    found[[0, *(i + 1 for i in used)]] = np.linalg.lstsq(table, y, rcond=None)[0]
    return found


def weigh(x: np.ndarray, y: np.ndarray, used: list[int]) -> dict[int, float]:
    """Each exponent over least squares' standard error of it."""
    law, table = solve(x, y, used), np.column_stack([np.ones(len(x)), x[:, used]])
    rest = y - law[0] - x @ law[1:]
    spread = np.sqrt(rest @ rest / (len(y) - len(used) - 1) * np.diag(np.linalg.inv(table.T @ table)))
    return {i: abs(float(law[i + 1] / spread[k])) for k, i in enumerate(used, 1)}


def errors(families: list[str], x: np.ndarray, y: np.ndarray, used: list[int]) -> np.ndarray:
    """Standard errors of :func:`solve`, over families drawn with replacement."""
    rng, names = np.random.default_rng(0), sorted(set(families))
    rows = {name: np.flatnonzero([family == name for family in families]) for name in names}
    draws = []
    for _ in range(DRAWS):
        chosen = np.concatenate([rows[str(name)] for name in rng.choice(names, len(names))])
        draws.append(solve(x[chosen], y[chosen], used))
    return np.asarray(np.std(draws, axis=0))


def fit(families: list[str], x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The law of a device, with its errors."""
    used = [0, 1, 2]
    while min((sure := weigh(x, y, used)).values()) < 2:  # the least certain exponent goes first
        used.remove(min(sure, key=lambda i: sure[i]))
    law, deviation = solve(x, y, used), errors(families, x, y, used)
    said = np.empty(len(y))
    for name in set(families):
        out = np.array([family == name for family in families])
        other = solve(x[~out], y[~out], used)
        said[out] = other[0] + x[out] @ other[1:]
    return {
        "constant": round(float(law[0]), 6),
        "exponents": {COSTS[i]: round(float(law[i + 1]), 4) for i in used},
        "errors": {COSTS[i]: round(float(deviation[i + 1]), 4) for i in used},
        "low": {name: round(math.exp(x[:, i].min())) for i, name in enumerate(COSTS)},
        "high": {name: round(math.exp(x[:, i].max())) for i, name in enumerate(COSTS)},
        "networks": len(y),
        "families": len(set(families)),
        "kendall_tau": round(float(kendalltau(said, y).statistic), 4),
        "median_error": round(float(np.median(np.abs(np.exp(said - y) - 1))), 4),
    }


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/timm_results/networks.csv"))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    given = parser.parse_args()
    sha = find_commit()
    laws, rows = {}, []
    print("| device | networks | activations | MACs | parameters | tau | median error | tau of MACs |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (column, title) in DEVICES.items():
        families, x, y = read_points(given.data, column)
        law = fit(families, x, y)
        laws[name] = {"title": title, **law}
        alone = float(kendalltau(x[:, 1], y).statistic)
        told = [
            f"{law['exponents'][cost]:.2f} ± {law['errors'][cost]:.2f}" if cost in law["exponents"] else "–"
            for cost in COSTS
        ]
        print(
            f"| `{name}` | {law['networks']} | {' | '.join(told)} | {law['kendall_tau']:.3f} | "
            f"{law['median_error']:.1%} | {alone:.3f} |"
        )
        row = {"device": name, "networks": law["networks"], "families": law["families"], "constant": law["constant"]}
        row |= {cost: law["exponents"].get(cost, 0.0) for cost in COSTS}
        row |= {f"{cost}_error": law["errors"].get(cost) for cost in COSTS}
        row |= {"tau": law["kendall_tau"], "median_error": law["median_error"], "tau_macs": alone, "commit": sha}
        rows.append(row)
    with given.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if given.write:
        LAWS.write_text(json.dumps({"effnas_latency_laws": 1, "laws": laws}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
