"""From a budget to φ: the largest network of a rule within every limit (Tan & Le 2019, equation 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from ..space.cost import cost
from ..space.errors import UserError, check_number
from ..space.multipliers import DIVISOR, check_divisor
from ..space.network_spec import NetworkSpec
from .coefficients import Coefficients
from .compound import scale_by
from .rules import Compound, Rule

#: φ is found in steps of 1/STEPS, after a look outwards from 0 in strides of STRIDE such steps.
STEPS, STRIDE = 10_000, 5_000
#: Amounts a network can be limited in, as the command line knows them (``target_macs``, …), and their place in a Cost.
TARGETS = {"macs": "macs", "params": "params", "activations": "activations", "memory": "peak_memory"}

#: Seconds that one network takes for a batch, as it was measured.
Latency = Callable[[NetworkSpec], float]


def solve_phi(
    architecture: NetworkSpec,
    rule: Rule | Coefficients,
    *,
    macs: float | None = None,
    params: float | None = None,
    activations: float | None = None,
    memory: float | None = None,
    latency: float | None = None,
    measure: Latency | None = None,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
) -> float:
    """The largest φ, to 1/10,000, whose network keeps within every target given.

    The cost is a step function of φ that never falls (but for latency's noise, and where ``tinynet`` trades depth
    for width), so bisection finds the last step that fits; the network of the φ returned was costed and fits.

    Args:
        architecture: the base.
        rule: how it grows; Coefficients stand for compound scaling.
        macs, params, activations: most of each.
        memory: most ``cost(...).peak_memory``, in bytes.
        latency: most seconds that ``measure`` may say of the network.
        measure: measures a network; each network once.
        divisor, depth_rounding: as :func:`~effnas.scaling.compound.multiply_network`.

    Raises:
        UserError: no target, a target that is not a positive number, one that no φ of the rule meets (the message
            gives the nearest cost that can be had), or targets that every φ of the rule meets.
    """
    if isinstance(rule, Coefficients):
        rule = Compound(rule)
    given = {"macs": macs, "params": params, "activations": activations, "memory": memory, "latency": latency}
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits:
        raise UserError(f"solve_phi needs a target: {', '.join(given)}")
    for name, value in limits.items():
        check_number(f"target {name}", value, 0, open_low=True)
    check_divisor(divisor)
    make = partial(scale_by, divisor=divisor, depth_rounding=depth_rounding)
    amounts = _Amounts(architecture, rule, limits, measure, make)
    first, last = (round(end * STEPS) for end in (max(rule.low, -100), min(rule.high, 100)))
    first += first / STEPS < rule.low  # rounded out of the rule's range
    by = rule.coefficients if isinstance(rule, Compound) else f"rule {rule.name}"

    # φ = 0 comes first: there widths stay unrounded, so it may be cheaper than its neighbours on either side.
    if amounts.fit(0):
        low, high = 0, min(STRIDE, last + 1)  # outwards step by step: a network of φ = 20 need not be built or timed
        while high <= last and amounts.fit(high):
            low, high = high, min(high + STRIDE, last + 1)
        low = _bisect(amounts.fit, low, high)
        if low == last or amounts(low + 1) is None:  # the search ended, not the target
            raise UserError(
                f"target {_show(limits)}: every network up to phi = {low / STEPS:g} fits, with {by}; "
                "set phi instead of a target"
            )
        return low / STEPS
    # resolutions below the total stride end the range: start from the lowest φ that still gives a network
    low = first
    if amounts(low) is None:
        low = _bisect(lambda step: amounts(step) is None, low, 0) + 1
    if low >= 0 or not amounts.fit(low):
        nearest = amounts(min(low, 0)) or {}
        raise UserError(
            f"target {_show(limits)}: out of reach; the smallest network, phi = {min(low, 0) / STEPS:g}, has "
            f"{_show(nearest)}"
        )
    return _bisect(amounts.fit, low, 0) / STEPS


class _Amounts:
    """The limited amounts of the networks at φ = step / STEPS."""

    def __init__(
        self,
        architecture: NetworkSpec,
        rule: Rule,
        limits: Mapping[str, float],
        measure: Latency | None,
        make: Callable[[NetworkSpec, Rule, float], NetworkSpec],
    ) -> None:
        self._architecture, self._rule, self._limits = architecture, rule, limits
        self._make = make
        self._of_step = cache(self._compute)
        self._measure = cache(measure) if measure is not None else None

    def __call__(self, step: int) -> dict[str, float] | None:
        """By name; None where there is no such network."""
        return self._of_step(step)

    def fit(self, step: int) -> bool:
        """Whether every one is within its limit."""
        found = self(step)
        return found is not None and all(found[name] <= limit for name, limit in self._limits.items())

    def _compute(self, step: int) -> dict[str, float] | None:
        try:
            network = self._make(self._architecture, self._rule, step / STEPS)
            found = cost(network)
        except UserError:
            return None
        amounts: dict[str, float] = {n: getattr(found, TARGETS[n]) for n in self._limits if n in TARGETS}
        if "latency" in self._limits:
            if self._measure is None:
                raise UserError("target latency needs measure, a function that measures it")
            # the cheap limits come first: a network that is far too large is not measured
            over = any(amounts[name] > limit for name, limit in self._limits.items() if name in amounts)
            amounts["latency"] = float("inf") if over else self._measure(network)
        return amounts


def _bisect(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The last whole number of [low, high) that ``holds``, which low does and high does not."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _show(amounts: Mapping[str, Any]) -> str:
    """Amounts by name as text: "macs 1,000,000 and params 5,000"."""
    return " and ".join(
        f"{name} {amount:.4g} s" if name == "latency" else f"{name} {amount:,.0f}" for name, amount in amounts.items()
    )
