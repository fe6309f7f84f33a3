"""The evaluator that predicts from Accel-NASBench: ImageNet accuracy and device performance without training."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..space.cost import cost, cost_batch
from ..space.errors import UserError, check_choice, check_number
from ..space.network_spec import NetworkSpec
from ..space.paths import cache_folder
from ..space.space import Decisions
from .accel_archive import ARCHIVE, DEVICES, Archive, archive_digest, benchmark_space, read_archive
from .evaluation import Evaluation, EvaluationError, Report
from .latency.known import KnowsLatency
from .surrogate import Surrogate, fit

log = logging.getLogger(__name__)

#: Part of the name of a cached fit: raised when the way of fitting changes.
VERSION = 1


def features(indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the surrogates see, shape (n, 38), of choice indices in the space, shape (n, 28).

    A block's expansion and layers as logarithms (and that of their product), kernel size and SE as they are; the
    logarithms of the network's MACs, parameters and activations, which are exact and known without training.
    """
    space = benchmark_space()
    costs = cost_batch(space.batch(indices))
    values = {n: np.array(labels, np.float64)[indices[:, i]] for i, (n, labels) in enumerate(space.choices.items())}
    expand, layers, kernel, gate = (
        np.stack([values[name] for name in space.choices if name.endswith(f"_{suffix}")], axis=1)
        for suffix in ("e", "l", "k", "se")
    )
    known = np.stack([costs.macs, costs.params, costs.activations], axis=1)
    return np.hstack([np.log(expand), np.log(layers), np.log(expand * layers), kernel, gate, np.log(known)])


