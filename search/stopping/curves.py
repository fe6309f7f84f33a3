"""What the beginning of a training says of its end: power laws with a floor, which all candidates teach.

The error of candidate i after epoch t is taken to be ``c_i + a_i · t^−b`` with normal noise, on held-out images and,
with a floor, an amplitude and an exponent of its own, on training images. The exponents and the noise are shared; the
two numbers of a candidate are drawn from a normal distribution, which is learned from all candidates (expectation
maximisation for a linear mixed model: Laird and Ware 1982), those that were stopped among them, so that it does not
matter that only good ones were finished. What either law says of the end of the other is left to
:mod:`effnas.search.stopping.estimates`: the laws fit too badly for a joint distribution to find that out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Exponents that are compared, on held-out and on training images.
EXPONENTS = (0.3, 0.7, 1.2)
#: Rounds of expectation maximisation: for the comparison, and for what was chosen.
FEW, MANY = 5, 12
#: Curves that the distribution is learned from, the longest; so many candidates' worth does the prior count.
LEARN, PRIOR = 160, 4.0


@dataclass(frozen=True)
class Curve:
    """What a candidate has reported so far.

    Args:
        steps: epochs, ascending, shape (n,).
        heldout: error on held-out images, smaller being better, shape (n,).
        train: error on training images, shape (n,); NaN where it was not reported.
    """

    steps: Array
    heldout: Array
    train: Array

    def cut(self, step: float) -> Curve:
        """What it was after that step; whole where it has not come so far."""
        count = int(np.searchsorted(self.steps, step, side="right"))
        return Curve(self.steps[:count], self.heldout[:count], self.train[:count])


@dataclass(frozen=True)
class _Sums:
    """Of n curves, with one pair of exponents: all that their likelihood depends on.

    ``squares`` (n, 2, 2, 2), ``products`` (n, 2, 2), ``totals`` and ``counts`` (n, 2): on held-out and training images.
    """

    squares: Array
    products: Array
    totals: Array
    counts: Array


@dataclass(frozen=True)
class CurveModel:
    """Power laws with a floor, and how candidates differ.

    Args:
        exponents: on held-out and on training images.
        mean: of a candidate's (floor, amplitude) on held-out and on training images, shape (4,).
        covariance: of these, shape (4, 4); nothing between the two kinds of images.
        noise: variance of one measurement, on held-out and on training images, shape (2,).
    """

    exponents: tuple[float, float]
    mean: Array
    covariance: Array
    noise: Array

    def predict(self, curves: Sequence[Curve], step: float) -> tuple[Array, Array]:
        """The expected errors after ``step`` epochs and their standard deviations, each of shape (n, 2).

        On held-out and on training images.
        """
        means, spread = _infer(_sum_curves(curves, self.exponents), self.mean, self.covariance, self.noise)
        errors, deviations = np.empty((len(curves), 2)), np.empty((len(curves), 2))
        for kind, at in enumerate((slice(0, 2), slice(2, 4))):
            power = np.array([1.0, step ** -self.exponents[kind]])
            errors[:, kind] = means[:, at] @ power
            deviations[:, kind] = np.sqrt(np.einsum("i,nij,j->n", power, spread[:, at, at], power))
        return errors, deviations


def fit_curves(curves: Sequence[Curve]) -> CurveModel:
    """The model that makes the curves likeliest, under a weak prior.

    Args:
        curves: one a candidate, each with a step or more; of many the longest are learned from.

    Raises:
        ValueError: there are none.
    """
    if not curves:
        raise ValueError("no curves")
    order = np.argsort([-len(curve.steps) for curve in curves], kind="stable")[:LEARN]
    chosen = [curves[i] for i in order]
    pairs = list(itertools.product(EXPONENTS, EXPONENTS))
    if not any(np.isfinite(curve.train).any() for curve in chosen):
        pairs = [(exponent, EXPONENTS[0]) for exponent in EXPONENTS]
    best = max(pairs, key=lambda pair: _maximise(chosen, pair, FEW)[1])
    return _maximise(chosen, best, MANY)[0]


def _sum_curves(curves: Sequence[Curve], exponents: tuple[float, float]) -> _Sums:
    longest = max(len(curve.steps) for curve in curves)
    steps = np.full((len(curves), longest), 1.0)
    errors = np.full((len(curves), 2, longest), np.nan)
    for i, curve in enumerate(curves):
        count = len(curve.steps)
        steps[i, :count], errors[i, 0, :count], errors[i, 1, :count] = curve.steps, curve.heldout, curve.train
    there = np.isfinite(errors)
    known = np.where(there, errors, 0.0)
    # (n, 2 kinds, 2 numbers, steps): a row of ones, and the powers
    basis = np.ones((len(curves), 2, 2, longest))
    for kind, exponent in enumerate(exponents):
        basis[:, kind, 1] = np.maximum(steps, 1e-9) ** -exponent
    basis *= there[:, :, None]
    return _Sums(
        squares=np.einsum("nkis,nkjs->nkij", basis, basis),
        products=np.einsum("nkis,nks->nki", basis, known),
        totals=(known**2).sum(axis=2),
        counts=there.sum(axis=2).astype(np.float64),
    )


def _infer(sums: _Sums, mean: Array, covariance: Array, noise: Array) -> tuple[Array, Array]:
    """Means (n, 4) and covariances (n, 4, 4) of the candidates' numbers, given their curves."""
    prior = np.linalg.inv(covariance)
    precision = np.tile(prior, (len(sums.totals), 1, 1))
    shift = np.tile(prior @ mean, (len(sums.totals), 1))
    for kind, at in enumerate((slice(0, 2), slice(2, 4))):
        precision[:, at, at] += sums.squares[:, kind] / noise[kind]
        shift[:, at] += sums.products[:, kind] / noise[kind]
    spread = np.linalg.inv(precision)
    return np.einsum("nij,nj->ni", spread, shift), spread


