"""How many image passes does each way need to find what training every candidate in full finds? (``docs/shortcuts.md``)

Replays the choice on the members that ``effnas rank`` has trained and judged, so it trains nothing itself: each way may
train some of the candidates once, by one seed, and names the best it has seen; what that one is worth is what the
*other* seeds say, so nobody is paid for luck. Costs are image passes, in full trainings. In each draw the candidates
are a random three quarters of the members, the seeds take other parts, and all ways meet the same ones.

    effnas rank --members 80 --shortcuts ... -o outputs/rank
    python benchmarks/shortcuts.py outputs/rank --csv shortcuts.csv                # seconds, 1 core
    python benchmarks/shortcuts.py outputs/rank --limit 0.5    # among the half of the members with fewer MACs

The ways:
- full: train every candidate;
- random: train some of them only;
- pre-screen: train those first that a shortcut or a count puts first;
- predictor: train some, fit a ridge regression (decisions and log costs), and train those that it puts first;
- early stopping: one epoch for all, two for the best third, full trainings for the first of these; each from the start,
  since that is what was recorded;
- combined: of the half that the best count puts first, the predictor's way, with that count as one more feature.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

Array = NDArray[np.float64]
#: Of the members that a draw has, and of the candidates that the combined way keeps.
SHARE, KEPT = 0.75, 0.5
#: Runs whose mean is compared: the standard error that may be missing is of so many.
RUNS = 5


@dataclass(frozen=True)
class Candidates:
    """What a draw has.

    Args:
        seen: accuracy that one training gives, shape (n,).
        worth: what the other seeds say, shape (n,).
        features: of the predictor, shape (n, f).
        scores: of each shortcut and count, larger is better, shape (n,) each.
        costs: of each shortcut for one candidate, in full trainings.
        shared: of what is trained once for any number of candidates, in full trainings; such a shortcut costs that.
    """

    seen: Array
    worth: Array
    features: Array
    scores: dict[str, Array]
    costs: dict[str, float]
    shared: dict[str, float]

    def __len__(self) -> int:
        return len(self.seen)

    def order(self, name: str) -> list[int]:
        """The candidates, the shortcut's first ones first."""
        return list(np.argsort(-self.scores[name], kind="stable"))

    def follow(self, trained: list[int], before: float = 0.0) -> Iterator[tuple[float, float]]:
        """(cost, what the best seen is worth) after each of these trainings."""
        best = trained[0]
        for count, one in enumerate(trained, 1):
            best = one if self.seen[one] > self.seen[best] else best
            yield before + count, float(self.worth[best])


Way = Callable[[Candidates, np.random.Generator], Iterator[tuple[float, float]]]


