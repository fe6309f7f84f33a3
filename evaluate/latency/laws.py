"""Ready laws of latency: of mobile-type networks on a few devices, from what a network costs alone."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ...space.cost import ArchitectureBatch, CostBatch, cost
from ...space.network_spec import NetworkSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

FILE = Path(__file__).with_name("laws.json")
#: A cost beyond those of the measured networks by more than this factor is extrapolation.
ROOM = 2.0


class KnownLatency(Protocol):
    """What says the latency of a network that was never run."""

    @property
    def space(self) -> str | None:
        """The name of the space whose networks it knows; None: of any."""

    @property
    def trust(self) -> str:
        """How far off it is, in a few words."""

    def __call__(self, architecture: NetworkSpec) -> float:
        """Seconds; a warning, once of a kind, where the network is beyond all that were measured."""

    def extrapolates(self, architecture: NetworkSpec) -> str:
        """How the network is beyond all that were measured; "": it is not."""

    def many(self, batch: ArchitectureBatch, costs: CostBatch) -> NDArray[np.float64]:
        """Seconds of n networks of one number of stages, shape (n,), without a warning."""


@dataclass(frozen=True)
class LatencyLaw:
    """Seconds per image = exp(constant) · Π cost^exponent.

    Args:
        name: of the device, as options know it.
        title: what was measured.
        constant: of the logarithm.
        exponents: by cost: ``activations``, ``macs``, ``params``.
        low, high: of the costs of the networks that were measured.
        networks: how many.
        kendall_tau, median_error: on families that the law was not fitted to.
    """

    name: str
    title: str
    constant: float
    exponents: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    networks: int
    kendall_tau: float
    median_error: float
    told: set[str] = field(default_factory=set, compare=False, repr=False)
    #: It knows the networks of any.
    space: ClassVar[None] = None

    @property
    def trust(self) -> str:
        """How far off it is, in a few words."""
        return (
            f"law of {self.networks} mobile-type networks on {self.title}: median error {self.median_error:.0%} and "
            f"Kendall's tau {self.kendall_tau:.2f} on families it has not seen"
        )

    def __call__(self, architecture: NetworkSpec) -> float:
        """Seconds per image; a warning, once for a cost, where it is beyond all measured.

        Raises:
            UserError: the network is a builder's, and cannot be built.
        """
        total = cost(architecture)
        warn_once(self.told, architecture, self.extrapolates(architecture))
        powers = sum(power * math.log(getattr(total, name)) for name, power in self.exponents.items())
        return math.exp(self.constant + powers)

    def extrapolates(self, architecture: NetworkSpec) -> str:
        """How the network is beyond all that were measured; "": it is not."""
        total = cost(architecture)
        for name in self.low:
            value = getattr(total, name)
            if not self.low[name] / ROOM <= value <= self.high[name] * ROOM:
                return f"{name} is {value:,}, measured networks have {self.low[name]:,} to {self.high[name]:,}"
        return ""

    def many(self, batch: ArchitectureBatch, costs: CostBatch) -> NDArray[np.float64]:
        """Seconds of n networks, shape (n,), without a warning."""
        import numpy as np

        logs = self.constant + sum(power * np.log(getattr(costs, name)) for name, power in self.exponents.items())
        return np.asarray(np.exp(logs))


@cache
def read_laws() -> dict[str, LatencyLaw]:
    """By the name of their device; ``benchmarks/latency_laws.py`` fits them."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["laws"]
    unused = ("errors", "families")
    return {
        name: LatencyLaw(name, **{key: value for key, value in law.items() if key not in unused})
        for name, law in found.items()
    }


def warn_once(told: set[str], architecture: NetworkSpec, reason: str) -> None:
    """Warn that a latency is extrapolated, once for what it is in; ``reason`` "": nothing."""
    if reason and (kind := reason.partition(" is ")[0]) not in told:
        told.add(kind)
        log.warning("%s: latency is extrapolated: %s", architecture.name or architecture.digest, reason)
