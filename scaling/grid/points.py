"""The points of the α-β-γ grid, which are those of about twice the baseline's cost, counted in one of several ways."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...space.cost import cost
from ...space.errors import UserError, check_choice, check_number
from ...space.formulas import Cost
from ...space.multipliers import DIVISOR
from ...space.network_spec import NetworkSpec
from ..coefficients import Coefficients
from ..compound import scale

NAMES = ("alpha", "beta", "gamma")
#: Power of each coefficient in the MACs ratio (equation 3).
POWERS = {"alpha": 1, "beta": 2, "gamma": 2}
#: What should be 2, and how far from it a point may be by default. Whole blocks and channels are coarse: within 0.1 of
#: an achieved ratio of 2 EfficientNet-B0 has 9 different networks in the paper's ranges, within 0.2 it has 24.
RATIOS = {"nominal": 0.1, "achieved": 0.2, "solved": 0.2, "latency": 0.2}
#: Combinations that are looked at, with and without making their networks.
MOST, MOST_NETWORKS = 1_000_000, 20_000
#: A solved coefficient has this many values to 1.
TICKS = 10_000

#: Ratios to the baseline by digest; networks that could not be measured, or are clearly out, are left out.
Measure = Callable[[Sequence[NetworkSpec]], Mapping[str, float]]


def read_point(row: Mapping[str, Any]) -> Coefficients:
    """The coefficients of a row, or of a trial's parameters."""
    return Coefficients(*(row[name] for name in NAMES))


class Scaled:
    """The baseline scaled by coefficients at φ = 1; every network is made and costed once.

    Multipliers that give a builder's network the same resolution and costs are taken to give the same network: what the
    builder rounds is not known, and its networks would be trained once for each multiplier.

    Args:
        baseline: the network of φ = 0.
        divisor: what the scaled networks' widths are multiples of.
    """

    def __init__(self, baseline: NetworkSpec, divisor: int = DIVISOR) -> None:
        self.baseline, self.divisor = baseline, divisor
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
        found = scale(self.baseline, point, 1, divisor=self.divisor)
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


@dataclass(frozen=True)
class Grid:
    """The settings of a grid.

    Args:
        alpha, beta, gamma: lowest and highest value of each.
        step: between neighbours.
        ratio: what should be about 2: ``nominal``, α·β²·γ² before rounding, as in the paper; ``achieved``, the MACs
            of the rounded network in the baseline's; ``solved``, the same, reached by solving one coefficient from
            each pair of the other two; ``latency``, the latency in the baseline's as measured (the constraint of LACS:
            Li et al. 2021, *Searching for Fast Model Families on Datacenter Accelerators*).
        solve: the coefficient that ``solved`` solves, in its range.
        tolerance: how far from 2 the ratio may be; None: 0.1 for ``nominal``, 0.2 for the others.

    Raises:
        UserError: a setting is out of range.
    """

    alpha: Sequence[float] = (1.0, 1.4)
    beta: Sequence[float] = (1.0, 1.2)
    gamma: Sequence[float] = (1.0, 1.3)
    step: float = 0.05
    ratio: str = "nominal"
    solve: str = "gamma"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_number("step", self.step, 0, 1, open_low=True)
        check_choice("ratio", self.ratio, RATIOS)
        check_choice("solve", self.solve, NAMES)
        check_number("tolerance", self.within, 0)
        self._axes()

    @property
    def within(self) -> float:
        """The tolerance in force."""
        return RATIOS[self.ratio] if self.tolerance is None else self.tolerance

    def settings(self) -> dict[str, Any]:
        """What identifies the grid, as plain data."""
        found: dict[str, Any] = {name: list(getattr(self, name)) for name in NAMES}
        found |= {"step": self.step, "ratio": self.ratio, "tolerance": self.within}
        return found | ({"solve": self.solve} if self.ratio == "solved" else {})

    def points(self, scaled: Scaled | None = None, measure: Measure | None = None) -> list[Coefficients]:
        """Those whose ratio is within the tolerance of 2, in lexical order.

        Args:
            scaled: makes the networks; not needed for ``nominal``.
            measure: gives the latency ratios; needed for ``latency`` only.

        Raises:
            UserError: there are none, or too many combinations.
        """
        found = self._ratios(scaled, measure)
        points = [p for p, ratio in found.items() if abs(ratio - 2) <= self.within + 1e-9]
        if not points:
            raise self._none(found)
        return points

    def candidates(self, scaled: Scaled, points: Sequence[Coefficients]) -> list[Coefficients] | None:
        """The points that may become the coefficients; None: all may."""
        return None

    def announce_rounds(self, rounds: int, size: int, seeds: int) -> str:
        """How much there is to train after the grid."""
        if not rounds:
            return ""
        words = f"{rounds} finer round{'s' * (rounds > 1)} of at most {size} new networks"
        return f"; then {words}: {rounds * size * seeds} more at most"

    def near(self, center: Coefficients, step: float) -> Grid:
        """The grid at half of ``step``, within one ``step`` of ``center`` in each coefficient and in its range."""

        def span(name: str) -> tuple[float, float]:
            low, high = getattr(self, name)
            middle = getattr(center, name)
            if self.ratio == "solved" and name == self.solve:
                return low, high
            return round(max(low, middle - step), 9), round(min(high, middle + step), 9)

        alpha, beta, gamma = map(span, NAMES)
        return Grid(alpha, beta, gamma, step / 2, self.ratio, self.solve, self.tolerance)

    # -- the ratios ----------------------------------------------------------------------------------

    def _axes(self) -> list[list[float]]:
        """The values of each coefficient; they are counted before they are made."""
        spans = {name: _span(name, getattr(self, name)) for name in NAMES}
        if self.ratio == "solved":
            spans[self.solve] = (spans[self.solve][0],) * 2
        counts = [_count(*span, self.step) for span in spans.values()]
        count, most = math.prod(counts), MOST if self.ratio == "nominal" else MOST_NETWORKS
        if count > most:
            many = f"{count:,}" if max(counts) <= MOST else f"more than {MOST:,}"
            raise UserError(
                f"step {self.step:g} makes {many} combinations; at most {most:,} are allowed: use a larger step"
            )
        return [
            [round(low + i * self.step, 9) for i in range(n)]
            for (low, _), n in zip(spans.values(), counts, strict=True)
        ]

    def _ratios(self, scaled: Scaled | None, measure: Measure | None) -> dict[Coefficients, float]:
        combinations = [Coefficients(*values) for values in itertools.product(*self._axes())]
        if self.ratio == "nominal":
            return {p: p.macs_ratio for p in combinations}
        assert scaled is not None
        if self.ratio == "achieved":
            return {p: scaled.macs_ratio(p) for p in combinations}
        if self.ratio == "solved":
            low, high = getattr(self, self.solve)
            solved = [solve(scaled, p, self.solve, low, high) for p in combinations]
            return {p: scaled.macs_ratio(p) for p in solved}
        assert measure is not None
        networks = {p: network for p in combinations if (network := scaled.network(p)) is not None}
        measured = measure(list({n.digest: n for n in networks.values()}.values()))
        return {p: measured[n.digest] for p, n in networks.items() if n.digest in measured}

    def _none(self, found: Mapping[Coefficients, float]) -> UserError:
        what = {
            "nominal": "alpha·beta²·gamma²",
            "achieved": "an achieved MACs ratio",
            "solved": f"an achieved MACs ratio, with {self.solve} solved in [{getattr(self, self.solve)[0]:g}, "
            f"{getattr(self, self.solve)[1]:g}],",
            "latency": "a latency ratio",
        }[self.ratio]
        text = f"no point of the grid has {what} within {self.within:g} of 2"
        if found:
            nearest = min(found, key=lambda p: abs(found[p] - 2))
            values = ", ".join(f"{getattr(nearest, name):g}" for name in NAMES)
            text += f"; the nearest, ({values}), has {found[nearest]:.6g}"
        return UserError(f"{text}: use a larger tolerance, a smaller step or wider ranges")


