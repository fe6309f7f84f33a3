"""Whether a search stays cheap: time and memory a trial at 1,000, 5,000, 10,000 and 20,000 trials, and resuming.

Claims checked, for every algorithm, with one objective and with two: a trial costs at 20,000 trials at most 1.2 times
what it costs at 1,000, in processor time and in memory; a study of 20,000 trials is resumed within 20 s of processor
time and reported within 20 s. The evaluator returns at once a made-up accuracy, in the space ``accel_nasbench`` (28
decisions), so that all the time is the search's: its loop, its journal and the algorithm.

One search at random makes the study and keeps its journal at each size. Each algorithm then resumes each of these in a
process of its own, one thread, makes ``WARM`` trials that do not count (a model is learned) and ``WINDOW`` that do.
Milliseconds are processor time a trial, the mean of the window (some trials learn a kernel) with its median in
brackets. kB a trial are what the process is larger by than with the next smaller study, at its first own trial, by the
number of trials between. Each measurement is appended to ``results/many-trials.csv`` when it ends and not made again.

    python benchmarks/many_trials.py [--algorithms predictor …] [--objectives reward front] [--sizes 1000 …]
        [--folder outputs/many_trials] [--redo] [--report]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from record import find_commit

FILE = Path(__file__).resolve().parent / "results" / "many-trials.csv"
COLUMNS = ("objective", "algorithm", "size", "mean_ms", "median_ms", "resume_s", "report_s", "megabytes", "commit")
SIZES = (100, 1000, 5000, 10_000, 20_000)
WARM, WINDOW = 30, 100
ALGORITHMS = ("random", "predictor", "local", "evolution", "reinforce", "nsga2", "nsga3", "tpe", "gp", "cmaes")


def read_megabytes() -> float:
    """What the process holds of the memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Log:
    """What the evaluator has seen.

    Args:
        folder: of the search.
        keep: numbers of trials after which the journal is kept.
        times: of the processor, at each call.
        megabytes: of the process, at the first call.
    """

    folder: Path
    keep: tuple[int, ...]
    times: list[float] = field(default_factory=list)
    megabytes: float = 0.0

    def add(self) -> None:
        """One more call."""
        self.times.append(time.process_time())
        self.megabytes = self.megabytes or read_megabytes()
        if len(self.times) - 1 in self.keep:
            shutil.copy(self.folder / "study.journal", self.folder.parent / f"{len(self.times) - 1}.journal")


#: Of the search that runs: the evaluator itself has no settings, for it must be the same one in every folder.
logs: list[Log] = []


@dataclass(frozen=True)
class Free:
    """An evaluator that takes no time."""

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Any:
        """A fraction that only the network decides."""
        from effnas.evaluate.evaluation import Evaluation
        from effnas.space.cost import cost

        logs[-1].add()
        costs = cost(architecture)
        noise = int(architecture.digest[:8], 16) / 2**32
        accuracy = 0.5 + 0.3 * (1 - 1 / (1 + costs.params / 3e6)) + 0.02 * noise  # something to be learned
        return Evaluation(accuracy, costs, seconds=1e-3)


def make_algorithm(name: str) -> Any:
    """As ``conf/algorithm`` has it."""
    import hydra
    import yaml

    file = Path(__file__).resolve().parents[1] / "conf" / "algorithm" / f"{name}.yaml"
    settings = yaml.safe_load(file.read_text())
    return hydra.utils.instantiate({**settings, "_partial_": True})


def search(objective: str, algorithm: str, folder: Path, trials: int, keep: tuple[int, ...] = ()) -> Log:
    """``run_search`` in ``folder``, which may hold a study."""
    from effnas.search.job import run_search
    from effnas.search.objective import MnasNetReward, Pareto

    logs.append(Log(folder, keep))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        run_search(
            "accel_nasbench",
            Free(),
            MnasNetReward() if objective == "reward" else Pareto(metrics=("accuracy", "macs")),
            make_algorithm(algorithm),
            trials=trials,
            output=folder,
            job={"many": "trials"},
            keep=0,
        )
    return logs[-1]