def draw_random(candidates: Candidates, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Train in random order; after all of them this is "full"."""
    return candidates.follow(list(rng.permutation(len(candidates))))


def screen_by(name: str) -> Way:
    """Train in the order of a shortcut, which judges all candidates before."""

    def follow(candidates: Candidates, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
        before = candidates.shared.get(name, candidates.costs[name] * len(candidates))
        return candidates.follow(candidates.order(name), before)

    return follow


def predict_with(start: int, features: Callable[[Candidates], Array], pool: Callable[[Candidates], list[int]]) -> Way:
    """Train some at random, then always the one that the regression on what was trained puts first, refitted by 5."""

    def follow(candidates: Candidates, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
        left = [int(one) for one in rng.permutation(pool(candidates))]
        table, trained = features(candidates), [left.pop() for _ in range(min(start, len(left)))]
        while left:
            model = RidgeCV(alphas=np.logspace(-2, 4, 13)).fit(table[trained], candidates.seen[trained])
            left.sort(key=list(model.predict(table)).__getitem__)
            trained += [left.pop() for _ in range(min(5, len(left)))]
        return candidates.follow(trained)

    return follow


def stop_early(candidates: Candidates, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Successive halving over what was recorded: one epoch, two epochs, the whole training."""
    first = candidates.order("epochs_1")
    third = first[: max(1, len(first) // 3)]
    third.sort(key=lambda one: -candidates.scores["epochs_2"][one])
    cost = candidates.costs["epochs_1"] * len(first) + candidates.costs["epochs_2"] * len(third)
    return candidates.follow(third, cost)


def list_ways(members: pd.DataFrame, count: str) -> dict[str, Way]:
    """All ways that the record allows, by name."""
    names = [name.removeprefix("shortcut.") for name in members if name.startswith("shortcut.")]
    ways: dict[str, Way] = {"random": draw_random}
    ways |= {f"pre-screen, {name}": screen_by(name) for name in names}
    ways["predictor"] = predict_with(10, lambda c: c.features, lambda c: list(range(len(c))))
    if {"epochs_1", "epochs_2"} <= set(names):
        ways["early stopping"] = stop_early
    ways[f"combined: {count}, predictor"] = predict_with(
        5,
        lambda c: np.column_stack([c.features, _standardise(c.scores[count])]),
        lambda c: c.order(count)[: max(1, int(KEPT * len(c)))],
    )
    return ways


def _find_lasting(level: NDArray[np.bool_]) -> int | None:
    """Where it is true from there to the end; None: nowhere. More trainings are more chances of luck, so it can end."""
    below = np.flatnonzero(~level)
    start = int(below[-1]) + 1 if len(below) else 0
    return start if start < len(level) else None


def _standardise(values: Array) -> Array:
    return (values - values.mean()) / (values.std() or 1.0)


def make_features(members: pd.DataFrame) -> Array:
    """Each choice as 0 or 1, and the logarithms of the costs, standardised, shape (n, f)."""
    decisions = [name for name in members if name.startswith("decision.")]
    table = pd.get_dummies(members[decisions].astype(str)).astype(float)
    for name in ("macs", "params", "shortcut.activations"):
        table[f"log {name}"] = np.log(members[name])
    array = table.to_numpy()
    return np.asarray([_standardise(column) for column in array.T if column.std() > 0]).T


def draw_candidates(
    members: pd.DataFrame, costs: dict[str, float], shared: dict[str, float], rng: np.random.Generator
) -> Candidates:
    """Three quarters of the members; one seed that trains, the others that judge."""
    seeds = [name for name in members if name.startswith("accuracy.")]
    chosen = seeds[int(rng.integers(len(seeds)))]
    some = members.iloc[rng.permutation(len(members))[: int(SHARE * len(members))]]
    scores = {name: some[f"shortcut.{name}"].fillna(-np.inf).to_numpy(float) for name in costs}
    others = some[[seed for seed in seeds if seed != chosen]].mean(axis=1).to_numpy(float)
    return Candidates(some[chosen].to_numpy(float), others, make_features(some), scores, costs, shared)


def compare(
    members: pd.DataFrame, costs: dict[str, float], shared: dict[str, float], count: str, draws: int
) -> tuple[list[dict[str, Any]], str]:
    """A row a way: what it takes to be level with full training of all, and stay so; how far a fifth of that gets."""
    ways = list_ways(members, count)
    size = int(SHARE * len(members))
    grid = np.arange(1, size + 1)
    found: dict[str, list[Array]] = {name: [] for name in ways}
    chance, best = [], []
    for draw in range(draws):
        candidates = draw_candidates(members, costs, shared, np.random.default_rng((1, draw)))
        chance.append(candidates.worth.mean())
        best.append(candidates.worth.max())
        for name, way in ways.items():
            path = list(way(candidates, np.random.default_rng((2, draw))))
            at = np.searchsorted([cost for cost, _ in path], grid + 1e-9) - 1
            found[name].append(np.where(at < 0, np.nan, np.array([worth for _, worth in path])[at]))
    full = np.array(found["random"])[:, -1]
    error = full.std(ddof=1) / RUNS**0.5
    target = full.mean() - error
    rows = []
    for name, values in found.items():
        table = np.array(values)
        means = np.array([column.mean() if np.isfinite(column).all() else np.nan for column in table.T])
        level = _find_lasting(means >= target)
        fifth = means[max(0, size // 5 - 1)]
        rows.append(
            {
                "way": name,
                "cost": None if level is None else int(grid[level]),
                "cheaper": None if level is None else float(size / grid[level]),
                "at a fifth": None if np.isnan(fifth) else float(fifth),
                "at its end": None if np.isnan(table[:, -1]).any() else float(table[:, -1].mean()),
            }
        )
    rows.sort(key=lambda row: (row["cost"] or 10**9, -(row["at its end"] or 0.0)))
    words = (
        f"{size} candidates in each of {draws} draws; trained in full, all of them, by one seed: "
        f"{full.mean():.2%} ± {error:.2%} (standard error of {RUNS} runs), so level is {target:.2%}; "
        f"a random one: {np.mean(chance):.2%}"
    )
    return rows, words


def main() -> None:
    """Replay and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rank", type=Path, help="output folder of effnas rank, with two seeds or more")
    parser.add_argument("--count", default="expansion_layers", help="the count of the combined way")
    parser.add_argument("--limit", type=float, default=1.0, help="the share of members, with the fewest MACs, to take")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--csv", type=Path, help="where to write the rows")
    args = parser.parse_args()

    members = pd.read_csv(args.rank / "members.csv").dropna(subset=["accuracy"])
    members = members[members["macs"] <= members["macs"].quantile(args.limit)].reset_index(drop=True)
    table = json.loads((args.rank / "summary.json").read_text())["rows"]
    costs = {row["shortcut"]: float(row["cost"]) for row in table if row["kind"] in ("shortcut", "count")}
    shared = {row["shortcut"]: float(row["trainings"]) for row in table if row["shortcut"].startswith("supernet")}
    rows, words = compare(members, costs, shared, args.count, args.draws)
    print(words + "\n")
    print("| way | level after | cheaper by | after a fifth | at its end |\n|---|---|---|---|---|")
    for row in rows:
        level = "never" if row["cost"] is None else f"{row['cost']} trainings"
        cheaper = "" if row["cheaper"] is None else f"{row['cheaper']:.1f} ×"
        fifth = "" if row["at a fifth"] is None else f"{row['at a fifth']:.2%}"
        end = "" if row["at its end"] is None else f"{row['at its end']:.2%}"
        print(f"| {row['way']} | {level} | {cheaper} | {fifth} | {end} |")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
