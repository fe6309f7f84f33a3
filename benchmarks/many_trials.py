"""Whether a search stays cheap: time and memory a trial at 1,000, 5,000, 10,000 and 20,000 trials, and resuming.

Claims checked, for every algorithm, with one objective and with two: a trial costs at 20,000 trials at most 1.2 times
what it costs at 1,000, in processor time and in memory; a study of 20,000 trials is resumed within 20 s of processor
time and reported within 20 s. The evaluator returns at once a made-up accuracy, in the space ``accel_nasbench`` (28
decisions), so that all the time is the search's: its loop, its journal and the algorithm. With ``--pruner`` it reports
nine epochs, and the pruner stops two of three candidates and promotes some: a promotion is a trial, too.

One search at random makes the study and keeps its journal at each size. Each algorithm then resumes each of these in a
process of its own, one thread, makes ``WARM`` trials that do not count (a model is learned) and ``WINDOW`` that do
(fewer of ``gp``). ``reinforce`` is resumed a second time, as it goes on from what it has recorded itself. Milliseconds
are processor time a trial, the mean of the window (some trials learn a kernel) with its median in brackets. kB a trial
are what the objects and arrays of the process hold more of than with the next smaller study, after its first own trial,
by the number of trials between: what ``tracemalloc`` counts, in a process of its own, for it slows all down. (The
process's pages tell less: up to 1,000 trials it fills those that the imports have left.) Networks
that are proposed again, and not evaluated, are trials as well. Each measurement is appended to
``results/many-trials.csv`` when it ends and not made again.

    python benchmarks/many_trials.py [--algorithms predictor …] [--objectives reward front] [--sizes 1000 …]
        [--pruner mo_asha] [--folder outputs/many_trials] [--redo] [--report]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
import tracemalloc
import unittest.mock
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from record import find_commit

FILE = Path(__file__).resolve().parent / "results" / "many-trials.csv"
TIMES = ("mean_ms", "median_ms", "resume_s", "report_s")
NUMBERS = (*TIMES, "megabytes")
COLUMNS = ("objective", "pruner", "algorithm", "size", *NUMBERS, "commit")
SIZES = (100, 1000, 5000, 10_000, 20_000)
WARM, WINDOW = 30, 100
#: Of algorithms that take seconds a trial.
FEWER = {"gp": (2, 10)}
ALGORITHMS = ("random", "predictor", "local", "evolution", "reinforce", "nsga2", "nsga3", "tpe", "gp", "cmaes")
NNI = ("nni_evolution", "nni_regularized_evolution", "nni_tpe")
PRUNERS = ("none", "mo_asha", "curve", "median", "successive_halving", "hyperband")
#: Learns nothing of a study again that it has learned itself.
AGAIN = "reinforce"
#: The part of a measurement that counts bytes; the others are numbered.
MEMORY = "memory"
#: Epochs of a candidate that a pruner may stop.
EPOCHS = 9


@dataclass
class Log:
    """What a search has done.

    Args:
        folder: of the search.
        keep: numbers of candidates after which the journal is kept.
        asked: when trials were asked for, by the processor's clock; the first is the rehearsal's, in memory.
        megabytes: that are held after its first own trial, where they are counted.
        candidates: that were evaluated.
    """

    folder: Path
    keep: tuple[int, ...]
    asked: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    candidates: int = 0

    def ask(self) -> None:
        """One more trial."""
        self.asked.append(time.process_time())
        if len(self.asked) == 3 and tracemalloc.is_tracing():
            gc.collect()
            self.megabytes = tracemalloc.get_traced_memory()[0] / 1e6

    def add(self, new: bool = True) -> None:
        """One more evaluation; ``new``: of a candidate that was not evaluated before."""
        if new and self.candidates in self.keep:
            kept = self.folder.parent / str(self.candidates)
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir()
            shutil.copy(self.folder / "study.journal", kept)
            if (self.folder / "checkpoints").is_dir():
                shutil.copytree(self.folder / "checkpoints", kept / "checkpoints")
        self.candidates += new


#: Of the search that runs: the evaluator itself has no settings, for it must be the same one in every folder.
logs: list[Log] = []


def evaluate(architecture: Any) -> Any:
    """A fraction that only the network decides."""
    from effnas.evaluate.evaluation import Evaluation
    from effnas.space.cost import cost

    costs = cost(architecture)
    noise = int(architecture.digest[:8], 16) / 2**32
    accuracy = 0.5 + 0.3 * (1 - 1 / (1 + costs.params / 3e6)) + 0.02 * noise  # something to be learned
    return Evaluation(accuracy, costs, seconds=1e-3)


@dataclass(frozen=True)
class Free:
    """An evaluator that takes no time."""

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Any:
        """Of a whole training."""
        logs[-1].add()
        return evaluate(architecture)


@dataclass(frozen=True)
class Staged:
    """The same, with a curve that a pruner sees.

    Args:
        folder: of the checkpoints.
    """

    folder: str | None = None

    def checkpointing(self, folder: str) -> Staged:
        """As evaluators that train have it."""
        return Staged(folder)

    def reported_steps(self) -> tuple[int, ...]:
        """After every epoch."""
        return tuple(range(1, EPOCHS + 1))

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Any:
        """Epoch by epoch."""
        from effnas.evaluate.evaluation import Stopped
        from effnas.evaluate.kept_weights import name_checkpoint

        file = None if self.folder is None else Path(self.folder) / name_checkpoint(architecture.digest, seed)
        logs[-1].add(file is None or not file.exists())
        found = evaluate(architecture)
        slow = int(architecture.digest[8:16], 16) / 2**32
        for epoch in self.reported_steps():
            try:
                report(epoch, found.accuracy - (0.1 + 0.1 * slow) * (1 / epoch - 1 / EPOCHS), None)
            except Stopped:
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(str(epoch))
                raise
        return found


def make(kind: str, name: str, **settings: Any) -> Any:
    """As ``conf`` has it."""
    import hydra
    import yaml

    file = Path(__file__).resolve().parents[1] / "conf" / kind / f"{name}.yaml"
    return hydra.utils.instantiate({**yaml.safe_load(file.read_text()), **settings})


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        objective, pruner, algorithm, size: as the table has them.
        folder: of the studies, all of them.
    """

    objective: str
    pruner: str
    algorithm: str
    size: int
    folder: Path

    @property
    def base(self) -> Path:
        """Of the studies with this objective and pruner."""
        return self.folder / (self.objective if self.pruner == "none" else f"{self.objective}-{self.pruner}")

    def search(self, folder: Path, trials: int, keep: tuple[int, ...] = ()) -> Log:
        """``run_search`` in ``folder``, which may hold a study."""
        from optuna.study import Study

        from effnas.search.job import run_search
        from effnas.search.objective import MnasNetReward, Pareto

        logs.append(log := Log(folder, keep))
        ask = Study.ask

        def note(study: Study, *args: Any, **settings: Any) -> Any:
            log.ask()
            return ask(study, *args, **settings)

        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stderr(nowhere),
            unittest.mock.patch.object(Study, "ask", note),
        ):
            run_search(
                "accel_nasbench",
                Free() if self.pruner == "none" else Staged(),
                MnasNetReward() if self.objective == "reward" else Pareto(metrics=("accuracy", "macs")),
                make("algorithm", self.algorithm, _partial_=True),
                trials=trials,
                output=folder,
                job={"many": "trials"},
                keep=0,
                pruner=None if self.pruner == "none" else make("pruner", self.pruner),
            )
        return log

    def resume(self, trials: int, *, anew: bool) -> Log:
        """Go on until there are so many more trials than the study of that size has; ``anew``: from that study."""
        folder = self.base / f"{self.algorithm}-{self.size}"
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.base / str(self.size), folder)
        return self.search(folder, self.size + trials)

    def measure_times(self, times: int) -> dict[str, float]:
        """In this process: resume the study for the so manieth time, and go on."""
        warm, window = FEWER.get(self.algorithm, (WARM, WINDOW))
        import effnas.search.job  # noqa: F401  # not counted

        begun = time.process_time()
        found = self.resume(times * (warm + window), anew=times == 1)
        ended = time.process_time()
        gaps = [1e3 * (b - a) for a, b in zip(found.asked[1:], found.asked[2:], strict=False)][-window:]
        return {
            "mean_ms": round(statistics.fmean(gaps), 3),
            "median_ms": round(statistics.median(gaps), 3),
            "resume_s": round(found.asked[2] - begun, 2),
            "report_s": round(ended - found.asked[-1], 2),
        }

    def measure_memory(self) -> dict[str, float]:
        """In this process: what the study and the algorithm hold when it is resumed once more."""
        warm, window = FEWER.get(self.algorithm, (WARM, WINDOW))
        import effnas.search.job  # noqa: F401  # not counted

        tracemalloc.start()
        anew = self.algorithm != AGAIN
        return {"megabytes": round(self.resume(3 + (0 if anew else 2 * (warm + window)), anew=anew).megabytes, 2)}


