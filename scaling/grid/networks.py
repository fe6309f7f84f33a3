"""The networks of a grid: the baseline scaled by each point."""

from __future__ import annotations

import math

from ...space.built import AnyArchitecture, BuiltNetwork
from ...space.cost import Cost, cost
from ...space.errors import UserError
from ..coefficients import Coefficients
from ..compound import scale


class Scaled:
    """The baseline scaled by coefficients at φ = 1; every network is made and costed once.

    Multipliers that give a builder's network the same resolution and costs are taken to give the same network: what the
    builder rounds is not known, and its networks would be trained once for each multiplier.

    Args:
        baseline: the network of φ = 0.
    """

    def __init__(self, baseline: AnyArchitecture) -> None:
        self.baseline = baseline
        self.base = cost(baseline)
        self._networks: dict[Coefficients, AnyArchitecture | None] = {}
        self._costs: dict[str, Cost] = {}
        self._built: dict[tuple[int, ...], BuiltNetwork] = {}

    def network(self, point: Coefficients) -> AnyArchitecture | None:
        """The scaled network; None where there is none."""
        if point not in self._networks:
            try:
                self._networks[point] = self.make(point)
            except UserError:
                self._networks[point] = None
        return self._networks[point]

    def make(self, point: Coefficients) -> AnyArchitecture:
        """The scaled network, made anew.

        Raises:
            UserError: there is none.
        """
        found = scale(self.baseline, point, 1)
        if not isinstance(found, BuiltNetwork):
            return found
        costs = self.cost(found)
        return self._built.setdefault((found.resolution, costs.params, costs.macs, costs.activations), found)

    def cost(self, network: AnyArchitecture) -> Cost:
        """Its cost."""
        key = network.digest
        if key not in self._costs:
            self._costs[key] = cost(network)
        return self._costs[key]

    def macs_ratio(self, point: Coefficients) -> float:
        """The rounded network's MACs in the baseline's; infinite where there is no network."""
        network = self.network(point)
        return math.inf if network is None else self.cost(network).macs / self.base.macs