@dataclass(frozen=True)
class AccelNASBench(KnowsLatency):
    """Predicted accuracy and, on request, predicted speed on one of the benchmark's devices.

    The accuracies are those of the benchmark's shortened training (about 10 points below a full one): they rank
    networks, but are not ImageNet accuracies. The archive is read, and the surrogates are fitted, at the first call
    (about ten seconds); the fits are cached under :func:`cache_folder`, named by the archive's digest.

    Args:
        path: the archive as distributed, or its folder.
        device: one of ``DEVICES``, whose seconds per image become the evaluation's latency (of a throughput column:
            its inverse); None: no latency.
        noise: standard deviation of normal noise on the accuracy, a fraction, drawn by the seed and the network; 0.0027
            is what training one network twice changes. 0: the mean of the prediction.
        latency_model: says the latency instead of a device (:class:`~effnas.evaluate.latency.known.KnowsLatency`).

    Raises:
        UserError: a setting is wrong; when called, as :func:`read_archive`, or the network belongs to another skeleton.
    """

    path: str
    device: str | None = None
    noise: float = 0.0
    _fits: dict[str, Surrogate] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise UserError(f"evaluator.path must name the archive of Accel-NASBench ({ARCHIVE}), got {self.path!r}")
        if self.device is not None:
            check_choice("evaluator.device", self.device, DEVICES)
        check_number("evaluator.noise", self.noise, 0, 1)
        self.check_latency_model("device")

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "device", "noise", "latency_model")  # a worker reads the cached fits
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {**state, "_fits": {}}.items():
            object.__setattr__(self, name, value)

    @property
    def input_files(self) -> tuple[str, ...]:
        """The archive: :func:`~effnas.evaluate.identity.describe_files`."""
        return (self.path, *map(str, self.latency_files))

    @cached_property
    def archive(self) -> Archive:
        """The measurements."""
        return read_archive(self.path)

    @cached_property
    def _digest(self) -> str:
        return archive_digest(self.path)

    @property
    def _columns(self) -> tuple[str, ...]:
        """Of the surrogates in use."""
        return ("accuracy",) if self.device is None else ("accuracy", self.device)

    def surrogate(self, column: str = "accuracy") -> Surrogate:
        """The fit of one column: accuracy as a fraction, a device's seconds per image as their logarithm."""
        if column not in self._fits:
            file = cache_folder() / "accel_nasbench" / f"{self._digest[:16]}-{column}-v{VERSION}.npz"
            found = Surrogate.load(file)
            if found is None:
                found = self._fit(column)
                try:
                    found.save(file)
                except OSError as error:
                    log.warning("the fit cannot be cached: %s", error)
            log.info(
                "%s: %s kernel on %s networks, 10-fold Kendall tau %.3f, R2 %.3f",
                *(column, found.kernel, f"{found.rows:,}", found.tau, found.r2),
            )
            self._fits[column] = found
        return self._fits[column]

    def _fit(self, column: str) -> Surrogate:
        archive = self.archive
        values = archive.accuracy if column == "accuracy" else np.log(archive.devices[column])
        rows = ~np.isnan(values)
        if rows.sum() < 100:
            raise UserError(f"{archive.path}: {column} is given for {rows.sum()} networks; at least 100 are needed")
        try:
            return fit(features(archive.indices[rows]), values[rows])
        except ValueError as error:
            raise UserError(f"{archive.path}: {column}: {error}") from None

    def describe(self) -> dict[str, Any]:
        """For the record of a search: how good the surrogates in use are on networks they have not seen."""
        quality = {}
        for column in self._columns:
            found = self.surrogate(column)
            quality[column] = {
                "kernel": found.kernel,
                "networks": found.rows,
                "kendall_tau": round(found.tau, 4),
                "r2": round(found.r2, 4),
            }
        told = ", ".join(
            f"{column} with Kendall tau {q['kendall_tau']:.3f} and R2 {q['r2']:.3f}" for column, q in quality.items()
        )
        return {
            "exact": not self.noise,
            "accuracy_is": "predicted for Accel-NASBench's shortened training",
            "note": f"predicted: {told}, on networks held out of the fit; a proxy for ranking, not an ImageNet "
            "accuracy",
            "surrogates": quality,
        }

    def predict(self, indices: NDArray[np.int64], column: str = "accuracy") -> tuple[NDArray[Any], NDArray[Any]]:
        """Many networks at once: mean and standard error of :meth:`surrogate`, each of shape (n,)."""
        return self.surrogate(column).predict(features(indices))

    def prepare(self) -> None:
        """Read the archive and fit what is not cached.

        Raises:
            UserError: as :func:`read_archive`, or too few networks were measured on the device.
        """
        for column in self._columns:
            self.surrogate(column)

    def decisions(self, architecture: NetworkSpec) -> Decisions:
        """The decisions that build the network.

        Raises:
            EvaluationError: a decision is not among its choices.
            UserError: another skeleton than the benchmark's.
        """
        found = benchmark_space().decisions_of(architecture)
        if found is not None:
            return found
        if benchmark_space().has_skeleton(architecture):
            choices = ", ".join(f"{name[7:]} of {list(c)}" for name, c in list(benchmark_space().choices.items())[:4])
            raise EvaluationError(
                f"Accel-NASBench has no such network: each block must have {choices} (block5_l up to 4)"
            )
        raise UserError(
            "evaluator accel_nasbench: the network is not in the space accel_nasbench (EfficientNet-B0's skeleton at "
            "224 px, 1000 classes): search with space=accel_nasbench"
        )

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Predict one network; the spreads of the predictions are among the metrics.

        Raises:
            EvaluationError: a decision is not among the benchmark's choices.
            UserError: the archive cannot be used, or the network has another skeleton.
        """
        start = time.perf_counter()
        row = benchmark_space().indices([self.decisions(architecture)])
        mean, error = self.predict(row)
        accuracy = float(mean[0])
        if self.noise:
            rng = np.random.default_rng((seed, int(architecture.digest[:16], 16)))
            accuracy += self.noise * float(rng.standard_normal())
        metrics, latency = {"accuracy_spread": float(error[0])}, self.say_latency(architecture)
        if self.device is not None:
            log_mean, log_error = self.predict(row, self.device)
            latency = math.exp(float(log_mean[0]))
            metrics["latency_spread"] = latency * float(log_error[0])
        return Evaluation(
            accuracy=min(max(accuracy, 0.0), 1.0),
            cost=cost(architecture),
            latency=latency,
            seconds=time.perf_counter() - start,
            metrics=metrics,
        )
