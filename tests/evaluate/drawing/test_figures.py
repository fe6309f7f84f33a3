"""What every figure keeps, with the hardest inputs there are: see ``drawn.check_laws``."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import Figures, check_laws, told
from matplotlib import rcParams

from effnas.evaluate.cam.figure import Column, cam_figure
from effnas.evaluate.cam.images import Picture
from effnas.evaluate.compare.figure import compare_figure
from effnas.evaluate.compare.points import Point
from effnas.evaluate.compare.references import published_points
from effnas.evaluate.compress.figure import compress_figure
from effnas.evaluate.drawing.axes import log_ticks
from effnas.evaluate.drawing.style import COLOURS, drawing, make_figure, shorten
from effnas.evaluate.measure.figure import evaluation_figure
from effnas.evaluate.measure.metrics import Predictions, summarize
from effnas.evaluate.train.figure import draw_curves
from effnas.evaluate.train.history import EpochRow
from effnas.scaling.ablate.figure import COLOURS as RULE_COLOURS
from effnas.scaling.ablate.figure import MARKERS as RULE_MARKERS
from effnas.scaling.ablate.figure import ablation_figure
from effnas.scaling.grid.figure import grid_figure
from effnas.scaling.rules import RULES
from effnas.search.figure import search_figure
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.stage import Stage

LONG = "a network of a very long name, with $dollars$ and_underscores^2, that nobody would give " * 2


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Figures:
    return Figures(monkeypatch)


# -- compress --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 40])
@pytest.mark.parametrize("stages", [1, 30])
def test_a_compression(steps: int, stages: int, figures: Figures, tmp_path: Path) -> None:
    before = Architecture(tuple(Stage("mbconv", 16, expand_ratio=4) for _ in range(stages)), name=LONG)
    after = before.with_(head=640)
    macs = [cost(before).macs * (1 - i / 50) for i in range(1, steps + 1)]
    record = {
        "before": {"name": LONG, "macs": cost(before).macs, "accuracy": 0.9},
        "pruned": {"macs": macs[-1], "accuracy": 0.1},
        "trained": {"accuracy": 1.0} if steps > 1 else None,
        "loss": 0.5,
        "cuts": [{"macs": left, "loss": 0.5 + i / 10} for i, left in enumerate(macs)],
    }
    compress_figure(record, before, after, tmp_path)
    check_laws(figures.only)
    assert told(figures.only) == ["after a cut", "before the first one", "before", "left"]


# -- search ----------------------------------------------------------------------------------------------


def trials(points: list[tuple[float, float]], **more: Any) -> list[dict[str, Any]]:
    """Rows of accuracy and MACs."""
    return [
        {
            "number": number,
            "state": "complete",
            "accuracy": accuracy,
            "macs": macs,
            "params": macs / 50,
            "latency": 1e-9 * macs,
            "score": accuracy,
            **more,
        }
        for number, (accuracy, macs) in enumerate(points)
    ]


def cloud(count: int, seed: int = 0) -> list[tuple[float, float]]:
    draw = random.Random(seed)
    return [(min(1.0, 0.9 + 0.1 * draw.random()), 10 ** draw.uniform(5, 9)) for _ in range(count)]


SEARCHES: dict[str, tuple[list[tuple[float, float]], Any]] = {
    "one": ([(0.97, 3e6)], MnasNetReward()),
    "one of all right": ([(1.0, 3e6)], Accuracy(max_macs=4e6)),
    "two": ([(0.1, 3e6), (0.9, 3.1e6)], Accuracy()),
    "equal": ([(0.5, 3e6)] * 30, MnasNetReward(target=3e6)),
    "nothing right": ([(0.0, 1e6 + i) for i in range(5)], Accuracy()),
    "many": (cloud(500), MnasNetReward(max_macs=2e8)),
    "far below": ([*cloud(40), (0.1, 2e6), (0.05, 3e7)], Accuracy()),
    "one cost": ([(0.5 + i / 100, 3e6) for i in range(20)], Pareto()),
    "latency": (cloud(50, 1), Pareto(metrics=("accuracy", "latency"))),
    "params": (cloud(50, 2), Pareto(metrics=("params", "accuracy"))),
    "three": (cloud(50, 3), Pareto(metrics=("accuracy", "macs", "params"))),
    "thousands": ([(0.5 + i / 100, 3000.0 + 170 * i) for i in range(9)], Accuracy()),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_searches(case: str, figures: Figures, tmp_path: Path) -> None:
    points, objective = SEARCHES[case]
    rows = trials(points)
    rows += [{**row, "state": "failed", "accuracy": None, "macs": None} for row in trials([(0, 0)] * 3)]
    best = max(rows[: len(points)], key=lambda row: row["accuracy"])
    summary = {
        "best": {**best, "architecture": {"resolution": 224}},
        "space": LONG if case == "two" else "tiny",
        "algorithm": "Predictor",
        "evaluator_details": {"accuracy_is": LONG} if case == "many" else {},
    }
    search_figure(rows, sorted(rows[: len(points)], key=lambda row: row["macs"])[:9], summary, objective, tmp_path)
    check_laws(figures.only)
    axes = figures.only.axes[0]
    assert "3 failed" in axes.get_title("left").replace("\n", " ")
    assert f"baseline (trial {best['number']})" in told(figures.only)
    assert ("2 below: 5 to 10 %" in told(figures.only)) == (case == "far below")
    unit = {"latency": "latency, milliseconds per batch", "params": "million parameters", "thousands": "thousand MACs"}
    assert axes.get_xlabel().startswith(unit.get(case, "million MACs"))


# -- compare ---------------------------------------------------------------------------------------------


def family(count: int, name: str = "net", error: float | None = None) -> list[Point]:
    return [
        Point(f"{name} {i}", name, 0.7 + 0.02 * i, params=int(2e6 * 1.5**i), macs=int(1e8 * 2**i), standard_error=error)
        for i in range(count)
    ]


COMPARISONS: dict[str, dict[str, list[Point]]] = {
    "one": {"mine": [Point("only", "mine", 1.0, params=10, macs=3)]},
    "equal": {"mine": [Point(f"twin {i}", "mine", 0.5, params=10**6, macs=10**7) for i in range(12)]},
    "long": {LONG + str(i): [Point(LONG + str(i), LONG, 0.5 + i / 50, params=i + 1, macs=i + 9)] for i in range(3)},
    "bars": {f"family {i}": family(5, f"f{i}", 0.02) for i in range(4)},
    "many": {f"family {i}": family(8, f"f{i}") for i in range(9)},
}


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("case", COMPARISONS)
def test_comparisons(case: str, scale: str, figures: Figures, tmp_path: Path) -> None:
    references = published_points("imagenet") if case == "many" else []
    shown = [p for p in references if p.macs and p.params]
    compare_figure(
        COMPARISONS[case],
        shown,
        axes=["macs", "params"],
        scale=scale,
        names=True,
        notes=[LONG] if case == "long" else [],
        output=tmp_path,
    )
    check_laws(figures.only)
    assert len(told(figures.only)) >= len(COMPARISONS[case])
    for axes in figures.only.axes:
        found = re.search(r"; (\d+) names have no room$", axes.get_xlabel())
        left_out = int(found[1]) if found else 0
        assert len(axes.texts) + left_out == len(shown) + sum(map(len, COMPARISONS[case].values()))
        assert (left_out > 0) <= (case in ("equal", "many"))


# -- training and measuring ------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 30, 350])
@pytest.mark.parametrize("kind", ["usual", "bad first", "unmeasured", "perfect", "small rate"])
def test_curves(kind: str, epochs: int, figures: Figures, tmp_path: Path) -> None:
    history = []
    for i in range(1, epochs + 1):
        loss = 1e6 if kind == "bad first" and i == 1 else 0.0 if kind == "perfect" else 2.3 / i
        accuracy = None if kind == "unmeasured" else 1.0 if kind == "perfect" else 1 - 0.9 / i
        rate = 1e-7 if kind == "small rate" else 0.0 if kind == "perfect" else 0.5 / i
        held = None if accuracy is None else loss
        history.append(EpochRow(i, i, rate, 32, loss, held, accuracy, 1.0, 1.0))
    draw_curves(history, tmp_path / "curves")
    check_laws(figures.only)
    assert len(figures.only.axes) == (2 if kind == "unmeasured" else 3)


@pytest.mark.parametrize("classes", [2, 3, 12, 13, 50, 51, 1000])
def test_evaluations(classes: int, figures: Figures, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    count = 3000
    labels, predicted = draw.integers(0, classes, (2, count))
    confidence = draw.random(count)
    found = Predictions(labels, predicted, confidence, labels == predicted, confidence, classes, min(5, classes))
    names = [f"{LONG if i % 2 else 'cat'} {i}" for i in range(classes)]
    evaluation_figure(found, summarize(found), names, LONG, tmp_path)
    check_laws(figures.only)


def test_maps_of_classes(figures: Figures, tmp_path: Path) -> None:
    facts = {"class": LONG, "index": 1, "probability": 1.0, "target": LONG, "target_index": 2}
    found = {**facts, "target_probability": 0.123}
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    columns = [Column(f"{LONG}\n0.72 M MACs, 16², map 4 × 4", images, torch.rand(2, 4, 4), [found] * 2)] * 3
    pictures = [Picture(LONG, None, LONG) if i else Picture("a.png", None, None) for i in range(2)]  # type: ignore[arg-type]
    cam_figure(columns, pictures, LONG, tmp_path / "cam")
    check_laws(figures.only)


# -- scaling ---------------------------------------------------------------------------------------------


def members(rules: list[str], factors: list[float], accuracy: float, error: float | None) -> list[dict[str, Any]]:
    return [
        {
            "rule": rule,
            "factor": factor,
            "macs": 4e6 * factor * (1 + 0.02 * i),
            "accuracy": min(1.0, accuracy + 0.01 * i),
            "standard_error": error,
            "seeds": 1 if error is None else 5,
        }
        for i, rule in enumerate(rules)
        for factor in factors
    ]


@pytest.mark.parametrize(
    ("rules", "factors", "accuracy", "error"),
    [
        (["compound"], [2.0], 0.9, None),
        (["compound", "width"], [2.0], 1.0, None),
        (["compound", "depth"], [2.0, 4.0], 0.5, 0.0),
        (sorted(RULES), [2.0, 4.0, 8.0], 0.3, 0.05),
    ],
)
def test_ablations(
    rules: list[str], factors: list[float], accuracy: float, error: float | None, figures: Figures, tmp_path: Path
) -> None:
    rows = members(rules, factors, accuracy, error)
    base = {"macs": 4e6, "accuracy": accuracy - 0.05, "standard_error": error, "seeds": 1}
    compared = [
        {**row, "reference": "compound", "difference": 0.01, "low": -0.2, "high": 0.3, "stands": i % 2 == 0}
        for i, row in enumerate(rows)
        if row["rule"] != "compound"
    ]
    ablation_figure(base, rows, compared if error is not None else [], LONG, tmp_path)
    check_laws(figures.only)
    assert len(told(figures.only)) == len(rules) + 1


def test_every_rule_has_a_colour_and_a_marker() -> None:
    assert set(RULES) == set(RULE_COLOURS) == set(RULE_MARKERS)
    assert len(set(RULE_COLOURS.values())) == len(RULES) == len(set(RULE_MARKERS.values()))


def grid_rows(points: list[tuple[float, float, float]], seeds: int = 1, accuracy: float = 0.4) -> list[dict[str, Any]]:
    return [
        {
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            "accuracy": min(1.0, accuracy + 0.02 * gamma - 0.01 * alpha),
            "sd": 0.01 if seeds > 1 else None,
            "seeds": seeds,
            "equal_to": None,
            "macs_ratio": alpha * beta**2 * gamma**2,
            "predicted": None,
        }
        for alpha, beta, gamma in points
    ]


ALL = [(1 + i / 10, 1 + j / 10, 1 + k / 10) for i in range(11) for j in range(5) for k in range(5)]
GRIDS = {
    "one": [(1.2, 1.1, 1.15)],
    "two": [(1.0, 1.0, 1.4), (2.0, 1.0, 1.0)],
    "a line": [(1 + i / 20, 1.0, 1.0) for i in range(21)],
    "uneven": [(1.0, 1.0, 1.0), (1.0, 1.01, 1.0), (1.0, 1.4, 1.0), (1.1, 1.4, 1.005), (1.2, 1.4, 1.005)],
    "half": [point for point in ALL if abs(point[0] * point[1] ** 2 * point[2] ** 2 - 2) < 0.15],
}


@pytest.mark.parametrize("case", GRIDS)
def test_grids_without_a_surface(case: str, figures: Figures, tmp_path: Path) -> None:
    rows = grid_rows(GRIDS[case], accuracy=1.0 if case == "two" else 0.4)
    grid_figure(rows, "too few points", {}, LONG, tmp_path)
    check_laws(figures.only)
    assert told(figures.only)[:2] == ["a network, beside it its α (depth)", "the winner"]


def test_the_written_point_has_a_frame(figures: Figures, tmp_path: Path) -> None:
    rows = [{**row, "digest": str(i)} for i, row in enumerate(grid_rows(GRIDS["half"]))]
    grid_figure(rows, "too few points", {}, LONG, tmp_path, "3")
    check_laws(figures.only)
    assert "the coefficients that are written" in told(figures.only)


def test_colours_and_settings_are_ours(figures: Figures, tmp_path: Path) -> None:
    assert len(set(COLOURS)) == len(COLOURS)
    rcParams["font.size"] = 40  # a user's own
    try:
        with drawing():
            figure = make_figure(3, 3)
            axes = figure.subplots()
            axes.set_title("$cost_x")  # no formula
            figure.draw_without_rendering()
            assert axes.title.get_fontsize() < 12
        assert rcParams["font.size"] == 40
    finally:
        rcParams["font.size"] = 10


def test_names_are_shortened_in_the_middle() -> None:
    assert shorten("short", 5) == "short"
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("a\nb\x07c", 9) == "a b c"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.9, 110.0, [1, 3, 10, 30, 100]), (200.0, 300.0, [200, 220, 240, 260, 280, 300]), (7.0, 7.0, [7.0])],
)
def test_round_numbers_along_a_logarithmic_axis(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == ticks
