"""What a prior is worth: `predictor` begun around a good network, around a bad one, and without any.

Claims checked: a good prior is ahead of none from the first evaluation on; a bad one is made up for within about ten
evaluations. On the tasks ``reward`` and ``front`` of ``search.py``, with its oracle, its seeds and its measures. The
good network is EfficientNet-B0, which a user would name; the bad one the member with the least reward of 20,000 random
ones. "Behind by" is the number of evaluations more than without a prior that the median needs to get as far.

    python benchmarks/prior.py [--archive PATH] [--seeds 10] [--budget 60] [--csv benchmarks/results/prior.csv]

Each run is appended to the CSV when it ends, and what is there is not run again. About four minutes on one core.
"""

# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import csv
import itertools
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from record import find_commit
from search_peers import in_study

from effnas import load_architecture
from effnas.search.algorithms.known_network import locate_network
from effnas.search.algorithms.member_facts import SpaceKnown
from effnas.search.algorithms.predictor import Predictor
from effnas.search.seeded import Seeded
from search import DATA, REFERENCE, ROOT, SOURCES, Run, Task, hypervolume, machine, shown, task_of, versions

PRIORS = ("none", "good", "bad")
CHECKPOINTS = (1, 3, 5, 10, 15, 20, 30, 40, 60)
COLUMNS = ("task", "prior", "seed", "values", "commit", "versions", "machine")


def known(task: Task, prior: str) -> dict[str, Any] | None:
    """The decisions of the network that the search begins around."""
    if prior == "none":
        return None
    if prior == "good":
        return locate_network(task.space, load_architecture("efficientnet_b0")).decisions
    rows = task.space.sample_indices(REFERENCE, np.random.default_rng(0))
    accuracies, macs = task.exact(rows)
    return dict(task.space.decisions(rows[int(np.argmin(accuracies * task.reward.factor(macs)))]))


def perform(task: Task, prior: str, seed: int, budget: int) -> list[float]:
    """One search; the best reward, or the hypervolume, after each evaluation."""
    run = Run(task, seed, budget)
    facts = SpaceKnown(task.space, task.objective)
    sampler = Seeded(partial(Predictor, known=facts, prior=known(task, prior)), seed)
    in_study(run, sampler, task.space.distributions)
    if task.front:
        return [hypervolume(run.exact[:n], task.reference) for n in range(1, budget + 1)]
    rewards = [accuracy * float(task.reward.factor(macs)) for accuracy, macs in run.exact]
    return list(itertools.accumulate(rewards, max))


def read(file: Path) -> dict[tuple[str, str, int], dict[int, float]]:
    """The curves in the CSV."""
    found: dict[tuple[str, str, int], dict[int, float]] = {}
    if file.exists():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                values = map(float, row["values"].split())
                found[row["task"], row["prior"], int(row["seed"])] = dict(enumerate(values, start=1))
    return found


def behind(median: list[float], none: list[float]) -> int:
    """The most evaluations more than without a prior that it takes to get as far, after the tenth."""
    reached = [next((n for n, value in enumerate(median) if value >= goal), len(median)) for goal in none]
    return max(0, *(there - here for here, there in enumerate(reached) if here >= 10))


def report(curves: dict[tuple[str, str, int], dict[int, float]]) -> str:
    """Markdown: a row a prior."""
    parts = []
    for task in dict.fromkeys(key[0] for key in curves):
        digits = 4
        parts.append(f"| {task} | seeds | {' | '.join(map(str, CHECKPOINTS))} | behind by |")
        parts.append("|" + "---|" * (len(CHECKPOINTS) + 3))
        medians = {}
        for prior in PRIORS:
            mine = [curve for key, curve in curves.items() if key[:2] == (task, prior)]
            if not mine:
                continue
            last = min(max(curve) for curve in mine)
            medians[prior] = [statistics.median(curve[n] for curve in mine) for n in range(1, last + 1)]
            cells = [shown([c[n] for c in mine if n in c], digits) for n in CHECKPOINTS]
            lag = "–" if prior == "none" else str(behind(medians[prior], medians["none"]))
            parts.append(f"| {prior} | {len(mine)} | {' | '.join(cells)} | {lag} |")
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=DATA / "accel_nasbench", help="Accel-NASBench as distributed")
    parser.add_argument("--tasks", nargs="+", choices=("reward", "front"), default=["reward", "front"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=60, help="evaluations")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "results" / "prior.csv")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    done = read(options.csv)
    if not options.csv.exists():
        options.csv.write_text(",".join(COLUMNS) + "\n")
    stamp = {"commit": find_commit(*SOURCES), "versions": versions(), "machine": machine()}
    for seed, name, prior in itertools.product(range(options.seeds), options.tasks, PRIORS):
        if len(done.get((name, prior, seed), {})) >= options.budget:
            continue
        values = perform(task_of(name, str(options.archive), options.csv.parent), prior, seed, options.budget)
        with options.csv.open("a", newline="") as file:
            run = {"task": name, "prior": prior, "seed": seed, "values": " ".join(f"{value:.5f}" for value in values)}
            csv.DictWriter(file, COLUMNS).writerow({**run, **stamp})
    print(report(read(options.csv)))


if __name__ == "__main__":
    main()
