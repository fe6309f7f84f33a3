"""Measured networks of a space, from a table with a column a decision."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...space.cost import cost
from ...space.errors import UserError, check_choice, unknown
from ...space.network_spec import NetworkSpec
from ...space.paths import expand_path, is_file
from ...space.quantity import SECONDS
from ..table_files import READERS, read_columns
from ..tabular import match_choice

#: Columns of times.
TIMES = ("seconds", "throughput")
#: A median of so many seconds an inference is more likely one of milliseconds: it is asked. So is a shorter one, if the
#: networks would do so few MACs a second, which no computer that runs them is so slow as to do.
SUSPECT, SUSPECT_SMALL, SLOWEST = 1.0, 0.02, 2e8


def read_measurements(file: str | Path, space: Any, unit: str | None = None) -> tuple[list[NetworkSpec], list[float]]:
    """Different networks, and the seconds of each: the geometric mean where it was measured several times.

    Args:
        file: a table with a column for each decision of the space and ``seconds``, or ``throughput`` in images a
            second, of which the seconds of an image are taken.
        space: whose decisions the columns are.
        unit: of ``seconds``: ``s``, ``ms`` or ``us``; None: seconds, which is asked where they look like milliseconds.

    Raises:
        UserError: no such file, a column is missing, or a cell is wrong; rows are counted from 1, without the header.
    """
    path = expand_path(file)
    if unit is not None:
        check_choice("unit", unit, SECONDS)
    if not is_file(path):
        raise UserError(f"latency: no such file: {path}")
    check_choice(f"latency: {path}: suffix", path.suffix.lower(), READERS)
    columns = read_columns(path)
    names = list(space.distributions)
    if missing := [name for name in names if name not in columns]:
        raise UserError(
            f"{path}: no column for {', '.join(missing[:5])}, which space {space.name} decides; the columns are "
            f"{', '.join(columns)}"
        )
    given = [name for name in TIMES if name in columns]
    if len(given) != 1:
        raise UserError(f"{path}: needs one column of {' and '.join(TIMES)}, got {' and '.join(given) or 'none'}")
    if given == ["throughput"] and unit is not None:
        raise UserError(f"unit={unit} is of a column seconds; throughput is in images a second")
    times = [_time(cell, f"{path}: row {i}: {given[0]}") for i, cell in enumerate(columns[given[0]], 1)]
    seconds = (
        [1 / time for time in times] if given == ["throughput"] else [time * SECONDS[unit or "s"] for time in times]
    )
    found: dict[str, tuple[NetworkSpec, list[float]]] = {}
    for i, second in enumerate(seconds):
        where = f"{path}: row {i + 1}"
        decisions = _decisions({name: columns[name][i] for name in names}, space, where)
        try:
            network = space.build(decisions)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        found.setdefault(network.digest, (network, []))[1].append(second)
    networks = [network for network, _ in found.values()]
    seconds = [statistics.geometric_mean(s) for _, s in found.values()]
    if given == ["seconds"] and unit is None:
        _ask_unit(path, networks, seconds)
    return networks, seconds


def _ask_unit(path: Path, networks: Sequence[NetworkSpec], seconds: Sequence[float]) -> None:
    """Raise :class:`UserError` where times in seconds are so long that they may be milliseconds."""
    middle = statistics.median(seconds)
    speed = statistics.median(cost(n).macs / second for n, second in zip(networks, seconds, strict=True))
    if middle > SUSPECT or (middle > SUSPECT_SMALL and speed < SLOWEST):
        raise UserError(
            f"{path}: the median of seconds is {middle:.4g}, {speed:.2g} MACs a second: are these milliseconds? Give "
            "unit=ms, or unit=s if a network really takes so long"
        )


def _decisions(cells: Mapping[str, Any], space: Any, where: str) -> dict[str, Any]:
    decisions = {}
    for name, cell in cells.items():
        choices: Sequence[Any] = space.distributions[name].choices
        choice = match_choice(cell, choices)
        if choice is None:
            raise unknown(f"{where}: {name}", cell, choices)
        decisions[name] = choice
    return decisions


def _time(cell: Any, where: str) -> float:
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{where} must be a number above 0, got {cell!r:.60}")
    return value