def grid_points(
    alpha: Sequence[float] = (1.0, 1.4),
    beta: Sequence[float] = (1.0, 1.2),
    gamma: Sequence[float] = (1.0, 1.3),
    *,
    step: float = 0.05,
    tolerance: float = 0.1,
) -> list[Coefficients]:
    """The points of the paper's grid, |α·β²·γ² − 2| ≤ tolerance, in lexical order.

    The defaults give 51 points, the paper's (1.2, 1.1, 1.15) among them: its product is 1.920, so a tolerance of 0.05
    would leave it out.

    Args:
        alpha, beta, gamma: lowest and highest value of each.
        step: between neighbours.
        tolerance: of the nominal MACs ratio, before rounding.

    Raises:
        UserError: a range is not two numbers from 1 upwards, or no point is left.
    """
    return Grid(alpha, beta, gamma, step, tolerance=tolerance).points()


def solve(scaled: Scaled, point: Coefficients, name: str, low: float, high: float, size: float = 2.0) -> Coefficients:
    """The point with one coefficient such that the achieved MACs ratio is as near to ``size`` as whole numbers allow.

    Many values of the coefficient give the same network; of these it is the one nearest to α·β²·γ² = ``size``.

    Args:
        scaled: makes the networks.
        point: the other two coefficients.
        name: the coefficient to solve.
        low, high: its range; the result is in it even where the size is out of reach.
        size: of the network, in the baseline's MACs.
    """
    last = math.floor((high - low) * TICKS + 1e-6)

    def at(tick: int) -> Coefficients:
        values = {n: getattr(point, n) for n in NAMES} | {name: round(low + tick / TICKS, 9)}
        return Coefficients(**values)

    def first(holds: Callable[[float], bool]) -> int:
        """The first tick from which on the ratio ``holds``; one after the last where it never does."""
        below, above = -1, last + 1
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if holds(scaled.macs_ratio(at(middle))) else (middle, above)
        return above

    crossing = first(lambda ratio: ratio >= size)
    sides = [tick for tick in (crossing - 1, crossing) if 0 <= tick <= last]
    ratio = scaled.macs_ratio(at(min(sides, key=lambda tick: abs(scaled.macs_ratio(at(tick)) - size))))
    start, end = first(lambda r: r >= ratio), first(lambda r: r > ratio) - 1
    others = math.prod(getattr(point, n) ** POWERS[n] for n in NAMES if n != name)
    exact = round(((size / others) ** (1 / POWERS[name]) - low) * TICKS)
    return at(min(max(exact, start), max(start, end)))


def _span(name: str, span: Any) -> tuple[float, float]:
    if not isinstance(span, Sequence) or isinstance(span, str) or len(span) != 2:
        raise UserError(f"{name} must be a range of two numbers such as [1.0, 1.4], got {span!r:.100}")
    low, high = span
    check_number(f"{name}: lowest value", low, 1, 10)
    check_number(f"{name}: highest value", high, 1, 10)
    if high < low:
        raise UserError(f"{name} must be a range from low to high, got [{low:g}, {high:g}]")
    return low, high


def _count(low: float, high: float, step: float) -> int:
    """How many values there are from ``low`` to ``high``; a million where there are more."""
    return math.floor(min((high - low) / step, MOST) + 1e-9) + 1
