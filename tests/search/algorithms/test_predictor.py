from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from effnas import load_space
from effnas.search.algorithms.evolution import Evolution
from effnas.search.algorithms.member_facts import SpaceKnown
from effnas.search.algorithms.predictor import Predictor
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.search.seeded import Seeded
from effnas.space.cost import cost
from effnas.space.errors import UserError

TWELVE: dict[str, BaseDistribution] = {f"d{i:02}": CategoricalDistribution([1, 2, 3]) for i in range(12)}
CIFAR = load_space("mobile_cifar")


def additive(seed: int) -> Callable[[Mapping[str, Any]], float]:
    weights = np.random.default_rng(seed).normal(size=(12, 3))
    best = weights.max(axis=1).sum()

    def value(params: Mapping[str, Any]) -> float:
        found = sum(weights[i, params[f"d{i:02}"] - 1] for i in range(12))
        # neighbours help each other
        found += 0.3 * sum(params[f"d{i:02}"] == params[f"d{i + 1:02}"] for i in range(11))
        return float(found / best)

    return value


def search(
    sampler: optuna.samplers.BaseSampler, value: Callable[[Mapping[str, Any]], float], trials: int
) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(trials):
        trial = study.ask(TWELVE)
        study.tell(trial, value(trial.params))
    return study


def accuracy_of(params: Mapping[str, Any]) -> tuple[float, Any]:
    """An invented accuracy that grows with the cost and likes squeeze and excitation."""
    costs = cost(CIFAR.build(params))
    wide = sum(float(value) for name, value in params.items() if name.endswith("se_ratio"))
    return 0.1 * np.log10(costs.macs) + 0.02 * wide, costs


# -- what it is for ----------------------------------------------------------------------------------


def test_half_the_trials_of_evolution_find_more() -> None:
    few = [search(Predictor(seed=seed), additive(seed), 40).best_value for seed in range(4)]
    many = [search(Evolution(seed=seed), additive(seed), 80).best_value for seed in range(4)]
    assert np.mean(few) > np.mean(many)


def test_knowing_the_costs_helps() -> None:
    def after(known: SpaceKnown | None, seed: int) -> float:
        objective = MnasNetReward(target="3M")
        study = optuna.create_study(direction="maximize", sampler=Predictor(known=known, seed=seed))
        for _ in range(25):
            trial = study.ask(CIFAR.distributions)
            accuracy, costs = accuracy_of(trial.params)
            study.tell(trial, accuracy * float(objective.factor(costs.macs)))
        return study.best_value

    known = SpaceKnown(CIFAR, MnasNetReward(target="3M"))
    assert np.mean([after(known, s) for s in range(3)]) > np.mean([after(None, s) for s in range(3)])


def test_no_member_beyond_a_known_limit_is_proposed() -> None:
    # 1 of 200 random members is below it
    macs = [cost(CIFAR.build(CIFAR.sample(np.random.default_rng(i)))).macs for i in range(400)]
    limit = float(np.quantile(macs, 0.005))
    study = optuna.create_study(
        direction="maximize", sampler=Predictor(known=SpaceKnown(CIFAR, Accuracy(max_macs=limit)), seed=0)
    )
    for _ in range(20):
        trial = study.ask(CIFAR.distributions)
        accuracy, costs = accuracy_of(trial.params)
        assert costs.macs <= limit
        study.tell(trial, accuracy)


def test_a_limit_that_evaluations_show_is_learned() -> None:
    value, study = additive(1), optuna.create_study(direction="maximize", sampler=Predictor(seed=1))
    inside = []
    for _ in range(50):
        trial = study.ask(TWELVE)
        slow = sum(trial.params.values()) / 22 - 1  # uniform members exceed it in 3 of 4 cases
        trial.set_constraint("latency", slow)
        study.tell(trial, value(trial.params))
        inside.append(slow <= 0)
    assert np.mean(inside[20:]) > 0.6
    assert np.mean(inside[20:]) > np.mean(inside[:10]) + 0.2


def test_several_objectives_give_a_front() -> None:
    def hypervolume(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for _ in range(60):
            trial = study.ask(CIFAR.distributions)
            accuracy, costs = accuracy_of(trial.params)
            study.tell(trial, (accuracy, costs.macs))
        points = sorted(t.values[::-1] for t in study.best_trials)
        area, last = 0.0, points[0][0]
        best = 0.0
        for macs, accuracy in [*points, (2e7, 0.0)]:
            area += (macs - last) * best
            best, last = max(best, accuracy), macs
        return area

    known = SpaceKnown(CIFAR, Pareto())
    ours = [hypervolume(Predictor(known=known, seed=seed)) for seed in range(2)]
    theirs = [hypervolume(Evolution(seed=seed)) for seed in range(2)]
    assert np.mean(ours) > np.mean(theirs)


def test_parallel_trials_of_a_front_lie_apart() -> None:
    known = SpaceKnown(CIFAR, Pareto())
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=Predictor(known=known, startup=8, seed=0))
    for _ in range(12):
        trial = study.ask(CIFAR.distributions)
        accuracy, costs = accuracy_of(trial.params)
        study.tell(trial, (accuracy, costs.macs))
    waiting = [study.ask(CIFAR.distributions).params for _ in range(5)]
    macs = np.sort([cost(CIFAR.build(params)).macs for params in waiting])
    assert (np.diff(np.log(macs)) > 0.01).all()  # each for another part of the front


