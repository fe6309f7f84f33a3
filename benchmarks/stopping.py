"""How many epochs a search saves by stopping candidates early, and how that compares with the peers.

Claims checked: at equal epochs spent, ``pruner=curve`` with the default algorithm has a larger hypervolume of accuracy
and MACs than without stopping, than Optuna's GPSampler with both objectives (logEHVI), and than the multi-objective
ASHA of NePS and of Syne Tune; without stopping it takes 3 times the epochs to come as far.

- ``curves``: 50 epochs on networks of Accel-NASBench's space, without training. The last epoch's accuracy is what
  ``accel_nasbench`` predicts. The curves before it are made up (:class:`Curves`): two exponentials and the fall of an
  annealed learning rate, no power law; their amplitudes and rates differ from network to network so that on 3,000
  random members the accuracy on held-out images after 10 epochs has Kendall's τ = .65 with the last, and that on
  training images .77, as measured on public data.
- ``digits``: real trainings of 9 epochs on the digits of scikit-learn, in the space ``tiny``.

Only candidates that were trained to the end count, each from when it was done. Epochs are counted by the evaluator:
what a promoted candidate had already is not spent again. Peers run in processes of their own (``stopping_peers.py``),
in environments of their own (``--neps PYTHON``, ``--syne-tune PYTHON``: ``pip install neural-pipeline-search``,
``pip install syne-tune``), one thread each, at their defaults, with the same rungs.

A run is appended to ``runs.csv`` when it ends, and what is there is not run again.

    python benchmarks/stopping.py [--task curves] [--methods …] [--seeds 10] [--epochs 2500] [--report]
"""

# ruff: noqa: E402

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported

import argparse
import contextlib
import csv
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import GPSampler, RandomSampler
from record import find_commit
from scipy.stats import kendalltau

from effnas import load_space, run_search
from effnas.evaluate.accel_archive import benchmark_space
from effnas.evaluate.accel_nasbench import AccelNASBench
from effnas.evaluate.evaluation import Evaluation, Report, Stopped
from effnas.evaluate.kept_weights import name_checkpoint
from effnas.search.algorithms.predictor import Predictor
from effnas.search.objective import Pareto
from effnas.search.stopping.halving import AsynchronousHalving
from effnas.space.cost import cost, cost_batch
from search import SOURCES, hypervolume, machine, versions

Array = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EFFNAS_DATA") or ROOT.parent / "shared" / "data")
EPOCHS = {"curves": 50, "digits": 9}
#: The first rung, and how many times as far each is as the one before.
RUNGS = {"curves": (2, 3), "digits": (1, 3)}
#: Rank correlations after 10 epochs that the curves are made to have, on held-out and on training images.
TAUS = (0.65, 0.77)
#: Random members that they are made on, and that set the reference point.
MEMBERS = 3000
SEARCH_PEERS = ("neps_moasha", "syne_tune_moasha")
COLUMNS = ("task", "method", "seed", "spent", "hypervolume", "accuracy", "complete", "run_seconds", "commit")


# -- made-up curves -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curves:
    """Learning curves of networks whose last accuracy is known.

    Held-out accuracy after epoch t of T: ``last − d·(s(t) − s(T))``, where ``s(t) = .75·e^{−k·t} + .25·e^{−t/20} +
    .3·cos²(π·t / 2T)`` falls in two exponentials and with the annealed learning rate; log k and log d vary normally
    from network to network, and every epoch has noise that dies out to the last. Training accuracy is the same of
    another draw, half of whose variance is shared, and it ends higher by an amount that varies.

    Args:
        spread: standard deviation of the logarithms, on held-out and on training images; larger ones mix the ranks up.
    """

    spread: tuple[float, float]
    epochs: int = 50

    def draw(self, row: NDArray[np.int64], last: float) -> tuple[Array, Array]:
        """Accuracies of one network after each epoch, on held-out and on training images."""
        rng = np.random.default_rng([7, *map(int, row)])
        steps = np.arange(1, self.epochs + 1)
        shared, own = rng.standard_normal(3), rng.standard_normal((2, 3))
        found = []
        for kind, spread in enumerate(self.spread):
            drawn = spread * np.sqrt(0.5) * (shared + own[kind])
            rate, depth = 0.25 * np.exp(drawn[0]), 0.45 * np.exp(0.35 * drawn[1])
            end = last if kind == 0 else 0.9 * last + 0.14 + 0.004 * drawn[2]
            wave = np.zeros(self.epochs)
            for t in range(1, self.epochs):
                wave[t] = 0.5 * wave[t - 1] + rng.standard_normal()
            noise = 0.004 * wave * np.sqrt(1 - steps / self.epochs)
            shape = _fall(steps, rate, self.epochs)
            found.append(np.clip(end - depth * (shape - shape[-1]) + noise, 0, 1))
        return found[0], found[1]


