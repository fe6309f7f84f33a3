"""A star in place of a grid: each dimension grows alone, and a law says which mixture of the three is best.

A grid looks for the best mixture among mixtures of twice the cost. A star trains the baseline, each dimension alone at
twice and four times the cost, and the published mixture at both: nine networks that tell what a dimension is worth, and
how soon it saturates. The law over all of them (:mod:`.posterior`) gives the shares of the highest expected accuracy;
these are trained, too. It is the star sweep of shape-optimised vision transformers (Alabdulmohsin et al. 2023, *Getting
ViT in Shape*, section 3.2) with a law that holds few trainings against what is known before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...space.errors import UserError, check_choice, check_number
from ..coefficients import Coefficients
from .points import NAMES, POWERS, RATIOS, TICKS, Measure, Scaled, solve
from .posterior import Posterior, published_shares
from .response import Array

#: What a point may hold: a star's networks are of two and four times the cost, and are not looked for among measured
#: latencies of about two.
HELD = ("nominal", "achieved", "solved")
#: Costs of the arms in the baseline's; the candidates are those of the first.
SIZES = (2.0, 4.0)
#: Shares of which the best is looked for: multiples of 1/60 of the growth, (n, 3).
FINE = np.array([(i, j, 60 - i - j) for i in range(61) for j in range(61 - i)]) / 60


@dataclass(frozen=True)
class Star:
    """The settings of a star.

    Args:
        ratio: whether α·β²·γ² (``nominal``) or the MACs of the rounded network in the baseline's (``achieved``; also
            called ``solved``, as each coefficient is) should be 2 and 4.
        tolerance: how far from 2 a candidate's ratio may be; None: 0.1 for ``nominal``, 0.2 for the others.

    Raises:
        UserError: a setting is out of range.
    """

    ratio: str = "nominal"
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_choice("ratio", self.ratio, RATIOS)
        if self.ratio not in HELD:
            raise UserError(f"ratio={self.ratio} applies with method=grid; a star has {', '.join(HELD)}")
        check_number("tolerance", self.within, 0)

    @property
    def within(self) -> float:
        """The tolerance in force."""
        return RATIOS[self.ratio] if self.tolerance is None else self.tolerance

    def settings(self) -> dict[str, Any]:
        """What identifies the star, as plain data."""
        return {"method": "star", "ratio": self.ratio, "tolerance": self.within}

    def points(self, scaled: Scaled, measure: Measure | None = None) -> list[Coefficients]:
        """The baseline, then the arms and the published mixture by size, those that are alike once.

        Raises:
            UserError: none of twice the cost is within the tolerance.
        """
        mixtures = [*np.eye(3), published_shares()]
        found = [Coefficients(1.0, 1.0, 1.0)]
        for size in SIZES:
            found += [self.point(scaled, mixture, size) for mixture in mixtures]
        points = list(dict.fromkeys(found))
        if not self.candidates(scaled, points):
            what = "alpha·beta²·gamma²" if self.ratio == "nominal" else "an achieved MACs ratio"
            near = min((self._held(scaled, p) for p in points[1:]), key=lambda ratio: abs(ratio - 2), default=1.0)
            raise UserError(
                f"no point of the star has {what} within {self.within:g} of 2; the nearest has {near:.4g}: use a "
                "larger tolerance or another baseline"
            )
        return points

    def candidates(self, scaled: Scaled, points: Sequence[Coefficients]) -> list[Coefficients]:
        """Those that may become the coefficients: their ratio is within the tolerance of 2."""
        return [p for p in points if abs(self._held(scaled, p) - 2) <= self.within + 1e-9]

    def announce_rounds(self, rounds: int, size: int, seeds: int) -> str:
        """How much there is to train after the star."""
        return f"; then the mixture that they say is best: {seeds} more"

    def best(self, scaled: Scaled, posterior: Posterior) -> Coefficients:
        """The candidate of the highest expected accuracy over the family, of all shares."""
        order = np.argsort(-posterior.expect(FINE), kind="stable")
        points = (self.point(scaled, FINE[i], SIZES[0]) for i in order)
        return next(p for p in points if self.candidates(scaled, [p]))

    def point(self, scaled: Scaled, mixture: Array, size: float) -> Coefficients:
        """The coefficients with these shares of the growth (3,), whose ratio is as near to ``size`` as it gets."""
        if self.ratio == "nominal":
            return _along(mixture, math.log(size))
        alone = int(np.argmax(mixture)) if mixture.max() == 1 else None
        if alone is not None:
            high = round(min(10.0, (2 * size) ** (1 / POWERS[NAMES[alone]])), 9)
            return solve(scaled, Coefficients(1.0, 1.0, 1.0), NAMES[alone], 1.0, high, size)
        return _nearest(lambda growth: scaled.macs_ratio(_along(mixture, growth)), mixture, size)

    def _held(self, scaled: Scaled, point: Coefficients) -> float:
        return point.macs_ratio if self.ratio == "nominal" else scaled.macs_ratio(point)


def _along(mixture: Array, growth: float) -> Coefficients:
    """The coefficients with these shares of a growth of the logarithm of the MACs."""
    parts = zip(NAMES, mixture.tolist(), strict=True)
    return Coefficients(*(round(math.exp(share * growth / POWERS[name]), 4) for name, share in parts))


def _nearest(ratio: Callable[[float], float], mixture: Array, size: float) -> Coefficients:
    """Along a ray the ratio only grows: the two sides of where it passes ``size``, and the nearer of them."""
    low, high = 0.0, 2 * math.log(size)
    while high - low > 1 / TICKS:
        middle = (low + high) / 2
        low, high = (low, middle) if ratio(middle) >= size else (middle, high)
    return _along(mixture, min((low, high), key=lambda growth: abs(ratio(growth) - size)))
