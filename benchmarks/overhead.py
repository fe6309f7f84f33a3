"""What the search loop adds to an evaluation, by where the trials are kept, and whether that grows with their number.

Claims checked: the loop adds at most 5 ms a trial with the journal, at 1,000 trials as at 3,000, and at most 25 ms with
a PostgreSQL on the same machine; a MariaDB stands beside it. Ours is run_search with its progress lines, limits checked
and everything recorded; the evaluator returns at once. Inside each evaluation one trial of plain Optuna is made, at the
same moments of the machine: ask, build the network, set the same user attribute, tell, with Optuna's own storage of the
same kind: a journal on the same disk, a file of SQLite, or another study on the same server. Optuna's journal locks the
file and syncs it to the disk for every record, ours when a trial ends and at most once a second. Data bases write each
transaction to the disk. A trial's time is all that passes between two evaluations; "less the sampler" is without the
calls of the sampler; "processor" is the time of this process alone, which a busy machine does not change, and without
what it waits for (the disk, the server). Medians over the trials of a window, with the lowest and highest seed in
brackets; milliseconds.

    python benchmarks/overhead.py [--storages journal sqlite postgresql mariadb] [--trials 3000]
        [--shared-trials 300] [--seeds 3] [--space accel_nasbench] [--folder DIR] [--csv FILE]

The servers are those of the system's packages (Debian's postgresql and mariadb-server); where there is none, it is left
out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

import effnas
from effnas.evaluate.evaluation import Evaluation
from effnas.search.algorithms.evolution import Evolution
from effnas.search.job import run_search
from effnas.search.objective import Accuracy
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.space import SearchSpace, load_space

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from servers import MariaDB, PostgreSQL, Server

ALGORITHMS: dict[str, Callable[..., BaseSampler]] = {"RandomSampler": RandomSampler, "Evolution": Evolution}
#: Of a row of :class:`Free`: ours, our sampler, plain Optuna, its sampler; the processor's for ours and for Optuna.
COLUMNS: dict[str, Callable[..., float]] = {
    "ours": lambda ours, sampler, plain, its, cpu, theirs: ours,
    "ours, less the sampler": lambda ours, sampler, plain, its, cpu, theirs: ours - sampler,
    "ours, processor": lambda ours, sampler, plain, its, cpu, theirs: cpu,
    "plain Optuna": lambda ours, sampler, plain, its, cpu, theirs: plain,
    "plain Optuna, less the sampler": lambda ours, sampler, plain, its, cpu, theirs: plain - its,
    "plain Optuna, processor": lambda ours, sampler, plain, its, cpu, theirs: theirs,
}
SERVERS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
#: Trials in a window.
WINDOW = 100


def machine() -> str:
    """The class of machine, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, Optuna {optuna.__version__}, effnas {effnas.__version__}"
    return f"{processor}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {versions}"


class Timed(BaseSampler):
    """A sampler, and the seconds spent in it."""

    def __init__(self, factory: Callable[..., BaseSampler], spent: list[float], seed: int) -> None:
        self._sampler, self._spent = factory(seed=seed), spent

    def __str__(self) -> str:
        return str(self._sampler)

    @contextlib.contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._spent[0] += time.perf_counter() - start

    def before_trial(self, *args: Any) -> None:
        """As the sampler does; the following, too."""
        with self._clock():
            self._sampler.before_trial(*args)

    def infer_relative_search_space(self, *args: Any) -> Any:
        """See above."""
        with self._clock():
            return self._sampler.infer_relative_search_space(*args)

    def sample_relative(self, *args: Any) -> Any:
        """See above."""
        with self._clock():
            return self._sampler.sample_relative(*args)

    def sample_independent(self, *args: Any) -> Any:
        """See above."""
        with self._clock():
            return self._sampler.sample_independent(*args)

    def after_trial(self, *args: Any) -> None:
        """See above."""
        with self._clock():
            self._sampler.after_trial(*args)


def accuracy(architecture: Architecture) -> float:
    """A fraction that only the network decides."""
    return int(architecture.digest[:8], 16) / 2**32


class Plain:
    """A search written with Optuna alone, one trial a call."""

    def __init__(
        self, space: SearchSpace, factory: Callable[..., BaseSampler], storage: BaseStorage | str, seed: int
    ) -> None:
        self.spent = [0.0]
        sampler = Timed(factory, self.spent, seed)
        self._space = space
        self._study = optuna.create_study(storage=storage, sampler=sampler, direction="maximize")

    def trial(self, result: dict[str, Any]) -> None:
        """Ask, build, record, tell."""
        trial = self._study.ask(dict(self._space.distributions))
        architecture = self._space.build(trial.params)
        trial.set_user_attr("result", result)
        self._study.tell(trial, accuracy(architecture))


