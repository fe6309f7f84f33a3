"""A model of latency: from what a network's stages cost to seconds, learned from networks of one space."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import kendalltau

from ...space.cost import ArchitectureBatch, CostBatch
from ...space.errors import UserError
from ...space.files import write_text
from ...space.network_spec import NetworkSpec
from ...space.paths import is_file
from .features import STAGES, describe_batch, describe_network
from .laws import warn_once

Array = NDArray[np.float64]

FORMAT = 1
#: Fewer measurements say nothing of a space; more make a file of megabytes, and the model no better.
FEWEST, MOST = 10, 2000
#: Parts of the cross-validation; steps that the kernel's four settings are looked for in.
FOLDS, STEPS = 5, 120
#: Rows that these settings are looked for on.
CHOICE_ROWS = 500
#: A feature so far beyond those of the measured networks, in their span, is extrapolation.
BEYOND = 0.25
#: Logarithms of the settings to begin with: weights of the linear and the smooth part, its steepness, the noise.
_START = (0.0, -1.0, -1.0, -4.0)


@dataclass(frozen=True)
class LatencyModel:
    """A Gaussian process on the logarithm of seconds, with a linear kernel and a smooth one.

    Args:
        space: the name of that whose networks were measured.
        stages: how many their networks have.
        names: of the features that differ among them.
        low, high: their range there, shape (f,).
        center, width: of the features, shape (f,).
        table: standardised features of the measured networks, shape (n, f).
        weights: shape (n,).
        offset, spread: of the logarithms of seconds.
        settings: of the kernel, logarithms.
        judged: ``kendall_tau`` and ``median_error`` by cross-validation (:func:`judge`).
    """

    space: str
    stages: int
    names: tuple[str, ...]
    low: Array
    high: Array
    center: Array
    width: Array
    table: Array
    weights: Array
    offset: float
    spread: float
    settings: tuple[float, ...]
    judged: Mapping[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set, compare=False, repr=False)

    def __call__(self, architecture: NetworkSpec) -> float:
        """Seconds, of what was measured; a warning, once for a feature, where the network is beyond all measured.

        Raises:
            UserError: the network is not built as those of the space are.
        """
        values = self._read(architecture)
        warn_once(self.told, architecture, self._beyond(values))
        return float(self._say(values[None])[0])

    def many(self, batch: ArchitectureBatch, costs: CostBatch) -> Array:
        """Seconds of n networks of one number of stages, shape (n,), without a warning.

        Raises:
            UserError: they are not built as those of the space are.
        """
        found = describe_batch(batch, costs)
        self._check(found)
        return self._say(np.stack([np.broadcast_to(found[name], len(costs.macs)) for name in self.names], axis=1))

    @property
    def trust(self) -> str:
        """How far off it is, in a few words."""
        if not self.judged:
            return f"model of space {self.space} from {len(self.weights)} networks"
        return (
            f"model of space {self.space} from {len(self.weights)} networks: median error "
            f"{self.judged['median_error']:.1%} and Kendall's tau {self.judged['kendall_tau']:.3f} by cross-validation"
        )

    def _say(self, values: Array) -> Array:
        rows = (values - self.center) / self.width
        return np.asarray(np.exp(self.offset + self.spread * (_kernel(self.settings, rows, self.table) @ self.weights)))

    def extrapolates(self, architecture: NetworkSpec) -> str:
        """How the network is beyond all that were measured; "": it is not."""
        return self._beyond(self._read(architecture))

    def _read(self, architecture: NetworkSpec) -> Array:
        found = describe_network(architecture)
        self._check(found, architecture.name)
        return np.array([found[name] for name in self.names])

    def _check(self, found: Mapping[str, Any], name: str = "") -> None:
        lacking = [f"it has no {feature!r}" for feature in self.names if feature not in found]
        if (stages := int(np.max(found[STAGES]))) != self.stages:
            lacking = [f"it has {stages} stages instead of {self.stages}"]
        if lacking:
            raise UserError(
                f"{name or 'the network'} is not built as the networks of space {self.space} that this latency model "
                f"is of: {lacking[0]}"
            )

    def _beyond(self, values: Array) -> str:
        room = BEYOND * (self.high - self.low)
        outside = np.maximum(self.low - room - values, values - self.high - room)
        if not (outside > 0).any():
            return ""
        i = int(np.argmax(outside / (self.high - self.low)))
        return f"{self.names[i]} is {values[i]:.4g}, measured networks have {self.low[i]:.4g} to {self.high[i]:.4g}"

    def save(self, file: Path) -> None:
        """Write a JSON document."""
        arrays = ("low", "high", "center", "width", "table", "weights")
        document = {"effnas_latency": FORMAT, "space": self.space, "stages": self.stages}
        document |= {"names": list(self.names)}
        document |= {name: getattr(self, name).tolist() for name in arrays}
        document |= {"offset": self.offset, "spread": self.spread, "settings": list(self.settings)}
        document |= {"judged": dict(self.judged)}
        write_text(file, json.dumps(document) + "\n")


def read_model(file: str | Path, names: Sequence[str] = ()) -> LatencyModel:
    """The model that ``effnas latency fit`` wrote; ``names``: of what could have been meant instead, for messages.

    Raises:
        UserError: no such file, or it holds no such model.
    """
    if not is_file(file):
        raise UserError(
            f"latency model: no such file: {file}; effnas latency fit FILE --space NAME writes latency.json"
            + (f", and ready laws are {', '.join(names)}" if names else "")
        )
    try:
        found: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
        if found["effnas_latency"] != FORMAT:
            raise UserError(f"{file}: format {found['effnas_latency']!r} is unknown; this version reads {FORMAT}")
        names = tuple(map(str, found["names"]))
        arrays = {
            name: np.array(found[name], dtype=np.float64)
            for name in ("low", "high", "center", "width", "table", "weights")
        }
        low, high, center, width, table, weights = arrays.values()
        offset, spread, settings = float(found["offset"]), float(found["spread"]), tuple(map(float, found["settings"]))
        space, stages = str(found["space"]), int(found["stages"])
        judged = {str(name): float(value) for name, value in dict(found.get("judged", {})).items()}
        model = LatencyModel(
            space, stages, names, low, high, center, width, table, weights, offset, spread, settings, judged
        )
        sizes = {arrays[name].shape for name in ("low", "high", "center", "width")}
        fits = sizes == {(len(names),)} and arrays["table"].shape == (*arrays["weights"].shape, len(names))
        if not fits or not all(np.isfinite(a).all() for a in arrays.values()) or len(model.settings) != len(_START):
            raise ValueError("its tables do not belong together")
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: not a latency model of effnas latency fit: {type(error).__name__}: {error}") from None
    return model


def fit_latency(networks: Sequence[NetworkSpec], seconds: Sequence[float], space: str) -> tuple[LatencyModel, Array]:
    """A model, and what each network would have been said to take by one that had not seen it.

    Args:
        networks: different ones of one space, at least 10.
        seconds: of each, above 0.
        space: its name.

    Raises:
        UserError: too few of them, or all alike.
    """
    if len(networks) < FEWEST:
        raise UserError(f"a latency model needs at least {FEWEST} different networks, got {len(networks)}")
    rows = [describe_network(network) for network in networks]
    if len({row[STAGES] for row in rows}) > 1:
        raise UserError(f"space {space}: its networks differ in their number of stages, which no latency model can do")
    names = [name for name in rows[0] if len({row[name] for row in rows}) > 1]
    values, target = np.array([[row[name] for name in names] for row in rows]), np.log(np.asarray(seconds, dtype=float))
    if not names or np.ptp(target) == 0:
        raise UserError(f"all {len(networks)} networks have the same latency or costs: there is nothing to learn")
    center, width = values.mean(axis=0), values.std(axis=0)
    table, offset, spread = (values - center) / width, float(target.mean()), float(target.std())
    aim = (target - offset) / spread
    order = np.random.default_rng(0).permutation(len(aim))
    settings = _choose(table[order[:CHOICE_ROWS]], aim[order[:CHOICE_ROWS]])
    said = np.empty(len(aim))
    for fold in range(FOLDS):
        out = np.zeros(len(aim), dtype=bool)
        out[order[fold::FOLDS]] = True
        weights = _solve(settings, table[~out], aim[~out])
        said[out] = _kernel(settings, table[out], table[~out]) @ weights
    weights = _solve(settings, table, aim)
    low, high = values.min(axis=0), values.max(axis=0)
    told = np.exp(offset + spread * said)
    parts = (tuple(names), low, high, center, width, table, weights, offset, spread, settings, judge(told, seconds))
    return LatencyModel(space, int(rows[0][STAGES]), *parts), told


def judge(said: Array, seconds: Sequence[float]) -> dict[str, float]:
    """Kendall's τ of what was said and what was measured, and the median of the relative errors."""
    measured = np.asarray(seconds, dtype=float)
    return {
        "kendall_tau": float(kendalltau(said, measured).statistic),
        "median_error": float(np.median(np.abs(said / measured - 1))),
    }


