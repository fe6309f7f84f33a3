"""Evaluators that do what they should not, once: with the networks of fewer than so many MACs."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from effnas.evaluate.evaluation import Evaluation, Report, Stopped
from effnas.space.architecture import Architecture
from effnas.space.cost import cost

#: Of the tiny space's networks about a third have fewer.
SMALL = 500_000


class Unspeakable(Exception):
    """Cannot say what it is about."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _change_the_process() -> None:
    os.chdir("/")
    os.environ["OMP_NUM_THREADS"] = "77"
    os.environ.pop("PATH", None)
    random.seed(1)
    np.random.seed(1)
    warnings.filterwarnings("ignore", message="a nuisance")
    sys.setrecursionlimit(5000)
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    print("to standard output", flush=True)
    os.write(1, b"past Python\n")
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        assert stream is not None
        stream.close()
    sys.stdout = io.StringIO()
    sys.stdout.close()
    sys.stderr = None  # type: ignore[assignment]
    os.close(2)


#: Ways to fail, and what the reason says.
FAILURES: dict[str, tuple[Callable[[Architecture], Any], str]] = {}


def _failure(reason: str) -> Callable[[Callable[[Architecture], Any]], Callable[[Architecture], Any]]:
    def add(function: Callable[[Architecture], Any]) -> Callable[[Architecture], Any]:
        FAILURES[function.__name__] = (function, reason)
        return function

    return add


@_failure("Unspeakable: (its text cannot be made: RuntimeError)")
def unspeakable(network: Architecture) -> Any:
    raise Unspeakable


@_failure("SystemExit: 3")
def system_exit(network: Architecture) -> Any:
    sys.exit(3)


@_failure("GeneratorExit")
def generator_exit(network: Architecture) -> Any:
    raise GeneratorExit


@_failure("it was stopped before its first report")
def stops_itself(network: Architecture) -> Any:
    raise Stopped


@_failure(r"ValueError: \x1b[31mred\x1b[0m two lines \udcff \u202e")
def ugly(network: Architecture) -> Any:
    raise ValueError("\x1b[31mred\x1b[0m\n\ttwo\u2028lines \udcff \u202e")


@_failure("ValueError: aaaaaaaaa")
def long(network: Architecture) -> Any:
    raise ValueError("a" * 100_000)


@_failure("EvaluationError: latency must be seconds per batch above 0, or None, got 'x'")
def latency_text(network: Architecture) -> Any:
    return Evaluation(0.5, cost(network), latency="x")  # type: ignore[arg-type]


@_failure("EvaluationError: latency must be seconds per batch above 0, or None, got nan")
def latency_nan(network: Architecture) -> Any:
    return Evaluation(0.5, cost(network), latency=float("nan"))


@_failure("EvaluationError: seconds must be a number of seconds from 0, got -1.0")
def seconds_negative(network: Architecture) -> Any:
    return Evaluation(0.5, cost(network), seconds=-1)


@_failure("EvaluationError: metrics must map names to values, got [1]")
def metrics_list(network: Architecture) -> Any:
    return Evaluation(0.5, cost(network), metrics=[1])  # type: ignore[arg-type]


@_failure("EvaluationError: metrics: n must be a number")
def metrics_endless(network: Architecture) -> Any:
    inside: list[Any] = []
    inside.append(inside)
    return Evaluation(0.5, cost(network), metrics={"n": inside})


@_failure("evaluator Nuisance must return an Evaluation, got NoneType")
def nothing(network: Architecture) -> Any:
    return None


@dataclass(frozen=True)
class Nuisance:
    """Does with small networks what :data:`FAILURES` has under this name; ``process``: changes the process."""

    kind: str

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        found = cost(architecture)
        if self.kind == "numbers":
            return _in_other_numbers(architecture)
        if found.macs < SMALL and self.kind == "process":
            _change_the_process()
            report(1, 0.3)
        elif found.macs < SMALL and self.kind in FAILURES:
            result: Evaluation = FAILURES[self.kind][0](architecture)
            return result
        return Evaluation(0.2 + found.macs / 1e8, found)


def _in_other_numbers(architecture: Architecture) -> Evaluation:
    import torch

    metrics = {
        "n": np.int64(3),
        "loss": torch.tensor(0.25),
        "nested": {"list": (np.float32(0.5), [np.bool_(True)])},
        "array": np.arange(2),
    }
    return Evaluation(
        np.float32(0.5),  # type: ignore[arg-type]
        cost(architecture),
        latency=torch.tensor(0.5),  # type: ignore[arg-type]
        seconds=np.float64(2),
        metrics=metrics,
    )


@dataclass(frozen=True)
class Sleeper:
    """Never ends with small networks, and starts a process that does not either."""

    log: str | None = None

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        found = cost(architecture)
        if found.macs < SMALL:
            with contextlib.suppress(Exception):
                import subprocess

                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                if self.log is not None:
                    with open(self.log, "a") as file:
                        file.write(f"{os.getpid()} {child.pid}\n")
            while True:
                time.sleep(60)
        return Evaluation(0.2 + found.macs / 1e8, found)