def test_three_objectives_and_four() -> None:
    for directions in (["maximize", "minimize", "minimize"], ["maximize"] * 4):
        study = optuna.create_study(directions=directions, sampler=Predictor(startup=6, seed=1))
        for _ in range(16):
            trial = study.ask(TWELVE)
            parts = [float(sum(trial.params[f"d{i:02}"] for i in range(j, 12, 3))) for j in range(len(directions))]
            study.tell(trial, parts)
        assert len({tuple(t.params.values()) for t in study.trials}) == 16


def test_a_front_under_a_limit_that_evaluations_show() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=Predictor(startup=8, seed=2))
    value, inside = additive(2), []
    for _ in range(24):
        trial = study.ask(TWELVE)
        size = float(sum(trial.params.values()))
        trial.set_constraint("latency", size / 20 - 1)  # one of six uniform members meets it
        study.tell(trial, (value(trial.params), size))
        inside.append(size <= 20)
    assert np.mean(inside[12:]) > np.mean(inside[:8]) + 0.2


def test_no_exploration_takes_what_the_model_expects() -> None:
    def spread(exploration: float) -> float:
        sampler = Predictor(startup=8, exploration=exploration, seed=4)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        value = additive(4)
        for _ in range(14):
            trial = study.ask(TWELVE)
            study.tell(trial, (value(trial.params), float(trial.params["d00"])))
        rows = np.array([[t.params[n] for n in TWELVE] for t in study.trials])
        nearest = [(rows[i] != rows[:i]).sum(axis=1).min() for i in range(8, 14)]
        return float(np.mean(nearest))

    assert spread(0.0) < spread(30.0)


def test_the_lucky_one_is_not_the_best() -> None:
    value, rng = additive(3), np.random.default_rng(3)
    sampler = Predictor(seed=3)
    study = search(sampler, lambda params: value(params) + 0.3 * rng.standard_normal(), 60)
    estimates = sampler.estimates(study)
    assert set(estimates) == set(range(60))
    truth = {t.number: value(t.params) for t in study.trials}
    errors = [estimates[n] - truth[n] for n in truth]
    raw = [t.value - truth[t.number] for t in study.trials]
    assert np.std(errors) < 0.7 * np.std(raw)
    assert Seeded(Predictor, 0).estimates(study).keys() == estimates.keys()
    assert Seeded(Evolution, 0).estimates(study) == {}


# -- how it goes about it ----------------------------------------------------------------------------


def test_the_first_trials_are_spread_out() -> None:
    def nearest(sampler: optuna.samplers.BaseSampler) -> float:
        rows = np.array([[t.params[n] for n in TWELVE] for t in search(sampler, lambda params: 0.0, 10).trials])
        distance = np.abs(np.log(rows[:, None] / rows[None])).sum(axis=2) + 100 * np.eye(10)
        return float(distance.min(axis=1).mean())

    ours = [nearest(Predictor(seed=seed)) for seed in range(3)]
    assert min(ours) > max(nearest(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3))


def test_parallel_trials_differ_and_nothing_is_proposed_twice() -> None:
    study = optuna.create_study(direction="maximize", sampler=Predictor(startup=4, seed=0))
    value, seen = additive(0), set()
    for _ in range(8):
        trials = [study.ask(TWELVE) for _ in range(6)]
        seen |= {tuple(sorted(trial.params.items())) for trial in trials}
        for trial in trials:
            study.tell(trial, value(trial.params))
    assert len(seen) == 48


def test_a_small_space_is_exhausted_and_then_repeated() -> None:
    space = {"a": CategoricalDistribution([1, 2, 3]), "b": CategoricalDistribution(["x", "y"])}
    study = optuna.create_study(sampler=Predictor(startup=2, seed=0))
    for _ in range(8):
        trial = study.ask(space)
        study.tell(trial, float(trial.params["a"]))
    assert len({(t.params["a"], t.params["b"]) for t in study.trials[:6]}) == 6


def test_numbers_and_texts_and_a_cliff() -> None:
    space: dict[str, BaseDistribution] = {
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "depth": IntDistribution(1, 9),
        "kind": CategoricalDistribution(["a", "b", "c"]),
        "alone": CategoricalDistribution([7]),
    }

    def best(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler)
        for _ in range(40):
            trial = study.ask(space)
            loss = (np.log10(trial.params["rate"]) + 2) ** 2 + abs(trial.params["depth"] - 6)
            diverged = trial.params["rate"] > 0.05
            study.tell(trial, 1e9 if diverged else loss + (trial.params["kind"] != "b"))
        return study.best_value

    ours = [best(Predictor(seed=seed)) for seed in range(3)]
    theirs = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3)]
    assert max(ours) < 1
    assert np.mean(ours) < 0.5 * np.mean(theirs)


def test_infinite_values_and_failures_are_no_evaluations() -> None:
    study = optuna.create_study(direction="maximize", sampler=Predictor(startup=3, seed=0))
    value = additive(0)
    for _ in range(25):
        trial = study.ask(TWELVE)
        if trial.number % 3 == 0:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, -np.inf if trial.number % 5 == 0 else value(trial.params))
    assert study.best_value > np.median([t.value for t in study.trials if t.value not in (None, -np.inf)])


def test_canonical_members_are_proposed() -> None:
    space = load_space("mnasnet")
    study = optuna.create_study(direction="maximize", sampler=Predictor(known=SpaceKnown(space, Accuracy()), seed=0))
    for _ in range(14):
        trial = study.ask(space.distributions)
        if trial.number:
            assert space.canonical(trial.params) == trial.params
        study.tell(trial, cost(space.build(trial.params)).macs / 1e9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"startup": 0}, "startup must be at least 1"),
        ({"exploration": -1}, "exploration must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_settings(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Predictor(**options)
