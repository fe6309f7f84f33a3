"""How well columns rank: against scipy, published numbers and known noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from effnas.evaluate.accel_archive import benchmark_space, read_archive
from effnas.search.rank.competitors import judge_predictor, make_features
from effnas.search.rank.statistics import (
    bootstrap,
    expect_tau,
    find_ceiling,
    kendall,
    kendall_equal,
    kendall_top,
    list_best,
    overlap,
)
from effnas.space.cost import cost_batch
from effnas.space.space import load_space


def test_the_counts_of_a_published_table(shared_data: Path) -> None:
    """Accel-NASBench: parameters .620, expansion times layers .657; at equal MACs parameters .54, gates .25."""
    archive, space = read_archive(str(shared_data / "accel_nasbench")), benchmark_space()
    truth, costs = np.asarray(archive.accuracy), cost_batch(space.batch(archive.indices))
    chosen = {n: np.array(c, float)[archive.indices[:, i]] for i, (n, c) in enumerate(space.choices.items())}
    params, macs = costs.params.astype(float), costs.macs.astype(float)
    layers = sum(chosen[f"block{i}_e"] * chosen[f"block{i}_l"] for i in range(7))
    gates = sum(chosen[f"block{i}_se"] for i in range(7))
    assert kendall(params, truth) == pytest.approx(0.620, abs=0.001)
    assert kendall(layers, truth) == pytest.approx(0.657, abs=0.001)
    assert kendall_equal(params, truth, macs)[0] == pytest.approx(0.537, abs=0.01)
    assert kendall_equal(gates, truth, macs)[0] == pytest.approx(0.25, abs=0.01)


def test_the_bootstrap_is_that_of_drawn_rows() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(6, size=40).astype(float)  # with ties
    y = x + 3 * rng.standard_normal(40)
    found = bootstrap(x, y)
    assert found.value == pytest.approx(kendalltau(x, y).statistic)
    drawn = []
    for _ in range(1500):
        rows = rng.integers(40, size=40)
        drawn.append(kendalltau(x[rows], y[rows]).statistic)
    assert found.low == pytest.approx(np.percentile(drawn, 2.5), abs=0.02)
    assert found.high == pytest.approx(np.percentile(drawn, 97.5), abs=0.02)


def test_the_interval_has_the_truth_in_it() -> None:
    """In about 95 of 100 samples of 60 from a normal population whose τ is known."""
    rng, tau = np.random.default_rng(0), 2 / math.pi * math.asin(0.7)
    inside = 0
    for i in range(100):
        x, other = rng.standard_normal((2, 60))
        found = bootstrap(x, 0.7 * x + math.sqrt(1 - 0.49) * other, draws=400, seed=i)
        inside += found.low <= tau <= found.high
    assert 88 <= inside <= 99


@pytest.mark.parametrize("count", [2, 4])
def test_known_noise_gives_the_known_ceiling(count: int) -> None:
    """The truth's own τ with the mean of the seeds, and one more training's, without looking at the truth."""
    rng = np.random.default_rng(count)
    ceilings, reached, again, expected = [], [], [], []
    for noise in (0.3, 1.0):
        for _ in range(6):
            truth = rng.standard_normal(400)
            columns = [truth + noise * rng.standard_normal(400) for _ in range(count)]
            ceiling = find_ceiling(columns)
            ceilings.append(ceiling.best)
            reached.append(kendall(truth, np.mean(columns, axis=0)))
            again.append(kendall(truth + noise * rng.standard_normal(400), np.mean(columns, axis=0)))
            expected.append(expect_tau(columns, ceiling))
        assert np.mean(ceilings) == pytest.approx(np.mean(reached), abs=0.02)
        assert np.mean(expected) == pytest.approx(np.mean(again), abs=0.02)


def test_ceilings_at_the_ends() -> None:
    column = np.arange(20.0)
    assert find_ceiling([column, column]).best == pytest.approx(1)
    assert find_ceiling([column, -column]) == (pytest.approx(-1), 0)
    assert math.isnan(find_ceiling([column, np.ones(20)]).best)


def test_the_top_and_what_is_found_of_it() -> None:
    truth = np.arange(100.0)
    judged = truth.copy()
    judged[90:] = judged[90:][::-1]
    assert kendall_top(judged, truth) == pytest.approx(-1)
    assert overlap(judged, truth) == 1
    assert overlap(-truth, truth) == 0
    assert overlap(np.where(truth >= 95, truth, -truth), truth) == 0.5
    assert math.isnan(kendall_top(judged[:40], truth[:40]))  # four are too few
    assert list_best(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [1, 2]


def test_equal_macs_are_those_of_one_bin() -> None:
    macs = np.array([1e6] * 4 + [2e6] * 4)
    truth = np.array([1.0, 2, 3, 4, 11, 12, 13, 14])
    value = np.array([4.0, 3, 2, 1, 14, 13, 12, 11])  # right between the bins, wrong inside
    assert kendall(value, truth) > 0
    assert kendall_equal(value, truth, macs) == (-1, 12)
    assert math.isnan(kendall_equal(value, truth, np.geomspace(1e6, 1e9, 8))[0])


def test_the_predictor_learns_with_trainings() -> None:
    space, rng = load_space("tiny"), np.random.default_rng(0)
    decisions = [space.sample(rng) for _ in range(90)]
    networks = [space.build(one) for one in decisions]
    features = make_features(decisions, networks)
    truth = features @ rng.standard_normal(features.shape[1])
    known = truth + 0.5 * rng.standard_normal(90)
    macs = np.ones(90)
    few, many = (judge_predictor(features, known, truth, macs, count) for count in (10, 60))
    assert few is not None
    assert many is not None
    assert few["tau"] < many["tau"]
    assert many["tau"] > 0.7
    assert many["interval"].low < many["tau"] < many["interval"].high
    assert judge_predictor(features, known, truth, macs, 4) is None
    assert judge_predictor(features, known, truth, macs, 85) is None
    nothing = judge_predictor(features, rng.standard_normal(90), truth, macs, 40)
    assert nothing is not None
    assert abs(nothing["tau"]) < 0.25