def _fall(steps: NDArray[np.int64], rate: float, epochs: int) -> Array:
    annealed = np.cos(np.pi * steps / (2 * epochs)) ** 2
    return np.asarray(0.75 * np.exp(-rate * steps) + 0.25 * np.exp(-steps / 20) + 0.3 * annealed)


def calibrate_curves(archive: AccelNASBench, after: int = 10) -> tuple[Curves, tuple[float, float]]:
    """The spreads with which random members have :data:`TAUS`, and what they have then."""
    rows = benchmark_space().sample_indices(MEMBERS, np.random.default_rng(0))
    lasts = archive.predict(rows)[0]
    spread, found = [0.5, 0.5], [0.0, 0.0]
    for kind, target in enumerate(TAUS):
        low, high = 0.0, 3.0
        for _ in range(14):
            spread[kind] = (low + high) / 2
            curves = Curves((spread[0], spread[1]))
            at = [curves.draw(row, last)[kind][after - 1] for row, last in zip(rows, lasts, strict=True)]
            found[kind] = float(kendalltau(at, lasts).statistic)
            low, high = (spread[kind], high) if found[kind] > target else (low, spread[kind])
    return Curves((spread[0], spread[1])), (found[0], found[1])


# -- what is counted ----------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """Epochs that were spent, and what was finished with them."""

    budget: int
    spent: int = 0
    done: list[tuple[int, float, float]] = field(default_factory=list)

    def spend(self) -> None:
        """One epoch; ends the run when the budget is used up."""
        if self.spent >= self.budget:
            raise KeyboardInterrupt
        self.spent += 1

    def finish(self, accuracy: float, macs: float) -> None:
        """A candidate was trained to the end."""
        self.done.append((self.spent, accuracy, macs))


@dataclass(frozen=True)
class Simulated:
    """An evaluator that follows made-up curves; it can be stopped, and goes on where it was."""

    oracle: AccelNASBench
    curves: Curves
    ledger: Ledger
    folder: str | None = None

    def checkpointing(self, folder: str) -> Simulated:
        """As evaluators that train have it."""
        return Simulated(self.oracle, self.curves, self.ledger, folder)

    def reported_steps(self) -> tuple[int, ...]:
        """After every epoch."""
        return tuple(range(1, self.curves.epochs + 1))

    def __call__(self, architecture: Any, *, seed: int, report: Report) -> Evaluation:
        """Follow the curve of a network."""
        row = benchmark_space().indices([self.oracle.decisions(architecture)])
        heldout, train = self.curves.draw(row[0], float(self.oracle.predict(row)[0][0]))
        file = None if self.folder is None else Path(self.folder) / name_checkpoint(architecture.digest, seed)
        known = int(file.read_text()) if file is not None and file.exists() else 0
        for epoch, (accuracy, own) in enumerate(zip(heldout, train, strict=True), start=1):
            if epoch > known:
                self.ledger.spend()
            try:
                report(epoch, float(accuracy), float(own))
            except Stopped:
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(str(max(epoch, known)))
                raise
        costs = cost(architecture)
        self.ledger.finish(float(heldout[-1]), costs.macs)
        return Evaluation(float(heldout[-1]), costs)


@dataclass(frozen=True)
class Counted:
    """A real evaluator, whose epochs are counted."""

    proxy: Any
    ledger: Ledger

    def checkpointing(self, folder: str) -> Counted:
        """As the evaluator's."""
        return Counted(self.proxy.checkpointing(folder), self.ledger)

    def reported_steps(self) -> tuple[int, ...]:
        """As the evaluator's."""
        return tuple(self.proxy.reported_steps())

    def __call__(self, architecture: Any, *, seed: int, report: Report) -> Evaluation:
        """Train a network."""
        folder = vars(self.proxy).get("_checkpoints")
        file = None if folder is None else Path(folder) / name_checkpoint(architecture.digest, seed)
        known = 0
        if file is not None and file.exists():
            import torch

            known = int(torch.load(file, weights_only=True)["state"]["epoch"]) - 1

        def count(step: int, accuracy: float, train_accuracy: float | None = None) -> None:
            if step > known:
                self.ledger.spend()
            report(step, accuracy, train_accuracy)

        found: Evaluation = self.proxy(architecture, seed=seed, report=count)
        self.ledger.finish(found.accuracy, found.cost.macs)
        return found