def _kernel(settings: Sequence[float], first: Array, second: Array) -> Array:
    linear = first @ second.T / first.shape[1]
    squares = (first**2).mean(axis=1)[:, None] + (second**2).mean(axis=1)[None] - 2 * linear
    smooth = np.exp(-np.maximum(squares, 0) * math.exp(settings[2]))
    return np.asarray(math.exp(settings[0]) * linear + math.exp(settings[1]) * smooth)


def _factor(settings: Sequence[float], table: Array) -> Any:
    return cho_factor(_kernel(settings, table, table) + (math.exp(settings[3]) + 1e-8) * np.eye(len(table)), lower=True)


def _solve(settings: Sequence[float], table: Array, aim: Array) -> Array:
    return np.asarray(cho_solve(_factor(settings, table), aim))


def _choose(table: Array, aim: Array) -> tuple[float, ...]:
    """The settings of the highest marginal likelihood, drawn gently to where they begin."""

    def loss(settings: Array) -> float:
        try:
            factor = _factor(settings.tolist(), table)
        except (LinAlgError, OverflowError):
            return 1e9
        likelihood = 0.5 * aim @ cho_solve(factor, aim) + np.log(np.diag(factor[0])).sum()
        return float(likelihood + 0.02 * ((settings - np.array(_START)) ** 2).sum())

    found = minimize(loss, _START, method="Nelder-Mead", options={"maxiter": STEPS})
    return tuple(float(value) for value in np.clip(found.x, -20, 10))
