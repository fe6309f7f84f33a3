"""Quantities as people write them: ``400M`` multiply-accumulates, ``1.5G``, ``600K`` parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from .errors import UserError, is_finite, show

#: Decimal, as for MACs and parameters; no "m": it could be milli or mega.
SUFFIXES = {"": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_NUMBER = r"([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\s*"
_TEXT = re.compile(_NUMBER + "([KkMGT]?)")
#: Units of time, in seconds.
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SECONDS = re.compile(_NUMBER + "(s|ms|[uµ]s)?")
_BYTES = re.compile(_NUMBER + "(?:([KkMGT])(i?))?B?")


def parse_quantity(what: str, value: Any) -> float:
    """``value`` as a number above 0: a number, or a string such as ``"400M"``, ``"1.5G"``, ``"600K"`` or ``"4e8"``.

    Args:
        what: the name of the setting, for the message.
        value: the user's.

    Raises:
        UserError: it is neither, or not a finite number above 0.
    """
    rule = 'a number above 0, like 400e6 or "400M" (K, M, G or T)'
    return _parse(what, value, _TEXT, lambda match: SUFFIXES[match[2]], rule)


def parse_cost(what: str, metric: str, value: Any) -> float:
    """``value`` as a number above 0 in the metric's unit.

    Args:
        what: the name of the setting, for the message.
        metric: ``latency``: seconds, or a string such as ``"12ms"``; one with ``memory`` in its name: bytes, or a
            string such as ``"8M"``, ``"8MB"`` or ``"256KiB"`` (of 1,024); another: as :func:`parse_quantity`.
        value: the user's.

    Raises:
        UserError: it is neither, or not a finite number above 0.
    """
    if metric != "latency" and "memory" not in metric:
        return parse_quantity(what, value)
    if metric == "latency":
        rule = "seconds above 0, like 0.012 or 12ms"
        return _parse(what, value, _SECONDS, lambda match: SECONDS[(match[2] or "s").replace("µ", "u")], rule)
    return _parse(what, value, _BYTES, _read_bytes, "a number above 0, like 8e6, 8MB or 256KiB")


def _read_bytes(match: re.Match[str]) -> float:
    thousands = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
    return float((1024 if match[3] else 1000) ** thousands)


def _parse(
    what: str, value: Any, pattern: re.Pattern[str], scale: Callable[[re.Match[str]], float], rule: str
) -> float:
    """A number above 0, or a string of one and a unit, which the pattern reads and ``scale`` weighs."""
    number = math.nan
    if is_finite(value):
        number = float(value)
    elif isinstance(value, str) and (match := pattern.fullmatch(value.strip())):
        number = float(match[1]) * scale(match)
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"{what} must be {rule}, got {show(value)}")
    return number


def format_duration(seconds: float) -> str:
    """A duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def as_plain(value: Any) -> Any:
    """A number of NumPy's as Python's own; anything else as it is."""
    single = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    return value.item() if single else value


def keep_plain(owner: Any, names: Iterable[str]) -> None:
    """Make the fields of a frozen dataclass plain, as :func:`as_plain`."""
    for name in names:
        value = getattr(owner, name)
        if (plain := as_plain(value)) is not value:
            object.__setattr__(owner, name, plain)
