"""Points read from CSV files and from the folders of runs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...space.cost import cost
from ...space.errors import UserError
from ...space.files import read_text
from ...space.paths import is_folder
from ...space.quantity import parse_quantity
from ...space.zoo import load_architecture
from ..arguments import describe_device
from ..table_files import check_names, read_cells
from .points import Point

#: Columns of a CSV file that mean something; the others are the reader's own.
REQUIRED, OPTIONAL = ("name", "accuracy"), ("family", "architecture", "params", "macs", "latency", "source")


# -- CSV files -------------------------------------------------------------------------------------------


def read_points(file: str | Path, family: str) -> list[Point]:
    """The rows of a CSV file.

    Columns: ``name`` and ``accuracy`` (a fraction, or per cent with the sign: ``77.1%``); ``params`` and ``macs`` (a
    number, or ``5.3M``), or else ``architecture``, a network of the zoo or a file, which is counted; and, if there,
    ``latency`` (seconds), ``family`` and ``source``. Others are not looked at.

    Args:
        file: the CSV file, UTF-8.
        family: of the rows that name none.

    Raises:
        UserError: the file cannot be read as that; the message names the row (the header is row 1) and the column.
    """
    found: dict[tuple[str, str], Point] = {}
    for row, where in read_rows(file):
        point = read_row(row, where, family)
        if (point.family, point.name) in found:
            raise UserError(f"{where}, column name: {point.name!r} appears twice")
        try:
            found[point.family, point.name] = add_costs(point) if point.architecture else point
        except UserError as error:
            raise UserError(f"{where}, column architecture: {error}") from error
    return list(found.values())


def read_rows(file: str | Path) -> list[tuple[dict[str, str], str]]:
    """The rows by column, stripped, each with its place for messages."""
    text = read_text(file, "CSV file").removeprefix("\ufeff")
    try:
        lines = read_cells(io.StringIO(text))
    except ValueError as error:
        raise UserError(f"{file}: not a CSV file: {error}") from None
    header = [name.strip() for name in lines[0]] if lines else []
    for name in REQUIRED:
        if name not in header:
            raise UserError(
                f"{file}: column {name!r} is missing; there are: {', '.join(header) or 'none'}. "
                f"Needed: {', '.join(REQUIRED)}; understood: {', '.join(OPTIONAL)}"
            )
    check_names(file, header)
    if len(lines) == 1:
        raise UserError(f"{file}: no rows below the header")
    rows = []
    for i, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise UserError(f"{file}, row {i}: {len(line)} fields; the header has {len(header)}")
        rows.append((dict(zip(header, map(str.strip, line), strict=True)), f"{file}, row {i}"))
    return rows


def read_row(row: Mapping[str, str], where: str, family: str) -> Point:
    """One row of :func:`read_rows`, with columns as :func:`read_points` has them.

    Raises:
        UserError: a value is wrong.
    """
    name = row["name"]
    if not name:
        raise UserError(f"{where}, column name: empty")
    return Point(
        name,
        row.get("family") or family,
        _accuracy(row["accuracy"], f"{where}, column accuracy"),
        params=_count(row.get("params"), f"{where}, column params"),
        macs=_count(row.get("macs"), f"{where}, column macs"),
        latency=_seconds(row.get("latency"), f"{where}, column latency"),
        architecture=row.get("architecture", ""),
        source=row.get("source", ""),
    )


def add_costs(point: Point) -> Point:
    """With the parameters, MACs and resolution of the architecture that it names.

    Raises:
        UserError: there is no such architecture.
    """
    network = load_architecture(point.architecture)
    costs = cost(network)
    return replace(point, params=costs.params, macs=costs.macs, resolution=network.resolution)


def _accuracy(text: str, where: str) -> float:
    try:
        value = round(float(text.removesuffix("%")) / (100 if text.endswith("%") else 1), 12)  # 80.1 % is 0.801
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UserError(f"{where}: must be a fraction between 0 and 1, or a percentage like 77.1%, got {text!r}")
    return value


def _count(text: str | None, where: str) -> int | None:
    return round(parse_quantity(where, text)) if text else None


def _seconds(text: str | None, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{where}: must be a number of seconds above 0, got {text!r}")
    return value


# -- the folders of runs ---------------------------------------------------------------------------------


def is_run(place: str | Path) -> bool:
    """Whether something that a pattern fits is meant: a CSV file, or the folder or summary of a run.

    A sweep's own ``multirun.yaml``, hidden folders and folders without a summary are not.
    """
    path = Path(place)
    return path.suffix.lower() in (".csv", ".json") or (path / "summary.json").is_file()


def read_run(place: str | Path, family: str) -> Point:
    """What ``effnas train`` or ``effnas evaluate`` has found out, from its folder or its ``summary.json``.

    Accuracy is top-1 of the part that was evaluated; of a training that of the test part, or else of the held-out one.

    Raises:
        UserError: there is no such file, or it has no accuracy or no cost.
    """
    file = Path(place)
    file = file / "summary.json" if is_folder(file) else file
    text = read_text(file, "summary")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not a JSON document: {error}") from None
    found = found if isinstance(found, dict) else {}
    measure = next((key for key in ("top1", "test_accuracy", "accuracy") if _is_fraction(found.get(key))), None)
    if measure is None or not all(isinstance(found.get(key), int) for key in ("params", "macs")):
        raise UserError(
            f"{file}: a summary without {'params and macs' if measure else 'accuracy'}; give folders "
            f"of effnas train or effnas evaluate (this one has: {', '.join(list(found)[:12]) or 'nothing'})"
        )
    images = found.get("images") if measure == "top1" else None
    latency = found.get("latency") or {}
    accuracy = float(found[measure])
    return Point(
        str(found.get("architecture") or file.parent.name),
        family,
        accuracy,
        params=found["params"],
        macs=found["macs"],
        latency=latency.get("latency"),
        standard_error=math.sqrt(accuracy * (1 - accuracy) / images) if images else None,
        resolution=found.get("resolution"),
        digest=str(found.get("digest", "")),
        summary=str(file),
        of=_measured_on(found, measure),
        imagenet=False if found.get("classes") != 1000 or (images and images < 50_000) else None,
        latency_of=_latency_of(latency),
    )


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _measured_on(found: Mapping[str, Any], measure: str) -> str:
    classes = f"{found.get('classes'):,} classes" if isinstance(found.get("classes"), int) else "unknown classes"
    if measure == "top1":
        return f"{found.get('images'):,} images of {classes} ({found.get('part')} part of {found.get('data')})"
    return f"{classes} ({'test part' if measure == 'test_accuracy' else 'held-out images'})"


def _latency_of(latency: Mapping[str, Any]) -> str:
    if not latency:
        return ""
    return f"batch {latency.get('batch_size')}, {describe_device(latency.get('device'), latency.get('threads'))}"
