"""Every search algorithm of ours and the peers' on one oracle, with the same budgets and the same seeds.

Claims checked (issue 3), "best" being medians over the seeds:

- ``reward``: MnasNet's reward (T = 400 M MACs, w = −0.07) of ImageNet accuracies as ``accel_nasbench`` predicts them.
  ``predictor`` at 100 evaluations is at least the best of all others at 200, and in 8 of 10 seeds finds the best
  network known within 150. That one comes from 60 steepest ascents of the exact oracle and from all runs.
- ``noise``: the same with normal noise of 0.27 points on each accuracy, drawn by (seed, network, repeat). ``predictor``
  at 200 is ahead of every other at 400. A method is judged by the noise-free reward of the network that it names: of
  the highest value seen, as ``study.best_trial`` does, and for ``predictor`` of the highest of its ``estimates``.
- ``front``: accuracy against MACs, by hypervolume from the worst accuracy and the most MACs of 20,000 random members,
  as a share of the best front known (a Pareto local search of the exact oracle, joined with the fronts of all runs).
  ``predictor`` at 300 is at least the best peer at 1000, and at 50, 100 and 200 ahead of each at as many. Of
  ``front`` also in points × M MACs above 50 % and below 700 M MACs; there ``predictor`` has 9,250 at 100.
- ``tabular``, ``tabular_noise``, ``tabular_front``: the three again, all settings untouched, on another space (widths,
  kinds of block and resolutions to choose; 10,368 networks, T = their median MACs) that nothing was tuned on. The
  script writes the table with a made-up but plausible accuracy (:func:`accuracy_of`) of three trainings each, and
  :class:`effnas.evaluate.tabular.Tabular` reads it: their mean, or with noise a draw of one. All is known exactly.
- ``predictor`` takes at most 50 ms per proposal at 1,000 trials on one core. Algorithm time is the processor's, between
  two evaluations, which are not counted; the mean of the last 100 proposals; one thread.

What is called is in ``search_peers.py``. Runs are processes of one thread. Each is appended to ``runs.csv`` when it
ends, and what is there is not run again: an interrupted benchmark goes on, more seeds or methods add to it, ``--redo
METHOD`` runs a method anew. The report (``report.md``, also printed, and a figure a task) is of all that is there.

    python benchmarks/search.py [--archive PATH] [--methods …] [--tasks …] [--seeds 10] [--budget 1000] [--jobs 2]

Needs ``pip install nni pymoo cmaes`` for those peers; what is missing is skipped, with a line that says so. All of it
at the defaults takes hours on 2 cores (see README.md); ``--seeds 2 --budget 100 --tasks reward`` a few minutes.
"""

# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported, here and in every process of the pool

import argparse
import csv
import functools
import importlib.metadata
import itertools
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from record import find_commit
from search_peers import METHODS, Spent

from effnas.evaluate.accel_archive import benchmark_space
from effnas.evaluate.accel_nasbench import AccelNASBench
from effnas.evaluate.non_dominated import non_dominated
from effnas.evaluate.tabular import Tabular
from effnas.search.objective import MnasNetReward, Pareto
from effnas.space.cost import cost_batch
from effnas.space.space import SearchSpace

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EFFNAS_DATA") or ROOT.parent / "shared" / "data")
TASKS = ("reward", "noise", "front", "tabular", "tabular_noise", "tabular_front")
#: What the results depend on.
SOURCES = ("search", "space", "evaluate", "conf")
#: Of the tables.
BUDGETS = (100, 200, 300, 400, 1000)
#: Of the table of a front whose hypervolume is that above an accuracy and below a number of MACs, and of these two.
FRONT_BUDGETS = (50, 100, 200)
CORNER = (0.50, 700e6)
#: Where a run is looked at, and at its end.
CHECKPOINTS = (10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400, 500, 700, 1000)
#: Standard deviation of the accuracy of one network trained twice, as a fraction.
NOISE = 0.0027
#: Of the random members that set the reference point of the hypervolume.
REFERENCE = 20_000
COLUMNS = (
    *("task", "method", "seed", "evaluations", "value", "ms_per_proposal", "repeated"),
    *("run_seconds", "run", "commit", "versions", "machine"),
)


# -- oracles ------------------------------------------------------------------------------------------------


