"""What an evaluator is and what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..space.formulas import Cost
from ..space.network_spec import NetworkSpec

#: ``report(step, accuracy)`` after each epoch; it raises :class:`Stopped` where the study has seen enough.
Report = Callable[[int, float], None]


class EvaluationError(RuntimeError):
    """This candidate has no value (loss not finite, out of memory): recorded as failed, the search continues."""


class Stopped(Exception):
    """Raised by ``report`` to end a hopeless candidate early; an evaluator lets it pass."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a network is worth.

    Args:
        accuracy: top-1 on held-out images, a fraction in [0, 1].
        cost: of the network that was evaluated.
        latency: seconds per batch, where it was measured.
        seconds: wall-clock time the evaluation took.
        metrics: anything else, by name (``loss``, ``train_accuracy``, ``images_per_second``, …).
    """

    accuracy: float
    cost: Cost
    latency: float | None = None
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.accuracy) and 0 <= self.accuracy <= 1):
            raise EvaluationError(f"accuracy must be a fraction between 0 and 1, got {self.accuracy!r}")


class Evaluator(Protocol):
    """Anything that says what a network is worth.

    A frozen dataclass whose fields are its settings (``conf/evaluator/*.yaml`` names it by ``_target_``), callable.
    Two calls with equal arguments return equal accuracies as far as the hardware allows.

    Two more methods are called where they are there: ``prepare()`` before a search makes its folder, so that a file
    that cannot be read is found out then, and ``describe()``, which returns what is to stand in the ``summary.json``
    under ``evaluator_details`` (its ``note`` is printed, and ``accuracy_is`` says of what the accuracy is).
    """

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Evaluate one network.

        Raises:
            EvaluationError: this candidate has no value; the search records it as failed and goes on.
            UserError: no candidate could have one (missing data, wrong number of classes); the search stops.
        """
        ...
