from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import hydra.utils
import numpy as np
import pytest
from omegaconf import OmegaConf

from effnas.evaluate.evaluation import Evaluation
from effnas.evaluate.non_dominated import non_dominated
from effnas.search.objective import Accuracy, MnasNetReward, Objective, Pareto
from effnas.space.errors import UserError
from effnas.space.formulas import Cost
from effnas.space.quantity import parse_cost, parse_quantity

CONF = Path(__file__).resolve().parents[2] / "conf" / "objective"


def evaluation(accuracy: float = 0.5, latency: float | None = None, **cost: int) -> Evaluation:
    numbers = {"params": 5_000_000, "macs": 400_000_000, "activations": 7_000_000, "peak_memory": 4_000_000} | cost
    return Evaluation(accuracy, Cost(**numbers), latency)


def test_soft_reward_trades_five_percent_accuracy_for_twice_the_cost():
    # MnasNet, section 3.1: how the authors chose -0.07.
    reward = MnasNetReward(target="400M")
    assert reward(evaluation(0.5)) == 0.5
    assert reward(evaluation(0.5, macs=800_000_000)) == pytest.approx(0.5 * 0.9526, rel=1e-4)
    assert reward(evaluation(0.525, macs=800_000_000)) == pytest.approx(0.5, rel=1e-3)
    assert reward(evaluation(0.5, macs=200_000_000)) == pytest.approx(0.5 * 1.0497, rel=1e-4)


def test_hard_reward_changes_nothing_within_the_target_and_divides_beyond():
    reward = MnasNetReward(alpha=0, beta=-1)
    assert reward(evaluation(0.6, macs=1)) == 0.6
    assert reward(evaluation(0.6, macs=400_000_000)) == 0.6
    assert reward(evaluation(0.6, macs=1_200_000_000)) == pytest.approx(0.2)


def test_w_sets_the_exponents_that_are_not_given():
    twice = evaluation(1.0, macs=800_000_000)
    half = evaluation(1.0, macs=200_000_000)
    assert MnasNetReward(w=-1)(twice) == 0.5
    assert MnasNetReward(w=-1)(half) == 2.0
    assert MnasNetReward(w=-1, alpha=0)(half) == 1.0
    assert MnasNetReward(w=-1, alpha=0)(twice) == 0.5
    assert MnasNetReward(w=-1, beta=-2)(twice) == 0.25
    assert MnasNetReward(w=-1, beta=-2)(half) == 2.0


@pytest.mark.parametrize(
    ("metric", "target"),
    [("params", "5M"), ("activations", 7e6), ("peak_memory", "4M"), ("macs", 4e8), ("latency", 0.02)],
)
def test_reward_on_every_metric(metric: str, target: float | str):
    assert MnasNetReward(target=target, w=-1, metric=metric)(evaluation(0.3, latency=0.02)) == pytest.approx(0.3)
    assert MnasNetReward(target=target, w=-1, metric=metric)(evaluation(0.3, latency=0.04)) == pytest.approx(
        0.15 if metric == "latency" else 0.3
    )


def test_level_lines():
    reward = MnasNetReward(target=100, w=-0.5)
    macs = np.array([25, 100, 400])
    np.testing.assert_allclose(reward.factor(macs), [2, 1, 0.5])
    level = 0.4 / reward.factor(macs)  # accuracies of equal reward
    assert [reward(evaluation(a, macs=int(m))) for a, m in zip(level, macs, strict=True)] == pytest.approx([0.4] * 3)


def test_limits_known_before_training():
    objective = Accuracy(max_macs="300M", max_params=10_000_000, max_activations=None, max_peak_memory="4M")
    network = evaluation(0.5, latency=0.01)
    assert objective.violations(network.cost) == pytest.approx({"macs": 1 / 3, "params": -0.5, "peak_memory": 0})
    assert objective.violations_after(network) == {}
    assert objective(network) == 0.5
    assert Accuracy().violations(network.cost) == {}


@pytest.mark.parametrize("make", [MnasNetReward, Accuracy, Pareto])
def test_every_objective_takes_every_limit(make: Any):
    limits = {"max_macs": 4e8, "max_params": 4e8, "max_activations": 4e8, "max_peak_memory": 4e8, "max_latency": 0.5}
    objective = make(**limits)
    network = evaluation(latency=0.75)
    assert set(objective.violations(network.cost)) == {"macs", "params", "activations", "peak_memory"}
    assert objective.violations_after(network) == {"latency": 0.5}