class Accel:
    """ImageNet accuracy as Accel-NASBench predicts it."""

    def __init__(self, archive: str, folder: Path) -> None:
        self.name = "accel_nasbench"
        self.space = benchmark_space()
        self.target = 400e6
        self._evaluator = AccelNASBench(archive)

    def accuracies(self, rows: Rows) -> Array:
        """Noise-free, shape (n,)."""
        return np.asarray(self._evaluator.predict(rows)[0])

    def noisy(self, row: Rows, exact: float, seed: int, repeat: int) -> float:
        """One training's."""
        rng = np.random.default_rng((seed, repeat, *map(int, row)))
        return exact + NOISE * float(rng.standard_normal())


class Table:
    """A fully enumerated space, looked up by the evaluator ``tabular``."""

    TRAININGS = 3

    def __init__(self, archive: str, folder: Path) -> None:
        block = {"block": "mbconv", "kernel_size": 3, "stride": 2}
        stages: list[dict[str, Any]] = [
            {**block, "block": ["ds", "mbconv"], "channels": 16, "expand_ratio": 3, "stride": 1},
            {**block, "channels": {"base": 32, "times": [0.75, 1.0, 1.25]}, "kernel_size": [3, 5], "expand_ratio": 4},
            {**block, "channels": 48, "repeats": [1, 2, 4], "expand_ratio": [3, 6]},
            {**block, "channels": {"base": 96, "times": [0.75, 1.0, 1.25]}, "repeats": 2, "se_ratio": [0.0, 0.25]},
            {**block, "channels": 160, "repeats": [1, 3], "kernel_size": 5, "expand_ratio": [2, 4, 6]},
        ]
        self.space = SearchSpace("benchmark_table", stages, resolution=[96, 128, 160, 192], num_classes=100)
        self.rows = np.array(list(itertools.product(*(range(len(c)) for c in self.space.choices.values()))), np.int64)
        macs = cost_batch(self.space.batch(self.rows)).macs
        self.target = float(np.median(macs))
        trained = accuracy_of(self.rows, [len(c) for c in self.space.choices.values()], macs, self.TRAININGS)
        self._means = {row.tobytes(): float(mean) for row, mean in zip(self.rows, trained.mean(axis=1), strict=True)}
        self.name = f"table_{zlib.crc32(trained.tobytes()):08x}"  # another, if accuracy_of is changed
        self._file = folder / f"{self.name}.csv"
        if not self._file.exists():
            partial = self._file.with_suffix(f".{os.getpid()}")
            with partial.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*self.space.choices, "accuracy"])
                for row, accuracies in zip(self.rows, trained, strict=True):
                    labels = [choices[i] for choices, i in zip(self.space.choices.values(), row, strict=True)]
                    writer.writerows([*labels, repr(float(accuracy))] for accuracy in accuracies)
            partial.replace(self._file)

    @functools.cached_property
    def _evaluators(self) -> tuple[Tabular, Tabular]:
        mean, draw = (Tabular(self._file, self.space, repeats=repeats) for repeats in ("mean", "draw"))
        vars(draw)["rows"] = mean.rows  # reading it takes seconds
        return mean, draw

    def _look_up(self, evaluator: Tabular, row: Rows, seed: int) -> float:
        architecture = self.space.build(self.space.decisions(row))
        return evaluator(architecture, seed=seed, report=lambda step, accuracy: None).accuracy

    def accuracies(self, rows: Rows) -> Array:
        """The means of the trainings, shape (n,); of one row by the evaluator."""
        if len(rows) == 1:
            return np.array([self._look_up(self._evaluators[0], rows[0], 0)])
        return np.array([self._means[row.tobytes()] for row in rows])

    def noisy(self, row: Rows, exact: float, seed: int, repeat: int) -> float:
        """One of the trainings."""
        return self._look_up(self._evaluators[1], row, seed * 1000 + repeat)


