"""What a person sees while a search runs."""

from __future__ import annotations

import random
import time
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, create_trial
from rich.console import Console

from effnas.evaluate.non_dominated import non_dominated
from effnas.search.objective import Accuracy
from effnas.search.progress import FRONT_ROWS, Progress


def finished(number: int, rng: random.Random) -> FrozenTrial:
    result: dict[str, Any] = {"accuracy": rng.randrange(40) / 40, "macs": rng.randrange(1, 30) * 10**6, "params": 5000}
    result["feasible"] = rng.random() < 0.8
    if rng.random() < 0.1:
        trial = create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"result": {"reason": "loss is nan"}})
    else:
        trial = create_trial(value=result["accuracy"], user_attrs={"result": result})
    trial.number = number
    return trial


@pytest.mark.parametrize("before", [0, 30])
def test_best_and_front_are_those_of_all_trials(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    rng = random.Random(3)
    trials = [finished(number, rng) for number in range(60)]
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials[:before])
    progress = Progress(study, Accuracy(), 60)
    for trial in trials[before:]:
        progress.finished(trial)
    good = [t for t in trials if t.value is not None and t.user_attrs["result"]["feasible"]]
    rows = [(t.user_attrs["result"]["accuracy"], t.user_attrs["result"]["macs"]) for t in good]
    mask = non_dominated(rows, ("maximize", "minimize"))
    front = sorted({row for row, keep in zip(rows, mask, strict=True) if keep}, key=lambda row: -row[1])
    best = max(good, key=lambda t: (t.value, -t.number))
    console = Console(width=100, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(progress)
    lines = capture.get().splitlines()
    assert f"best: trial {best.number}, accuracy {best.value:.4g}, accuracy {best.value:.2%}" in lines
    shown = [tuple(line.split()[:2]) for line in lines[-len(front[:FRONT_ROWS]) :]]
    assert shown == [(f"{accuracy:.2%}", f"{macs / 1e6:,.2f}") for accuracy, macs in front[:FRONT_ROWS]]


def test_the_time_left_is_that_of_what_is_still_to_be_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    study = optuna.create_study(direction="maximize")
    progress = Progress(study, Accuracy(), 120, waiting=[f"network {i % 4}" for i in range(120)])
    left = []
    for number in range(8):
        clock[0] += 60 if number < 4 else 0
        result = {"accuracy": 0.5, "macs": 10**6, "params": 5000, "key": f"network {number % 4}"}
        result |= {} if number < 4 else {"duplicate_of": number % 4}
        trial = create_trial(value=0.5, user_attrs={"result": result})
        trial.number = number
        progress.finished(trial)
        left.append(capsys.readouterr().err.rpartition("; ")[2].strip())
    assert left == ["3:00 left", "2:00 left", "1:00 left", *["0:00 left"] * 5]