# -- the methods --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What is searched, and by which evaluator."""

    name: str
    space: Any
    evaluator: Callable[[Ledger, int], Any]
    reference: tuple[float, float]


def _search(task: Task, seed: int, ledger: Ledger, *, algorithm: Any, measure: str | None, startup: int = 0) -> None:
    first, factor = RUNGS[task.name]
    pruner = None if measure is None else AsynchronousHalving(first, factor, measure=measure, startup_trials=startup)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):  # the budget is used up
        run_search(
            task.space,
            task.evaluator(ledger, seed),
            Pareto(),
            algorithm,
            trials=100_000,
            keep=0,
            seed=seed,
            output=folder,
            pruner=pruner,
            quiet=True,
        )


def _ask_gp(task: Task, seed: int, ledger: Ledger) -> None:
    """Optuna's GPSampler as its users call it."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=GPSampler(seed=seed))
    evaluate = task.evaluator(ledger, seed)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            trial = study.ask(dict(task.space.distributions))
            found = evaluate(task.space.build(trial.params), seed=seed, report=lambda *_: None)
            study.tell(trial, [found.accuracy, found.cost.macs])


def _serve_peer(task: Task, seed: int, ledger: Ledger, *, peer: str, python: str) -> None:
    """Answer a peer in its own process: it sends a candidate and an epoch, and gets accuracy and MACs."""
    first, factor = RUNGS[task.name]
    choices = {name: [str(value) for value in d.choices] for name, d in task.space.distributions.items()}
    setting = {"choices": choices, "first": first, "factor": factor, "epochs": EPOCHS[task.name], "seed": seed}
    command = [python, str(ROOT / "benchmarks" / "stopping_peers.py"), peer, json.dumps(setting)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    values = {name: {str(value): value for value in d.choices} for name, d in task.space.distributions.items()}
    curves: dict[str, Iterator[tuple[float, float]]] = {}
    try:
        for line in process.stdout:
            asked = json.loads(line)
            decisions = {name: values[name][value] for name, value in asked["decisions"].items()}
            if asked["id"] not in curves:
                curves[asked["id"]] = _follow(task, decisions, seed, ledger)
            accuracy, macs = next(curves[asked["id"]])
            process.stdin.write(json.dumps({"accuracy": accuracy, "macs": macs}) + "\n")
            process.stdin.flush()
        if process.wait():
            raise RuntimeError(f"{peer} ended with status {process.returncode}")
    except KeyboardInterrupt:
        pass
    finally:
        process.kill()
        process.wait()


def _follow(task: Task, decisions: Mapping[str, Any], seed: int, ledger: Ledger) -> Iterator[tuple[float, float]]:
    """One candidate, an epoch at a time."""
    architecture = task.space.build(decisions)
    macs = float(cost(architecture).macs)
    reports: list[float] = []
    evaluate = task.evaluator(Ledger(10**9), seed)
    evaluate(architecture, seed=seed, report=lambda step, accuracy, train=None: reports.append(accuracy))
    for epoch, accuracy in enumerate(reports, start=1):
        ledger.spend()
        if epoch == len(reports):
            ledger.finish(accuracy, macs)
        yield accuracy, macs


def make_methods(options: argparse.Namespace) -> dict[str, Callable[[Task, int, Ledger], None]]:
    """By name; ``predictor`` is the default algorithm."""
    search = functools.partial(functools.partial, _search)
    found: dict[str, Callable[[Task, int, Ledger], None]] = {
        "predictor, curve": search(algorithm=Predictor, measure="curve", startup=options.startup),
        "predictor, mo_asha": search(algorithm=Predictor, measure="accuracy"),
        "predictor, none": search(algorithm=Predictor, measure=None),
        "random, curve": search(algorithm=RandomSampler, measure="curve", startup=options.startup),
        "random, mo_asha": search(algorithm=RandomSampler, measure="accuracy"),
        "random, none": search(algorithm=RandomSampler, measure=None),
        "optuna_gp": _ask_gp,
    }
    for peer, python in zip(SEARCH_PEERS, (options.neps, options.syne_tune), strict=True):
        if python:
            found[peer] = functools.partial(_serve_peer, peer=peer, python=python)
    return found


#: Whose epochs are counted three times as far, to see when they get where ours is.
LONG = ("predictor, none",)


# -- runs ---------------------------------------------------------------------------------------------------


def make_task(name: str, archive: Path) -> Task:
    """With its reference point: the worst accuracy and the most MACs of random members."""
    if name == "digits":
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        from effnas.evaluate.data.image_data import ImageData
        from effnas.evaluate.proxy import Proxy

        recipe = OmegaConf.load(ROOT / "conf" / "training" / "proxy.yaml")
        training = instantiate(OmegaConf.merge(recipe, {"epochs": EPOCHS[name], "precision": "fp32"}))
        proxy = Proxy(data=ImageData(source="digits"), training=training, device="cpu", threads=1)
        space = load_space("tiny")
        rng = np.random.default_rng(0)
        most = max(cost(space.build(space.sample(rng))).macs for _ in range(500))
        return Task(name, space, lambda ledger, seed: Counted(proxy, ledger), (0.5, float(most)))
    oracle = AccelNASBench(str(archive))
    curves, taus = calibrate_curves(oracle)
    print(f"curves: tau after 10 epochs {taus[0]:.3f} held out, {taus[1]:.3f} training; {curves}", file=sys.stderr)
    rows = benchmark_space().sample_indices(20_000, np.random.default_rng(0))
    worst, most = float(oracle.predict(rows)[0].min()), float(cost_batch(benchmark_space().batch(rows)).macs.max())
    return Task(name, benchmark_space(), lambda ledger, seed: Simulated(oracle, curves, ledger), (worst, most))


def measure_run(task: Task, ledger: Ledger, every: int) -> list[dict[str, Any]]:
    """The hypervolume and the best accuracy of what was finished within so many epochs."""
    records = []
    for spent in range(every, ledger.budget + 1, every):
        done = [(accuracy, macs) for at, accuracy, macs in ledger.done if at <= spent]
        best = max((accuracy for accuracy, _ in done), default=0.0)
        records.append(
            {
                "spent": spent,
                "hypervolume": hypervolume(done, task.reference),
                "accuracy": best,
                "complete": len(done),
            }
        )
    return records


def read_runs(file: Path) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """The records of each task, method and seed."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    if file.exists():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                record: dict[str, Any] = dict(row)
                record |= {name: float(row[name]) for name in ("hypervolume", "accuracy", "run_seconds")}
                record |= {name: int(row[name]) for name in ("seed", "spent", "complete")}
                found.setdefault((row["task"], row["method"], record["seed"]), []).append(record)
    return found


