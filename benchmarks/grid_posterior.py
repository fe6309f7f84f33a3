"""What the coefficients of a grid lose, at φ = 1 and at φ = 3, by how they are chosen: a simulation on known truths.

The networks are those of EfficientNet-B0's grid of achieved MACs. A truth says what depth, width and resolution are
worth, each with its own point of saturation λ: accuracy = .80 − .35 exp(−.6 Σ w_d λ_d (1 − exp(−u_d / λ_d))), where u
is what each adds to the logarithm of the MACs. "balanced" has its best shares at the published ones, "width" and
"depth" love one dimension, "saturating" has images whose own pixels end soon, "off" is near the published ones.

A run trains 10 or 24 networks, 1, 3 or 6 times each, with noise of .3, 1 or 3 points, and takes the point of the
highest mean, the response surface's highest point, the published coefficients, or the posterior's choice. "Lost" is
what the chosen shares lack in true accuracy to the best shares, in points, at exactly 2 and 8 times the MACs.

    python benchmarks/grid_posterior.py [--draws 60] [--csv FILE]

Three minutes on one core. Nothing is trained.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np
from grid_choice import GRIDS, design

from effnas.scaling.grid.posterior import fit_posterior, published_shares
from effnas.scaling.grid.response import Array, fit_surface

#: Weights w and saturation λ of depth, width and resolution.
TRUTHS = {
    "balanced": ((1.0, 1.0, 1.0), (1.5, 1.5, 2.0)),
    "width": ((0.8, 1.5, 0.8), (1.0, 2.0, 1.0)),
    "depth": ((1.5, 0.8, 0.8), (2.0, 1.0, 1.0)),
    "saturating": ((1.0, 1.0, 1.4), (1.0, 1.0, 0.12)),
    "off": ((1.0, 1.2, 0.9), (0.8, 1.2, 1.5)),
}
NOISE = (0.3, 1.0, 3.0)
TRAININGS = ((10, 1), (24, 1), (24, 3), (24, 6))
PHIS = (1, 3)
WAYS = ("point", "surface", "published", "posterior")
#: Shares of which the best is looked for.
FINE = np.array([(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)]) / 20
#: Points by which a way may lack to the best one and still be level with it.
LEVEL = 0.1


def accuracy(truth: str, growth: Array) -> Array:
    """The true accuracy of (…, 3) growths."""
    weights, ends = (np.array(values) for values in TRUTHS[truth])
    worth = (weights * ends * (1 - np.exp(-growth / ends))).sum(axis=-1)
    return np.asarray(0.80 - 0.35 * np.exp(-0.6 * worth))


def simulate(networks: tuple[Array, Array], truth: str, noise: float, count: int, seeds: int, draws: int) -> Array:
    """What each way loses at each φ in the mean, in points, shape (ways, phis); ``networks``: shares and ratios."""
    mixtures, ratios = networks
    lost = np.zeros((draws, len(WAYS), len(PHIS)))
    best = [accuracy(truth, FINE * phi * math.log(2)).max() for phi in PHIS]
    for draw in range(draws):
        rng = np.random.default_rng((draw, count, seeds))
        some = rng.permutation(len(mixtures))[:count]
        mixture, ratio = mixtures[some], ratios[some]
        true = accuracy(truth, mixture * np.log(ratio)[:, None])
        runs = true[:, None] + noise / 100 * rng.normal(size=(len(some), seeds))
        means = runs.mean(axis=1)
        pooled = float(np.sqrt(runs.var(axis=1, ddof=1).mean())) if seeds > 1 else None
        counts = [seeds] * len(some)
        surface = fit_surface(mixture, means.tolist(), counts, pooled, ratio.tolist())
        posterior = fit_posterior(mixture, means.tolist(), counts, pooled, ratio.tolist())
        first = mixture[int(np.argmax(means))]
        chosen = (
            first,
            first if isinstance(surface, str) else mixture[int(np.argmax(surface.predict(mixture)[0]))],
            published_shares(),
            mixture[int(np.argmax(posterior.expect(mixture)))],
        )
        for i, phi in enumerate(PHIS):
            lost[draw, :, i] = [100 * (best[i] - accuracy(truth, one * phi * math.log(2))) for one in chosen]
    return np.asarray(lost.mean(axis=0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--csv", type=Path, help="where to write every setting")
    args = parser.parse_args()
    rows, networks = [], design(GRIDS["achieved"])
    print(
        f"| truth | noise | {' | '.join(f'{way}, lost at φ = 1, 3' for way in WAYS)} |\n|---|---|{'---|' * len(WAYS)}"
    )
    for truth in TRUTHS:
        for noise in NOISE:
            found = np.array([simulate(networks, truth, noise, *trainings, args.draws) for trainings in TRAININGS])
            for trainings, lost in zip(TRAININGS, found, strict=True):
                for way, values in zip(WAYS, lost, strict=True):
                    rows.append([truth, noise, *trainings, way, *values.round(4)])
            cells = [f"{a:.2f}, {b:.2f}" for a, b in found.mean(axis=0)]
            print(f"| {truth} | {noise:g} | {' | '.join(cells)} |", flush=True)
    table = np.array([row[5:] for row in rows], np.float64).reshape(-1, len(WAYS), len(PHIS))
    print(f"| mean | | {' | '.join(f'{a:.2f}, {b:.2f}' for a, b in table.mean(axis=0))} |")
    level = (table <= table.min(axis=1, keepdims=True) + LEVEL).mean(axis=(0, 2))
    print(f"| best or within {LEVEL:g} | | {' | '.join(f'{share:.0%}' for share in level)} |")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["truth", "noise", "networks", "seeds", "way", *(f"lost at phi {phi}" for phi in PHIS)])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
