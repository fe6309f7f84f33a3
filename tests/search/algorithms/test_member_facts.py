from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler

from effnas import load_space
from effnas.evaluate.evaluation import Evaluation
from effnas.search.algorithms.member_facts import SpaceKnown, inform_algorithm
from effnas.search.algorithms.predictor import Predictor
from effnas.search.objective import Accuracy, MnasNetReward, Objective, Pareto
from effnas.space.cost import cost

SPACE = load_space("mobile_cifar")


def members(count: int = 5) -> tuple[np.ndarray, list[Any]]:
    indices = SPACE.sample_indices(count, np.random.default_rng(0))
    return indices, [cost(SPACE.build(SPACE.decisions(row))) for row in indices]


def facts(objective: Objective) -> Any:
    indices, _ = members()
    return SpaceKnown(SPACE, objective).facts({name: indices[:, i] for i, name in enumerate(SPACE.choices)})


def test_features_are_logarithms_of_the_costs() -> None:
    _, costs = members()
    expected = [[np.log(c.macs), np.log(c.params), np.log(c.activations)] for c in costs]
    assert facts(Accuracy()).features == pytest.approx(np.array(expected))


@pytest.mark.parametrize("objective", [MnasNetReward(target="3M"), MnasNetReward(metric="params", target=1e5, beta=-1)])
def test_accuracy_times_factor_is_the_reward(objective: MnasNetReward) -> None:
    _, costs = members()
    found = facts(objective)
    assert np.isnan(found.exact).all()
    rewards = [objective(Evaluation(0.5, c)) for c in costs]
    assert 0.5 * found.factors[:, 0] == pytest.approx(rewards)


def test_costs_among_several_objectives_are_exact() -> None:
    _, costs = members()
    found = facts(Pareto(metrics=["params", "accuracy", "latency"]))
    assert found.exact[:, 0].tolist() == [c.params for c in costs]
    assert np.isnan(found.exact[:, 1:]).all()
    assert (found.factors == 1).all()


def test_a_reward_on_latency_is_learned_as_it_is() -> None:
    assert (facts(MnasNetReward(metric="latency", target=0.1)).factors == 1).all()


def test_excess_is_the_worst_limits() -> None:
    _, costs = members()
    objective = Accuracy(max_macs=3e6, max_params=2e5)
    worst = [max(objective.violations(c).values()) for c in costs]
    assert facts(objective).excess == pytest.approx(np.array(worst))
    assert (facts(Accuracy()).excess <= 0).all()


def test_a_parameter_left_out_has_its_first_choice() -> None:
    name = next(iter(SPACE.choices))
    first = {n: labels[0] for n, labels in SPACE.choices.items()}
    known = SpaceKnown(SPACE, Accuracy())
    assert known.facts({name: np.array([0])}).features[0, 0] == pytest.approx(np.log(cost(SPACE.build(first)).macs))
    assert known.canonical({name: SPACE.choices[name][-1]}) == SPACE.canonical({**first, name: SPACE.choices[name][-1]})


def test_only_algorithms_that_ask_are_told() -> None:
    told = inform_algorithm(partial(Predictor, startup=3), SPACE, Accuracy())
    assert told.keywords["known"] == SpaceKnown(SPACE, Accuracy())  # type: ignore[attr-defined]
    assert inform_algorithm(RandomSampler, SPACE, Accuracy()) is RandomSampler
    assert inform_algorithm(Predictor, object(), Accuracy()) is Predictor
