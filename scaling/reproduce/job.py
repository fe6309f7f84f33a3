"""``effnas reproduce``: tables of the EfficientNet paper recomputed, our numbers beside the printed ones.

Torch-free but for ResNet-50, and without table libraries, so that the command starts at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...space.cost import cost
from ...space.errors import UserError, check_choice
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.zoo import PUBLISHED, load_architecture
from .report import UNITS, write_reproduction
from .tables import TABLES, PaperRow

#: Points tried in the interval that rounds to a printed coefficient: of one that is scaled alone, of each of three.
_STEPS = (100, 10)


def run_reproduce(table: str | None = None, *, output: str | Path = "outputs/reproduce") -> list[dict[str, Any]]:
    """:func:`reproduce` with ``reproduce.json`` and ``reproduce.csv`` written into ``output``.

    Raises:
        UserError: no table named, or none of that name.
    """
    if table is None:
        raise UserError(f"name a table of the EfficientNet paper: {', '.join(TABLES)}, as in effnas reproduce table3")
    rows = reproduce(table)
    write_reproduction(rows, as_path("output", output))
    return rows


def reproduce(table: str) -> list[dict[str, Any]]:
    """The rows of a table of the paper, computed from the networks, as plain data.

    Each row has ``name network depth width resolution_ratio resolution coefficients`` (the multipliers, pixels, and
    where the multipliers are from: printed, code or fitted), ``paper_macs macs macs_difference macs_agree`` (as
    printed, exact, in %, whether ours rounds to what is printed), the same for ``params`` (None where the paper prints
    none) and ``note``, on what differs or was fitted.

    Raises:
        UserError: no such table.
    """
    check_choice("table", table, TABLES)
    return [_row(row) for row in TABLES[table]]


def scale_zoo_network(network: str, depth: float, width: float, resolution: float) -> NetworkSpec:
    """A network of the zoo with its repeats and channels multiplied, at ``resolution`` times its pixels, rounded."""
    base = load_architecture(network)
    return base.scaled(width, depth, round(base.resolution * resolution))


def find_interval(printed: str) -> tuple[float, float]:
    """What rounds to a printed number, "1.8B": half a unit of its last digit to either side."""
    number = Decimal(printed.rstrip("MB"))
    unit, half = UNITS.get(printed[-1], 1), Decimal(5).scaleb(int(number.as_tuple().exponent) - 1)
    return float((number - half) * unit), float((number + half) * unit)


# -- parts -------------------------------------------------------------------------------------------


def _row(row: PaperRow) -> dict[str, Any]:
    depth, width, ratio = float(row.depth), float(row.width), float(row.resolution)
    network = scale_zoo_network(row.network, depth, width, ratio)
    if row.origin == "code":
        depth, width = PUBLISHED[row.network].depth, PUBLISHED[row.network].width
        ratio = network.resolution / load_architecture("efficientnet_b0").resolution
    total = cost(network)
    result: dict[str, Any] = {
        "name": row.name,
        "network": row.network,
        "depth": depth,
        "width": width,
        "resolution_ratio": round(ratio, 4),
        "resolution": network.resolution,
        "coefficients": row.origin,
        **_comparison("macs", row.macs, total.macs),
        **_comparison("params", row.params, total.params),
    }
    notes = [] if result["macs_agree"] or row.remark else [f"MACs: {_why(row, total.macs)}"]
    if result["params_agree"] is False:
        notes.append("parameters: unexplained")
    return {**result, "note": "; ".join(filter(None, [row.remark, *notes]))}


def _comparison(what: str, printed: str, ours: int) -> dict[str, Any]:
    if not printed:
        return {f"paper_{what}": None, what: ours, f"{what}_difference": None, f"{what}_agree": None}
    low, high = find_interval(printed)
    return {
        f"paper_{what}": printed,
        what: ours,
        f"{what}_difference": round(200 * ours / (low + high) - 100, 2),
        f"{what}_agree": low <= ours < high,
    }


def _why(row: PaperRow, macs: int) -> str:
    """What would make our MACs the printed ones: rounded coefficients, a cut instead of rounding, or nothing known."""
    low, high = find_interval(row.macs)
    reasons = []
    if row.origin == "printed":
        fits = [
            triple for triple in _rounding_to(row) if low <= cost(scale_zoo_network(row.network, *triple)).macs < high
        ]
        reasons += [_explained_by(row, fits)] if fits else []
    half = (high - low) / 2
    if low + half <= macs < high + half:
        reasons.append(f"{macs / 1e9:.4g}B cut off instead of rounded is {row.macs}")
    return "; or ".join(reasons) or "unexplained"


def _rounding_to(row: PaperRow) -> Iterator[tuple[float, float, float]]:
    """Triples d, w, r on a grid that all round to the printed ones; a printed 1 stays."""
    printed = (row.depth, row.width, row.resolution)
    steps = _STEPS[sum(one != "1" for one in printed) > 1]
    axes = [_grid(*find_interval(one), steps) if one != "1" else [1.0] for one in printed]
    return itertools.product(*axes)  # type: ignore[return-value]


def _grid(low: float, high: float, steps: int) -> list[float]:
    return [low + (high - low) * i / steps for i in range(steps)]


def _explained_by(row: PaperRow, fits: list[tuple[float, float, float]]) -> str:
    printed = (row.depth, row.width, row.resolution)
    scaled_along = [i for i, one in enumerate(printed) if one != "1"]
    if len(scaled_along) > 1:
        nearest = min(fits, key=lambda fit: _distance(fit, row))
        triple = ", ".join(f"{name}={value:.3g}" for name, value in zip("dwr", nearest, strict=True))
        return f"coefficients that round to the printed ones give {row.macs}, such as {triple}"
    [i] = scaled_along
    values = sorted({f"{fit[i]:.2f}" for fit in fits})
    between = f"from {values[0]} to {values[-1]}" if len(values) > 1 else f"near {values[0]}"
    return f"{'dwr'[i]} {between}, which rounds to {printed[i]}, gives {row.macs}"


def _distance(found: tuple[float, float, float], row: PaperRow) -> float:
    printed = (float(row.depth), float(row.width), float(row.resolution))
    return sum(math.log(a / b) ** 2 for a, b in zip(found, printed, strict=True))