def test_pareto_values_follow_the_metrics():
    objective = Pareto(metrics=["params", "accuracy", "latency"])
    assert objective.names == ("params", "accuracy", "latency")
    assert objective.directions == ("minimize", "maximize", "minimize")
    assert objective(evaluation(0.25, latency=0.125)) == (5e6, 0.25, 0.125)
    assert Pareto().directions == ("maximize", "minimize")
    assert hash(objective) == hash(Pareto(metrics=("params", "accuracy", "latency")))


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_yaml_gives_the_defaults_of_its_class(file: Path):
    objective: Objective = hydra.utils.instantiate(OmegaConf.load(file))
    assert objective == type(objective)()
    assert len(objective.names) == len(objective.directions)
    values = objective(evaluation(0.5))
    assert values == (0.5 if len(objective.names) == 1 else (0.5, 4e8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MnasNetReward(target="many"), r"target must be a number above 0, like 400e6 or \"400M\".*got 'many'"),
        (lambda: MnasNetReward(target=0), "target must be a number above 0.*got 0"),
        (lambda: MnasNetReward(target=True), "target must be a number above 0.*got True"),
        (lambda: MnasNetReward(w=0.07), r"w must be in \[-100, 0\], got 0.07"),
        (lambda: MnasNetReward(w=None), "w must be a finite number, got None"),
        (lambda: MnasNetReward(beta="-1"), "beta must be a finite number, got '-1'"),
        (lambda: MnasNetReward(metric="flops"), "metric: unknown 'flops'.*Choose one of: macs, params"),
        (lambda: Accuracy(max_macs="400 MB"), "max_macs must be a number above 0.*got '400 MB'"),
        (lambda: Accuracy(max_peak_memory=-1), "max_peak_memory must be a number above 0.*got -1"),
        (lambda: Accuracy(max_latency="5m"), "max_latency must be seconds above 0, like .* got .5m."),
        (lambda: Accuracy(max_latency=0), "max_latency must be seconds above 0"),
        (lambda: Pareto(metrics="accuracy"), "metrics must be a list of one or more of accuracy, macs.*got 'accuracy'"),
        (lambda: Pareto(metrics=[]), "metrics must be a list of one or more"),
        (lambda: Pareto(metrics=["accuracy", "mac"]), "metrics: unknown 'mac'. Did you mean 'macs'"),
        (lambda: Pareto(metrics=["macs", "accuracy", "macs"]), "metrics must differ, got macs, accuracy, macs"),
        (lambda: MnasNetReward(metric="latency", target=0.1)(evaluation()), "set evaluator.latency_batch"),
        (lambda: Pareto(metrics=["accuracy", "latency"])(evaluation()), "set evaluator.latency_batch"),
        (lambda: Accuracy(max_latency=1).violations_after(evaluation()), "set evaluator.latency_batch"),
    ],
)
def test_mistakes(make: Any, message: str):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "number"),
    [("400M", 4e8), ("1.5G", 1.5e9), ("600K", 6e5), ("600k", 6e5), ("2T", 2e12), (" 4e8 ", 4e8), (".5 M", 5e5), (7, 7)],
)
def test_quantities(text: Any, number: float):
    assert parse_quantity("x", text) == number


@pytest.mark.parametrize(
    "value", ["", "M", "400m", "1,5G", "-3M", "nan", "inf", "1e999", None, [1], math.nan, math.inf]
)
def test_what_is_no_quantity(value: Any):
    with pytest.raises(UserError, match="x must be a number above 0"):
        parse_quantity("x", value)


@pytest.mark.parametrize(
    ("metric", "text", "number"),
    [
        ("latency", "12ms", 0.012),
        ("latency", "0.5 s", 0.5),
        ("latency", "350us", 3.5e-4),
        ("latency", "0.02", 0.02),
        ("latency", 0.02, 0.02),
        ("peak_memory", "8M", 8e6),
        ("peak_memory", "8MB", 8e6),
        ("memory", "256 KiB", 262_144),
        ("memory", "512B", 512),
        ("macs", "6M", 6e6),
    ],
)
def test_costs_with_units(metric: str, text: Any, number: float):
    assert parse_cost("x", metric, text) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "value", "rule"),
    [
        ("latency", "12M", "x must be seconds above 0, like 0.012 or 12ms, got '12M'"),
        ("latency", "soon", "seconds above 0"),
        ("latency", 0, "seconds above 0"),
        ("latency", True, "seconds above 0"),
        ("peak_memory", "8ms", "x must be a number above 0, like 8e6, 8MB or 256KiB, got '8ms'"),
        ("memory", "iB", "a number above 0, like 8e6, 8MB"),
        ("macs", "8MB", "x must be a number above 0"),
    ],
)
def test_what_is_no_cost(metric: str, value: Any, rule: str):
    with pytest.raises(UserError, match=re.escape(rule)):
        parse_cost("x", metric, value)


def test_limits_with_units():
    limits = Accuracy(max_latency="12ms", max_peak_memory="256KiB")
    assert (limits.max_latency, limits.max_peak_memory) == (0.012, 262_144)
    with pytest.raises(UserError, match=r"target must be seconds above 0, like 0\.012 or 12ms, got '400M'"):
        MnasNetReward(metric="latency", target="400M")


def test_front_by_hand():
    accuracy_macs = [(0.9, 100), (0.8, 50), (0.8, 60), (0.7, 50), (0.95, 300), (0.9, 100), (math.nan, 1)]
    front = non_dominated(accuracy_macs, ("maximize", "minimize"))
    assert front.tolist() == [True, True, False, False, True, True, False]


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_front_agrees_with_its_definition(columns: int):
    rng = np.random.default_rng(columns)
    for rows in (1, 2, 7, 60):
        values = rng.integers(0, 6, size=(rows, columns)).astype(float)
        values[rng.random(values.shape) < 0.05] = np.inf
        directions = tuple(rng.choice(["maximize", "minimize"], size=columns))
        signed = [[v if d == "minimize" else -v for v, d in zip(row, directions, strict=True)] for row in values]
        expected = [
            not any(
                all(a <= b for a, b in zip(other, row, strict=True))
                and any(a < b for a, b in zip(other, row, strict=True))
                for other in signed
            )
            for row in signed
        ]
        assert non_dominated(values, directions).tolist() == expected


def test_front_of_nothing_and_of_what_does_not_fit():
    assert non_dominated(np.empty((0, 2)), ("maximize", "minimize")).tolist() == []
    assert non_dominated([], ("maximize",)).tolist() == []
    assert non_dominated([[math.nan, 1.0]], ("maximize", "minimize")).tolist() == [False]
    with pytest.raises(ValueError, match="do not fit"):
        non_dominated([[1.0, 2.0]], ("maximize",))
    with pytest.raises(ValueError, match="do not fit"):
        non_dominated([[1.0]], ("up",))