def _maximise(curves: Sequence[Curve], exponents: tuple[float, float], rounds: int) -> tuple[CurveModel, float]:
    """Expectation maximisation from a broad beginning; the model and its marginal log-likelihood, a constant aside."""
    sums = _sum_curves(curves, exponents)
    last = np.array([[curve.heldout[-1], curve.train[-1]] for curve in curves])
    width = np.array([np.nanvar(column) if np.isfinite(column).sum() > 1 else 0.0 for column in last.T])
    width = np.maximum(width, 1e-6)
    middle = np.array([np.nanmean(column) if np.isfinite(column).any() else 0.0 for column in last.T])
    # floors and amplitudes are as different as the last errors
    root = np.sqrt(np.array([width[0], width[0], width[1], width[1]]))
    scale = np.diag(root**2)
    mean, covariance, noise = np.array([middle[0], 0.0, middle[1], 0.0]), scale.copy(), 0.1 * width
    vague = np.diag(1 / (100 * root**2))
    likelihood = -np.inf
    for _ in range(rounds):
        means, spread = _infer(sums, mean, covariance, noise)
        prior = np.linalg.inv(covariance)
        likelihood = _measure_likelihood(sums, means, spread, mean, covariance, prior, noise)
        first = np.array([middle[0], 0.0, middle[1], 0.0])
        mean = np.linalg.solve(len(means) * prior + vague, prior @ means.sum(axis=0) + vague @ first)
        apart = means - mean
        covariance = (PRIOR * scale + spread.sum(axis=0) + apart.T @ apart) / (PRIOR + len(means))
        covariance[:2, 2:] = covariance[2:, :2] = 0.0
        noise = _update_noise(sums, means, spread, width)
    return CurveModel(exponents, mean, covariance, noise), likelihood


def _update_noise(sums: _Sums, means: Array, spread: Array, width: Array) -> Array:
    found = np.empty(2)
    for kind, at in enumerate((slice(0, 2), slice(2, 4))):
        squares, products = sums.squares[:, kind], sums.products[:, kind]
        seconds = spread[:, at, at] + means[:, at, None] * means[:, None, at]
        rest = sums.totals[:, kind] - 2 * (products * means[:, at]).sum(axis=1) + (squares * seconds).sum(axis=(1, 2))
        found[kind] = (max(rest.sum(), 0.0) + 0.1 * width[kind]) / (sums.counts[:, kind].sum() + 1.0)
    return np.maximum(found, 1e-9)


def _measure_likelihood(
    sums: _Sums, means: Array, spread: Array, mean: Array, covariance: Array, prior: Array, noise: Array
) -> float:
    """Log-density of all errors, their candidates' numbers integrated out."""
    _, size = np.linalg.slogdet(covariance)
    _, sizes = np.linalg.slogdet(spread)
    apart = means - mean
    total = 0.5 * (sizes - size).sum() - 0.5 * np.einsum("ni,ij,nj->", apart, prior, apart)
    for kind, at in enumerate((slice(0, 2), slice(2, 4))):
        own = means[:, at]
        rest = (
            sums.totals[:, kind]
            - 2 * (sums.products[:, kind] * own).sum(axis=1)
            + np.einsum("nij,ni,nj->n", sums.squares[:, kind], own, own)
        )
        total -= 0.5 * (rest.sum() / noise[kind] + sums.counts[:, kind].sum() * np.log(noise[kind]))
    return float(total)
