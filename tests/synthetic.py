"""Evaluators without training, and helpers to run searches with them.

Worker processes and commands import this module: what is heavy (Optuna, torch by way of the search) is imported where
it is needed.
"""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnas.evaluate.evaluation import Evaluation, EvaluationError, Report, Stopped
from effnas.evaluate.kept_weights import name_checkpoint, name_weights
from effnas.evaluate.machine.assignment import assigned_gpu
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.files import write_text
from effnas.space.space import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

TESTS = Path(__file__).resolve().parent


def chance(architecture: Architecture, seed: int = 0) -> float:
    """A fraction in [0, 1) that only the network and the seed decide."""
    return (int(architecture.digest[:12], 16) + seed * 7919) % 10007 / 10007


def true_accuracy(architecture: Architecture, seed: int = 0) -> float:
    """Larger networks are better, and some are lucky."""
    return 0.2 + 0.06 * math.log10(cost(architecture).macs) + 0.05 * chance(architecture, seed)


@dataclass(frozen=True)
class Synthetic:
    """Looks the accuracy up in a formula.

    Args:
        log: file that gets a line, digest and seed, for each call.
        delay: seconds a call.
        trouble: what happens to networks below ``share``: see :func:`_trouble`.
        interrupt_at: the call, counted in ``log`` from 1, in which Ctrl-C is pressed.
        epochs: reports to the study, in which the accuracy grows.
        latency: seconds a batch per million MACs.
    """

    log: str | None = None
    delay: float = 0.0
    trouble: str = ""
    share: float = 0.3
    interrupt_at: int | None = None
    epochs: int = 0
    latency: float | None = None

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        if self.log is not None:
            with open(self.log, "ab") as file:
                file.write(f"{architecture.digest} {seed}\n".encode())
            if self.interrupt_at is not None and len(calls(self.log)) == self.interrupt_at:
                raise KeyboardInterrupt
        time.sleep(self.delay)
        accuracy = true_accuracy(architecture, seed)
        if self.trouble and chance(architecture) < self.share:
            return _trouble(self.trouble, architecture)
        for epoch in range(1, self.epochs + 1):
            report(epoch, accuracy * epoch / self.epochs)
        costs = cost(architecture)
        latency = None if self.latency is None else self.latency * costs.macs / 1e6
        metrics = {"threads": float(os.environ.get("OMP_NUM_THREADS", 0)), "pid": float(os.getpid())}
        return Evaluation(accuracy, costs, latency, seconds=self.delay or 1e-3, metrics=metrics)


def _trouble(kind: str, architecture: Architecture) -> Any:
    if kind == "exception":
        raise ValueError("a bug of this network")
    if kind == "evaluation error":
        raise EvaluationError("loss is not finite")
    if kind == "nan":
        return Evaluation(math.nan, cost(architecture))
    if kind == "user error":
        raise UserError("data.path: no such folder")
    if kind == "exit":
        os._exit(3)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "unpicklable":
        return Evaluation(0.5, cost(architecture), metrics={"loss": (lambda: 0)})  # type: ignore[dict-item]
    return 0.5  # not an Evaluation


@dataclass(frozen=True)
class Parent:
    """Starts a process of its own, writes the number of both to ``log``, and then takes its time."""

    log: str
    seconds: float

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        import multiprocessing

        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(self.seconds,))
        child.start()
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()} {child.pid}\n")
        child.join()
        return Evaluation(0.5, cost(architecture))


@dataclass(frozen=True)
class OnGpus:
    """Says which of so many made-up GPUs its process has."""

    gpus: int = 2
    device: str = "auto"

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        metrics = {"gpu": float(assigned_gpu(self.gpus)), "pid": float(os.getpid())}
        return Evaluation(0.5, cost(architecture), metrics=metrics)


