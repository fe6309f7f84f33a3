"""The grid search of the compound coefficients."""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from synthetic import Synthetic, calls, own_folder, read_csv, start, true_accuracy, wait_for

from effnas import Architecture, Coefficients, cost, load_architecture, run_grid_search, scale
from effnas.cli import main
from effnas.evaluate.evaluation import Evaluation
from effnas.scaling.coefficients import load_coefficients
from effnas.scaling.grid.job import grid_points
from effnas.scaling.grid.report import summary_text, verdict
from effnas.space.errors import UserError
from effnas.space.stage import Stage

#: Deep and wide enough that no two of its nine points below round to one network.
BASELINE = Architecture(
    name="base",
    stages=(
        Stage("mbconv", channels=200, repeats=20, stride=2, expand_ratio=1),
        Stage("mbconv", channels=400, repeats=20, stride=2, expand_ratio=1),
    ),
    resolution=200,
    num_classes=10,
    stem=200,
    head=400,
)
#: Nine points.
GRID: dict[str, Any] = {"alpha": (1.1, 1.3), "beta": (1.0, 1.2), "gamma": (1.0, 1.3), "step": 0.1, "tolerance": 0.15}

#: Enough for a response surface.
WIDER: dict[str, Any] = {"alpha": (1.0, 1.4), "gamma": (1.0, 1.3), "beta": (1.0, 1.2)}


def grid(output: Path, evaluator: Any = None, baseline: Any = BASELINE, **options: Any) -> dict[str, Any]:
    return run_grid_search(
        baseline, Synthetic() if evaluator is None else evaluator, output=output, quiet=True, **{**GRID, **options}
    )


# -- the points ----------------------------------------------------------------------------------------


def brute_force(
    alpha: str, beta: str, gamma: str, step: str, tolerance: str
) -> list[tuple[Fraction, Fraction, Fraction]]:
    """In exact arithmetic, from hundredths."""

    def axis(span: str) -> list[Fraction]:
        low, high = map(Fraction, span.split())
        return [Fraction(n, 1000) for n in range(1000, 3000) if low <= Fraction(n, 1000) <= high and on_step(n, low)]

    def on_step(n: int, low: Fraction) -> bool:
        return ((Fraction(n, 1000) - low) / Fraction(step)).denominator == 1

    axes = [axis(span) for span in (alpha, beta, gamma)]
    return [p for p in product(*axes) if abs(p[0] * p[1] ** 2 * p[2] ** 2 - 2) <= Fraction(tolerance)]


@pytest.mark.parametrize(
    "case",
    [
        ("1 1.4", "1 1.2", "1 1.3", "0.05", "0.1"),
        ("1 1.4", "1 1.2", "1 1.3", "0.05", "0.05"),
        ("1 2", "1 1.5", "1 1.5", "0.1", "0.2"),
        ("1.1 1.3", "1 1.2", "1 1.3", "0.1", "0.15"),
        ("1 2", "1 1", "1 1", "0.25", "0"),
        ("1 1.33", "1.05 1.2", "1 1.3", "0.07", "0.15"),
        ("1 1.4", "1 1.2", "1 1.3", "0.02", "0.01"),
    ],
)
def test_points_are_all_there(case: tuple[str, ...]) -> None:
    alpha, beta, gamma, step, tolerance = case
    spans = [tuple(map(float, span.split())) for span in (alpha, beta, gamma)]
    points = grid_points(*spans, step=float(step), tolerance=float(tolerance))
    expected = [tuple(map(float, p)) for p in brute_force(alpha, beta, gamma, step, tolerance)]
    assert [(p.alpha, p.beta, p.gamma) for p in points] == expected
    assert expected


