"""The networks of a grid: the baseline scaled by each point."""

from __future__ import annotations

import math
from collections.abc import Hashable

from ...space.cost import cost
from ...space.errors import UserError
from ...space.formulas import Cost
from ...space.network_spec import NetworkSpec
from ..coefficients import Coefficients
from ..compound import scale


class Scaled:
    """The baseline scaled by coefficients at φ = 1; every network is made and costed once.

    Multipliers that give a builder's network the same resolution and costs are taken to give the same network: what the
    builder rounds is not known, and its networks would be trained once for each multiplier.

    Args:
        baseline: the network of φ = 0.
    """

    def __init__(self, baseline: NetworkSpec) -> None:
        self.baseline = baseline
        self.base = cost(baseline)
        self._networks: dict[Coefficients, NetworkSpec | None] = {}
        self._costs: dict[str, Cost] = {}
        self._rounded: dict[Hashable, NetworkSpec] = {}

    def network(self, point: Coefficients) -> NetworkSpec | None:
        """The scaled network; None where there is none."""
        if point not in self._networks:
            try:
                self._networks[point] = self.make(point)
            except UserError:
                self._networks[point] = None
        return self._networks[point]

    def make(self, point: Coefficients) -> NetworkSpec:
        """The scaled network, made afresh.

        Raises:
            UserError: there is none.
        """
        found = scale(self.baseline, point, 1)
        return self._rounded.setdefault(found.after_rounding, found)

    def cost(self, network: NetworkSpec) -> Cost:
        """Its cost."""
        key = network.digest
        if key not in self._costs:
            self._costs[key] = cost(network)
        return self._costs[key]

    def macs_ratio(self, point: Coefficients) -> float:
        """The rounded network's MACs in the baseline's; infinite where there is no network."""
        network = self.network(point)
        return math.inf if network is None else self.cost(network).macs / self.base.macs
