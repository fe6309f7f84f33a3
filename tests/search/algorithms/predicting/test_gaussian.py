from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from effnas.search.algorithms.predicting.gaussian import JITTER, GaussianProcess, Kernel, learn_kernel

KERNEL = Kernel(scales=np.array([0.5, 0.1, 0.02]), slopes=np.array([0.3, 0.3, 0.3]), amplitude=0.7, noise=0.05)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3))


def test_the_posterior_is_scikit_learns() -> None:
    values = np.sin(rows(40)).sum(axis=1) * 3 + 5
    ours = GaussianProcess(KERNEL, rows(40), values)
    kernel = ConstantKernel(0.7) * Matern(length_scale=1 / np.sqrt(KERNEL.scales), nu=2.5) + ConstantKernel(
        0.9 / 3
    ) * DotProduct(sigma_0=0.0, sigma_0_bounds="fixed")
    theirs = GaussianProcessRegressor(kernel, alpha=0.05 + JITTER, optimizer=None)
    theirs.fit(rows(40), (values - values.mean()) / values.std())
    mean, deviation = theirs.predict(rows(9, seed=1), return_std=True)
    found = ours.predict(rows(9, seed=1))
    assert found[0] == pytest.approx(mean * values.std() + values.mean(), rel=1e-8)
    assert found[1] == pytest.approx(deviation * values.std(), rel=1e-6)


def test_the_learned_kernel_knows_what_matters_and_how_noisy_it_is() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((150, 8))
    exact = np.sin(2 * table[:, 0]) + 0.5 * table[:, 1]
    for sd in (0.01, 0.3):
        values = exact + sd * rng.standard_normal(150)
        kernel = learn_kernel(table, (values - values.mean()) / values.std())
        assert np.sqrt(kernel.noise) * values.std() == pytest.approx(sd, rel=0.35 if sd > 0.1 else 3)
        assert kernel.scales[0] > 4 * kernel.scales[2:].max()


def test_it_predicts_better_than_a_straight_line_where_there_is_a_bend() -> None:
    table, new = rows(80), rows(200, seed=1)

    def truth(x: np.ndarray) -> np.ndarray:
        return np.asarray(x[:, 0] + np.abs(x[:, 1]))

    values = truth(table) + 0.1 * np.random.default_rng(2).standard_normal(80)
    process = GaussianProcess(learn_kernel(table, (values - values.mean()) / values.std()), table, values)
    mean, deviation = process.predict(new)
    line = np.linalg.lstsq(np.c_[table, np.ones(80)], values, rcond=None)[0]
    assert np.std(mean - truth(new)) < 0.4 * np.std(np.c_[new, np.ones(200)] @ line - truth(new))
    inside = np.abs(mean - truth(new)) < 2 * deviation
    assert inside.mean() > 0.8


def test_believing_keeps_the_mean_and_lowers_the_doubt() -> None:
    process = GaussianProcess(KERNEL, rows(10), rows(10)[:, 0])
    new = rows(3, seed=1)
    before, after = process.predict(new), process.believe(new).predict(new)
    assert after[0] == pytest.approx(before[0], abs=0.05)
    assert (after[1] < before[1]).all()


def test_equal_values_and_repeated_rows_do_not_break_it() -> None:
    table = np.repeat(rows(3), 5, axis=0)
    kernel = learn_kernel(table, np.zeros(15))
    mean, deviation = GaussianProcess(kernel, table, np.full(15, 2.0)).predict(rows(4))
    assert mean == pytest.approx(np.full(4, 2.0))
    assert np.isfinite(deviation).all()


def test_bends_count_little_until_the_values_show_one() -> None:
    rng = np.random.default_rng(0)
    line = rng.standard_normal((60, 4))
    table = np.hstack([line, line**2 - 1])
    bends = np.arange(8) >= 4

    def relevance(values: np.ndarray) -> float:
        kernel = learn_kernel(table, (values - values.mean()) / values.std(), bends)
        return float(kernel.slopes[bends].sum() / kernel.slopes.sum())

    straight = line @ np.array([1.0, -1.0, 0.5, 0.5]) + 0.1 * rng.standard_normal(60)
    assert relevance(straight) < 0.1
    assert relevance(straight + 2 * (line**2).sum(axis=1)) > 0.4
