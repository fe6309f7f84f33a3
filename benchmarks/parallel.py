"""Trials a minute with 1 to 32 workers, by each way in which trials run side by side.

Claim checked: trials of one second reach at least .9 of linear speed up to 32 workers. The evaluator sleeps for one
second and needs no torch; the sampler is random, the space is mnasnet's, and everything is recorded as always. The
ways: worker processes of one search over its journal; a Ray cluster on this machine, whose trials take 1/16 of a CPU;
and as many searches as workers over one PostgreSQL, each evaluating in its own process, which wait for each other
before they begin. A run has ROUNDS trials a worker. "start" is the time until every worker has begun its first trial;
the rate is that of the trials which end after that and before the last one begins, while all are at work. Efficiency is
the rate over that of workers that do nothing but sleep; "overhead" is what a worker loses with each trial; "processor"
is the time of the processes that search, a trial, with the results that each writes at its end.

    python benchmarks/parallel.py [--ways processes ray postgresql] [--workers 1 2 4 8 16 32] [--repeats 2]
        [--csv benchmarks/results/parallel.csv]

Each run is appended to the CSV when it is done, and one that is there is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS, SECONDS = 10, 1.0
WAYS = ("processes", "ray", "postgresql")
FIELDS = (
    *("commit", "machine", "way", "workers", "repeat", "trials"),
    *("start", "rate", "efficiency", "overhead", "cpu_ms", "load"),
)
RESULTS = Path(__file__).resolve().parent / "results" / "parallel.csv"


@dataclass(frozen=True)
class Sleeper:
    """Sleeps, and writes who slept from when to when to a file."""

    log: str
    seconds: float = SECONDS

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Any:
        """An accuracy that says nothing."""
        from effnas.evaluate.evaluation import Evaluation
        from effnas.space.cost import cost

        begun = time.time()
        time.sleep(self.seconds)
        with open(self.log, "ab") as file:
            file.write(f"{os.getpid()} {begun:.4f} {time.time():.4f}\n".encode())
        return Evaluation(0.5, cost(architecture), seconds=self.seconds)


def search(folder: str, log: str, trials: int, seed: int, **options: Any) -> float:
    """One search; the processor seconds of this process."""
    from optuna.samplers import RandomSampler

    from effnas.search.job import run_search

    before = time.process_time()
    how: dict[str, Any] = {"algorithm": RandomSampler, "trials": trials, "seed": seed, "keep": 0, "report": False}
    run_search("mnasnet", Sleeper(log), output=folder, quiet=True, **how, **options)
    return time.process_time() - before


def run(way: str, workers: int, seed: int, folder: Path, url: str) -> float:
    """All trials, one way; processor seconds of all processes that search."""
    trials, log = ROUNDS * workers, str(folder / "log")
    if way == "processes":
        return search(str(folder / "out"), log, trials, seed, workers=workers)
    if way == "ray":
        from effnas.search.workers.ray_cluster import RayCluster

        executor = RayCluster("local", cpus=1 / 16)
        return search(str(folder / "out"), log, trials, seed, workers=workers, executor=executor)
    words = [sys.executable, __file__, "--join", url, str(folder), log, str(trials), str(seed)]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    joined = [
        subprocess.Popen([*words, str(number)], stdout=subprocess.PIPE, text=True, env=one) for number in range(workers)
    ]
    return sum(float(process.communicate()[0].split()[-1]) for process in joined)


def join(url: str, folder: str, log: str, trials: str, seed: str, number: str) -> None:
    """One of the processes that share a study."""
    from effnas.search.job import run_search  # noqa: F401  # what takes seconds, before all begin at the same time

    place, name = f"{folder}/{number}", Path(folder).name
    Path(folder, f"{number}.ready").touch()
    while len(list(Path(folder).glob("*.ready"))) < int(trials) // ROUNDS:
        time.sleep(0.05)
    print(search(place, log, int(trials), int(seed), storage=url, study=name))


def measure(log: Path, workers: int) -> dict[str, float]:
    """What the file says of the time in which all workers are at work."""
    rows = [(pid, float(begun), float(ended)) for pid, begun, ended in map(str.split, log.read_text().splitlines())]
    first: dict[str, float] = {}
    for pid, begun, _ in sorted(rows, key=lambda row: row[1]):
        first.setdefault(pid, begun)
    up, last = max(first.values()), max(begun for _, begun, _ in rows)
    done = sum(up < ended <= last for _, _, ended in rows)
    rate = done / (last - up)
    return {
        "trials": len(rows),
        "rate": 60 * rate,
        "efficiency": rate * SECONDS / workers,
        "overhead": 1000 * (workers / rate - SECONDS),
    }


def table(rows: list[dict[str, str]]) -> None:
    """Medians, with the lowest and highest repeat in brackets."""
    head = ["way", "workers", "trials a minute", "efficiency", "overhead, ms", "start, s", "processor, ms"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for way in WAYS:
        for workers in sorted({int(row["workers"]) for row in rows if row["way"] == way}):
            found = [row for row in rows if row["way"] == way and int(row["workers"]) == workers]

            def shown(name: str, form: str, found: list[dict[str, str]] = found) -> str:
                values = sorted(float(row[name]) for row in found)
                low, high = format(values[0], form), format(values[-1], form)
                middle = format(statistics.median(values), form)
                return middle if low == high else f"{middle} ({low}–{high})"

            cells = [shown("rate", ".0f"), shown("efficiency", ".2f"), shown("overhead", ".0f"), shown("start", ".1f")]
            print(f"| {way} | {workers} | {' | '.join(cells)} | {shown('cpu_ms', '.0f')} |")


def main() -> None:
    """Measure what is not yet recorded, then print everything as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--join", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.join:
        join(*options.join)
        return
    from record import find_commit

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from servers import PostgreSQL

    machine = f"{os.cpu_count()}-core {platform.machine()}"
    known = list(csv.DictReader(options.csv.open(encoding="utf-8"))) if options.csv.exists() else []
    made = {(row["way"], int(row["workers"]), int(row["repeat"])) for row in known}
    wanted = [(way, n, r) for r in range(options.repeats) for n in options.workers for way in options.ways]
    with ExitStack() as stack:
        url = ""
        if "postgresql" in options.ways:
            if (obstacle := PostgreSQL.find_obstacle()) is None:
                url = stack.enter_context(PostgreSQL(durable=True)).url
            else:
                print(f"postgresql is left out: {obstacle}", file=sys.stderr)
        for way, workers, repeat in wanted:
            if (way, workers, repeat) in made or (way == "postgresql" and not url):
                continue
            with tempfile.TemporaryDirectory() as folder:
                begun, load = time.time(), os.getloadavg()[0]
                seconds = run(way, workers, repeat, Path(folder), url)
                found: dict[str, Any] = measure(Path(folder, "log"), workers)
                starts = {line.split()[0]: float(line.split()[1]) for line in reversed(read_lines(Path(folder, "log")))}
                found |= {"start": max(starts.values()) - begun, "cpu_ms": 1000 * seconds / found["trials"]}
                found |= {
                    "load": load,
                    "commit": find_commit(),
                    "machine": machine,
                    "way": way,
                    "workers": workers,
                    "repeat": repeat,
                }
            known.append({name: str(found[name]) for name in FIELDS})
            with options.csv.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS)
                if not file.tell():
                    writer.writeheader()
                writer.writerow({n: round(v, 4) if isinstance(v := found[n], float) else v for n in FIELDS})
            print(json.dumps(known[-1]), file=sys.stderr, flush=True)
    table(known)


def read_lines(file: Path) -> list[str]:
    """In the order in which the trials began."""
    return sorted(file.read_text().splitlines(), key=lambda line: float(line.split()[1]))


if __name__ == "__main__":
    main()
