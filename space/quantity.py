"""Quantities as people write them: ``400M`` multiply-accumulates, ``1.5G``, ``600K`` parameters."""

from __future__ import annotations

import math
import re
from typing import Any

from .errors import UserError, is_finite, show

#: Decimal, as for MACs and parameters; no "m": it could be milli or mega.
SUFFIXES = {"": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_TEXT = re.compile(r"([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([KkMGT]?)")


def parse_quantity(what: str, value: Any) -> float:
    """``value`` as a number above 0: a number, or a string such as ``"400M"``, ``"1.5G"``, ``"600K"`` or ``"4e8"``.

    Args:
        what: the name of the setting, for the message.
        value: the user's.

    Raises:
        UserError: it is neither, or not a finite number above 0.
    """
    number = math.nan
    if is_finite(value):
        number = float(value)
    elif isinstance(value, str) and (match := _TEXT.fullmatch(value.strip())):
        number = float(match[1]) * SUFFIXES[match[2]]
    if not (math.isfinite(number) and number > 0):
        raise UserError(f'{what} must be a number above 0, like 400e6 or "400M" (K, M, G or T), got {show(value)}')
    return number


def format_duration(seconds: float) -> str:
    """A duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
