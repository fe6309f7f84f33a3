from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from effnas.search.algorithms.predicting.improvement import divide_region

REFERENCE = np.zeros(2)
FRONT = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 1.0], [1.5, 2.0], [-1.0, 9.0]])  # one dominated, one outside


def test_what_is_known_adds_what_it_dominates() -> None:
    points = np.array([[3.0, 4.0], [0.5, 0.5], [5.0, 0.5], [0.5, 7.0], [1.0, 5.0], [-1.0, 8.0], [9.0, 9.0]])
    gains = divide_region(FRONT, REFERENCE).expect_gain(points, np.zeros_like(points))
    # by hand: the area under each point that is not under the front
    assert gains == pytest.approx([4.0, 0.0, 0.5, 1.0, 0.0, 0.0, 81 - (5 + 3 + 2)])


def test_with_a_known_cost_it_is_the_integral_of_the_expected_improvement() -> None:
    mean, deviation, cost = 2.5, 0.8, 3.0
    found = divide_region(FRONT, REFERENCE).expect_gain(np.array([[mean, cost]]), np.array([[deviation, 0.0]]))
    grid = np.linspace(0, cost, 20_001)
    middle = (grid[1:] + grid[:-1]) / 2
    # at each cost it dominates, what exceeds the best of the front there
    best = np.array([max([one for one, second in FRONT if second >= at and one > 0], default=0.0) for at in middle])
    ratio = (mean - best) / deviation
    improvement = (mean - best) * norm.cdf(ratio) + deviation * norm.pdf(ratio)
    widths = np.array([b - a for a, b in pairwise(grid)])
    assert found[0] == pytest.approx(float(improvement @ widths), rel=1e-3)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_expectation_is_the_mean_of_the_gains(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    boxes = divide_region(rng.uniform(0, 1, (12, objectives)), np.full(objectives, -0.1))
    mean, deviation = np.full(objectives, 0.7), np.linspace(0.1, 0.3, objectives)
    draws = rng.normal(mean, deviation, (40_000, objectives))
    sampled = boxes.expect_gain(draws, np.zeros_like(draws))
    (expected,) = boxes.expect_gain(mean[None], deviation[None])
    assert expected == pytest.approx(sampled.mean(), abs=4 * sampled.std() / 200)


def test_nothing_above_the_reference_leaves_all_of_it() -> None:
    boxes = divide_region(np.array([[-1.0, -1.0]]), REFERENCE)
    assert boxes.expect_gain(np.array([[2.0, 3.0]]), np.zeros((1, 2))) == pytest.approx([6.0])


def test_a_tiny_deviation_is_none() -> None:
    points = np.array([[3.0, 4.0], [0.5, 0.5]])
    boxes = divide_region(FRONT, REFERENCE)
    with np.errstate(all="raise", under="ignore"):
        close = boxes.expect_gain(points, np.full((2, 2), 1e-9))
    assert close == pytest.approx(boxes.expect_gain(points, np.zeros((2, 2))), abs=1e-8)