@dataclass
class Free:
    """An evaluator that takes no time, and where the clocks are read: ours stands still inside a call."""

    plain: Plain
    spent: list[float]
    left: float = 0.0
    left_cpu: float = 0.0
    #: One a trial, in seconds: ours, our sampler, plain Optuna, its sampler, the processor's for ours and for Optuna.
    rows: list[tuple[float, ...]] = field(default_factory=list)

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Evaluation:
        """Stop our clock, make a trial of plain Optuna, and go on."""
        entered, entered_cpu = time.perf_counter(), time.process_time()
        costs = cost(architecture)
        result = {"owner": "a machine:/a/folder", "key": f"{architecture.digest}:{seed}", "digest": architecture.digest}
        result |= {"macs": costs.macs, "params": costs.params, "activations": costs.activations}
        result |= {"accuracy": 0.5, "latency": None, "seconds": 0.001, "metrics": {}, "feasible": True}
        self.plain.spent[0] = 0.0
        start, start_cpu = time.perf_counter(), time.process_time()
        self.plain.trial(result)
        took, took_cpu = time.perf_counter() - start, time.process_time() - start_cpu
        if self.left:
            ours = (entered - self.left, self.spent[0], took, self.plain.spent[0])
            self.rows.append((*ours, entered_cpu - self.left_cpu, took_cpu))
        self.spent[0] = 0.0
        self.left, self.left_cpu = time.perf_counter(), time.process_time()
        return Evaluation(accuracy(architecture), costs, seconds=1e-3)

    def __repr__(self) -> str:
        return "Free()"


def search(
    space: SearchSpace, factory: Callable[..., BaseSampler], trials: int, folder: Path, seed: int, url: str | None
) -> Free:
    """One search; its measurements. ``url``: of a data base; None: journals in the folder."""
    spent = [0.0]
    theirs: BaseStorage | str = url or JournalStorage(JournalFileBackend(str(folder / "plain.journal")))
    if url is not None and url.startswith("sqlite"):
        theirs = f"sqlite:///{folder}/plain.db"
    evaluator = Free(Plain(space, factory, theirs, seed), spent)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        run_search(
            space,
            evaluator,
            Accuracy(max_macs=10e9),
            partial(Timed, factory, spent),
            trials=trials,
            seed=seed,
            output=folder / "ours",
            storage=url,
            study=f"ours {folder.name}",
        )
    return evaluator


def shown(values: list[list[float]]) -> str:
    """Median over all seeds, with the lowest and highest seed."""
    seeds = [1e3 * statistics.median(seed) for seed in values]
    middle = 1e3 * statistics.median([value for seed in values for value in seed])
    return f"{middle:.2f} ({min(seeds):.2f}–{max(seeds):.2f})"


def table(title: str, head: Sequence[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def main() -> None:
    """Measure, print Markdown and, if asked, write CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["journal", "sqlite", *SERVERS]
    parser.add_argument("--storages", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--trials", type=int, default=3000, help="with the journal")
    parser.add_argument("--shared-trials", type=int, default=300, help="with a data base")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--space", default="accel_nasbench", help="its number of decisions matters")
    parser.add_argument("--folder", type=Path, help="where the journals are written; default: the temporary folder")
    parser.add_argument("--csv", type=Path, help="also write every trial here")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space(options.space)
    print(f"{machine()}; {options.seeds} seeds; space {space.name}, {len(space.distributions)} decisions.")

    records: list[tuple[Any, ...]] = []
    with contextlib.ExitStack() as stack:
        for kind in options.storages:
            address = None
            if (server := SERVERS.get(kind)) is not None:
                if (obstacle := server.find_obstacle()) is not None:
                    print(f"\n{kind} is left out: {obstacle}")
                    continue
                address = stack.enter_context(server(durable=True)).url
            trials = options.trials if kind == "journal" else options.shared_trials
            ends = [WINDOW, *range(1000, trials + 1, 1000)] if kind == "journal" else sorted({WINDOW, trials})
            names = ALGORITHMS if kind == "journal" else {"RandomSampler": RandomSampler}
            for name, factory in names.items():
                measured = []
                for seed in range(options.seeds):
                    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                        url = f"sqlite:///{folder}/ours.db" if kind == "sqlite" else address
                        measured.append(search(space, factory, trials, Path(folder), seed, url).rows)
                    records += [(kind, name, seed, i + 1, *row) for i, row in enumerate(measured[-1])]
                lines = []
                for end in ends:
                    window = [rows[end - WINDOW : end] for rows in measured]
                    cells = [shown([[column(*row) for row in rows] for rows in window]) for column in COLUMNS.values()]
                    lines.append([f"{end - WINDOW}–{end}", *cells])
                table(f"{kind}, {name}: ms a trial", ["trials", *COLUMNS], lines)

    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            head = ["storage", "algorithm", "seed", "trial", "ours", "our_sampler", "plain", "plain_sampler"]
            writer.writerow([*head, "our_processor", "plain_processor"])
            writer.writerows([(*row[:4], *(f"{value:.6f}" for value in row[4:])) for row in records])


if __name__ == "__main__":
    main()
