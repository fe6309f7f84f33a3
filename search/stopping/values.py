"""What an objective makes of candidates that are still in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...evaluate.contain import contained
from ...evaluate.evaluation import Evaluation
from ...space.errors import UserError
from ...space.formulas import Cost
from ..objective import COSTS, Objective, explain_unusable

Values = tuple[float, ...]


def _read_cost(result: Mapping[str, Any]) -> Cost:
    macs, params, activations, peak_memory = (int(result[metric]) for metric in COSTS)
    return Cost(params, macs, activations, peak_memory)


class ValueReader:
    """The objective's values of candidates if their training ended with a given accuracy; their costs are known.

    Args:
        objective: perhaps a user's own. One that needs what is measured at the end (latency) has no values before.
        latency: whether it is known of all networks before they are trained.
    """

    def __init__(self, objective: Objective, *, latency: bool = False) -> None:
        self._objective = objective
        #: Whether the objective says that it needs more than accuracy and costs.
        self.must_wait = False
        self._latency = latency
        self._evaluate([Evaluation(0.5, Cost(1, 1, 1, 1), latency=1.0 if latency else None)])

    def __call__(self, results: Sequence[Mapping[str, Any]], accuracies: Sequence[float]) -> list[Values] | None:
        """Of what is recorded of each trial, with these accuracies; None where one is not known before the end."""
        if self.must_wait or not all(metric in result for result in results for metric in COSTS):
            return None
        evaluations = [
            Evaluation(
                min(max(float(accuracy), 0.0), 1.0),
                _read_cost(result),
                latency=result.get("latency") if self._latency else None,
            )
            for result, accuracy in zip(results, accuracies, strict=True)
        ]
        return self._evaluate(evaluations)

    def _evaluate(self, evaluations: Sequence[Evaluation]) -> list[Values] | None:
        count = len(self._objective.directions)
        try:
            found: list[Any] = contained(lambda: [self._objective(evaluation) for evaluation in evaluations])
        except UserError:  # latency is not known
            self.must_wait = True
            return None
        except Exception:  # the objective's own trouble, which the end will tell
            return None
        if any(explain_unusable(value, count) is not None for value in found):
            return None
        return [tuple(map(float, value if isinstance(value, Sequence) else (value,))) for value in found]
