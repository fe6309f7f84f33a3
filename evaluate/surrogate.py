"""Kernel ridge regression that knows how far to trust itself: an ensemble of its cross-validation's folds."""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.stats import kendalltau

Array = NDArray[np.float64]

FOLDS = 10
#: Rows that the kernel is first chosen on; the best few of these are compared on all rows.
CHOICE_ROWS = 1000
FINALISTS = 3
SCALES = (0.05, 0.1, 0.2, 0.4)
RIDGES = (0.001, 0.003, 0.01)


def _kernel(name: str, scale: float, first: Array, second: Array) -> Array:
    """Between the rows of two standardised tables; distances are mean squares over the columns."""
    dot: Array = first @ second.T / first.shape[1]
    if name == "quadratic":
        return np.asarray((1 + scale * dot) ** 2)
    squares = np.maximum(
        (first**2).mean(axis=1)[:, None] + (second**2).mean(axis=1)[None] - 2 * dot,
        0,
    )
    if name == "rbf":
        return np.asarray(np.exp(-scale * squares))
    distance = np.sqrt(5 * squares) * scale  # Matérn 5/2
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


KERNELS = ("quadratic", "rbf", "matern52")


@dataclass(frozen=True)
class Surrogate:
    """A fitted ensemble: member k was fitted without fold k, on which it was judged.

    Args:
        kernel, scale, ridge: chosen by cross-validation (:func:`fit`).
        rows: networks it was fitted on.
        tau: Kendall's rank correlation of predictions and values on held-out networks, mean over the folds.
        r2: share of the variance explained on held-out networks.
        rmse: root mean square error on held-out networks, in the unit of the values.
        center, width: of the features, shape (f,).
        table: standardised features, shape (n, f).
        weights: shape (n, folds); 0 where the member has not seen the row.
        offset: of the values.
    """

    kernel: str
    scale: float
    ridge: float
    rows: int
    tau: float
    r2: float
    rmse: float
    center: Array
    width: Array
    table: Array
    weights: Array
    offset: float

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard error of the mean, each of shape (m,), for features of shape (m, f).

        The standard error is the delete-a-group jackknife's over the members (Efron and Stein 1981): what other
        training networks would have changed. The noise of a single evaluation is not in it.
        """
        rows = (np.asarray(features, np.float64) - self.center) / self.width
        members = _kernel(self.kernel, self.scale, rows, self.table) @ self.weights + self.offset
        folds = members.shape[1]
        return members.mean(axis=1), members.std(axis=1) * np.sqrt(folds - 1)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all: arrays and numbers, nothing that runs when read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **{key: np.asarray(value) for key, value in asdict(self).items()})  # type: ignore[arg-type]
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> Surrogate | None:
        """What :meth:`save` wrote; None where there is no such file or it is not one."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                values: dict[str, Any] = {field.name: stored[field.name] for field in fields(cls)}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        plain = {key: value.item() if value.ndim == 0 else value for key, value in values.items()}
        return cls(**plain) if len(plain["table"]) == len(plain["weights"]) == plain["rows"] else None


@dataclass(frozen=True)
class _Fit:
    """One setting on one table: members' weights and the score on the folds they have not seen."""

    tau: float
    setting: tuple[str, float, float]
    weights: Array
    held_out: Array


def _fit(table: Array, values: Array, folds: NDArray[np.int64], setting: tuple[str, float, float]) -> _Fit | None:
    """All members from one inverse: leaving a fold out is a block update of it (Rasmussen and Williams, 5.4.2)."""
    kernel, scale, ridge = setting
    factor, failed = dpotrf(_kernel(kernel, scale, table, table) + ridge * np.eye(len(table)), lower=1, overwrite_a=1)
    if failed:
        return None
    precision = dpotri(factor, lower=1, overwrite_c=1)[0]
    precision = np.tril(precision) + np.tril(precision, -1).T
    full, held_out = precision @ values, np.empty(len(values))
    weights = np.repeat(full[:, None], folds.max() + 1, axis=1)
    for fold in range(folds.max() + 1):
        out = folds == fold
        correction = np.linalg.solve(precision[np.ix_(out, out)], full[out])
        held_out[out] = values[out] - correction
        weights[:, fold] -= precision[:, out] @ correction
        weights[out, fold] = 0.0
    taus = [kendalltau(held_out[folds == fold], values[folds == fold]).statistic for fold in range(folds.max() + 1)]
    return _Fit(float(np.mean(taus)), setting, weights, held_out)


def fit(features: Array, values: Array, *, seed: int = 0) -> Surrogate:
    """Choose kernel, scale and ridge by cross-validation (best Kendall τ), fit one member per fold.

    Kernel ridge regression is also the mean of a Gaussian process with that kernel. The settings are first compared on
    ``CHOICE_ROWS`` random rows, the best few of these on all rows.

    Args:
        features: shape (n, f), n at least 2 × ``FOLDS``; no two rows equal, or folds would know each other's values.
        values: shape (n,), finite.
        seed: of the folds.

    Raises:
        ValueError: too few rows, shapes that differ, or nothing to explain (all values equal).
    """
    count = len(features)
    if values.shape != (count,) or count < 2 * FOLDS or np.ptp(values) == 0:
        raise ValueError(f"{2 * FOLDS} or more rows with different values are needed, got {count}")
    center, width = features.mean(axis=0), features.std(axis=0)
    width = np.where(width > 0, width, 1.0)
    table, offset, spread = (features - center) / width, float(values.mean()), float(values.std())
    target = (values - offset) / spread
    rng = np.random.default_rng(seed)
    folds = rng.permutation(count) % FOLDS
    few = rng.permutation(count)[:CHOICE_ROWS]
    settings = [(kernel, scale, ridge) for kernel in KERNELS for scale in SCALES for ridge in RIDGES]
    few_folds = np.arange(len(few)) % FOLDS
    first = [found for s in settings if (found := _fit(table[few], target[few], few_folds, s)) is not None]
    finalists = sorted(first, key=lambda found: -found.tau)[:FINALISTS]
    best = max((f for s in finalists if (f := _fit(table, target, folds, s.setting))), key=lambda found: found.tau)
    kernel, scale, ridge = best.setting
    errors = best.held_out - target
    return Surrogate(
        kernel=kernel,
        scale=scale,
        ridge=ridge,
        rows=count,
        tau=best.tau,
        r2=1 - float((errors**2).mean()),
        rmse=float(np.sqrt((errors**2).mean())) * spread,
        center=center,
        width=width,
        table=table,
        weights=best.weights * spread,
        offset=offset,
    )
