"""``effnas reproduce``: tables of the EfficientNet paper computed anew, ours beside the printed numbers.

Torch-free but for ResNet-50, and without table libraries, so that the command starts at once.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...evaluate.folder import write_json
from ...space.cost import cost
from ...space.errors import UserError, check_choice
from ...space.files import write_text
from ...space.network_spec import NetworkSpec
from ...space.tables import text_table
from ...space.zoo import PUBLISHED, load_architecture
from .tables import TABLES, PaperRow

_UNITS = {"M": 10**6, "B": 10**9}
_TITLES = {
    "table2": "Table 2: EfficientNet-B0..B7; multipliers of the authors' code, the paper prints none",
    "table3": "Table 3: scaling up MobileNets and ResNet-50",
    "table7": "Table 7: EfficientNet-B0 scaled along one dimension and along all three",
}
_CONVENTIONS = (
    "difference: ours against the printed number; agrees: ours, rounded to as many digits, is the printed number.",
    "Ours are MACs of convolutions and linear layers. Repeats of every stage round up; all channels (stem and head "
    "too) go to multiples of 8; the resolution is the nearest whole number of pixels.",
    "The printed coefficients are rounded, too: the paper's Figure 4 calls 299 pixels r=1.3, which would be 291.",
)
#: Points tried in the interval that rounds to a printed coefficient: of one that is scaled alone, of each of three.
_STEPS = (100, 10)


@dataclass
class ReproduceJob:
    """Options of ``effnas reproduce``.

    Args:
        table: table2, table3 or table7.
        json: print JSON instead of a table.
    """

    table: str | None = None
    json: bool = False


def run_reproduce(options: ReproduceJob, output: Path) -> list[dict[str, Any]]:
    """:func:`reproduce` with ``reproduce.json`` and ``reproduce.csv`` written into ``output``.

    Raises:
        UserError: no table named, or none of that name.
    """
    if options.table is None:
        raise UserError(f"name a table of the EfficientNet paper: {', '.join(TABLES)}, as in effnas reproduce table3")
    rows = reproduce(options.table)
    write_json(output / "reproduce.json", rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / "reproduce.csv", text.getvalue())
    return rows


def render(options: ReproduceJob, rows: list[dict[str, Any]]) -> str:
    """The result of :func:`run_reproduce` as the text the command prints: JSON, or a table with its notes."""
    if options.json:
        return json.dumps(rows, indent=2)
    with_params = any(row["paper_params"] for row in rows)
    header = ["", "d", "w", "r", "pixels", "MACs: paper", "ours", "difference", "agrees"]
    header += ["params: paper", "ours", "difference", "agrees"] if with_params else []
    cells = []
    for row in rows:
        line = [row["name"], *(f"{row[key]:g}" for key in ("depth", "width", "resolution_ratio"))]
        line += [str(row["resolution"]), *_compared(row, "macs", "B")]
        cells.append(line + (_compared(row, "params", "M") if with_params else []))
    notes = []
    for note, same in itertools.groupby((row for row in rows if row["note"]), lambda row: row["note"]):
        names = " and ".join(row["name"] for row in same)
        notes.append(textwrap.fill(f"{names}: {note}", 118, initial_indent="- ", subsequent_indent="  "))
    printed = any(row["coefficients"] == "printed" for row in rows)
    closing = "\n".join(textwrap.fill(line, 118) for line in _CONVENTIONS[: 3 if printed else 2])
    parts = [_TITLES[str(options.table)], text_table(header, cells), "\n".join(notes), closing]
    return "\n\n".join(part for part in parts if part)


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


def scaled(network: str, depth: float, width: float, resolution: float) -> NetworkSpec:
    """A network of the zoo with its repeats and channels multiplied, at ``resolution`` times its pixels, rounded."""
    base = load_architecture(network)
    return base.scaled(width, depth, round(base.resolution * resolution))


def interval(printed: str) -> tuple[float, float]:
    """What rounds to a printed number, "1.8B": half a unit of its last digit to either side."""
    number = Decimal(printed.rstrip("MB"))
    unit, half = _UNITS.get(printed[-1], 1), Decimal(5).scaleb(int(number.as_tuple().exponent) - 1)
    return float((number - half) * unit), float((number + half) * unit)


# -- parts -------------------------------------------------------------------------------------------


def _row(row: PaperRow) -> dict[str, Any]:
    depth, width, ratio = float(row.depth), float(row.width), float(row.resolution)
    network = scaled(row.network, depth, width, ratio)
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
    low, high = interval(printed)
    return {
        f"paper_{what}": printed,
        what: ours,
        f"{what}_difference": round(200 * ours / (low + high) - 100, 2),
        f"{what}_agree": low <= ours < high,
    }


def _compared(row: dict[str, Any], what: str, unit: str) -> list[str]:
    ours = row[what] / _UNITS[unit]
    agrees = "yes" if row[f"{what}_agree"] else "no"
    return [row[f"paper_{what}"], f"{ours:#.4g}{unit}", f"{row[f'{what}_difference']:+.1f} %", agrees]


def _why(row: PaperRow, macs: int) -> str:
    """What would make our MACs the printed ones: rounded coefficients, a cut instead of rounding, or nothing known."""
    low, high = interval(row.macs)
    reasons = []
    if row.origin == "printed":
        fits = [triple for triple in _rounding_to(row) if low <= cost(scaled(row.network, *triple)).macs < high]
        reasons += [_explained_by(row, fits)] if fits else []
    half = (high - low) / 2
    if low + half <= macs < high + half:
        reasons.append(f"{macs / 1e9:.4g}B cut off instead of rounded is {row.macs}")
    return "; or ".join(reasons) or "unexplained"


def _rounding_to(row: PaperRow) -> Iterator[tuple[float, float, float]]:
    """Triples d, w, r on a grid that all round to the printed ones; a printed 1 stays."""
    printed = (row.depth, row.width, row.resolution)
    steps = _STEPS[sum(one != "1" for one in printed) > 1]
    axes = [_grid(*interval(one), steps) if one != "1" else [1.0] for one in printed]
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