def measure(objective: str, algorithm: str, size: int, base: Path) -> dict[str, Any]:
    """In this process: resume the study of that size and go on."""
    folder = base / f"{algorithm}-{size}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(base / f"{size}.journal", folder / "study.journal")
    import effnas.search.job  # noqa: F401  # not counted

    begun = time.process_time()
    found = search(objective, algorithm, folder, size + WARM + WINDOW)
    ended = time.process_time()
    shutil.rmtree(folder)
    gaps = [1e3 * (b - a) for a, b in zip(found.times, found.times[1:], strict=False)][-WINDOW:]
    return {
        "mean_ms": round(statistics.fmean(gaps), 3),
        "median_ms": round(statistics.median(gaps), 3),
        "resume_s": round(found.times[0] - begun, 2),
        "report_s": round(ended - found.times[-1], 2),
        "megabytes": round(found.megabytes, 1),
    }


def read_records() -> dict[tuple[str, str, int], dict[str, Any]]:
    """What is on file; the last of equals counts."""
    if not FILE.exists():
        return {}
    with FILE.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    numbers = ("mean_ms", "median_ms", "resume_s", "report_s", "megabytes")
    return {(r["objective"], r["algorithm"], int(r["size"])): r | {n: float(r[n]) for n in numbers} for r in rows}


def report(records: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    """Print a table an objective."""
    for objective in dict.fromkeys(key[0] for key in records):
        sizes = sorted({key[2] for key in records if key[0] == objective})
        shown = [size for size in sizes if size >= SIZES[1]]
        heads = [f"ms at {size:,}" for size in shown] + ["ratio"]
        heads += [f"kB a trial to {size:,}" for size in shown] + ["resume, s", "report, s"]
        print(f"\n### {objective}\n\n| algorithm | {' | '.join(heads)} |\n|{'---|' * (1 + len(heads))}")
        for name in [a for a in ALGORITHMS if any(key[:2] == (objective, a) for key in records)]:
            of = {size: records[objective, name, size] for size in sizes if (objective, name, size) in records}
            cells = [f"{of[s]['mean_ms']:.1f} ({of[s]['median_ms']:.1f})" if s in of else "–" for s in shown]
            last = max(of)
            cells.append(f"{of[last]['mean_ms'] / of[shown[0]]['mean_ms']:.2f}" if shown[0] in of else "–")
            for size in shown:
                before = max((s for s in of if s < size), default=None)
                grown = None if before is None or size not in of else of[size]["megabytes"] - of[before]["megabytes"]
                cells.append("–" if grown is None or before is None else f"{1e3 * grown / (size - before):.1f}")
            cells += [f"{of[last]['resume_s']:.1f}", f"{of[last]['report_s']:.1f}"]
            print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what is not on file, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--objectives", nargs="+", choices=("reward", "front"), default=["reward", "front"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path("outputs") / "many_trials", help="of the studies")
    parser.add_argument("--redo", action="store_true", help="measure what is on file again")
    parser.add_argument("--report", action="store_true", help="only print")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        objective, algorithm, size = options.one.split(":")
        print(json.dumps(measure(objective, algorithm, int(size), options.folder / objective)))
        return
    known = {} if options.redo else read_records()
    for objective in [] if options.report else options.objectives:
        base = options.folder / objective
        base.mkdir(parents=True, exist_ok=True)
        if not all((base / f"{size}.journal").exists() for size in options.sizes):
            shutil.rmtree(base / "all", ignore_errors=True)
            search(objective, "random", base / "all", max(options.sizes) + 1, tuple(options.sizes))
        for algorithm in options.algorithms:
            if objective == "front" and algorithm == "cmaes":
                continue
            for size in options.sizes:
                if (objective, algorithm, size) in known:
                    continue
                line = [sys.executable, __file__, "--folder", str(options.folder)]
                line += ["--one", f"{objective}:{algorithm}:{size}"]
                threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
                done = subprocess.run(line, capture_output=True, text=True, env=os.environ | threads)
                if done.returncode:
                    print(f"{objective} {algorithm} {size}: failed: {done.stderr[-500:]}", file=sys.stderr)
                    continue
                row = {"objective": objective, "algorithm": algorithm, "size": size}
                row |= {**json.loads(done.stdout.splitlines()[-1]), "commit": find_commit()}
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
