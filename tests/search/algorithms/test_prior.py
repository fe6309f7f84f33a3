from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from effnas import Architecture, load_architecture, load_space, run_search
from effnas.evaluate import Evaluation
from effnas.search.algorithms.evolution import Evolution
from effnas.search.algorithms.known_network import locate_network
from effnas.search.algorithms.local import LocalSearch
from effnas.search.algorithms.member_facts import SpaceKnown
from effnas.search.algorithms.predictor import Predictor
from effnas.search.algorithms.prior import Prior
from effnas.search.encoding import Encoding
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.search.seeded import Seeded
from effnas.space.cost import cost
from effnas.space.errors import UserError

TWELVE: dict[str, BaseDistribution] = {f"d{i:02}": CategoricalDistribution([1, 2, 3]) for i in range(12)}
GOOD, BAD = dict.fromkeys(TWELVE, 3), dict.fromkeys(TWELVE, 1)
ALGORITHMS: list[Callable[..., optuna.samplers.BaseSampler]] = [Predictor, Evolution, LocalSearch]
ACCEL, TINY = load_space("accel_nasbench"), load_space("tiny")


def value_of(params: Mapping[str, Any]) -> float:
    return sum(params[name] * (1 + 0.3 * i) for i, name in enumerate(TWELVE)) / 100


def search(
    algorithm: Callable[..., optuna.samplers.BaseSampler], trials: int, seed: int = 0, objectives: int = 1
) -> optuna.Study:
    directions = ["maximize", "minimize"][:objectives]
    study = optuna.create_study(directions=directions, sampler=Seeded(algorithm, seed))
    for _ in range(trials):
        trial = study.ask(TWELVE)
        size = float(sum(trial.params.values()))
        study.tell(trial, [value_of(trial.params), size][:objectives])
    return study


def distances(study: optuna.Study, prior: Mapping[str, Any]) -> list[int]:
    return [sum(t.params[name] != value for name, value in prior.items()) for t in study.trials]


# -- what it does to a search ------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_trial_is_the_prior_and_the_next_are_around_it(algorithm: Callable[..., Any]) -> None:
    study = search(partial(algorithm, prior=GOOD), 9, seed=1)
    far = distances(study, GOOD)
    assert far[0] == 0
    assert np.mean(far[1:]) < np.mean(distances(search(algorithm, 9, seed=1), GOOD)[1:]) - 2
    assert max(far) > 5  # some take no notice of it
    assert len({tuple(t.params.values()) for t in study.trials}) == 9


@pytest.mark.parametrize("objectives", [1, 2])
def test_a_bad_prior_is_made_up_for(objectives: int) -> None:
    def after(prior: Mapping[str, Any] | None, trials: int, seed: int) -> float:
        study = search(partial(Predictor, prior=prior), trials, seed, objectives)
        return max(t.values[0] for t in study.trials)

    bad = [after(BAD, 26, seed) for seed in range(2)]
    none = [after(None, 16, seed) for seed in range(2)]
    assert np.mean(bad) >= np.mean(none)
    assert after(GOOD, 1, 0) >= max(none)


def test_evidence_against_it_ends_the_prior() -> None:
    prior = Prior(Encoding(TWELVE), BAD)
    rows = np.array([[0] * 12, [0] * 11 + [1], [2] * 12, [1] * 12])
    worse, better = np.array([[0.1], [0.2], [0.9], [0.8]]), np.array([[0.9], [0.8], [0.1], [0.2]])
    assert prior.is_refuted(rows, worse)
    assert not prior.is_refuted(rows, better)
    assert not prior.is_refuted(rows[1:], worse[1:])  # one row is no evidence
    both = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert not prior.is_refuted(rows, both)  # none is dominated
    assert [round(prior.fade(n), 3) for n in (0, 3, 6)] == [1.0, 0.472, 0.05]
    assert prior.fade(12) == 0.0