def read_records() -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """What is on file; the last of equals counts."""
    if not FILE.exists():
        return {}
    with FILE.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    return {
        (r["objective"], r["pruner"], r["algorithm"], int(r["size"])): r | {n: float(r[n]) for n in NUMBERS if r[n]}
        for r in rows
    }


def report(records: dict[tuple[str, str, str, int], dict[str, Any]]) -> None:
    """Print a table an objective and pruner."""
    for task in dict.fromkeys(key[:2] for key in records):
        sizes = sorted({key[3] for key in records if key[:2] == task})
        shown = [size for size in sizes if size >= SIZES[1]]
        heads = [f"ms at {size:,}" for size in shown] + ["ratio"]
        heads += [f"kB a trial to {size:,}" for size in shown] + ["resume, s", "report, s"]
        print(f"\n### {', pruner '.join(task)}\n\n| algorithm | {' | '.join(heads)} |\n|{'---|' * (1 + len(heads))}")
        for name in [a for a in (*ALGORITHMS, *NNI) if any(key[:3] == (*task, a) for key in records)]:
            of = {size: records[*task, name, size] for size in sizes if (*task, name, size) in records}
            cells = [f"{of[s]['mean_ms']:.1f} ({of[s]['median_ms']:.1f})" if s in of else "–" for s in shown]
            held = {size: row["megabytes"] for size, row in of.items() if row["megabytes"] != ""}
            last = max(of)
            cells.append(f"{of[last]['mean_ms'] / of[shown[0]]['mean_ms']:.2f}" if shown[0] in of else "–")
            for size in shown:
                before = max((s for s in held if s < size), default=size)
                grown = held.get(size, math.nan) - held.get(before, math.nan)
                cells.append("–" if math.isnan(grown) or before == size else f"{1e3 * grown / (size - before):.1f}")
            cells += [f"{of[last]['resume_s']:.1f}", f"{of[last]['report_s']:.1f}"]
            print(f"| {name} | {' | '.join(cells)} |")


