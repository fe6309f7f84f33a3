"""Power laws with a floor, learned from many curves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from effnas.search.stopping.curves import Curve, fit_curves

STEPS = np.arange(1, 31, dtype=float)


def make_curves(count: int, seed: int, noise: float = 0.01) -> tuple[list[Curve], np.ndarray]:
    """Whole ones; what training images say of the floor is surer than what held-out ones say early on."""
    rng = np.random.default_rng(seed)
    floor = 0.3 + 0.03 * rng.standard_normal(count)
    depth = 0.4 + 0.15 * rng.standard_normal(count)
    heldout = floor[:, None] + depth[:, None] * STEPS**-0.7 + noise * rng.standard_normal((count, len(STEPS)))
    train = floor[:, None] - 0.1 + 0.5 * STEPS**-1.2 + noise * rng.standard_normal((count, len(STEPS)))
    return [Curve(STEPS, a, b) for a, b in zip(heldout, train, strict=True)], floor + depth * STEPS[-1] ** -0.7


def test_the_end_is_foretold_from_the_beginning() -> None:
    curves, ends = make_curves(120, 0)
    seen = [curve if i < 20 else curve.cut(5) for i, curve in enumerate(curves)]
    model = fit_curves(seen)
    mean, deviation = (columns[:, 0] for columns in model.predict(seen, STEPS[-1]))
    young = slice(20, None)
    last = np.array([curve.heldout[4] for curve in curves])
    assert kendalltau(mean[young], ends[young]).statistic > kendalltau(last[young], ends[young]).statistic + 0.1
    assert np.abs(mean[young] - ends[young]).mean() < 0.03
    inside = np.abs(mean[young] - ends[young]) < 2 * deviation[young]
    assert inside.mean() > 0.7
    assert deviation[:20].mean() < deviation[young].mean()


def test_without_training_images_it_serves_too() -> None:
    curves, ends = make_curves(60, 1)
    seen = [
        Curve(c.steps, c.heldout, np.full(len(c.steps), np.nan)).cut(30 if i < 15 else 8) for i, c in enumerate(curves)
    ]
    mean = fit_curves(seen).predict(seen, STEPS[-1])[0][:, 0]
    assert kendalltau(mean, ends).statistic > 0.6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_and_short_curves_give_numbers(count: int) -> None:
    curves, _ = make_curves(count, 2)
    for length in (1, 2, 30):
        seen = [curve.cut(length) for curve in curves]
        mean, deviation = fit_curves(seen).predict(seen, 30)
        assert np.isfinite(mean).all()
        assert (deviation >= 0).all()
    same = [Curve(STEPS[:3], np.full(3, 0.5), np.full(3, 0.5))] * 3
    assert np.isfinite(fit_curves(same).predict(same, 30)[0]).all()


def test_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="no curves"):
        fit_curves([])
