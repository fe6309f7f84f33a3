"""Finer rounds of a grid, around what the coarser points have shown."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.pruners import MedianPruner
from synthetic import Synthetic, calls, own_folder, start, wait_for

from effnas import Architecture, Coefficients, cost, load_architecture, run_grid_search, scale
from effnas.evaluate.evaluation import Evaluation
from effnas.scaling.grid.points import Grid, Scaled
from effnas.scaling.grid.refine import ROUND
from effnas.scaling.grid.report import summary_text
from effnas.space.errors import UserError
from effnas.space.stage import Stage

B0 = load_architecture("efficientnet_b0")
#: Of a step so coarse that much is left between its points.
OPTIONS: dict[str, Any] = {
    **{"alpha": (1.0, 1.8), "beta": (1.0, 1.4), "gamma": (1.0, 1.4), "step": 0.1, "ratio": "achieved", "quiet": True}
}


@dataclass(frozen=True)
class Hill:
    """Best at a resolution of 257 pixels, where γ = 1.15 is, between two points of the grid."""

    log: str | None = None
    interrupt_at: int | None = None

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Evaluation:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{architecture.digest} {seed}\n")
            if len(calls(self.log)) == self.interrupt_at:
                raise KeyboardInterrupt
        rng = np.random.default_rng([int(architecture.digest[:8], 16), seed])
        accuracy = 0.7 - 4 * (architecture.resolution / 224 - 1.15) ** 2 + 0.002 * rng.normal()
        return Evaluation(accuracy, cost(architecture))


def grid(output: Path, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    return run_grid_search(B0, Hill() if evaluator is None else evaluator, output=output, **{**OPTIONS, **options})


def test_rounds_are_finer_and_near_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = grid(tmp_path, refine=2, quiet=False)
    coarse, *rounds = summary["rounds"]
    plain = {k: OPTIONS[k] for k in ("alpha", "beta", "gamma", "step", "ratio")}
    assert coarse == len(Grid(**plain).points(Scaled(B0)))
    assert rounds == [ROUND, ROUND]
    error = capsys.readouterr().err
    different = len({row["digest"] for row in summary["points"] if row["round"] == 0})
    assert f"{coarse} points, {different} different networks: {different} trainings" in error
    assert f"then 2 finer rounds of at most {ROUND} new networks: {2 * ROUND} more at most" in error
    assert summary["trials"] == sum(summary["rounds"]) == len(summary["points"])
    digests: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    for row in summary["points"]:
        step = 0.1 / 2 ** row["round"]
        for name in ("alpha", "beta", "gamma"):
            assert row[name] / step == pytest.approx(round(row[name] / step))
            low, high = OPTIONS[name]
            assert low <= row[name] <= high
        assert abs(row["macs_ratio"] - 2) <= 0.2
        digests[row["round"]].add(row["digest"])
    assert len(digests[1]) == len(digests[2]) == ROUND
    assert not digests[1] & digests[0]
    assert not digests[2] & (digests[0] | digests[1])
    gammas = {i: [row["gamma"] for row in summary["points"] if row["round"] == i] for i in (0, 1, 2)}
    assert np.std(gammas[1]) < np.std(gammas[0])
    assert abs(summary["best"]["gamma"] - 1.15) <= 0.05
    assert f"{sum(summary['rounds'])} points ({coarse} + 8 + 8 in 2 finer rounds)" in summary_text(summary)


@pytest.mark.slow
def test_stopped_and_resumed_rounds_are_those_never_stopped(tmp_path: Path) -> None:
    whole = grid(tmp_path / "whole", refine=2)
    coarse = summary_networks(whole, 0)
    for stop in (coarse + 3, coarse + ROUND + 2):
        log = tmp_path / f"{stop}.txt"
        evaluator = Hill(str(log), interrupt_at=stop)
        with pytest.raises(KeyboardInterrupt):
            grid(tmp_path / str(stop), evaluator, refine=2)
        stopped = json.loads((tmp_path / str(stop) / "summary.json").read_text())
        assert sum(row["accuracy"] is not None for row in stopped["points"]) < len(whole["points"])
        again = grid(tmp_path / str(stop), evaluator, refine=2)
        assert again["points"] == whole["points"]
        assert len(calls(log)) == coarse + 2 * ROUND + 1  # the interrupted one twice


def summary_networks(summary: dict[str, Any], number: int) -> int:
    return len({row["digest"] for row in summary["points"] if row["round"] == number})


def test_refined_later_and_with_more_seeds(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    first = grid(tmp_path / "parts", Hill(str(log)))
    assert first["rounds"] == [len(first["points"])]
    later = grid(tmp_path / "parts", Hill(str(log)), refine=1)
    assert later["rounds"] == [*first["rounds"], ROUND]
    assert later["points"] == grid(tmp_path / "once", refine=1)["points"]
    # fewer rounds than there were, more seeds: what is there is kept, and all of it trained with every seed
    seeds = grid(tmp_path / "parts", Hill(str(log)), seeds=3)
    assert seeds["rounds"] == later["rounds"]
    assert {row["seeds"] for row in seeds["points"]} == {3}
    assert len(calls(log)) == len(set(calls(log))) == 3 * (summary_networks(seeds, 0) + ROUND)


def test_no_round_begins_after_the_timeout(tmp_path: Path) -> None:
    summary = grid(tmp_path, Synthetic(delay=0.05), refine=1, timeout=0.2)
    assert summary["rounds"] == [len(summary["points"])]
    assert 0 < summary["trials"] < len(summary["points"])


def test_a_round_without_a_surface(tmp_path: Path) -> None:
    summary = grid(tmp_path, refine=1, alpha=(1.0, 1.2), gamma=(1.1, 1.3), beta=(1.0, 1.1))
    assert summary_networks(summary, 0) < 10
    assert summary["rounds"][1] > 0
    (best,) = [row for row in summary["points"] if row["round"] == 0 and row["equal_to"] is None][:1]
    center = Coefficients(best["alpha"], best["beta"], best["gamma"])
    for row in summary["points"]:
        if row["round"] == 1 and summary["surface"]["points"] < 10:
            assert max(abs(row[n] - getattr(center, n)) for n in ("alpha", "beta", "gamma")) <= 0.2 + 1e-9


def test_nothing_new_is_found(tmp_path: Path) -> None:
    coarse = Architecture((Stage("mbconv", 16),), stem=16, head=32, resolution=24, num_classes=10)
    options = {"ratio": "achieved", "step": 0.025, "alpha": (1.0, 1.05), "beta": (1.0, 1.05), "refine": 3}
    log = tmp_path / "calls.txt"
    summary = run_grid_search(coarse, Synthetic(str(log)), quiet=True, output=tmp_path / "out", **options)
    assert summary["rounds"][1:] == [0]
    assert summary["trials"] == summary["rounds"][0]
    again = run_grid_search(coarse, Synthetic(str(log)), quiet=True, output=tmp_path / "out", **options)
    assert again["points"] == summary["points"]
    assert len(calls(log)) == summary_networks(summary, 0)


def test_failed_points_do_not_stop_a_round(tmp_path: Path) -> None:
    summary = grid(tmp_path, Synthetic(trouble="exception", share=0.3), refine=1)
    assert summary["failed"] > 0
    assert summary["rounds"][1] == ROUND
    with pytest.raises(UserError, match="no point of the grid has a result"):
        grid(tmp_path / "all", Synthetic(trouble="exception", share=1.0), refine=1, max_failures=None)


def test_finer_points_of_a_solved_grid(tmp_path: Path) -> None:
    summary = grid(tmp_path, refine=1, ratio="solved", solve="beta")
    assert summary["rounds"][1] > 0
    for row in summary["points"]:
        network = scale(B0, Coefficients(row["alpha"], row["beta"], row["gamma"]), 1)
        assert abs(cost(network).macs / cost(B0).macs - 2) <= 0.2


def test_pruned_points_are_left_out_of_the_surface(tmp_path: Path) -> None:
    pruner = MedianPruner(n_startup_trials=3, n_warmup_steps=0)
    summary = grid(tmp_path, Synthetic(epochs=4), refine=1, pruner=pruner)
    assert summary["pruned"] > 0
    assert summary["rounds"][1] > 0
    assert summary["trials"] == len(summary["points"])
    done = {row["digest"] for row in summary["points"] if row["accuracy"] is not None}
    assert summary["surface"]["points"] == len(done) < len({row["digest"] for row in summary["points"]})
    assert summary["best"]["accuracy"] is not None


@pytest.mark.slow
def test_killed_and_restarted(tmp_path: Path) -> None:
    """Two workers, killed now and then: the rounds and results are those of one that never was."""
    words = ["grid-alpha-beta-gamma", "--config-dir", str(own_folder(tmp_path)), "evaluator=synthetic"]
    words += ["evaluator.delay=0.1", "--baseline", "efficientnet_b0", "hydra.run.dir=out", "--workers", "2"]
    words += ["--ratio", "achieved", "--step", "0.1", "--refine", "2", "--seeds", "2"]
    words += ["alpha=[1.0,1.8]", "beta=[1.0,1.4]", "gamma=[1.0,1.4]"]
    rng, log = random.Random(5), tmp_path / "calls.txt"
    for _ in range(2):
        before = len(calls(log))
        process = start(words, tmp_path)
        wait_for(lambda before=before: len(calls(log)) > before + 18)
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
    process = start([*words, "--json"], tmp_path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    summary = json.loads(out)
    whole = grid(tmp_path / "whole", Synthetic(), refine=2, seeds=2)
    assert summary["rounds"] == whole["rounds"]
    assert summary["points"] == whole["points"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refine": -1}, "refine must be between 0 and 10, got -1"),
        ({"refine": 1.5}, "refine must be a whole number, got 1.5"),
        ({"timeout": 0}, r"timeout \(seconds\) must be in"),
        ({"timeout": "soon"}, r"timeout \(seconds\) must be a finite number"),
    ],
)
def test_wrong_settings(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid(tmp_path, **options)