def run_case(case: Case, parts: Sequence[str]) -> dict[str, Any] | None:
    """Each part in a process of its own; None: one has failed."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    words = [case.objective, case.pruner, case.algorithm, str(case.size)]
    found: dict[str, Any] = {}
    for part in parts:
        line = [sys.executable, __file__, "--folder", str(case.folder), "--one", ":".join([*words, part])]
        done = subprocess.run(line, capture_output=True, text=True, env=os.environ | threads)
        if done.returncode:
            print(f"{' '.join(words)}: failed: {done.stderr[-500:]}", file=sys.stderr)
            return None
        found |= json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(case.base / f"{case.algorithm}-{case.size}")
    return found


def main() -> None:
    """Measure what is not on file, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=(*ALGORITHMS, *NNI), default=list(ALGORITHMS))
    parser.add_argument("--objectives", nargs="+", choices=("reward", "front"), default=["reward", "front"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--pruner", choices=PRUNERS, default="none")
    parser.add_argument("--folder", type=Path, default=Path("outputs") / "many_trials", help="of the studies")
    parser.add_argument("--redo", action="store_true", help="measure what is on file again")
    parser.add_argument("--report", action="store_true", help="only print")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        objective, pruner, algorithm, size, part = options.one.split(":")
        case = Case(objective, pruner, algorithm, int(size), options.folder)
        print(json.dumps(case.measure_memory() if part == MEMORY else case.measure_times(int(part))))
        return
    known = {} if options.redo else read_records()
    for objective in [] if options.report else options.objectives:
        first = Case(objective, options.pruner, "random", max(options.sizes), options.folder)
        if not all((first.base / str(size)).is_dir() for size in options.sizes):
            shutil.rmtree(first.base, ignore_errors=True)
            first.search(first.base / "all", first.size + 1, tuple(options.sizes))
        for algorithm in options.algorithms:
            if objective == "front" and algorithm == "cmaes":
                continue
            for size in options.sizes:
                case = Case(objective, options.pruner, algorithm, size, options.folder)
                key = (objective, options.pruner, algorithm, size)
                row = {name: value for name, value in known.get(key, {}).items() if value != ""}
                parts = ["1", "2", MEMORY] if algorithm == AGAIN else ["1", MEMORY]
                if set(TIMES) <= set(row) and algorithm != AGAIN:
                    parts.remove("1")
                if set(NUMBERS) <= set(row) or (found := run_case(case, parts)) is None:
                    continue
                row = {**dict(zip(COLUMNS, key, strict=False)), "commit": find_commit(), **found, **row}
                new = not FILE.exists()
                with FILE.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
                print(row, file=sys.stderr, flush=True)
    report(read_records())


if __name__ == "__main__":
    main()
