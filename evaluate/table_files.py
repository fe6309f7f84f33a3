"""Files of tables, read into columns: CSV and Parquet by pandas, JSON and JSON lines.

Cells are as the file has them: pandas is kept from guessing what is a number, a truth or a gap. It is imported where a
table is read, since it takes half a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..space.errors import UserError

#: Column names to cells, all columns of one length.
Columns = dict[str, list[Any]]


def read_columns(file: Path) -> Columns:
    """The columns of a file that one of :data:`READERS` reads.

    Raises:
        UserError: it is not readable as what its suffix says, has no rows, or two columns of one name.
    """
    try:
        columns = READERS[file.suffix.lower()](file)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError, NotImplementedError) as error:  # pandas' and Arrow's are among these
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file}: not readable as {file.suffix.lower()[1:]}: {reason}") from None
    if not next(iter(columns.values()), []):
        raise UserError(f"{file}: the table has no rows")
    return columns


def read_cells(lines: TextIO) -> list[list[str]]:
    """The texts of a comma-separated table, the header first; empty lines are left out.

    A row may have more or fewer cells than the header.

    Raises:
        ValueError: a quoted text has no end, or more than a comma follows it.
    """
    import pandas as pd

    class Rest(str):
        """The last cell, in the header's width, of a longer row: with all of them."""

        cells: list[str]

    def keep(cells: list[str]) -> list[str]:
        rest = Rest()
        rest.cells = cells
        return [rest]

    def read(on_bad_lines: Any) -> list[list[Any]]:
        lines.seek(0)  # the engine is the one that is strict about quotes
        frame = pd.read_csv(
            lines, header=None, dtype=object, na_filter=False, engine="python", on_bad_lines=on_bad_lines
        )
        rows: list[list[Any]] = frame.to_numpy().tolist()
        return rows

    try:
        rows = read("error")
    except pd.errors.EmptyDataError:
        return []
    except pd.errors.ParserError as error:
        if not str(error).startswith("Expected"):  # it is no row of another length
            raise
        rows = read(keep)  # which reads over wrong quotes
    return [row[0].cells if isinstance(row[0], Rest) else [cell for cell in row if cell is not None] for row in rows]


def _read_csv(file: Path) -> Columns:
    with open(file, encoding="utf-8-sig", newline="") as lines:
        rows = read_cells(lines)
    if not rows:
        return {}
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise UserError(f"{file}: row {number} has {len(row)} cells; the header has {len(header)}")
    check_names(file, header)
    return dict(zip(header, map(list, zip(*rows[1:], strict=True)), strict=False))  # no rows: no columns either


def check_names(file: str | Path, names: Sequence[str]) -> None:
    """Raise :class:`~effnas.space.errors.UserError` unless all columns have names of their own."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(f"{file}: two columns have the name {', '.join(map(repr, twice))}")


def _read_json(file: Path) -> Columns:
    records = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(records, list):
        raise UserError(f"{file}: must be a list of records, one per row, got {type(records).__name__}")
    return _from_records(file, records)


def _read_jsonl(file: Path) -> Columns:
    lines = file.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: U+2028 may stand in a string
    records = []
    for number, line in enumerate(filter(str.strip, lines), start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{file}: row {number} is not JSON: {error}") from None
    return _from_records(file, records)


def _from_records(file: Path, records: list[Any]) -> Columns:
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{file}: row {number} must map columns to values, got {record!r:.60}")
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _read_parquet(file: Path) -> Columns:
    import pandas as pd
    from pyarrow import parquet

    with open(file, "rb") as data:  # not by its name: a folder called a=b would be taken for a column
        check_names(file, parquet.read_schema(data).names)
        data.seek(0)
        try:  # whole numbers with gaps stay whole
            frame = pd.read_parquet(data, engine="pyarrow", dtype_backend="pyarrow")
            if any(name is not None for name in frame.index.names):  # columns that pandas wrote as its index
                frame = frame.reset_index()
            columns = {str(name): column.tolist() for name, column in frame.items()}
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:  # what it says of itself is damaged
            raise ValueError(repr(error)) from None
    return {name: [None if cell is pd.NA else cell for cell in cells] for name, cells in columns.items()}


#: By the suffix.
READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