def test_the_defaults_include_the_papers_answer() -> None:
    points = grid_points()
    assert len(points) == 51
    assert Coefficients(1.2, 1.1, 1.15) in points
    assert Coefficients(1.2, 1.1, 1.15) not in grid_points(tolerance=0.05)
    assert Coefficients(1.2, 1.1, 1.15).macs_ratio == pytest.approx(1.92027)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": (1.0, 1.1), "beta": (1.0, 1.0), "gamma": (1.0, 1.0)}, r"the nearest, \(1\.1, 1, 1\), has 1\.1: use"),
        ({"tolerance": -0.1}, r"tolerance must be in \[0, inf\], got -0.1"),
        ({"step": 0}, "step must be"),
        ({"step": "small"}, "step must be a finite number, got 'small'"),
        ({"alpha": (0.9, 1.2)}, "alpha: lowest value must be"),
        ({"beta": (1.2, 1.0)}, r"beta must be a range from low to high, got \[1.2, 1\]"),
        ({"gamma": 1.2}, r"gamma must be a range of two numbers such as \[1.0, 1.4\], got 1.2"),
        ({"gamma": (1.0, 1.1, 1.2)}, "gamma must be a range of two numbers"),
        ({"gamma": "1,2"}, "gamma must be a range of two numbers"),
        ({"alpha": (1.0, "two")}, "alpha: highest value must be a finite number, got 'two'"),
        ({"step": 0.001}, r"makes .* combinations; at most 1,000,000"),
    ],
)
def test_grids_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid_points(**options)


# -- the result ----------------------------------------------------------------------------------------


def test_points_are_ranked(tmp_path: Path) -> None:
    summary = grid(tmp_path, command="effnas grid-alpha-beta-gamma", choose="point")
    points = grid_points(**GRID)
    assert len(points) == len({scale(BASELINE, p, 1).digest for p in points}) == 9
    assert summary["trials"] == summary["complete"] == len(summary["points"]) == 9
    accuracies = {p: true_accuracy(scale(BASELINE, p, 1)) for p in points}
    ranked = sorted(points, key=lambda p: -accuracies[p])
    base = cost(BASELINE)
    for row, p in zip(summary["points"], ranked, strict=True):
        network = scale(BASELINE, p, 1)
        assert (row["alpha"], row["beta"], row["gamma"]) == (p.alpha, p.beta, p.gamma)
        assert row["accuracy"] == pytest.approx(accuracies[p], abs=1e-12)
        assert row["nominal_macs_ratio"] == pytest.approx(p.alpha * p.beta**2 * p.gamma**2)
        assert row["macs_ratio"] == pytest.approx(cost(network).macs / base.macs)
        assert (row["seeds"], row["sd"]) == (1, None)
    assert {"alpha", "beta", "gamma", "accuracy", "macs_ratio", "nominal_macs_ratio"} <= summary["best"].keys()
    assert summary["best"] == summary["points"][0]
    job = ["trials", "complete", "failed", "pruned", "duplicates", "seconds", "seed", "algorithm", "space"]
    assert {*job, "evaluator", "objective", "study", "versions", "command"} <= summary.keys()
    assert summary["verdict"]["stands_out"] is None
    assert "one training per point says nothing about the noise" in summary["verdict"]["text"]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    rows = read_csv(tmp_path / "points.csv")
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in summary["points"]]
    assert [float(r["decision.alpha"]) for r in read_csv(tmp_path / "trials.csv")] == [p.alpha for p in points]
    text = summary_text(summary)
    assert f"alpha {ranked[0].alpha:g}, beta {ranked[0].beta:g}, gamma {ranked[0].gamma:g} leads by " in text
    assert text.count("\n") > 9