@dataclass(frozen=True)
class TorchThreads:
    """Says how many threads torch has in its process, and what the environment says of them."""

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        import torch

        metrics = {name: float(os.environ[name]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return Evaluation(0.5, cost(architecture), metrics={"torch": torch.get_num_threads(), **metrics})


class BadReport:
    """Reports a step that is no number."""

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> None:
        report("one", 0.5)


def calls(log: str | Path) -> list[str]:
    """The lines that evaluators wrote."""
    return Path(log).read_text().splitlines() if Path(log).exists() else []


def four_networks() -> SearchSpace:
    stage = {"block": "mbconv", "channels": 8, "kernel_size": [3, 5], "repeats": [1, 2]}
    return SearchSpace("four", [stage], resolution=16, in_channels=1, num_classes=10, stem=8, head=16)


@dataclass(frozen=True)
class Leaving(Synthetic):
    """Leaves what stands for the weights of each candidate: its digest and seed."""

    def keeping(self, folder: str) -> Leaving:
        other = replace(self)
        object.__setattr__(other, "_folder", folder)
        return other

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            write_text(Path(folder) / name_weights(architecture.digest, seed), f"{architecture.digest}:{seed}")
        return super().__call__(architecture, seed=seed, report=report)


def search(output: Path, evaluator: Any = None, space: Any = "tiny", **options: Any) -> dict[str, Any]:
    """``run_search``, quiet, of the shipped tiny space."""
    from effnas.search.algorithms.evolution import Evolution
    from effnas.search.job import run_search

    options = {"algorithm": Evolution, "trials": 8, "quiet": True, **options}
    return run_search(space, Synthetic() if evaluator is None else evaluator, output=output, **options)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def decisions_and_scores(output: Path) -> list[tuple[str, ...]]:
    """What a search decided and measured, without what depends on the clock."""
    rows = read_csv(output / "trials.csv")
    names = [name for name in rows[0] if name.startswith("decision.")]
    return [(row["state"], row["score"], *(row[name] for name in names)) for row in rows]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all the processes end within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.02)
    return False


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def own_folder(folder: Path) -> Path:
    """A user's ``--config-dir`` with the evaluator of this module; PYTHONPATH must lead here."""
    (folder / "evaluator").mkdir(parents=True, exist_ok=True)
    log = folder / "calls.txt"
    (folder / "evaluator" / "synthetic.yaml").write_text(f"_target_: synthetic.Synthetic\nlog: {log}\ndelay: 0.0\n")
    return folder


def python(arguments: list[str], cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """A Python that finds this module, one thread, its output in pipes."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=environment, **pipes, **options)


def start(words: list[str], cwd: Path) -> subprocess.Popen[str]:
    """``effnas WORDS`` as a process of its own."""
    return python(["-c", "from effnas.cli import main; raise SystemExit(main())", *words], cwd)


def changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """How many of the parameters of ``other`` have another value in ``one``."""
    return sum(one[name] != other[name] for name in other)


def best_after(sampler: BaseSampler, seed: int, trials: int) -> float:
    """Share of the best possible value that a search of 20 independent decisions has found."""
    import numpy as np
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    weights = np.random.default_rng(seed).normal(size=(20, 3))
    space: dict[str, BaseDistribution] = {f"d{i:02}": CategoricalDistribution([0, 1, 2]) for i in range(20)}
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(trials):
        trial = study.ask(space)
        study.tell(trial, sum(weights[i, trial.params[f"d{i:02}"]] for i in range(20)))
    return study.best_value / weights.max(axis=1).sum()


@dataclass(frozen=True)
class Learner:
    """Learns along a curve, reports each epoch, and can be stopped and gone on with.

    The accuracy after epoch t of T is the true one times ``1 − .5·r^t``, but for the last, which is the true one; the
    rate r differs, so that the first epochs do not rank the last. On training images it is the same without the rate.

    Args:
        epochs: T.
        log: file that gets a line for each epoch that is trained: digest, seed, epoch.
        interrupt_at: the line of it, from 1, at which Ctrl-C is pressed.
        silent: with True no training accuracy is reported.
    """

    epochs: int = 9
    log: str | None = None
    interrupt_at: int | None = None
    silent: bool = False

    def checkpointing(self, folder: str) -> Learner:
        other = replace(self)
        object.__setattr__(other, "_checkpoints", folder)
        return other

    def reported_steps(self) -> tuple[int, ...]:
        return tuple(range(1, self.epochs + 1))

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        folder = getattr(self, "_checkpoints", None)
        file = None if folder is None else Path(folder) / name_checkpoint(architecture.digest, seed)
        known = int(file.read_text()) if file is not None and file.exists() else 0
        true, rate = true_accuracy(architecture, seed), 0.4 + 0.5 * chance(architecture, seed + 1)
        for epoch in range(1, self.epochs + 1):
            if epoch > known and self.log is not None:
                with open(self.log, "ab") as log:
                    log.write(f"{architecture.digest} {seed} {epoch}\n".encode())
                if self.interrupt_at is not None and len(calls(self.log)) == self.interrupt_at:
                    raise KeyboardInterrupt
            shares = (1.0 if epoch == self.epochs else 1 - 0.5 * rate**epoch, 1 - 0.5 * 0.6**epoch)
            try:
                if self.silent:
                    report(epoch, true * shares[0])
                else:
                    report(epoch, true * shares[0], true * shares[1])
            except Stopped:
                if file is not None:
                    write_text(file, str(max(epoch, known)))
                raise
        return Evaluation(true, cost(architecture))
