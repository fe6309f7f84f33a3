"""Rules of scaling: how much deeper, wider and larger in resolution a network gets with φ.

Every rule multiplies MACs by about 2 for one step of φ. Torch-free, so that ``effnas scale`` starts at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from ..space.errors import UserError, check_choice, check_number
from ..space.zoo import PUBLISHED
from .coefficients import PAPER, Coefficients

DIMENSIONS = ("depth", "width", "resolution")
#: φ that targets are solved in: from 1/100 to 400,000 times B0's MACs with the paper's coefficients.
LOWEST, HIGHEST = -10.0, 20.0
#: B0's dropout rises linearly from 0.2 to B7's 0.5, which is φ = 7 by MACs.
_DROPOUT_GROWTH = 1.5 / 7
#: φ at which the next published row stands; L2 is none of the sequence.
_ROWS = tuple(PUBLISHED[f"efficientnet_b{i}"] for i in range(9))
_LITE = tuple(PUBLISHED[f"efficientnet_lite{i}"] for i in range(5))


class Multipliers(NamedTuple):
    """What depth, width, resolution and the dropout rate of a base network are multiplied by."""

    depth: float
    width: float
    resolution: float
    dropout: float = 1.0

    @property
    def macs_ratio(self) -> float:
        """Depth · width² · resolution², what MACs are multiplied by before anything is rounded."""
        return self.depth * self.width**2 * self.resolution**2


class Rule(Protocol):
    """φ to multipliers."""

    @property
    def name(self) -> str:
        """As ``rule=`` knows it."""

    @property
    def low(self) -> float:
        """The smallest φ it is defined for."""

    @property
    def high(self) -> float:
        """The largest."""

    def __call__(self, phi: float) -> Multipliers:
        """The multipliers at φ. A rule whose stages grow unevenly has ``tilt_at``, too: of each stage, what its width
        and depth are multiplied by besides.

        Raises:
            UserError: the rule is not defined at this φ.
        """


@dataclass(frozen=True)
class Compound:
    """α^φ, β^φ, γ^φ (Tan & Le 2019, equation 3); with coefficients found under a limit on latency it is LACS."""

    coefficients: Coefficients = PAPER
    name: str = "compound"
    low: float = LOWEST
    high: float = HIGHEST

    def __call__(self, phi: float) -> Multipliers:
        """As :class:`Rule`."""
        c = self.coefficients
        return Multipliers(c.alpha**phi, c.beta**phi, c.gamma**phi, _dropout(phi))


@dataclass(frozen=True)
class Shares:
    """Dollár et al. 2021, section 4: MACs times s = 2^φ, of which depth, width and resolution take fixed shares.

    d = s^e_d, w = s^(e_w/2), r = s^(e_r/2), the shares e adding up to 1. (1, 0, 0), (0, 1, 0) and (0, 0, 1) scale one
    dimension alone; (0.1, 0.8, 0.1), d1_w8_r1, is the fast compound scaling (α = 0.8) that lets activations grow with
    about the root of the MACs.

    Raises:
        UserError: a share is not in [0, 1], or they do not add up to 1.
    """

    shares: tuple[float, float, float] = (0.1, 0.8, 0.1)
    name: str = "dwr"
    low: float = LOWEST
    high: float = HIGHEST

    def __post_init__(self) -> None:
        if not isinstance(self.shares, Sequence) or isinstance(self.shares, str) or len(self.shares) != 3:
            raise UserError(f"shares must be three numbers, of depth, width and resolution, got {self.shares!r:.60}")
        for dimension, share in zip(DIMENSIONS, self.shares, strict=True):
            check_number(f"shares: {dimension}", share, 0, 1)
        if abs(sum(self.shares) - 1) > 1e-6:
            raise UserError(f"shares of depth, width and resolution must add up to 1, got {sum(self.shares):g}")
        object.__setattr__(self, "shares", tuple(float(share) for share in self.shares))

    def __call__(self, phi: float) -> Multipliers:
        """As :class:`Rule`."""
        depth, width, resolution = self.shares
        return Multipliers(2 ** (phi * depth), 2 ** (phi * width / 2), 2 ** (phi * resolution / 2), _dropout(phi))


@dataclass(frozen=True)
class Table:
    """Published multipliers: the row of number φ, and between two rows their straight line.

    ``rows`` stand at ``positions``, in rising order. The authors' table is not α^φ, β^φ, γ^φ of any one φ
    (``effnas scale --explain``).
    """

    name: str
    rows: tuple[Multipliers, ...]
    positions: tuple[float, ...]

    @property
    def low(self) -> float:
        """φ of the first row."""
        return self.positions[0]

    @property
    def high(self) -> float:
        """φ of the last row."""
        return self.positions[-1]

    def __call__(self, phi: float) -> Multipliers:
        """As :class:`Rule`."""
        check_number("phi", phi)
        if not self.low <= phi <= self.high:
            raise UserError(
                f"rule {self.name}: phi must be between {self.low:.4g} and {self.high:.4g}, where its published table "
                f"ends, got {phi:g}"
            )
        for (left, a), (right, b) in pairwise(zip(self.positions, self.rows, strict=True)):
            if phi <= right:
                t = (phi - left) / (right - left)
                return Multipliers(*((1 - t) * x + t * y if t < 1 else y for x, y in zip(a, b, strict=True)))
        return self.rows[-1]


def published(lite: bool = False) -> Table:
    """The multipliers of EfficientNet-B0…B8 at φ = 0…8, or of Lite0…4: on their own base, those very networks."""
    table = _LITE if lite else _ROWS
    base = table[0]
    rows = tuple(
        Multipliers(row.depth, row.width, row.resolution / base.resolution, row.dropout / base.dropout) for row in table
    )
    return Table("published", rows, tuple(float(i) for i in range(len(rows))))


#: Depth, width and resolution of TinyNet-A…E against EfficientNet-B0's.
_TINYNET = (
    Multipliers(1.2, 1.0, 0.86),
    Multipliers(1.1, 0.75, 0.84),
    Multipliers(0.85, 0.54, 0.825),
    Multipliers(0.695, 0.54, 0.68),
    Multipliers(0.6, 0.51, 0.475),
)


@dataclass(frozen=True)
class TinyNet:
    """Shrinking (Han et al. 2020, *Model Rubik's Cube*): resolution and depth before width.

    Resolution and depth at 2^φ times the MACs lie on the straight lines, over φ, between those of TinyNet-A…E, whose
    places are their nominal MACs ratios; the width is what d·w²·r² = 2^φ leaves. (The paper fits r and d with a
    Gaussian process to networks on its front; its rows are those of the published models.)
    """

    name: str = "tinynet"
    low: float = math.log2(_TINYNET[-1].macs_ratio)
    high: float = 0.0

    def __call__(self, phi: float) -> Multipliers:
        """As :class:`Rule`."""
        rows = (*reversed(_TINYNET), Multipliers(1.0, 1.0, 1.0))
        line = Table(self.name, rows, tuple(math.log2(row.macs_ratio) for row in rows))(phi)
        width = math.sqrt(2**phi / (line.depth * line.resolution**2))
        return Multipliers(line.depth, width, line.resolution, max(0.0, _dropout(phi)))


#: The constraint is α·β²·γ² ≈ 2. Coefficients found by achieved MACs or by latency may be off it, for rounding does
#: much to small networks; beyond this they are no coefficients of one step.
MOST_A_STEP = 4.0
#: Names of the rules, as ``rule=`` knows them.
RULES = ("compound", "published", "depth", "width", "resolution", "dwr", "tinynet", "lacs")
#: EfficientNet-X (Li et al. 2021) on a GPU: from the multipliers of x-gpu-b1…b7 in the authors' code (tensorflow/tpu,
#: efficientnet_x_builder.py), which all give these two decimals when brought to α·β²·γ² = 2. Depth grows fastest.
LACS = Coefficients(1.30, 1.16, 1.07)


def load_shares(value: Any) -> Any:
    """Shares from "0.2,0.6,0.2", as a list is written on the command line; anything else is :class:`Shares`' to check.

    Raises:
        UserError: a string that does not hold numbers.
    """
    if not isinstance(value, str):
        return value
    try:
        return tuple(float(part) for part in value.strip().strip("[]()").split(","))
    except ValueError:
        raise UserError(f"shares must be three numbers, like 0.1,0.8,0.1, got {value!r:.60}") from None


def make_rule(
    name: str,
    *,
    coefficients: Coefficients | None = None,
    shares: Sequence[float] | None = None,
    lite: bool = False,
) -> Rule:
    """The rule of a name.

    Args:
        name: of :data:`RULES`.
        coefficients: of ``compound`` (None: the paper's) and ``lacs`` (None: EfficientNet-X's).
        shares: of ``dwr`` (None: d1_w8_r1).
        lite: ``published`` is EfficientNet-Lite's table.

    Raises:
        UserError: no such rule, a setting that is another rule's, or coefficients whose α·β²·γ² is not in (1, 4].
    """
    check_choice("rule", name, RULES)
    if shares is not None and name != "dwr":
        raise UserError(f"shares belong to rule=dwr, not to rule={name}")
    if coefficients is not None and name not in ("compound", "lacs"):
        raise UserError(f"coefficients belong to rule=compound and rule=lacs, not to rule={name}")
    if coefficients is not None and not 1 < coefficients.macs_ratio <= MOST_A_STEP:
        raise UserError(
            f"coefficients {coefficients.alpha:g}, {coefficients.beta:g}, {coefficients.gamma:g}: "
            f"alpha·beta²·gamma² is {coefficients.macs_ratio:.4g}; a step of phi must about double the MACs: above 1 "
            f"and at most {MOST_A_STEP:g}"
        )
    if name in DIMENSIONS:
        one = [0.0, 0.0, 0.0]
        one[DIMENSIONS.index(name)] = 1.0
        return Shares((one[0], one[1], one[2]), name)
    if name == "published":
        return published(lite)
    if name == "dwr":
        return Shares() if shares is None else Shares(shares)  # type: ignore[arg-type]  # checked there
    if name == "tinynet":
        return TinyNet()
    if name == "lacs":
        return Compound(coefficients or LACS, "lacs")
    return Compound(coefficients or PAPER)


def _dropout(phi: float) -> float:
    return 1 + _DROPOUT_GROWTH * phi
