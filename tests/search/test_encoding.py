from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from effnas.search.encoding import LEVELS, Encoding

SPACE: dict[str, BaseDistribution] = {
    "expand": CategoricalDistribution([1, 4, 6]),
    "kernel": CategoricalDistribution([3, 5]),
    "se": CategoricalDistribution([False, True]),
    "skip": CategoricalDistribution(["none", "identity", "pool"]),
    "count": IntDistribution(2, 8, step=2),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
}


def test_rows_and_params_are_inverse() -> None:
    encoding = Encoding(SPACE)
    assert encoding.sizes.tolist() == [3, 2, 2, 3, 4, LEVELS]
    rows = encoding.random(50, np.random.default_rng(0))
    params = [encoding.params(row) for row in rows]
    assert np.array_equal(encoding.rows(params), rows)
    for vector in params:
        for name, distribution in SPACE.items():
            assert distribution._contains(distribution.to_internal_repr(vector[name]))
    assert type(params[0]["count"]) is int
    assert type(params[0]["rate"]) is float


def test_a_number_between_two_levels_gets_the_nearest() -> None:
    encoding = Encoding({"x": FloatDistribution(0.0, 32.0)})
    assert encoding.rows([{"x": 4.4}, {"x": 4.6}, {"x": 32.0}])[:, 0].tolist() == [4, 5, 32]


@pytest.mark.parametrize(
    ("distribution", "levels"),
    [
        (IntDistribution(0, 3), (0, 1, 2, 3)),
        (FloatDistribution(0.0, 1.0, step=0.5), (0.0, 0.5, 1.0)),
        (CategoricalDistribution(["a", None]), ("a", None)),
    ],
)
def test_levels(distribution: BaseDistribution, levels: tuple[Any, ...]) -> None:
    assert Encoding({"x": distribution}).levels == (levels,)


def test_many_values_become_33_levels_with_both_ends() -> None:
    levels = Encoding({"x": IntDistribution(0, 1000)}).levels[0]
    assert len(levels) == LEVELS
    assert (levels[0], levels[-1]) == (0, 1000)


def test_features_are_standardised_numbers_logarithms_and_one_hot() -> None:
    encoding = Encoding({name: SPACE[name] for name in ("expand", "kernel", "se", "skip")})
    features = encoding.features(
        encoding.rows([{"expand": e, "kernel": 3, "se": True, "skip": "none"} for e in (1, 4, 6)])
    )
    assert features.shape == (3, 2 + 1 + 1 + 3)
    logs = np.log([1, 4, 6])
    line, bend = features[:, 0], features[:, 1]
    assert line == pytest.approx((logs - logs.mean()) / logs.std())
    assert [bend.mean(), bend.std(), (line * bend).mean()] == pytest.approx([0, 1, 0], abs=1e-12)
    assert encoding.bends.tolist() == [False, True, False, False, False, False, False]
    assert features[0, 2:4].tolist() == [-1.0, 1.0]
    assert features[0, 4:] == pytest.approx([math.sqrt(2), -math.sqrt(0.5), -math.sqrt(0.5)])


def test_neighbours_are_all_rows_that_differ_in_one_level() -> None:
    encoding = Encoding({name: SPACE[name] for name in ("expand", "kernel", "skip")})
    row = np.array([1, 0, 2])
    moves = encoding.list_neighbours(row)
    assert len(moves) == 2 + 1 + 2
    assert ((moves != row).sum(axis=1) == 1).all()
    assert len(np.unique(moves, axis=0)) == len(moves)


def test_a_crossing_takes_each_level_from_a_parent() -> None:
    encoding = Encoding({f"x{i}": CategoricalDistribution([0, 1, 2]) for i in range(6)})
    children = encoding.cross_rows(np.array([[0] * 6, [2] * 6]), 100, np.random.default_rng(0))
    assert set(np.unique(children)) == {0, 2}
    assert len(np.unique(children, axis=0)) > 30
