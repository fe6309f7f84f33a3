"""What a search maximises: the MnasNet reward, accuracy under hard limits, or several metrics at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evaluate.contain import contained
from ..evaluate.evaluation import Evaluation, EvaluationError
from ..evaluate.reasons import describe_exception
from ..space.cost import CostBatch
from ..space.errors import UserError, check_choice, check_number
from ..space.formulas import Cost
from ..space.quantity import parse_cost

#: Known from the architecture alone, so that their limits are checked before anything is trained.
COSTS = ("macs", "params", "activations", "peak_memory")
#: What a network may cost: ``latency`` (seconds per batch) is known once it was measured, or before by a model of it.
COST_METRICS = (*COSTS, "latency")
METRICS = ("accuracy", *COST_METRICS, "merit")


class Objective(Protocol):
    """Anything that scores an evaluation: a frozen dataclass, usually a :class:`Limits` with a ``__call__``."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name per value, for tables."""
        ...

    @property
    def directions(self) -> tuple[str, ...]:
        """``"maximize"`` or ``"minimize"``, one per value."""
        ...

    def __call__(self, evaluation: Evaluation) -> float | tuple[float, ...]:
        """The value or values of one evaluated network."""
        ...

    def violations(self, cost: Cost) -> dict[str, float]:
        """By how much the limits known before training are exceeded."""
        ...

    def violations_after(self, evaluation: Evaluation) -> dict[str, float]:
        """By how much the limits known only after evaluation are exceeded."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits that every objective takes; None is no limit.

    Args:
        max_macs, max_params, max_activations: numbers, or strings such as ``"400M"``.
        max_peak_memory: bytes of feature maps (:mod:`effnas.space.cost`), or a string such as ``"8MB"``.
        max_latency: seconds per batch, as the evaluator measures it, or a string such as ``"12ms"``.

    Raises:
        UserError: a limit is not a number above 0.
    """

    max_macs: float | str | None = None
    max_params: float | str | None = None
    max_activations: float | str | None = None
    max_peak_memory: float | str | None = None
    max_latency: float | str | None = None

    def __post_init__(self) -> None:
        for metric in COST_METRICS:
            name = f"max_{metric}"
            if (limit := getattr(self, name)) is not None:
                object.__setattr__(self, name, parse_cost(name, metric, limit))

    def violations(self, cost: Cost) -> dict[str, float]:
        """``cost / limit - 1`` of each limit that is known before training: above 0 where it is exceeded."""
        limits = {metric: getattr(self, f"max_{metric}") for metric in list_known(cost)}
        return {metric: getattr(cost, metric) / limit - 1 for metric, limit in limits.items() if limit is not None}

    def before_training(self, costs: CostBatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is known of the values of n networks from their costs: ``(exact, factors)``, both of shape (n, values).

        ``exact`` holds values that no evaluation changes and NaN elsewhere; a value divided by its factor is what must
        be evaluated. Here: nothing and 1.
        """
        shape = (len(costs.macs), len(self.directions))  # type: ignore[attr-defined]  # every objective has them
        return np.full(shape, np.nan), np.ones(shape)

    def violations_after(self, evaluation: Evaluation) -> dict[str, float]:
        """The same for the limits that only an evaluation can check: latency.

        Raises:
            UserError: latency is limited and was not measured.
        """
        if self.max_latency is None:
            return {}
        return {"latency": read_metric(evaluation, "latency") / float(self.max_latency) - 1}


@dataclass(frozen=True)
class MnasNetReward(Limits):
    """``ACC × (cost / T)^w`` with w = α where cost ≤ T and β elsewhere (Tan et al. 2019, MnasNet, equations 2 and 3).

    α = β = −0.07, the default, is the soft reward of both papers; α = 0, β = −1 the hard one. EfficientNet's
    (section 3) is the soft one on FLOPs (here: MACs) with T = 400 M; MnasNet's is on latency.

    Args:
        target: T in the metric's unit, or a string such as ``"400M"``.
        w: both exponents, where ``alpha`` and ``beta`` are None.
        alpha: the exponent of networks within the target; overrides ``w`` there.
        beta: the exponent of networks beyond it; overrides ``w`` there.
        metric: macs, params, activations, peak_memory (bytes) or latency (seconds per batch).

    Raises:
        UserError: a field is outside its range (an exponent above 0 would reward cost); when called, latency was not
            measured.
    """

    target: float | str = 400e6
    w: float = -0.07
    alpha: float | None = None
    beta: float | None = None
    metric: str = "macs"

    names: ClassVar[tuple[str, ...]] = ("reward",)
    directions: ClassVar[tuple[str, ...]] = ("maximize",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("metric", self.metric, COST_METRICS)
        object.__setattr__(self, "target", parse_cost("target", self.metric, self.target))
        for name in ("w", "alpha", "beta"):
            if (exponent := getattr(self, name)) is not None or name == "w":
                check_number(name, exponent, -100, 0)

    def factor(self, cost: ArrayLike) -> NDArray[np.float64]:
        """``(cost / T)^w``, elementwise: a level line of the reward R in a figure is accuracy = R / factor."""
        ratio = np.asarray(cost, dtype=np.float64) / float(self.target)
        alpha, beta = (self.w if exponent is None else exponent for exponent in (self.alpha, self.beta))
        return np.asarray(ratio ** np.where(ratio <= 1, alpha, beta))

    def before_training(self, costs: CostBatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The factor, where the metric is no latency that must be measured."""
        exact, factors = super().before_training(costs)
        if self.metric in list_known(costs):
            factors = self.factor(getattr(costs, self.metric))[:, None]
        return exact, factors

    def __call__(self, evaluation: Evaluation) -> float:
        """The reward, of the merit where that is what there is; comparable only between equal settings."""
        return evaluation.worth * float(self.factor(read_metric(evaluation, self.metric)))


@dataclass(frozen=True)
class Accuracy(Limits):
    """Accuracy alone, a fraction in [0, 1], under the hard limits."""

    names: ClassVar[tuple[str, ...]] = ("accuracy",)
    directions: ClassVar[tuple[str, ...]] = ("maximize",)

    def __call__(self, evaluation: Evaluation) -> float:
        """The accuracy, or the merit in its place."""
        return evaluation.worth


@dataclass(frozen=True)
class Pareto(Limits):
    """Several metrics at once, each in its unit: accuracy is maximised, costs are minimised, under the hard limits.

    Args:
        metrics: of accuracy, merit, macs, params, activations, peak_memory and latency; each at most once.

    Raises:
        UserError: unknown or repeated metrics, or none; when called, one that the evaluator does not measure.
    """

    metrics: Sequence[str] = ("accuracy", "macs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.metrics, str) or not isinstance(self.metrics, Sequence) or not self.metrics:
            raise UserError(f"metrics must be a list of one or more of {', '.join(METRICS)}, got {self.metrics!r}")
        object.__setattr__(self, "metrics", tuple(self.metrics))
        for metric in self.metrics:
            check_choice("metrics", metric, METRICS)
        if len(set(self.metrics)) < len(self.metrics):
            raise UserError(f"metrics must differ, got {', '.join(self.metrics)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics."""
        return tuple(self.metrics)

    @property
    def directions(self) -> tuple[str, ...]:
        """Of the metrics, in their order."""
        return tuple("minimize" if metric in COST_METRICS else "maximize" for metric in self.metrics)

    def before_training(self, costs: CostBatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The costs are exact; latency only by a model of it."""
        exact, factors = super().before_training(costs)
        for column, metric in enumerate(self.metrics):
            if metric in list_known(costs):
                exact[:, column] = getattr(costs, metric)
        return exact, factors

    def __call__(self, evaluation: Evaluation) -> tuple[float, ...]:
        """The metrics of one evaluation, in their order."""
        return tuple(read_metric(evaluation, metric) for metric in self.metrics)


def list_known(costs: Cost | CostBatch) -> tuple[str, ...]:
    """The metrics of costs that are known before training: latency too, where a model has said it."""
    return COSTS if getattr(costs, "latency", None) is None else COST_METRICS


def read_metric(evaluation: Evaluation, metric: str) -> float:
    """One of ``METRICS`` of an evaluation.

    Raises:
        UserError: the evaluator did not measure it.
    """
    if metric in ("accuracy", "merit"):
        if (value := getattr(evaluation, metric)) is None:
            raise UserError(f"the objective needs {metric}, but the evaluator gives the other of accuracy and merit")
        return float(value)
    if metric != "latency":
        return float(getattr(evaluation.cost, metric))
    if evaluation.latency is None:
        raise UserError(
            "the objective needs latency, which the evaluator did not measure: set evaluator.latency_batch (proxy: the "
            "batch size to measure it at), evaluator.latency_model (a model that says it), evaluator.latency (tabular: "
            f"its column) or evaluator.device (accel_nasbench), or use one of {', '.join(COSTS)}"
        )
    return evaluation.latency


def explain_unusable(values: object, count: int) -> str | None:
    """Why Optuna would refuse what an objective gave, where ``count`` numbers are expected; None: it would not."""
    numbers: Sequence[Any] = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    if len(numbers) != count:
        return f"objective: {count} value{'s' * (count > 1)} expected, got {values!r:.60}"
    try:
        plain = [float(number) for number in numbers]
    except Exception:  # whatever its conversions raise
        plain = [math.nan]
    if any(map(math.isnan, plain)):
        return f"objective: the value must be a number, got {values!r:.60}"
    return f"objective: the value must be finite, got {values!r:.60}" if any(map(math.isinf, plain)) else None


def read_violations(violations: Any) -> dict[str, float]:
    """What an objective's :meth:`~Objective.violations` gives, as plain numbers; an error where it gives no numbers."""
    return {str(metric): float(violation) for metric, violation in dict(violations).items()}


def score_evaluation(objective: Objective, evaluation: Evaluation, count: int) -> tuple[list[float], dict[str, float]]:
    """The values that an objective gives an evaluation, and by how much limits are exceeded that only it can show.

    Args:
        objective: perhaps a user's own: what it changes in the process is put back.
        evaluation: of one network.
        count: of the values.

    Raises:
        EvaluationError: Optuna would refuse the values, or the objective failed; the message says how.
        UserError: the objective says that no evaluation could have a value.
    """
    try:
        given = contained(objective, evaluation)
        wrong = explain_unusable(given, count)
        late = read_violations(contained(objective.violations_after, evaluation)) if wrong is None else {}
    except UserError:
        raise
    except Exception as error:
        raise EvaluationError(f"objective: {describe_exception(error)}") from error
    if wrong is not None:
        raise EvaluationError(wrong)
    return [float(value) for value in (given if isinstance(given, Sequence) else (given,))], late


def find_violations(objective: Objective, cost: Cost) -> dict[str, float]:
    """By how much the limits are exceeded that are known before training.

    Raises:
        EvaluationError: a user's own objective failed.
        UserError: as :func:`score_evaluation`.
    """
    try:
        return read_violations(contained(objective.violations, cost))
    except UserError:
        raise
    except Exception as error:
        raise EvaluationError(f"objective: {describe_exception(error)}") from error
