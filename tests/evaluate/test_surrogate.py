"""The kernel ridge ensemble: its cross-validation against one done by hand, its spread, its cache file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.kernel_ridge import KernelRidge

from effnas.evaluate import surrogate
from effnas.evaluate.surrogate import FOLDS, Surrogate, fit


def sample(rows: int, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Something that adds up, something that does not, and noise."""
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 3, size=(rows, 6)).astype(float) + rng.normal(0, 1e-3, size=(rows, 6))
    values = features @ np.arange(1.0, 7.0) + 2 * features[:, 0] * features[:, 1] + noise * rng.standard_normal(rows)
    return features, values / 100


def test_members_are_kernel_ridge_regressions_that_never_saw_their_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    # scikit-learn's kernel ridge with the same kernel on the same rows, fold by fold
    monkeypatch.setattr(surrogate, "KERNELS", ("rbf",))
    features, values = sample(120)
    found = fit(features, values)
    folds = np.random.default_rng(0).permutation(120) % FOLDS
    table = (features - features.mean(axis=0)) / features.std(axis=0)
    target = (values - values.mean()) / values.std()
    new = (sample(7, seed=9)[0] - features.mean(axis=0)) / features.std(axis=0)
    taus, members, errors = [], [], []
    for fold in range(FOLDS):
        model = KernelRidge(alpha=found.ridge, kernel="rbf", gamma=found.scale / 6)
        model.fit(table[folds != fold], target[folds != fold])
        held_out = model.predict(table[folds == fold])
        taus.append(kendalltau(held_out, target[folds == fold]).statistic)
        errors.append(held_out - target[folds == fold])
        members.append(model.predict(new) * values.std() + values.mean())
    assert found.tau == pytest.approx(np.mean(taus), abs=1e-9)
    assert found.r2 == pytest.approx(1 - np.mean(np.concatenate(errors) ** 2), abs=1e-6)
    mean, error = found.predict(sample(7, seed=9)[0])
    assert mean == pytest.approx(np.mean(members, axis=0), abs=1e-7)
    jackknife = np.sqrt((FOLDS - 1) / FOLDS * ((np.array(members) - np.mean(members, axis=0)) ** 2).sum(axis=0))
    assert error == pytest.approx(jackknife, abs=1e-7)


def test_the_spread_grows_away_from_what_was_seen() -> None:
    features, values = sample(200, noise=1.0)
    found = fit(features, values)
    near, far = found.predict(features)[1], found.predict(features + 20)[1]
    assert 0 < np.median(near) < np.median(far)


def test_predictions_are_better_than_the_mean_and_the_record_says_how_good() -> None:
    features, values = sample(300, noise=1.0)
    found = fit(features, values)
    unseen, truth = sample(500, seed=1)
    errors = found.predict(unseen)[0] - truth
    assert 1 - (errors**2).mean() / truth.var() > 0.95
    assert found.rmse == pytest.approx(np.sqrt((errors**2).mean() + (1.0 / 100) ** 2), rel=0.3)


def test_a_saved_fit_predicts_the_same(tmp_path: Path) -> None:
    found = fit(*sample(60))
    found.save(tmp_path / "deep" / "fit.npz")
    again = Surrogate.load(tmp_path / "deep" / "fit.npz")
    assert again is not None
    assert (again.kernel, again.tau) == (found.kernel, found.tau)
    for ours, theirs in zip(found.predict(sample(9)[0]), again.predict(sample(9)[0]), strict=True):
        assert np.array_equal(ours, theirs)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["fit.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_fit_is_fitted_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fit.npz").write_bytes(content)
    assert Surrogate.load(tmp_path / "fit.npz") is None
    assert Surrogate.load(tmp_path / "none.npz") is None


def test_a_pickle_in_the_file_does_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "fit.npz", kernel=np.array([print], dtype=object))
    assert Surrogate.load(tmp_path / "fit.npz") is None


def test_too_little_to_learn_from() -> None:
    with pytest.raises(ValueError, match="20 or more rows with different values are needed, got 19"):
        fit(*sample(19))
    with pytest.raises(ValueError, match="different values"):
        fit(sample(40)[0], np.ones(40))