def perform(options: argparse.Namespace, file: Path) -> None:
    """What is not there yet, seed by seed; each run is appended when it ends."""
    methods = make_methods(options)
    chosen = options.methods or list(methods)
    runs = read_runs(file)
    missing = [(seed, m) for seed in range(options.seeds) for m in chosen if (options.task, m, seed) not in runs]
    if not missing:
        return
    task = make_task(options.task, options.archive)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(",".join(COLUMNS) + "\n")
    for seed, method in missing:
        budget = options.epochs * (3 if method in LONG else 1)
        ledger, start = Ledger(budget), time.perf_counter()
        methods[method](task, seed, ledger)
        if ledger.spent < budget:
            raise SystemExit("interrupted: the same command goes on")
        seconds = round(time.perf_counter() - start, 1)
        records = measure_run(task, ledger, max(1, options.epochs // 50))
        last = next(r for r in records if r["spent"] >= options.epochs // 50 * 50)
        print(f"{method} seed {seed}: {last} {seconds} s", file=sys.stderr, flush=True)
        stamp = {
            "task": task.name,
            "method": method,
            "seed": seed,
            "run_seconds": seconds,
            "commit": find_commit(*SOURCES),
        }
        with file.open("a", newline="") as lines:
            writer = csv.DictWriter(lines, COLUMNS)
            for record in records:
                writer.writerow({**record, "hypervolume": f"{record['hypervolume']:.6f}", **stamp})


# -- the report ---------------------------------------------------------------------------------------------


def find_level(records: Sequence[Mapping[str, Any]], level: float) -> float:
    """Epochs after which the hypervolume was reached; infinite: never."""
    return next((float(record["spent"]) for record in records if record["hypervolume"] >= level), float("inf"))


def report(options: argparse.Namespace, file: Path) -> None:
    """A table of medians (quartiles), and a figure."""
    mine = {key[1:]: records for key, records in read_runs(file).items() if key[0] == options.task}
    order = [name for name in make_methods(options) if any(method == name for method, _ in mine)]
    order += sorted({method for method, _ in mine} - set(order))
    marks = [options.epochs // 5, options.epochs // 2, options.epochs]
    print(f"\n{options.task}: {versions()}; {machine()}\n")
    print(f"| method | seeds | {' | '.join(f'{mark:,} epochs' for mark in marks)} | best accuracy | complete |")
    print("|---" * (len(marks) + 4) + "|")
    for method in order:
        seeds = [records for (name, _), records in mine.items() if name == method]
        cells = []
        for mark in marks:
            values = [max((r["hypervolume"] for r in records if r["spent"] <= mark), default=0.0) for records in seeds]
            cells.append(_show(values))
        at = [[r for r in records if r["spent"] <= options.epochs][-1] for records in seeds]
        best, complete = statistics.median(r["accuracy"] for r in at), statistics.median(r["complete"] for r in at)
        print(f"| {method} | {len(seeds)} | {' | '.join(cells)} | {best:.2%} | {complete:.0f} |")
    ours = {seed: records for (name, seed), records in mine.items() if name == order[0]}
    plain = {seed: records for (name, seed), records in mine.items() if name == LONG[0]}
    if ours and plain:
        for share in (0.2, 0.5, 1.0):
            spent = options.epochs * share
            levels = [max(r["hypervolume"] for r in records if r["spent"] <= spent) for records in ours.values()]
            level = statistics.median(levels)
            needed = statistics.median(find_level(records, level) for records in plain.values())
            print(
                f"\n{order[0]} after {spent:,.0f} epochs: {level:.5f} (median), for which {LONG[0]} takes "
                f"{needed:,.0f} epochs: {needed / spent:.1f} times as many"
            )
    draw(options, mine, order)


def _show(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f}"
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.4f} ({low:.4f}–{high:.4f})"


def draw(options: argparse.Namespace, runs: Mapping[tuple[str, int], Any], order: Sequence[str]) -> None:
    """Median hypervolume against epochs, with quartiles."""
    from effnas.evaluate.drawing.style import COLOURS, drawing, make_figure, place_legend, save_figure

    with drawing():
        figure = make_figure(7.2, 4.8)
        axes = figure.subplots()
        lowest = []
        for number, method in enumerate(order):
            seeds = [records for (name, _), records in runs.items() if name == method]
            spent = np.array([r["spent"] for r in seeds[0] if r["spent"] <= options.epochs])
            values = np.array([[r["hypervolume"] for r in records][: len(spent)] for records in seeds])
            low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(spent, middle, color=colour, label=method, linestyle="-" if number < len(COLOURS) else "--")
            axes.fill_between(spent, low, high, color=colour, alpha=0.15, linewidth=0)
            lowest.append(float(middle[len(spent) // 10]))
        axes.set_ylim(bottom=min(lowest))
        axes.set_xlabel("epochs spent")
        axes.set_ylabel("hypervolume of accuracy and MACs")
        axes.grid()
        place_legend(figure, [axes], 7.2)
        save_figure(figure, options.figure or options.output / options.task)


def main() -> None:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(EPOCHS), default="curves")
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2500, help="to spend in each run")
    parser.add_argument("--startup", type=int, default=0, help="candidates that curve never stops")
    parser.add_argument("--first", type=int, help="epoch of the first rung")
    parser.add_argument("--archive", type=Path, default=DATA / "accel_nasbench")
    parser.add_argument("--neps", metavar="PYTHON", help="of an environment with neural-pipeline-search")
    parser.add_argument("--syne-tune", metavar="PYTHON", help="of an environment with syne-tune")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "benchmark_stopping")
    parser.add_argument("--figure", type=Path, help="where to draw, without an ending")
    parser.add_argument("--report", action="store_true", help="of what is there, and run nothing")
    options = parser.parse_args()
    if options.first:
        RUNGS[options.task] = options.first, RUNGS[options.task][1]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    file = options.output / "runs.csv"
    if not options.report:
        perform(options, file)
    report(options, file)


if __name__ == "__main__":
    main()