@pytest.mark.pictures
def test_coefficients_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = grid(tmp_path)["best"]
    coefficients = load_coefficients(str(tmp_path / "coefficients.yaml"))
    assert [coefficients.alpha, coefficients.beta, coefficients.gamma] == [best[n] for n in ("alpha", "beta", "gamma")]
    BASELINE.save(tmp_path / "base.yaml")
    words = [
        "scale",
        f"coefficients={tmp_path}/coefficients.yaml",
        f"baseline={tmp_path}/base.yaml",
        "phi=1",
        "json=true",
    ]
    assert main([*words, f"hydra.run.dir={tmp_path}/scale"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["macs"] == best["macs"]
    with Image.open(tmp_path / "grid.png") as image:
        assert len(image.convert("RGB").resize((64, 64)).getcolors(4096) or ()) > 5
    assert "<svg" in (tmp_path / "grid.svg").read_text()


def test_several_seeds(tmp_path: Path) -> None:
    summary = grid(tmp_path, seeds=4, seed=10)
    assert summary["trials"] == 36
    for row in summary["points"]:
        network = scale(BASELINE, Coefficients(row["alpha"], row["beta"], row["gamma"]), 1)
        values = [true_accuracy(network, seed) for seed in (10, 11, 12, 13)]
        assert row["accuracy"] == pytest.approx(statistics.fmean(values))
        assert row["sd"] == pytest.approx(statistics.stdev(values))
        assert row["seeds"] == 4


@dataclass(frozen=True)
class Luck:
    """All networks are equally good; what differs is luck, which the seed decides."""

    log: str

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
        with open(self.log, "a") as file:
            file.write(f"{architecture.digest} {seed}\n")
        chance = random.Random(f"{architecture.digest} {seed}")
        return Evaluation(0.5 + 0.02 * chance.gauss(0, 1), cost(architecture))


@pytest.mark.parametrize("choose", ["point", "surface", "posterior"])
def test_the_chosen_point_is_confirmed_by_other_seeds(tmp_path: Path, choose: str) -> None:
    log = tmp_path / "calls.txt"
    options: dict[str, Any] = {**WIDER, "seeds": 2, "choose": choose}
    alone = grid(tmp_path / "out", Luck(str(log)), **options)
    assert alone["chosen_by"] == choose
    assert alone["confirmed_on"] is None
    assert alone["selected_on"]["accuracy"] == pytest.approx(alone["best"]["accuracy"])
    assert alone["selected_on"]["seeds"] == [0, 1]
    if choose == "point":  # of some twenty means with a standard deviation of 1.4 points
        assert 0.01 < alone["optimism"] < 0.05
    else:
        assert 0 <= alone["optimism"] < 0.015
    text = summary_text(alone)
    assert f"which is too high, in expectation by {alone['optimism']:.2%}; confirm=3" in text
    before = len(calls(log))
    summary = grid(tmp_path / "out", Luck(str(log)), **options, confirm=8)  # the same grid goes on
    assert summary["best"] == alone["best"]
    new = [line.split() for line in calls(log)[before:]]
    assert new == [[summary["best"]["digest"], str(seed)] for seed in range(99, 91, -1)]
    assert summary["trials"] == alone["trials"] + 8
    confirmed = summary["confirmed_on"]
    assert confirmed["seeds"] == list(range(92, 100))
    assert confirmed["accuracy"] == pytest.approx(0.5, abs=3 * 0.02 / 8**0.5)
    assert summary["optimism"] == pytest.approx(summary["selected_on"]["accuracy"] - confirmed["accuracy"])
    assert f"{confirmed['accuracy']:.2%} ± {confirmed['standard_error']:.2%} on 8 seeds that chose nothing" in (
        summary_text(summary)
    )
    grid(tmp_path / "out", Luck(str(log)), **options, confirm=8)
    assert len(calls(log)) == before + 8  # nothing is left to do


def test_confirming_is_resumed_and_follows_the_refined_choice(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    options: dict[str, Any] = {**WIDER, "refine": 1, "choose": "point"}
    summary = grid(tmp_path / "out", Luck(str(log)), **options, confirm=2)
    assert len(summary["confirmed_on"]["seeds"]) == 2
    assert {line.split()[0] for line in calls(log)[-2:]} == {summary["best"]["digest"]}
    more = grid(tmp_path / "out", Luck(str(log)), **options, confirm=3)
    assert len(more["confirmed_on"]["seeds"]) == 3
    assert more["best"] == summary["best"]


def test_more_seeds_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seeds \+ confirm must be .*100.*, got 101"):
        grid(tmp_path / "out", seeds=1, confirm=100)
    assert not (tmp_path / "out").exists()


def test_points_that_round_to_one_network_are_trained_once(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    small = load_architecture("efficientnet_b0")
    options: dict[str, Any] = {"alpha": (1.0, 1.4), "step": 0.05, "tolerance": 0.1}
    summary = grid(tmp_path / "out", Synthetic(str(log)), small, **options)
    digests = {scale(small, p, 1).digest for p in grid_points(**{**GRID, **options})}
    assert len(digests) < summary["trials"]
    assert len(calls(log)) == len(digests)
    assert summary["duplicates"] == summary["trials"] - len(digests)
    by_digest: dict[str, set[float]] = {}
    for row in summary["points"]:
        by_digest.setdefault(row["digest"], set()).add(row["accuracy"])
    assert all(len(values) == 1 for values in by_digest.values())


def test_points_without_a_result_come_last(tmp_path: Path) -> None:
    summary = grid(tmp_path, Synthetic(trouble="exception", share=0.4))
    known = [row["accuracy"] is not None for row in summary["points"]]
    assert known == sorted(known, reverse=True)
    assert 0 < known.count(False) == summary["failed"] < 9
    assert "failed" in summary_text(summary)
    assert summary["reasons"] == ["ValueError: a bug of this network"] * summary["failed"]


def test_the_result_has_data_frames(tmp_path: Path) -> None:
    result = run_grid_search(BASELINE, Synthetic(), output=tmp_path, quiet=True, **GRID)
    assert result == json.loads((tmp_path / "summary.json").read_text())
    assert len(result.trials) == len(result.table("points")) == 9
    assert list(result.table("points")["accuracy"]) == [point["accuracy"] for point in result["points"]]
    assert result.front["accuracy"].is_monotonic_increasing
    assert result.front["accuracy"].max() == result.table("points")["accuracy"].max()


def test_no_point_has_a_result(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no point of the grid has a result \(9 failed\); the first reason: ValueError"
    ):
        grid(tmp_path, Synthetic(trouble="exception", share=1.0))
    assert len(read_csv(tmp_path / "points.csv")) == 9
    assert not (tmp_path / "coefficients.yaml").exists()


# -- the verdict ---------------------------------------------------------------------------------------


def rows(*points: tuple[float, float | None, int, str]) -> list[dict[str, Any]]:
    return [dict(zip(("accuracy", "sd", "seeds", "digest"), point, strict=True)) for point in points]


def test_a_winner_that_stands_out() -> None:
    found = verdict(rows((0.90, 0.01, 3, "a"), (0.85, 0.01, 3, "b"), (0.80, 0.01, 3, "c")))
    assert found["stands_out"] is True
    assert found["lead"] == pytest.approx(0.05)
    assert found["standard_error"] == pytest.approx(0.01 * math.sqrt(2 / 3))
    assert found["text"].startswith(
        "leads by 5.00%, more than 2 standard errors (1.63%) of the difference: it stands out"
    )


def test_a_winner_within_the_noise() -> None:
    found = verdict(rows((0.90, 0.03, 3, "a"), (0.89, 0.01, 3, "b"), (0.88, 0.02, 3, "c"), (0.5, 0.01, 3, "d")))
    noise = math.sqrt((0.03**2 + 0.01**2 + 0.02**2 + 0.01**2) / 4)
    assert found["stands_out"] is False
    assert found["noise_sd"] == pytest.approx(noise)
    assert "2 other points may be as good" in found["text"]


def test_the_noise_is_pooled_over_what_each_point_knows() -> None:
    found = verdict(rows((0.9, 0.02, 5, "a"), (0.8, None, 1, "b"), (0.7, 0.04, 2, "c")))
    noise = math.sqrt((0.02**2 * 4 + 0.04**2 * 1) / 5)
    assert found["noise_sd"] == pytest.approx(noise)
    assert found["standard_error"] == pytest.approx(noise * math.sqrt(1 / 5 + 1))


def test_the_same_network_is_no_rival() -> None:
    found = verdict(rows((0.9, 0.01, 3, "a"), (0.9, 0.01, 3, "a"), (0.8, 0.01, 3, "b")))
    assert found["lead"] == pytest.approx(0.1)
    assert found["stands_out"] is True


def test_nothing_to_compare_with() -> None:
    assert verdict(rows((0.9, None, 1, "a")))["stands_out"] is None
    assert "nothing to compare" in verdict(rows((0.9, 0.1, 2, "a"), (0.9, 0.1, 2, "a")))["text"]
    assert verdict(rows((0.9, None, 1, "a"), (0.8, None, 1, "b")))["stands_out"] is None


@dataclass(frozen=True)
class Noisy:
    """A clear winner, or none."""

    clear: bool

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Evaluation:
        accuracy = 0.5 + 0.01 * math.sin(seed)
        if self.clear:
            accuracy += 0.2 * (architecture.resolution == 260)
        return Evaluation(accuracy, cost(architecture))


@pytest.mark.parametrize("clear", [True, False])
def test_the_verdict_of_a_search(tmp_path: Path, clear: bool) -> None:
    one_of_260 = {"alpha": (1.2, 1.2), "beta": (1.0, 1.2), "gamma": (1.1, 1.3), "tolerance": 0.35}
    points = grid_points(**{**GRID, **one_of_260})
    assert [p.gamma for p in points].count(1.3) == 1
    summary = grid(tmp_path, Noisy(clear), seeds=3, **one_of_260)
    assert summary["verdict"]["stands_out"] is clear


# -- resuming ------------------------------------------------------------------------------------------


def test_more_seeds_later(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    first = grid(tmp_path / "parts", Synthetic(str(log)))
    assert grid(tmp_path / "parts", Synthetic(str(log)))["points"] == first["points"]
    assert len(calls(log)) == 9
    later = grid(tmp_path / "parts", Synthetic(str(log)), seeds=3)
    assert len(calls(log)) == len(set(calls(log))) == 27
    once = grid(tmp_path / "once", Synthetic(), seeds=3)
    assert later["points"] == once["points"]
    assert {row["seeds"] for row in later["points"]} == {3}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"tolerance": 0.2}, "tolerance: 0.15 → 0.2"),
        ({"beta": (1.0, 1.1)}, r"beta: \[1.0, 1.2\] → \[1.0, 1.1\]"),
        ({"seed": 1}, "seed: 0 → 1"),
        ({"baseline": BASELINE.with_(resolution=128)}, "baseline: '.*' → '.*'"),
    ],
)
def test_another_grid_in_the_same_folder(tmp_path: Path, change: dict[str, Any], difference: str) -> None:
    grid(tmp_path)
    with pytest.raises(UserError, match=rf"holds another search \({difference}\)"):
        grid(tmp_path, **change)


def test_ctrl_c_in_a_grid(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    evaluator = Synthetic(str(log), interrupt_at=4)
    with pytest.raises(KeyboardInterrupt):
        grid(tmp_path / "out", evaluator)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["complete"] == 3
    assert sum(row["accuracy"] is not None for row in summary["points"]) == 3
    assert grid(tmp_path / "out", evaluator)["points"] == grid(tmp_path / "whole")["points"]
    assert len(calls(log)) == 10


WORDS = ["grid-alpha-beta-gamma", "alpha=[1.1,1.3]", "step=0.1", "tolerance=0.15", "evaluator=synthetic"]


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    BASELINE.save(tmp_path / "base.yaml")
    words = [*WORDS, "--config-dir", str(own_folder(tmp_path)), "--baseline", "base.yaml"]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["points"] == grid(tmp_path / "once")["points"]
    assert summary["command"].startswith("effnas grid-alpha-beta-gamma 'alpha=[1.1,1.3]'")
    assert (tmp_path / "outputs" / "grid" / "coefficients.yaml").exists()
    assert "[9/9]" in captured.err
    assert main([*words, "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert "9 points, 9 different networks, 18 trainings" in out
    assert "coefficients.yaml" in out
    assert len(calls(tmp_path / "calls.txt")) == 18


@pytest.mark.slow
def test_killed_and_restarted(tmp_path: Path) -> None:
    BASELINE.save(tmp_path / "base.yaml")
    own = own_folder(tmp_path)
    options = ["baseline=base.yaml", "hydra.run.dir=out", "evaluator.delay=0.15", "seeds=5", "workers=2"]
    words = [*WORDS, "--config-dir", str(own), *options]
    rng, log = random.Random(3), tmp_path / "calls.txt"
    for _ in range(3):
        before = len(calls(log))
        process = start(words, tmp_path)
        wait_for(lambda before=before: len(calls(log)) > before)
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
    process = start([*words, "--json"], tmp_path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    summary = json.loads(out)
    assert summary["trials"] == summary["complete"] == 45
    assert summary["duplicates"] == 0
    found = {
        (r["decision.alpha"], r["decision.beta"], r["decision.gamma"], r["decision.seed"])
        for r in read_csv(tmp_path / "out" / "trials.csv")
    }
    assert len(found) == 45
    assert summary["points"] == grid(tmp_path / "once", seeds=5)["points"]
