"""What a search loses when many trials run at once: a simulation on the oracles of ``search.py``.

Claim checked: with 32 trials running, ``predictor`` keeps at least four fifths of its lead over the next best method at
as many evaluations. Nothing waits: a clock jumps from the end of one training to the next. At each end the study is
told and the sampler asked again, with the other trials running in the study, as the real loop does. Methods are those
of ``conf/algorithm`` (TPE with its constant liar, Optuna's Gaussian process, which does not know what runs).

How long a training takes decides who is told when. The law is that of 120 real trainings on CIFAR-10 (``effnas rank``,
13.6 to 84.2 s each on 2 cores of an AMD EPYC): proportional to MACs^.54, with a residual spread of .32 in the natural
logarithm. A network that was proposed before takes no time: its result is reused.

A table a task has the noise-free reward of the best network, or the hypervolume of the front as a share of the largest
of all runs, at some numbers of finished trials, by trials at once: medians (lowest and highest seed). Each run is
appended to ``results/parallel-quality.csv`` when it ends and not made again; ``--report`` only prints.

``"predictor, all seen"`` is shown all trials of a long study; see docs/search.md, twenty thousand trials.

    python benchmarks/parallel_quality.py [--tasks reward front tabular tabular_front] [--methods …] [--running 1 8 …]
        [--seeds 5] [--budget 1000] [--minutes 45] [--report]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import heapq
import itertools
import math
import os
import statistics
import sys
import time
import unittest.mock
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from record import find_commit

from effnas.search import remembered, seeded
from effnas.search.algorithms.evolution import Evolution
from effnas.search.algorithms.infeasible import GP
from effnas.search.algorithms.local import LocalSearch
from effnas.search.algorithms.member_facts import SpaceKnown
from effnas.search.algorithms.predictor import Predictor
from effnas.search.seeded import Seeded
from search import DATA, ROOT, Task, hypervolume, machine, task_of

FILE = ROOT / "benchmarks" / "results" / "parallel-quality.csv"
COLUMNS = ("task", "method", "running", "budget", "seed", "finished", "value", "hours", "cpu_seconds", "commit")
CHECKPOINTS = (50, 100, 200, 400, 700, 1000, 1500, 2000)
RUNNING = (1, 8, 32, 128, 1000)
#: Seconds of a training: of a network of the median MACs, the exponent of MACs, the spread of the logarithm.
MEDIAN, EXPONENT, SPREAD = 40.3, 0.54, 0.32
#: A method that sees all trials of a long study: up to 1,000 it is ``predictor``.
ALL_SEEN = "predictor, all seen"
#: Evaluations after which a method is not run on: a proposal takes too long.
LIMITS = {"gp": 200}

METHODS: dict[str, Callable[[Task], Callable[..., BaseSampler]]] = {
    "predictor": lambda task: functools.partial(Predictor, known=SpaceKnown(task.space, task.objective)),
    ALL_SEEN: lambda task: functools.partial(Predictor, known=SpaceKnown(task.space, task.objective)),
    "tpe": lambda task: functools.partial(TPESampler, multivariate=True, constant_liar=True),
    "gp": lambda task: functools.partial(GP, deterministic_objective=False, warn_independent_sampling=False),
    "evolution": lambda task: Evolution,
    "local": lambda task: LocalSearch,
    "random": lambda task: RandomSampler,
}


@contextlib.contextmanager
def see_all() -> Iterator[None]:
    """No sampler is shown a part of a study."""
    with contextlib.ExitStack() as stack:
        for module in (remembered, seeded):
            stack.enter_context(unittest.mock.patch.object(module, "MOST", 10**9))
        yield


def simulate(task: Task, method: str, running: int, seed: int, budget: int) -> list[dict[str, Any]]:
    """One search; a record a checkpoint."""
    start = time.process_time()
    sampler = Seeded(METHODS[method](task), seed)
    study = optuna.create_study(sampler=sampler, directions=task.objective.directions)
    rng = np.random.default_rng((seed, running))
    middle = float(np.median(task.exact(task.space.sample_indices(256, np.random.default_rng(0)))[1]))
    clock, asked = 0.0, 0
    open_: list[tuple[float, int, optuna.Trial, tuple[float, float]]] = []
    ends: dict[bytes, float] = {}
    points: list[tuple[float, float]] = []
    records = []
    while len(points) < budget:
        while len(open_) < running and asked < budget:
            trial = study.ask(dict(task.space.distributions))
            row = task.space.indices([trial.params])[0]
            accuracy, macs = task.of(row)
            took = MEDIAN * (macs / middle) ** EXPONENT * math.exp(SPREAD * rng.standard_normal())
            end = ends.setdefault(row.tobytes(), clock + took)  # one that was proposed before ends with the other
            heapq.heappush(open_, (max(clock, end), asked, trial, (accuracy, macs)))
            asked += 1
        clock, _, trial, (accuracy, macs) = heapq.heappop(open_)
        points.append((accuracy, macs))
        study.tell(trial, (accuracy, macs) if task.front else accuracy * float(task.reward.factor(macs)))
        if len(points) in CHECKPOINTS or len(points) == budget:
            value = max(accuracy * float(task.reward.factor(macs)) for accuracy, macs in points)
            if task.front:
                value = hypervolume(points, task.reference)
            record = {"finished": len(points), "value": value, "hours": round(clock / 3600, 3)}
            records.append(record | {"cpu_seconds": round(time.process_time() - start, 1)})
    return records


def read_records() -> list[dict[str, Any]]:
    """What is on file, numbers as numbers."""
    if not FILE.exists():
        return []
    with FILE.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row |= {name: int(row[name]) for name in ("running", "budget", "seed", "finished")}
        row |= {name: float(row[name]) for name in ("value", "hours", "cpu_seconds")}
    return rows


def show(values: Iterable[float], digits: int) -> str:
    """Median (lowest–highest), without the zero before the point."""
    numbers = sorted(values)
    if not numbers:
        return "–"
    low, middle, high = (
        f"{x:.{digits}f}".removeprefix("0") for x in (numbers[0], statistics.median(numbers), numbers[-1])
    )
    return f"{middle} ({low}–{high})" if len(numbers) > 1 else middle


def report(records: list[dict[str, Any]]) -> None:
    """Print the tables, and what is left of the lead; of several runs the shortest that has as many trials counts."""
    records = sorted(records, key=lambda r: -int(r["budget"]))
    for task in dict.fromkeys(r["task"] for r in records):
        mine = [r for r in records if r["task"] == task]
        front = task.endswith("front")
        scale = max(r["value"] for r in mine) if front else 1.0
        for finished in sorted({r["finished"] for r in mine}):
            places = sorted({r["running"] for r in mine})
            values: dict[tuple[str, int], dict[int, float]] = {}
            for r in mine:
                if r["finished"] == finished:
                    values.setdefault((r["method"], r["running"]), {})[r["seed"]] = r["value"] / scale
            print(f"\n### {task}, {finished} finished trials\n")
            print(f"| method | {' | '.join(f'{n} at once' for n in places)} |\n|{'---|' * (1 + len(places))}")
            for method in [m for m in METHODS if any(m == name for name, _ in values)]:
                cells = [show(values.get((method, n), {}).values(), 3 if front else 4) for n in places]
                print(f"| {method} | {' | '.join(cells)} |")
            leads = {}
            for n in places:
                middle = {m: statistics.median(values[m, n].values()) for m in METHODS if (m, n) in values}
                others = {m: v for m, v in middle.items() if m not in ("predictor", ALL_SEEN)}
                if "predictor" in middle and others:
                    rival = max(others, key=others.__getitem__)
                    leads[n] = (middle["predictor"] - others[rival], rival)
            said = [f"{n}: {lead:+.4f} ({rival})" for n, (lead, rival) in leads.items()]
            print(f"\nlead of predictor over the next best, by trials at once: {'; '.join(said)}")
    sys.stdout.flush()


def main() -> None:
    """Run what is not on file, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = ("reward", "front", "tabular", "tabular_front")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=["reward", "front"])
    usual = [method for method in METHODS if method != ALL_SEEN]
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=usual)
    parser.add_argument("--running", nargs="+", type=int, default=list(RUNNING))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no run is begun")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--archive", type=Path, default=DATA / "accel_nasbench")
    parser.add_argument("--folder", type=Path, default=Path("outputs") / "benchmark_search", help="of the oracles")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True, exist_ok=True)
    of_length = sorted(read_records(), key=lambda r: int(r["budget"]))
    done = {(r["task"], r["method"], r["running"], r["seed"]): r["budget"] for r in of_length}
    begun, sha = time.monotonic(), find_commit()
    jobs = itertools.product(range(options.seeds), options.tasks, options.running, options.methods)
    for seed, name, running, method in [] if options.report else jobs:
        budget = min(options.budget, LIMITS.get(method, options.budget))
        if done.get((name, method, running, seed), 0) >= budget or time.monotonic() - begun > 60 * options.minutes:
            continue
        task = task_of(name, str(options.archive), options.folder)
        stamp = {"task": name, "method": method, "running": running, "budget": budget, "seed": seed, "commit": sha}
        with see_all() if method == ALL_SEEN else contextlib.nullcontext():
            records = simulate(task, method, running, seed, budget)
        new = not FILE.exists()
        with FILE.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows({**stamp, **record} for record in records)
        print(stamp, records[-1], file=sys.stderr, flush=True)
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    report(read_records())


if __name__ == "__main__":
    main()