def accuracy_of(rows: Rows, sizes: Sequence[int], macs: NDArray[np.int64], trainings: int) -> Array:
    """A made-up top-1 of each training, shape (n, trainings): smooth, near-additive, not quite learnable.

    52 points + 14 points that saturate with the logarithm of MACs + for each decision up to some points with
    diminishing returns, three of ten the wrong way round + an interaction of 0.5 points (standard deviation) of each
    decision with the next + 0.25 points of each network's own + 0.27 points between a training and the mean of all.
    """
    rng = np.random.default_rng(20261125)
    points = 52 + 14 * (1 - np.exp(-0.9 * np.log(macs / macs.min())))
    for column, size in enumerate(sizes):
        gain = abs(rng.normal(0, 1.2)) * (1 - np.exp(-2 * np.arange(size) / (size - 1)))
        points += (gain[::-1] if rng.random() < 0.3 else gain)[rows[:, column]]
    for column, (size, following) in enumerate(itertools.pairwise(sizes)):
        table = rng.normal(0, 0.5, (size, following))
        points += (table - table.mean(axis=0) - table.mean(axis=1, keepdims=True))[rows[:, column], rows[:, column + 1]]
    points += rng.normal(0, 0.25, len(rows))
    spread = 100 * NOISE / math.sqrt(1 - 1 / trainings)  # so that a draw is NOISE away from their mean
    return np.asarray((points[:, None] + rng.normal(0, spread, (len(rows), trainings))) / 100)


# -- tasks and runs -----------------------------------------------------------------------------------------


@dataclass
class Task:
    """An oracle, what is searched for, and whether evaluations are noisy."""

    name: str
    oracle: Accel | Table

    def __post_init__(self) -> None:
        self.space = self.oracle.space
        self.front = self.name.endswith("front")
        self.noisy = self.name.endswith("noise")
        self.reward = MnasNetReward(target=self.oracle.target, w=-0.07)
        self.objective: Any = Pareto(metrics=("accuracy", "macs")) if self.front else self.reward
        self._exact: dict[bytes, tuple[float, float]] = {}

    @functools.cached_property
    def reference(self) -> tuple[float, float]:
        """The worst accuracy and the most MACs of random members."""
        rows = self.space.sample_indices(REFERENCE, np.random.default_rng(0))
        accuracies, macs = self.exact(rows)
        return float(accuracies.min()), float(macs.max())

    def exact(self, rows: Rows) -> tuple[Array, Array]:
        """Accuracy and MACs, each of shape (n,)."""
        return self.oracle.accuracies(rows), np.asarray(cost_batch(self.space.batch(rows)).macs, np.float64)

    def of(self, row: Rows) -> tuple[float, float]:
        """Accuracy and MACs of one network, remembered."""
        key = row.tobytes()
        if key not in self._exact:
            accuracies, macs = self.exact(row[None])
            self._exact[key] = float(accuracies[0]), float(macs[0])
        return self._exact[key]


@functools.cache
def task_of(name: str, archive: str, folder: Path) -> Task:
    """Once a process."""
    return Task(name, _oracle("tabular" if name.startswith("tabular") else "accel", archive, folder))


@functools.cache
def _oracle(name: str, archive: str, folder: Path) -> Accel | Table:
    return (Table if name == "tabular" else Accel)(archive, folder)