def test_the_density_falls_with_every_decision() -> None:
    prior = Prior(Encoding(TWELVE), {"d00": 2, "d01": 3})
    rows = np.array([[1, 2, *[0] * 10], [1, 0, *[0] * 10], [0, 0, *[0] * 10]])
    assert prior.log_density(rows) == pytest.approx([0, -np.log(13), -2 * np.log(13)])
    drawn = prior.draw(500, np.random.default_rng(0))
    assert (drawn[:, 0] == 1).mean() == pytest.approx(0.8 + 0.2 / 3, abs=0.05)
    assert (drawn[:, 5] == 1).mean() == pytest.approx(1 / 3, abs=0.07)  # nothing is known of it


def test_a_search_with_a_prior_depends_on_seed_and_history_alone() -> None:
    whole = search(partial(Predictor, prior=GOOD, startup=5), 14, seed=3)
    parts = optuna.create_study(direction="maximize", sampler=Seeded(partial(Predictor, prior=GOOD, startup=5), 3))
    for trial in whole.trials[:9]:
        parts.add_trial(trial)
    again = optuna.create_study(direction="maximize", sampler=Seeded(partial(Predictor, prior=GOOD, startup=5), 3))
    for _ in range(14):
        trial = again.ask(TWELVE)
        again.tell(trial, value_of(trial.params))
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]
    asked = parts.ask(TWELVE)
    assert asked.params == whole.trials[9].params


def test_a_prior_beyond_a_limit_is_brought_inside() -> None:
    network = load_architecture("efficientnet_b0")
    decisions = locate_network(ACCEL, network).decisions
    objective = Accuracy(max_macs="300M")
    sampler = Predictor(known=SpaceKnown(ACCEL, objective), prior=decisions, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(5):
        trial = study.ask(ACCEL.distributions)
        macs = cost(ACCEL.build(trial.params)).macs
        assert macs <= 300e6
        study.tell(trial, macs / 1e9)
    assert sum(study.trials[0].params[name] != value for name, value in decisions.items()) <= 4


def test_numbers_have_a_prior_too() -> None:
    space: dict[str, BaseDistribution] = {"rate": FloatDistribution(1e-4, 1, log=True), **TWELVE}
    study = optuna.create_study(direction="maximize", sampler=Predictor(prior={"rate": 0.01, "other": 5}, seed=0))
    for _ in range(6):
        trial = study.ask(space)
        study.tell(trial, trial.params["rate"])
    assert study.trials[0].params["rate"] == 0.01
    assert np.median([abs(np.log10(t.params["rate"]) + 2) for t in study.trials]) < 0.2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_sampler_takes_parameters_by_name(algorithm: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="prior must be parameters by name where a sampler is made outside a search"):
        algorithm(prior="efficientnet_b0")


def test_a_value_that_is_none_of_the_parameters() -> None:
    with pytest.raises(UserError, match=r"prior: d00 must be a value of CategoricalDistribution\(.*\), got 9"):
        search(partial(Predictor, prior={"d00": 9}), 2)


# -- where the network is ----------------------------------------------------------------------------


def test_a_member_is_found_as_it_is(tmp_path: Path) -> None:
    b0 = load_architecture("efficientnet_b0")
    found = locate_network(ACCEL, "efficientnet_b0")
    assert ACCEL.build(found.decisions).digest == b0.digest
    assert found.differences == ()
    assert found.explain() == "prior: efficientnet_b0 (in the space)"
    b0.save(tmp_path / "own.yaml")
    assert locate_network(ACCEL, tmp_path / "own.yaml").decisions == found.decisions
    assert locate_network(ACCEL, b0).decisions == found.decisions
    (tmp_path / "decisions.yaml").write_text(json.dumps(found.decisions))
    assert locate_network(ACCEL, str(tmp_path / "decisions.yaml")).decisions == found.decisions
    assert locate_network(ACCEL, found.decisions).decisions == found.decisions


def test_the_nearest_member_is_named_with_what_it_lacks() -> None:
    space = load_space("mnasnet")
    found = locate_network(space, "efficientnet_b0")
    member = space.build(found.decisions)
    assert [stage.kernel_size for stage in member.stages[1:]] == [3, 5, 3, 5, 5, 3]
    assert [stage.repeats for stage in member.stages[1:]] == [2, 2, 3, 3, 4, 1]
    assert "stages 4 channels: 112 → 120" in found.differences
    assert "efficientnet_b0 is not in the space; the nearest member differs in " in found.explain()
    assert space.canonical(found.decisions) == found.decisions


def test_some_decisions_are_enough() -> None:
    assert locate_network(ACCEL, {"block3_k": 5}).decisions == {"block3_k": 5}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            "efficientnet_b0",
            "efficientnet_b0 is outside the space tiny: it has 7 stages, and the space's networks have 3",
        ),
        ("mobilenet_v3_large", "outside the space tiny: it is made by .*, and the space's networks are a network of 3"),
        ("efficientnet_b00", "prior: architecture: 'efficientnet_b00' is not a network of the zoo"),
        ({}, "prior: no decision is given; space tiny has "),
        ({"block9_k": 5}, "prior: space tiny: decision: unknown 'block9_k'"),
        ({next(iter(TINY.choices)): 77}, "prior: space tiny: .*: unknown '77'"),
        (7, "prior must be a network's name, a file, or decisions by name, got 7"),
    ],
)
def test_what_is_no_prior(given: object, text: str) -> None:
    with pytest.raises(UserError, match=text):
        locate_network(TINY, given)


