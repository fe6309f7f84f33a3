"""Whether the response surface of a grid or its best point is nearer to the truth, by simulation.

The points are those of real grids around EfficientNet-B0: the paper's (ratio=nominal) and the one of achieved MACs.
True accuracies over the shares of depth, width and resolution are drawn at random, with a standard deviation of 1 over
the networks of the grid: "peak", a quadratic with a maximum inside; "slope", linear, with the maximum at an edge; and
"rough", a Gaussian process (length 0.4 of the simplex) that no quadratic fits. Networks gain 2 for each factor of e in
achieved MACs, which the truth at exactly 2 is without. Each network has three trainings; noise is the standard
deviation of their mean.

"Lost" is what the choice lacks in true accuracy to the best network, in units of that standard deviation: the mean over
the draws, for the network of the highest mean and for the surface's highest. Then how often the true best is among the
points that are not significantly below the highest, in the 95 % region, and in a set of the points that are the highest
in 95 % of the bootstrap's draws; and what share of all networks these sets have.

    python benchmarks/grid_choice.py [--draws 200]

Half a minute on one core. Nothing is trained.
"""

from __future__ import annotations

import argparse

import numpy as np

from effnas.scaling.grid.points import Grid, Scaled
from effnas.scaling.grid.response import LEVEL, Array, Surface, fit_surface, log_growth, shares
from effnas.space.zoo import load_architecture

GRIDS = {"nominal": Grid(), "achieved": Grid(ratio="achieved")}
NOISE = (0.25, 0.5, 1.0, 2.0)
SEEDS = 3
#: Of the networks, for each factor of e in MACs.
GAIN = 2.0


def design(grid: Grid) -> tuple[Array, Array]:
    """Shares, shape (n, 3), and achieved ratios of the different networks of B0's grid."""
    scaled = Scaled(load_architecture("efficientnet_b0"))
    growth: dict[str, list[Array]] = {}
    ratios = {}
    for p in grid.points(scaled):
        network = scaled.network(p)
        assert network is not None
        growth.setdefault(network.digest, []).append(log_growth(p))
        ratios[network.digest] = scaled.macs_ratio(p)
    return shares(np.array([np.mean(rows, axis=0) for rows in growth.values()])), np.array(list(ratios.values()))


def truth(kind: str, mixture: Array, rng: np.random.Generator) -> Array:
    """True accuracies at a ratio of 2, with mean 0 and standard deviation 1."""
    if kind == "peak":
        root = rng.normal(size=(3, 3))
        away = mixture - mixture.T @ rng.dirichlet(np.ones(len(mixture)) * 0.3)
        values = -np.einsum("ni,ij,nj->n", away, root @ root.T + 0.3 * np.eye(3), away)
    elif kind == "slope":
        values = mixture @ rng.normal(size=3)
    else:
        squares = ((mixture[:, None] - mixture) ** 2).sum(axis=2)
        factor = np.linalg.cholesky(np.exp(-squares / 2 / 0.4**2) + 1e-8 * np.eye(len(mixture)))
        values = factor @ rng.normal(size=len(mixture))
    return np.asarray((values - values.mean()) / values.std())


def often_highest(surface: Surface, mixture: Array) -> Array:
    """The fewest points that are the highest in 95 % of the draws."""
    rows = surface.rows(mixture)
    tops = np.argmax((surface.coefficients + surface.deviations) @ rows.T, axis=1)
    counts = np.bincount(tops, minlength=len(rows)) / len(tops)
    order = np.argsort(-counts, kind="stable")
    inside = np.zeros(len(rows), np.bool_)
    inside[order[: int(np.searchsorted(np.cumsum(counts[order]), LEVEL)) + 1]] = True
    return inside


def row(mixture: Array, ratios: Array, kind: str, noise: float, draws: int) -> list[str]:
    """The numbers of one kind of truth and one amount of noise."""
    rng = np.random.default_rng(0)
    lost = np.zeros((draws, 2))
    sets = np.zeros((draws, 3, 2))
    for i in range(draws):
        true = truth(kind, mixture, rng)
        trained = true + GAIN * np.log(ratios / 2)
        runs = trained[:, None] + noise * np.sqrt(SEEDS) * rng.normal(size=(len(mixture), SEEDS))
        means, pooled = runs.mean(axis=1), float(np.sqrt(runs.var(axis=1, ddof=1).mean()))
        surface = fit_surface(mixture, means.tolist(), [SEEDS] * len(means), pooled, ratios.tolist())
        assert isinstance(surface, Surface), surface
        best = int(np.argmax(true))
        chosen = [int(np.argmax(means)), int(np.argmax(surface.predict(mixture)[0]))]
        lost[i] = true[best] - true[chosen]
        for k, inside in enumerate(
            (surface.not_below(mixture), surface.region(mixture), often_highest(surface, mixture))
        ):
            sets[i, k] = inside[best], inside.mean()
    cells = [f"{value:.2f}" for value in lost.mean(axis=0)]
    return [*cells, *(f"{hit:.0%} ({size:.0%})" for hit, size in sets.mean(axis=0))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    print("| grid | truth | noise | lost: best point | lost: surface | not below | 95 % region | often the highest |")
    print("|---|---|---|---|---|---|---|---|")
    for name, grid in GRIDS.items():
        mixture, ratios = design(grid)
        for kind in ("peak", "slope", "rough"):
            for noise in NOISE:
                cells = row(mixture, ratios, kind, noise, draws)
                print(f"| {name} ({len(mixture)}) | {kind} | {noise:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