@dataclass
class Run:
    """One search: evaluates what the method proposes, and times the method between the evaluations."""

    task: Task
    seed: int
    budget: int
    rows: list[Rows] = field(default_factory=list)
    observed: list[float] = field(default_factory=list)
    exact: list[tuple[float, float]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    names: dict[int, int] = field(default_factory=dict)
    repeats: dict[bytes, int] = field(default_factory=dict)
    _since: float = math.nan

    def __call__(self, params: Mapping[str, Any]) -> tuple[float, ...]:
        """The values of the objective."""
        self.gaps.append(time.process_time() - self._since)
        if len(self.rows) == self.budget:
            raise Spent
        row = self.task.space.indices([params])[0]
        repeat = self.repeats.get(row.tobytes(), 0)
        self.repeats[row.tobytes()] = repeat + 1
        accuracy, macs = self.task.of(row)
        self.rows.append(row)
        self.exact.append((accuracy, macs))
        if self.task.noisy:
            accuracy = self.task.oracle.noisy(row, accuracy, self.seed, repeat)
        values = (accuracy, macs) if self.task.front else (accuracy * float(self.task.reward.factor(macs)),)
        self.observed.append(values[0])
        self._since = time.process_time()
        return values

    @property
    def is_checkpoint(self) -> bool:
        """Whether the run is looked at now."""
        return len(self.rows) in CHECKPOINTS or len(self.rows) == self.budget

    def name(self, best: Callable[[], int | None]) -> None:
        """The method names the best network so far, by the number of its evaluation; the time is not counted."""
        if self.task.noisy:
            start = time.process_time()
            if (found := best()) is not None:
                self.names[len(self.rows)] = found
            self._since += time.process_time() - start

    def table(self) -> list[dict[str, Any]]:
        """One record a checkpoint."""
        records = []
        for checkpoint in (*(n for n in CHECKPOINTS if n < self.budget), self.budget):
            count = min(checkpoint, len(self.rows))  # a method may have given up
            if self.task.front:
                value = hypervolume(self.exact[:count], self.task.reference)
            else:
                seen = self.observed[:count]
                accuracy, macs = self.exact[self.names.get(count, int(np.argmax(seen)))]
                value = accuracy * float(self.task.reward.factor(macs))
            gaps = self.gaps[max(1, count - 100) : count]  # the first one has the imports in it
            distinct = len({row.tobytes() for row in self.rows[:count]})
            ms = 1e3 * statistics.fmean(gaps)
            record = {"evaluations": checkpoint, "value": value, "ms_per_proposal": ms, "repeated": count - distinct}
            records.append(record)
        return records


def hypervolume(points: Iterable[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Of (accuracy, MACs), in units of the reference's MACs: what they dominate above the reference point."""
    worst, most = reference
    total = 0.0
    for accuracy, macs in sorted(points, key=lambda point: (-point[0], point[1])):
        if accuracy > worst and macs < most:  # from the most accurate down: each adds what is cheaper than all before
            total += (accuracy - worst) * (most - macs)
            most = macs
    return total / reference[1]


def perform(task: str, method: str, seed: int, budget: int, archive: str, folder: Path) -> tuple[Any, ...]:
    """One run in a process of the pool: its records, of a front all that was evaluated, and its seconds."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    run = Run(task_of(task, archive, folder), seed, budget)
    run.task.reference = tuple(known_of(run.task, folder)["reference"])  # not worked out again
    METHODS[method].run(run)
    return run.table(), run.exact if run.task.front else [], time.perf_counter() - start


# -- what is known ------------------------------------------------------------------------------------------


def neighbours(rows: Rows, sizes: Sequence[int]) -> Rows:
    """All that differ from one of the rows in one decision, each once."""
    found = []
    for column, size in enumerate(sizes):
        for step in range(1, size):
            moved = rows.copy()
            moved[:, column] = (moved[:, column] + step) % size
            found.append(moved)
    return np.unique(np.concatenate(found), axis=0)


def best_known(task: Task, starts: int = 60) -> dict[str, Any]:
    """The best reward, the front and the reference point of an oracle, found without counting evaluations."""
    space, sizes = task.space, [len(c) for c in task.space.choices.values()]
    directions = ("maximize", "minimize")
    if isinstance(task.oracle, Table):
        accuracies, macs = task.exact(task.oracle.rows)
        front = np.stack([accuracies, macs], axis=1)[non_dominated(np.stack([accuracies, macs], axis=1), directions)]
        best = float((accuracies * task.reward.factor(macs)).max())
        return {"reward": best, "front": front.tolist(), "reference": task.reference}
    rng = np.random.default_rng(1)
    best, known = -math.inf, dict[bytes, tuple[float, float]]()

    def look(rows: Rows) -> Array:
        new = np.array([row for row in rows if row.tobytes() not in known], np.int64).reshape(-1, len(sizes))
        if len(new):
            known.update((row.tobytes(), (a, m)) for row, a, m in zip(new, *task.exact(new), strict=True))
        return np.array([known[row.tobytes()] for row in rows])

    def reward(rows: Rows) -> Array:
        values = look(rows)
        return np.asarray(values[:, 0] * task.reward.factor(values[:, 1]))

    for row in space.sample_indices(starts, rng):
        value = -math.inf
        while True:
            moves = neighbours(row[None], sizes)
            values = reward(moves)
            if values.max() <= value:
                break
            value, row = float(values.max()), moves[int(values.argmax())]
        best = max(best, value)
    rows = space.sample_indices(2000, rng)
    expanded: set[bytes] = set()
    while len(fresh := [row for row in rows if row.tobytes() not in expanded]):  # Pareto local search
        expanded.update(row.tobytes() for row in fresh)
        rows = np.unique(np.concatenate([rows, neighbours(np.array(fresh), sizes)]), axis=0)
        rows = rows[non_dominated(look(rows), directions)]
    return {"reward": best, "front": look(rows).tolist(), "reference": task.reference}


def known_of(task: Task, folder: Path) -> dict[str, Any]:
    """:func:`best_known`, kept in a file."""
    file = folder / f"best_{task.oracle.name}.json"
    if not file.exists():
        print(f"looking for the best there is: {file}", file=sys.stderr)
        text = json.dumps(best_known(task))
        file.write_text(text)
    return dict(json.loads(file.read_text()))


# -- the benchmark ------------------------------------------------------------------------------------------


def versions() -> str:
    """Of what is compared."""
    names = ("effnas", "optuna", "nni", "pymoo", "cmaes", "numpy", "torch")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join([f"Python {platform.python_version()}", *found])


def machine() -> str:
    """The class of machine."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


Key = tuple[str, str, int]


def read_runs(folder: Path) -> dict[Key, list[dict[str, Any]]]:
    """The records of the last run of each task, method and seed, by checkpoint."""
    file, found = folder / "runs.csv", dict[Key, list[dict[str, Any]]]()
    if file.exists():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                record: dict[str, Any] = dict(row)
                for name in ("value", "ms_per_proposal", "run_seconds"):
                    record[name] = float(row[name])
                for name in ("seed", "evaluations", "repeated"):
                    record[name] = int(row[name])
                key = (row["task"], row["method"], record["seed"])
                if key in found and found[key][0]["run"] != row["run"]:
                    del found[key]
                found.setdefault(key, []).append(record)
    return found


def perform_all(jobs: list[tuple[str, str, int, int]], options: argparse.Namespace) -> None:
    """Run them, ``options.jobs`` at a time, and append each when it ends."""
    folder, archive = options.output, str(options.archive)
    runs, fronts = folder / "runs.csv", folder / "fronts.jsonl"
    shared = {"commit": find_commit(*SOURCES), "versions": versions(), "machine": machine()}
    if not runs.exists():
        runs.write_text(",".join(COLUMNS) + "\n")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        futures = {pool.submit(perform, *job, archive, folder): job for job in jobs}
        for number, future in enumerate(as_completed(futures), start=1):
            task, method, seed, _ = futures[future]
            where = f"[{number}/{len(jobs)}] {task} {method} seed {seed}"
            try:
                records, evaluated, seconds = future.result()
            except Exception as error:  # one method's failure is not the others'
                print(f"{where}: failed: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            last = records[-1]
            print(f"{where}: {last['value']:.5f} at {last['evaluations']}, {seconds:.1f} s", file=sys.stderr)
            stamp = {"task": task, "method": method, "seed": seed, "run": f"{time.time():.2f}", **shared}
            with runs.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writerows({**record, "run_seconds": round(seconds, 2), **stamp} for record in records)
            if evaluated:
                with fronts.open("a") as file:
                    line = {"task": task, "method": method, "seed": seed, "evaluated": evaluated}
                    file.write(json.dumps(line) + "\n")


# -- the report ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """Of one task: the curves, method → seed → evaluations → value, and what else the last records of runs say."""

    task: str
    best: float
    curves: dict[str, dict[int, dict[int, float]]]
    ms: dict[str, dict[int, list[float]]]
    repeated: dict[str, list[float]]

    def at(self, method: str, budget: int) -> list[float]:
        """The values of all seeds at a budget, or at the largest below it that the method is limited to."""
        found = []
        for curve in self.curves[method].values():
            last = max(curve)
            if budget in curve:
                found.append(curve[budget])
            elif last < budget and METHODS[method].slow:
                found.append(curve[last])
        return found

    def median(self, method: str, budget: int) -> float:
        """Not a number where no seed got so far."""
        values = self.at(method, budget)
        return statistics.median(values) if values else math.nan


def results_of(task: str, runs: Mapping[Key, list[dict[str, Any]]], known: Mapping[str, Any], folder: Path) -> Results:
    """A front's hypervolumes become shares of the best front known."""
    mine = {key[1:]: records for key, records in runs.items() if key[0] == task}
    best = float(known["reward"])
    if task.endswith("front"):
        points = [tuple(point) for point in known["front"]]
        if (file := folder / "fronts.jsonl").exists():
            lines = map(json.loads, file.read_text().splitlines())
            points += [tuple(point) for line in lines if line["task"] == task for point in line["evaluated"]]
        best = hypervolume(points, tuple(known["reference"]))
    else:
        same = [key for key in runs if key[0].startswith("tabular") == task.startswith("tabular")]
        values = [record["value"] for key in same if not key[0].endswith("front") for record in runs[key]]
        best = max(best, *values)
    curves: dict[str, dict[int, dict[int, float]]] = {}
    ms: dict[str, dict[int, list[float]]] = {}
    repeated: dict[str, list[float]] = {}
    for (method, seed), records in sorted(mine.items()):
        if method not in METHODS:
            continue
        scale = best if task.endswith("front") else 1.0
        curves.setdefault(method, {})[seed] = {r["evaluations"]: r["value"] / scale for r in records}
        repeated.setdefault(method, []).append(records[-1]["repeated"] / records[-1]["evaluations"])
        for r in records:
            ms.setdefault(method, {}).setdefault(r["evaluations"], []).append(r["ms_per_proposal"])
    return Results(task, 1.0 if task.endswith("front") else best, curves, ms, repeated)


def shown(values: Sequence[float], digits: int) -> str:
    """Median and quartiles."""
    if not values:
        return "–"
    low, middle, high = (f"{x:.{digits}f}".removeprefix("0") for x in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{middle} ({low}–{high})"


def table_of(results: Results) -> str:
    """Markdown: a row a method, the best first."""
    digits = 3 if results.task.endswith("front") else 4
    budgets = [
        b
        for b in sorted({50, *BUDGETS} if digits == 3 else BUDGETS)
        if any(b in c for curves in results.curves.values() for c in curves.values())
    ]
    budgets = budgets or [max(n for curves in results.curves.values() for c in curves.values() for n in c)]
    ranked = sorted(results.curves, key=lambda m: [-np.nan_to_num(results.median(m, b)) for b in budgets[::-1]])
    exact = not results.task.endswith(("front", "noise"))
    head = [
        "method",
        "seeds",
        *map(str, budgets),
        "repeated",
        "ms per proposal",
        *(["best known by 150"] if exact else []),
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for method in ranked:
        curves = results.curves[method].values()
        last = max(results.ms[method])
        cells = [method, str(len(curves))]
        cells += [shown([c[b] for c in curves if b in c], digits) for b in budgets]
        cells.append(f"{statistics.median(results.repeated[method]):.0%}")
        cells.append(f"{statistics.median(results.ms[method][last]):.3g} at {last}")
        if exact:
            found = [value >= results.best - 1e-9 for value in results.at(method, 150)]
            cells.append(f"{sum(found)} of {len(found)}" if found else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def corner_table(task: str, folder: Path) -> str:
    """Markdown: the hypervolume above 50 % and below 700 M MACs, in points × M MACs, which needs no best front."""
    runs: dict[str, dict[int, list[tuple[float, float]]]] = {}
    if (file := folder / "fronts.jsonl").exists():
        for line in map(json.loads, file.read_text().splitlines()):  # the last run of a seed counts
            if line["task"] == task and line["method"] in METHODS:
                runs.setdefault(line["method"], {})[line["seed"]] = [tuple(point) for point in line["evaluated"]]
    scale = 100 * CORNER[1] / 1e6
    found: dict[str, list[list[float]]] = {}
    for method, seeds in runs.items():
        for budget in FRONT_BUDGETS:
            enough = [points[:budget] for points in seeds.values() if len(points) >= budget]
            found.setdefault(method, []).append([scale * hypervolume(points, CORNER) for points in enough])
    lines = [f"| method | seeds | {' | '.join(map(str, FRONT_BUDGETS))} |", "|---" * (2 + len(FRONT_BUDGETS)) + "|"]
    for method in sorted(found, key=lambda m: -statistics.median(found[m][1] or [0.0])):
        cells = [shown(values, 0) for values in found[method]]
        lines.append(f"| {method} | {len(runs[method])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def goals_of(results: Results) -> list[str]:
    """What issue 3 asks of ``predictor``, judged; nothing where it or the budgets are not there."""
    ours = "predictor"
    if ours not in results.curves:
        return []

    def against(mine: int, theirs: int, peers: bool = False) -> list[str]:
        others = {
            m: results.median(m, theirs)
            for m in results.curves
            if m != ours and not (peers and METHODS[m].group == "ours") and results.at(m, theirs)
        }
        if not others or not results.at(ours, mine):
            return []
        rival = max(others, key=others.__getitem__)
        value = results.median(ours, mine)
        verdict = "met" if value >= others[rival] else "not met"
        who = "peer" if peers else "other"
        return [f"{ours} at {mine}: {value:.5f}; the best {who} at {theirs}: {others[rival]:.5f} ({rival}): {verdict}"]

    found = []
    if results.task.endswith("front"):
        found += against(300, 1000, peers=True)
        for budget in FRONT_BUDGETS:
            found += against(budget, budget, peers=True)
    elif results.task.endswith("noise"):
        found += against(200, 400)
    else:
        found += against(100, 200)
        if values := results.at(ours, 150):
            count = sum(value >= results.best - 1e-9 for value in values)
            verdict = "met" if count >= 0.8 * len(values) else "not met"
            found.append(f"{ours} has the best network known at 150 in {count} of {len(values)} seeds: {verdict}")
    if times := results.ms[ours].get(1000):
        verdict = "met" if statistics.median(times) <= 50 else "not met"
        found.append(f"{ours} takes {shown(times, 1)} ms per proposal at 1000: {verdict}")
    return found


TITLES = {
    "reward": "Reward on the ImageNet surrogate",
    "noise": "Reward on the ImageNet surrogate with noise of 0.27 points",
    "front": "Accuracy/MACs front on the ImageNet surrogate",
    "tabular": "Reward on a tabular space that nothing was tuned on",
    "tabular_noise": "Reward on that tabular space, one training drawn of three",
    "tabular_front": "Accuracy/MACs front on that tabular space",
}
#: In the order of METHODS but for the baseline: a method has its colour in every figure.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#8C6D00", "#F0B800", "#B22222", "#56B4E9", "#4B5FC1")
COLOURS += ("#3B7A57", "#8FB339", "#7F3C8D", "#E7298A", "#B07AA1", "#17A2A2", "#5D4037")


def draw(results: Results, file: Path) -> None:
    """Best so far, medians with the quartiles as bands: ours on the left, the peers on the right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    coloured = [method for method in METHODS if METHODS[method].group != "baseline"]
    colours = dict(zip(coloured, itertools.cycle(COLOURS), strict=False))
    by_group: dict[str, list[str]] = {"ours": [], "peer": [], "baseline": []}
    for method in METHODS:
        if method in results.curves:
            by_group[METHODS[method].group].append(method)
    panels = [
        ("Ours", by_group["ours"], by_group["baseline"]),
        ("Peers", by_group["peer"], [*by_group["ours"][:1], *by_group["baseline"]]),
    ]
    bands = {}
    for method, curves in results.curves.items():
        counts = sorted(set.intersection(*(set(curve) for curve in curves.values())))
        values = np.array([[curve[n] for n in counts] for curve in curves.values()])
        bands[method] = np.array(counts), np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    ends = [band[1, -1] for _, band in bands.values()]
    starts = [band[1, np.searchsorted(counts, 30).clip(max=len(counts) - 1)] for counts, band in bands.values()]
    high = max(results.best, *ends)
    low = min(float(np.median(starts)), min(ends))
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.2), sharey=True, layout="constrained")
    for axis, (title, methods, background) in zip(axes, panels, strict=True):
        shades = {method: colours[method] for method in methods} | dict.fromkeys(background, "#999999")
        shades |= {method: colours[method] for method in background if METHODS[method].group == "ours"}
        labels = []
        for method, colour in shades.items():
            counts, band = bands[method]
            dashed = method in background
            style = {"color": colour, "linestyle": (0, (4, 2)) if dashed else "-"}
            axis.plot(counts, band[1], linewidth=2.4 if method == "predictor" else 1.5, **style)
            if not dashed:
                axis.fill_between(counts, band[0], band[2], color=colour, alpha=0.13, linewidth=0)
            labels.append([band[1, -1], method, colour, counts[-1]])
        axis.axhline(results.best, color="black", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", xlabel="evaluations", title=title)
        axis.set_ylim(low - 0.02 * (high - low), high + 0.04 * (high - low))
        right = max(counts[-1] for counts, _ in bands.values())
        axis.set_xlim(10, right)
        ticks = [n for n in (10, 20, 50, 100, 200, 500, 1000) if n <= right]
        axis.set_xticks(ticks, map(str, ticks))
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        for value, method, colour, last in labels:
            if last < right:  # where it ends
                axis.annotate(f" {_said(method)}", (last, value), color=colour, fontsize=9, va="bottom")
        labels = [label for label in labels if label[3] == right]
        for (value, method, colour, last), place in zip(
            labels, _spread([label[0] for label in labels], 0.045 * (high - low), high), strict=True
        ):
            line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6}
            where = {"xytext": ((right / 10) ** 0.02 * right, place), "va": "center", "annotation_clip": False}
            axis.annotate(_said(method), (last, value), color=colour, fontsize=9, arrowprops=line, **where)
    axes[0].set_ylabel("hypervolume, share of the best known" if results.task.endswith("front") else "reward")
    axes[0].annotate("best known", (11, results.best), xytext=(0, 2), textcoords="offset points", fontsize=8)
    figure.suptitle(f"{TITLES[results.task]}: medians and quartiles of {max(map(len, results.curves.values()))} seeds")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _said(method: str) -> str:
    return method.replace("_", " ")


def _spread(values: Sequence[float], gap: float, top: float) -> list[float]:
    """Places for labels: near their values, at least a gap apart, none above the top."""
    places = np.array(values, float)
    order = np.argsort(places)
    for _ in range(1000):
        for a, b in itertools.pairwise(order):
            if (lack := gap - (places[b] - places[a])) > 1e-12:
                places[a] -= lack / 2
                places[b] += lack / 2
        places[order[-1:]] = np.minimum(places[order[-1:]], top)
    return list(places)


def report(options: argparse.Namespace) -> None:
    """Print and write the tables and the goals, draw the figures."""
    runs = read_runs(options.output)
    stamps = {f"{r['versions']}; {r['machine']}" for records in runs.values() for r in records}
    commits = sorted({r["commit"] for records in runs.values() for r in records})
    parts = ["# Search algorithms, medians (quartiles)", *sorted(stamps), f"effnas at {', '.join(commits)}"]
    for name in TASKS:
        if not any(key[0] == name for key in runs):
            continue
        task = task_of(name, str(options.archive), options.output)
        results = results_of(name, runs, known_of(task, options.output), options.output)
        parts += [f"## {TITLES[name]} (`{name}`)", table_of(results)]
        if name == "front":
            parts += ["In points × M MACs above 50 % and below 700 M MACs:", corner_table(name, options.output)]
        if not name.endswith("front"):
            parts.append(f"The best network known has {results.best:.5f}.")
        parts.append("\n".join(f"- {goal}" for goal in goals_of(results)))
        draw(results, options.output / f"{name}.png")
    text = "\n\n".join(part for part in parts if part) + "\n"
    (options.output / "report.md").write_text(text)
    print(text)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=DATA / "accel_nasbench", help="Accel-NASBench as distributed")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=1000, help="evaluations")
    parser.add_argument("--slow-budget", "--gp-budget", type=int, default=200, help="of optuna_gp")
    parser.add_argument("--slow-seeds", type=int, default=None, help="of optuna_gp; as many as the others if left out")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--redo", nargs="+", choices=METHODS, default=[], metavar="METHOD", help="run again")
    parser.add_argument("--report", action="store_true", help="of what is there; nothing is run")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "benchmark_search")
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.report:
        done = read_runs(options.output)
        jobs = []
        for method in options.methods:
            if missing := METHODS[method].missing():
                print(f"skipped: {method}: no module {missing}", file=sys.stderr)
        usable = [method for method in options.methods if not METHODS[method].missing()]
        for task, seed, method in itertools.product(options.tasks, range(options.seeds), usable):
            budget = min(options.budget, options.slow_budget) if METHODS[method].slow else options.budget
            if METHODS[method].slow and options.slow_seeds is not None and seed >= options.slow_seeds:
                continue
            last = done.get((task, method, seed), [{"evaluations": 0}])[-1]["evaluations"]
            if METHODS[method].serves(task) and (last < budget or method in options.redo):
                jobs.append((task, method, seed, budget))
        for task in options.tasks:  # in this process, before the others want them
            known_of(task_of(task, str(options.archive), options.output), options.output)
        if jobs:
            perform_all(jobs, options)
    report(options)


if __name__ == "__main__":
    main()
