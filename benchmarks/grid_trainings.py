"""How many trainings the coefficients take: a grid with a fixed number of seeds, a grid until decided, and a star.

Truths, noise and losses are those of ``grid_posterior.py``: "lost" is what the written shares lack in true accuracy to
the best ones, in points, at φ = 1 and φ = 3. A grid trains 24 networks of B0's grid of achieved MACs. ``decided``
begins with two trainings of each and goes on as ``until=decided`` does, with as many trainings in all as the fixed grid
beside it. A star trains nine networks (each dimension alone and the published mixture at two and four times the MACs,
and the baseline) and then the mixture that the law says is best, all equally often.

    python benchmarks/grid_trainings.py [--draws 20] [--csv FILE]

Ten minutes on one core. Nothing is trained.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from grid_choice import GRIDS, design
from grid_posterior import FINE, NOISE, PHIS, TRUTHS, accuracy

from effnas.scaling.grid.choosing import choose_row, describe_posterior, posterior_of
from effnas.scaling.grid.deciding import BATCH, find_next_trainings, is_decided
from effnas.scaling.grid.posterior import published_shares
from effnas.scaling.grid.response import Array
from effnas.scaling.grid.star import FINE as MIXTURES
from effnas.scaling.grid.star import SIZES

#: Networks of a grid.
COUNT = 24
UNFITTED = {"fitted": False}


class Trained:
    """Networks whose trainings are drawn from a truth, as rows of a grid."""

    def __init__(self, truth: str, noise: float, draw: int) -> None:
        self._truth, self._noise, self._rng = truth, noise / 100, np.random.default_rng((draw, 7))
        self.growth: list[Array] = []
        self.runs: list[list[float]] = []
        self.candidates: list[bool] = []

    def add(self, growth: Array, seeds: int, candidate: bool = True) -> None:
        """A network, trained so often."""
        self.growth.append(growth)
        self.candidates.append(candidate)
        self.runs.append([])
        for _ in range(seeds):
            self.train(len(self.runs) - 1)

    def train(self, network: int) -> None:
        """Once more."""
        self.runs[network].append(float(accuracy(self._truth, self.growth[network]) + self._noise * self._rng.normal()))

    @property
    def spent(self) -> int:
        """Trainings."""
        return sum(map(len, self.runs))

    def rows(self) -> list[dict[str, Any]]:
        """As :func:`effnas.scaling.grid.ranking.rank_points` has them."""
        found = [
            {
                **dict(zip(("alpha", "beta", "gamma"), np.exp(growth / (1, 2, 2)).tolist(), strict=True)),
                **dict.fromkeys(("macs_ratio", "nominal_macs_ratio"), float(np.exp(growth.sum()))),
                "accuracy": statistics.fmean(runs),
                "sd": statistics.stdev(runs) if len(runs) > 1 else None,
                "seeds": len(runs),
                "digest": str(i),
                "equal_to": None,
                "candidate": self.candidates[i],
            }
            for i, (growth, runs) in enumerate(zip(self.growth, self.runs, strict=True))
        ]
        return sorted(found, key=lambda row: (not row["candidate"], -row["accuracy"]))

    def choose(self, choose: str) -> int:
        """The network whose shares are written."""
        rows = self.rows()
        return int(choose_row(rows, UNFITTED, describe_posterior(rows), choose)[0]["digest"])

    def lost(self, network: int) -> list[float]:
        """By its shares, at each φ."""
        shares = self.growth[network] / self.growth[network].sum()
        ways = [(FINE * phi * math.log(2), shares * phi * math.log(2)) for phi in PHIS]
        return [100 * float(accuracy(self._truth, all_).max() - accuracy(self._truth, one)) for all_, one in ways]


def grid(networks: tuple[Array, Array], seeds: int, draw: int, trained: Trained) -> None:
    """The networks of a grid, ``seeds`` trainings each."""
    some = np.random.default_rng(draw).permutation(len(networks[0]))[:COUNT]
    for mixture, ratio in zip(networks[0][some], networks[1][some], strict=True):
        trained.add(mixture * math.log(ratio), seeds)


def decide(networks: tuple[Array, Array], most: int, choose: str, draw: int, trained: Trained) -> bool:
    """The same until decided; whether it is."""
    grid(networks, 2, draw, trained)
    while True:
        rows, best = trained.rows(), str(trained.choose(choose))
        if is_decided(rows, choose, best):
            return True
        more = find_next_trainings(rows, choose, best, min(BATCH, most - trained.spent))
        if not more:
            return False
        for digest in more:
            trained.train(int(digest))


def star(seeds: int, trained: Trained) -> None:
    """A star of so many trainings of each network."""
    trained.add(np.zeros(3), seeds, candidate=False)
    for size in SIZES:
        for mixture in (*np.eye(3), published_shares()):
            trained.add(mixture * math.log(size), seeds, candidate=size == SIZES[0])
    best = int(np.argmax(posterior_of(trained.rows()).expect(MIXTURES)))
    trained.add(MIXTURES[best] * math.log(SIZES[0]), seeds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--csv", type=Path, help="where to write every setting")
    args = parser.parse_args()
    networks = design(GRIDS["achieved"])
    Way = Callable[[int, Trained], Any]
    ways: dict[str, tuple[str, Way]] = {}
    for choose in ("posterior", "point"):
        for seeds in (3, 6):
            most = COUNT * seeds

            def fixed(draw: int, trained: Trained, seeds: int = seeds) -> None:
                grid(networks, seeds, draw, trained)

            def decided(draw: int, trained: Trained, most: int = most, choose: str = choose) -> bool:
                return decide(networks, most, choose, draw, trained)

            ways[f"grid, {choose}, {seeds} seeds"] = choose, fixed
            ways[f"grid, {choose}, decided, at most {most}"] = choose, decided
    for seeds in (1, 2, 3, 6):
        ways[f"star, {seeds} seed{'s' * (seeds > 1)}"] = "posterior", lambda draw, trained, n=seeds: star(n, trained)
    rows = []
    print("| way | trainings, noise .3, 1, 3 | decided | lost at φ = 1 | lost at φ = 3 |\n|---|---|---|---|---|")
    for name, (choose, way) in ways.items():
        spent: dict[float, list[int]] = {noise: [] for noise in NOISE}
        lost: list[list[float]] = []
        told: list[bool] = []
        for truth in TRUTHS:
            for noise in NOISE:
                for draw in range(args.draws):
                    trained = Trained(truth, noise, draw)
                    told.append(bool(way(draw, trained)))
                    spent[noise].append(trained.spent)
                    lost.append(trained.lost(trained.choose(choose)))
                mean = np.mean(lost[-args.draws :], axis=0).round(4)
                used = statistics.fmean(spent[noise][-args.draws :])
                rows.append([name, truth, noise, round(used, 1), statistics.fmean(told[-args.draws :]), *mean])
        one, three = (f"{value:.2f}" for value in np.mean(lost, axis=0))
        used = ", ".join(f"{statistics.fmean(values):.0f}" for values in spent.values())
        share = f"{statistics.fmean(told):.0%}" if "decided" in name else ""
        print(f"| {name} | {used} | {share} | {one} | {three} |", flush=True)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["way", "truth", "noise", "trainings", "decided", *(f"lost at phi {phi}" for phi in PHIS)])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
