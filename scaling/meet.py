"""From a budget to the network of a rule whose *achieved* MACs are that budget, so that rules can be compared fairly.

Whole blocks, channels and pixels are coarse: on a small network two neighbouring φ may lie 30 % apart in MACs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from ..space.cost import cost
from ..space.errors import UserError, check_number
from ..space.network_spec import NetworkSpec
from .compound import multiply_network
from .rules import Multipliers, Rule
from .solve import STEPS

#: The extra factor on the widths lies within 1 ± TRIM, in steps of 1/STEPS.
TRIM = 0.1
#: φ by which the bracket of the budget grows; one step is a factor of about 1.4 in MACs.
_STRIDE = STEPS // 2


class Met(NamedTuple):
    """A network that meets a budget.

    Args:
        network: the scaled network.
        phi: of the rule.
        multipliers: those it was made with: the rule's at ``phi``, the width times ``trimmed``.
        macs_ratio: its MACs in the budget's, within the tolerance of 1.
        trimmed: the extra factor on the width; 1 where the rule's own rounding met the budget.
        divisor: of the widths, 8 unless it took a finer one.
    """

    network: NetworkSpec
    phi: float
    multipliers: Multipliers
    macs_ratio: float
    trimmed: float
    divisor: int


def meet(network: NetworkSpec, rule: Rule, macs: float, tolerance: float = 0.02, *, depth_rounding: str = "up") -> Met:
    """The base scaled by a rule to ``macs`` multiply-accumulates as counted on the rounded network.

    The φ on both sides of the budget come first. Where neither network is within the tolerance, one of them is
    trimmed: its width takes an extra factor within 1 ± 0.1, the nearest to 1 that does it; and where that fails, too,
    the same with widths in multiples of 4, 2 and 1. For a rule that leaves the width alone this is a small departure
    from it, which the result reports.

    Args:
        network: the base; its widths take each of its ``divisors`` in turn.
        rule: how it grows.
        macs: to be met.
        tolerance: how far from 1 achieved MACs / ``macs`` may be.
        depth_rounding: as :func:`~effnas.scaling.compound.multiply_network`.

    Raises:
        UserError: a number out of range, or nothing within the tolerance: the message gives the nearest ratio.
    """
    check_number("macs", macs, 0, open_low=True)
    check_number("tolerance", tolerance, 0, 0.5)
    tries = _Tries(network, rule, macs, depth_rounding)
    for divisor in network.divisors:
        for met in _candidates(tries, divisor, tolerance):
            if abs(met.macs_ratio - 1) <= tolerance:
                return met
    raise tries.none_within(tolerance)


def _candidates(tries: _Tries, divisor: int, tolerance: float) -> Iterator[Met]:
    """The two networks around the budget, the nearer one first; then both trimmed, the lesser trim first."""
    steps = tries.around(divisor)
    sides = [met for step in steps if (met := tries(step, STEPS, divisor)) is not None]
    yield from sorted(sides, key=lambda met: abs(met.macs_ratio - 1))
    trimmed = []
    for met in sides:
        step = round(met.phi * STEPS)
        most = round(TRIM * STEPS)

        def at(tick: int, step: int = step) -> float:
            return tries.ratio(step, tick, divisor)

        if met.macs_ratio < 1:
            tick = _first(lambda tick: at(tick) >= 1 - tolerance, STEPS, STEPS + most)
        else:
            tick = _first(lambda tick: at(tick) > 1 + tolerance, STEPS - most, STEPS) - 1
        if abs(tick - STEPS) <= most and (found := tries(step, tick, divisor)) is not None:
            trimmed.append(found)
    yield from sorted(trimmed, key=lambda met: abs(math.log(met.trimmed)))


class _Tries:
    """The networks at φ = step / STEPS with the width times tick / STEPS, and the nearest one seen."""

    def __init__(self, network: NetworkSpec, rule: Rule, macs: float, depth_rounding: str) -> None:
        self._base, self._rule, self._macs, self._depth_rounding = network, rule, macs, depth_rounding
        self._of = cache(self._compute)
        self._nearest: Met | None = None

    def __call__(self, step: int, tick: int, divisor: int) -> Met | None:
        """None where there is no such network."""
        return self._of(step, tick, divisor)

    def ratio(self, step: int, tick: int, divisor: int) -> float:
        """Achieved MACs in the budget's; where there is no network, 0 for a φ below 0 and infinite above."""
        met = self._of(step, tick, divisor)
        if met is not None:
            return met.macs_ratio
        return 0.0 if step < 0 else math.inf

    def around(self, divisor: int) -> list[int]:
        """The last step whose network is within the budget and the first that is not; one of them at a rule's end."""
        first, last = math.ceil(self._rule.low * STEPS), math.floor(self._rule.high * STEPS)

        def over(step: int) -> bool:
            return self.ratio(step, STEPS, divisor) > 1

        # Outwards from φ = 0: a bisection of the whole range would begin with networks a thousand times as deep.
        low = high = min(max(0, first), last)
        while low > first and over(low):
            high, low = low, max(first, low - _STRIDE)
        while high < last and not over(high):
            low, high = high, min(last, high + _STRIDE)
        crossing = _first(over, low, high)
        return [step for step in (crossing - 1, crossing) if first <= step <= last]

    def none_within(self, tolerance: float) -> UserError:
        """The error that says how near one can get."""
        base = cost(self._base).macs
        text = (
            f"rule {self._rule.name} cannot meet {self._macs:,.0f} MACs ({self._macs / base:.4g} times those of "
            f"{self._base.name or 'the base'}) within {tolerance:.2%}"
        )
        if (met := self._nearest) is not None:
            text += (
                f"; the nearest network has {met.macs_ratio:.4f} of that (phi {met.phi:g}, {met.network.resolution} px)"
            )
        return UserError(f"{text}: use a larger tolerance, another factor or a larger base, or leave this rule out")

    def _compute(self, step: int, tick: int, divisor: int) -> Met | None:
        phi, trim = step / STEPS, tick / STEPS
        try:
            by = self._rule(phi)
            by = by._replace(width=by.width * trim)
            scaled = multiply_network(
                self._base, by, divisor=divisor, depth_rounding=self._depth_rounding, keep_dropout=phi == 0
            )
            ratio = cost(scaled).macs / self._macs
        except UserError:
            return None
        met = Met(scaled, phi, by, ratio, trim, divisor)
        if self._nearest is None or abs(ratio - 1) < abs(self._nearest.macs_ratio - 1):
            self._nearest = met
        return met


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first whole number of [low, high] from which on ``holds``; ``high`` + 1 where it never does."""
    below, above = low - 1, high + 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above
