"""A Gaussian process for few, noisy values of many features: one length scale per feature, learned from the values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]

#: Added to the diagonal, in units of the values' variance: keeps repeated rows apart.
JITTER = 1e-6


@dataclass(frozen=True)
class Kernel:
    """A Matérn 5/2 kernel with a length scale per feature, a linear one, noise (Rasmussen and Williams, ch. 4 and 5).

    The linear part carries what adds up, which is most of what decisions do to a network; the other what does not. A
    feature matters to both parts alike.

    Args:
        scales: squared inverse length scale of each feature, shape (f,).
        slopes: variance of the linear part's weight of each feature, shape (f,), in proportion to the scales.
        amplitude: variance of the Matérn part.
        noise: variance of one evaluation.
    """

    scales: Array
    slopes: Array
    amplitude: float
    noise: float

    def between(self, first: Array, second: Array) -> Array:
        """Covariances of the noise-free values, shape (n, m)."""
        root = np.sqrt(self.scales)
        a, b = first * root, second * root
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * (a @ b.T)
        distance = np.sqrt(5 * np.maximum(squares, 0.0))
        near = (1 + distance + distance**2 / 3) * np.exp(-distance)
        return np.asarray(self.amplitude * near + (first * self.slopes) @ second.T)

    def variances(self, rows: Array) -> Array:
        """Of the noise-free values, shape (n,)."""
        return np.asarray(self.amplitude + rows**2 @ self.slopes)


def learn_kernel(
    rows: Array,
    values: Array,
    bends: NDArray[np.bool_] | None = None,
    steps: int = 40,
    spreads: Array | None = None,
) -> Kernel:
    """The kernel that makes the values likeliest, under broad log-normal priors (maximum a posteriori, by L-BFGS).

    Args:
        rows: features, standardised, shape (n, f).
        values: standardised, shape (n,).
        bends: features that are expected to matter less than the others, by one factor that is learned, shape (f,).
        steps: of the optimiser.
        spreads: standard deviation of each value beside the noise that all have, shape (n,); None: there is none.
    """
    count = rows.shape[1]
    table, target = torch.from_numpy(rows), torch.from_numpy(values)
    center = torch.tensor([-3.0, 0.0, 0.0, -5.0, -3.0], dtype=torch.float64)
    width = torch.tensor([3.0, 3.0, 3.0, 2.0, 2.0], dtype=torch.float64)
    bent = torch.from_numpy((np.zeros(count) if bends is None else bends).astype(np.float64))
    # log of the common scale, amplitude, linear, noise, the bends' factor; then each feature's own deviation
    point = torch.zeros(5 + count, dtype=torch.float64)
    point[:5] = center
    point.requires_grad_(True)
    identity = torch.eye(len(rows), dtype=torch.float64)
    known = torch.diag(torch.from_numpy(np.zeros(len(rows)) if spreads is None else spreads**2))

    def loss() -> torch.Tensor:
        common, amplitude, linear, noise, bend = point[:5]
        weighed = table * torch.exp((point[5:] + bend * bent) / 2) / count**0.5
        gram, norms = weighed @ weighed.T, (weighed**2).sum(dim=1)
        squares = (torch.exp(common) * (norms[:, None] + norms[None] - 2 * gram)).clamp_min(1e-12)
        distance = torch.sqrt(5 * squares)
        near = (1 + distance + distance**2 / 3) * torch.exp(-distance)
        covariance = torch.exp(amplitude) * near + torch.exp(linear) * gram
        factor = torch.linalg.cholesky(covariance + (torch.exp(noise) + JITTER) * identity + known)
        solved = torch.cholesky_solve(target[:, None], factor)[:, 0]
        fit = 0.5 * target @ solved + torch.log(torch.diagonal(factor)).sum()
        return fit + 0.5 * (((point[:5] - center) / width) ** 2).sum() + 0.3 * (point[5:] ** 2).sum()

    optimizer = torch.optim.LBFGS([point], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    best = point.detach().clone()
    try:
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        if torch.isfinite(point).all():
            best = point.detach().clone()
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # a step went where the matrix is singular
        pass
    relevance = np.exp(np.clip((best[5:] + best[4] * bent).numpy(), -20, 10)) / count
    common, amplitude, linear, noise = np.exp(np.clip(best[:4].numpy(), -20, 10)).tolist()
    return Kernel(scales=common * relevance, slopes=linear * relevance, amplitude=amplitude, noise=noise)


class GaussianProcess:
    """The posterior of noise-free values after some evaluations, in the units of the values.

    Args:
        kernel: for standardised values.
        rows: standardised features, shape (n, f).
        values: shape (n,).
        spreads: standard deviation of each value beside the noise that all have, shape (n,); None: there is none.
    """

    def __init__(self, kernel: Kernel, rows: Array, values: Array, spreads: Array | None = None) -> None:
        self.kernel = kernel
        self._rows = rows
        self._values = values
        self._spreads = np.zeros(len(values)) if spreads is None else spreads
        self._offset = float(values.mean())
        self._scale = float(values.std()) or 1.0
        noise = kernel.noise + JITTER + (self._spreads / self._scale) ** 2
        covariance = kernel.between(rows, rows) + np.diag(noise)
        factor = cho_factor(covariance, lower=True)
        self._weights = cho_solve(factor, (values - self._offset) / self._scale)
        self._precision = cho_solve(factor, np.eye(len(rows)))

    def believe(self, rows: Array) -> GaussianProcess:
        """As if each row had been evaluated with its mean (the kriging believer, Ginsbourger et al. 2010)."""
        mean, _ = self.predict(rows)
        return GaussianProcess(
            self.kernel,
            np.concatenate([self._rows, rows]),
            np.concatenate([self._values, mean]),
            np.concatenate([self._spreads, np.zeros(len(rows))]),
        )

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, each of shape (m,)."""
        cross = self.kernel.between(rows, self._rows)
        mean = cross @ self._weights * self._scale + self._offset
        explained = np.einsum("ij,ij->i", cross @ self._precision, cross)
        variance = np.maximum(self.kernel.variances(rows) - explained, 1e-12)
        return mean, np.sqrt(variance) * self._scale
