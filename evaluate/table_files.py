"""Files of tables: CSV, JSON, JSON lines and Parquet, read into columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

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
    except (OSError, ValueError, RecursionError, csv.Error, NotImplementedError) as error:  # Arrow's are among these
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file}: not readable as {file.suffix.lower()[1:]}: {reason}") from None
    if not next(iter(columns.values()), []):
        raise UserError(f"{file}: the table has no rows")
    return columns


def _read_csv(file: Path) -> Columns:
    with open(file, encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines, strict=True) if row]
    if not rows:
        return {}
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise UserError(f"{file}: row {number} has {len(row)} cells; the header has {len(header)}")
    return _columns(file, header, zip(*rows[1:], strict=True))


def _columns(file: Path, names: Sequence[str], cells: Iterable[Iterable[Any]]) -> Columns:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(f"{file}: two columns have the name {', '.join(map(repr, twice))}")
    return dict(zip(names, map(list, cells), strict=False))  # no rows: no columns either


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
    from pyarrow import parquet

    table = parquet.ParquetFile(file).read()  # not read_table, which takes a folder called a=b for a column
    return _columns(file, table.column_names, (column.to_pylist() for column in table.columns))


#: By the suffix.
READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