# -- in a search -------------------------------------------------------------------------------------


def evaluate(architecture: Architecture, *, seed: int, report: Callable[..., None]) -> Evaluation:
    return Evaluation(accuracy=0.5 + 0.1 * np.tanh(architecture.cost.macs / 1e6), cost=architecture.cost)


def test_a_search_begins_around_the_network_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = TINY.build(TINY.sample(np.random.default_rng(5)))
    network.save(tmp_path / "good.yaml")
    begun = partial(Predictor, prior=str(tmp_path / "good.yaml"))
    settings: dict[str, Any] = {"objective": MnasNetReward(target="1M"), "output": tmp_path / "out"}
    summary = run_search(TINY, evaluate, algorithm=begun, trials=3, **settings)
    assert "in the space" in capsys.readouterr().err
    assert summary["prior"]["decisions"] == TINY.decisions_of(network)
    assert TINY.build({n: summary.trials.iloc[0][f"decision.{n}"] for n in TINY.choices}).digest == network.digest
    capsys.readouterr()
    with pytest.raises(UserError, match=r"holds another search .*prior"):
        run_search(TINY, evaluate, algorithm=partial(Predictor, prior={"block0_kernel_size": 3}), trials=4, **settings)
    capsys.readouterr()
    assert run_search(TINY, evaluate, algorithm=begun, trials=4, quiet=True, **settings)["trials"] == 4
    assert capsys.readouterr().err == ""


def test_several_objectives_and_an_algorithm_without(tmp_path: Path) -> None:
    network = TINY.build(TINY.sample(np.random.default_rng(6)))
    found = run_search(
        TINY, evaluate, Pareto(), partial(Predictor, prior=network), trials=3, quiet=True, output=tmp_path / "front"
    )
    assert found["prior"]["decisions"] == TINY.decisions_of(network)
    files = (Path(__file__).resolve().parents[3] / "conf" / "algorithm").glob("*.yaml")
    taking = {file.stem for file in files if "prior" in yaml.safe_load(file.read_text())}
    assert taking == {"auto", "predictor", "evolution", "local"}
    with pytest.raises(
        UserError, match="algorithm RandomSampler takes no prior; auto, predictor, evolution and local do"
    ):
        run_search(
            TINY,
            evaluate,
            algorithm=partial(optuna.samplers.RandomSampler, prior="efficientnet_b0"),
            trials=3,
            output=tmp_path / "random",
        )
