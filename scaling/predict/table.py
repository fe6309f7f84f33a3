"""Members of a family from a table of a user's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluate.table_files import READERS, read_columns
from ...space.errors import UserError
from ...space.quantity import parse_cost
from .members import AXES, Result

#: Suffixes of tables; a JSON file is a summary.
TABLES = tuple(suffix for suffix in READERS if suffix != ".json")


def read_table(file: Path) -> list[Result]:
    """The rows of a table: ``accuracy`` (a fraction), one or more of :data:`AXES` (latency in seconds), and where they
    are there ``name``, ``seed``, ``recipe`` and ``data``, which are texts. Other columns are not looked at.

    Without names, rows of equal costs are trainings of one network, which is called by the first of them.

    Raises:
        UserError: a column is missing, or a cell is wrong; rows are counted from 1, without the header.
    """
    columns = read_columns(file)
    axes = [axis for axis in AXES if axis in columns]
    if "accuracy" not in columns or not axes:
        raise UserError(
            f"{file}: no column {' or '.join(AXES) if 'accuracy' in columns else 'accuracy'}; there are: "
            f"{', '.join(columns)}. Needed: accuracy (a fraction) and one or more of {', '.join(AXES)}; names are "
            "in a column name"
        )
    accuracies = [_accuracy(cell, f"{file}, row {i}, column accuracy") for i, cell in enumerate(columns["accuracy"], 1)]
    over = [value for value in accuracies if value >= 1]
    if over and all(value <= 100 for value in over):
        raise UserError(
            f"{file}: accuracies must be fractions above 0 and below 1, got {over[0]:g}"
            + (": these look like per cent; divide them by 100" if max(over) > 1.5 else "")
        )
    results, first, unnamed = [], dict[tuple[str, str], int](), dict[tuple[float, ...], list[int]]()
    for i, accuracy in enumerate(accuracies, 1):
        where = f"{file}, row {i}"
        cells = {name: _text(columns[name][i - 1]) for name in ("name", "seed", "recipe", "data") if name in columns}
        if not cells.get("name", "-"):
            raise UserError(f"{where}, column name: empty")
        if not 0 < accuracy < 1:
            raise UserError(f"{where}, column accuracy: must be a fraction above 0 and below 1, got {accuracy:g}")
        costs = {
            axis: parse_cost(f"{where}, column {axis}", axis, _number(columns[axis][i - 1]))
            for axis in axes
            if _text(columns[axis][i - 1])
        }
        if "name" not in columns:
            alike = unnamed.setdefault(tuple(costs.values()), [])
            alike.append(i)
            cells = {"seed": str(len(alike)), **cells, "name": f"row {alike[0]}"}
        key = cells["name"], cells.get("seed", "")
        if key in first:
            raise UserError(
                f"{where}: {key[0]!r}{f' with seed {key[1]}' if key[1] else ''} is in row {first[key]} already; "
                "several trainings of one network are one point: tell them apart in a column seed"
            )
        first[key] = i
        results.append(
            Result(
                name=key[0],
                accuracy=accuracy,
                costs=costs,
                source=where,
                seed=key[1],
                recipe={"recipe": cells["recipe"]} if cells.get("recipe") else {},
                images={"data": cells["data"]} if cells.get("data") else {},
            )
        )
    _check_same_costs(results)
    return results


def _check_same_costs(results: Sequence[Result]) -> None:
    known: dict[str, Result] = {}
    for result in results:
        before = known.setdefault(result.name, result)
        if before.costs != result.costs:
            raise UserError(f"{result.source}: {result.name} costs something else in {before.source}")


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _number(cell: Any) -> Any:
    """A number where the cell is one, as tables of JSON and Parquet have them; else its text."""
    return cell if isinstance(cell, int | float) else str(cell).strip().replace(",", "")


def _accuracy(cell: Any, where: str) -> float:
    text = _text(cell)
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: must be a fraction above 0 and below 1, got {text!r:.60}")
    return value
