"""Width, depth and resolution multipliers: how the official EfficientNet code turns them into whole numbers."""

from __future__ import annotations

import math

from .errors import UserError, check_choice, check_int, check_number

#: Channels are multiples of this.
DIVISOR = 8
#: What else they can be made multiples of, in the order in which a budget is tried to be met.
DIVISORS = (DIVISOR, 4, 2, 1)
#: What hardware may want them to be multiples of.
TARGET_DIVISORS = (4, DIVISOR, 16, 32)
#: How ``depth · repeats`` becomes whole.
ROUNDINGS = ("up", "nearest")
#: Digits kept of a product before it is rounded: 1.21 ** 0.5 · 40 is 44, not 43.99999999999999.
_DIGITS = 6


def round_filters(channels: int, width: float, divisor: int = DIVISOR) -> int:
    """``width · channels`` to the nearest multiple of ``divisor``, at least that, and at most 10 % below the product.

    ``width`` 1 changes nothing, so that scaling by nothing is the identity for widths that 8 does not divide; but a
    coarser ``divisor``, which hardware asks for, holds for these too.
    Source: ``round_filters`` in efficientnet_model.py, tensorflow/tpu.

    Raises:
        UserError: ``channels`` is not a positive whole number or ``width`` not a positive number.
    """
    check_int("channels", channels, 1)
    check_multiplier("width", width)
    if width == 1 and divisor <= DIVISOR:
        return channels
    exact = round(width * channels, _DIGITS)
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * exact else rounded


def round_repeats(repeats: int, depth: float, rounding: str = "up") -> int:
    """``⌈depth · repeats⌉``, or with ``rounding="nearest"`` the nearest whole number; at least 1.

    Source: ``round_repeats`` in efficientnet_model.py, tensorflow/tpu; pycls and TinyNet take the nearest.

    Raises:
        UserError: ``repeats`` is not a positive whole number, ``depth`` not a positive number, or ``rounding`` neither.
    """
    check_choice("depth_rounding", rounding, ROUNDINGS)
    check_int("repeats", repeats, 1)
    check_multiplier("depth", depth)
    exact = round(depth * repeats, _DIGITS)
    return max(1, math.ceil(exact) if rounding == "up" else math.floor(exact + 0.5))


def check_divisor(divisor: int, where: str = "divisor") -> None:
    """Raise :class:`UserError` unless it is what a target's widths can be multiples of."""
    check_choice(where, divisor, TARGET_DIVISORS)
    check_int(where, divisor, 1)


def check_multiplier(what: str, value: float) -> None:
    """Raise :class:`UserError` unless ``value`` is a number in (0, 1e9]."""
    check_number(f"{what} multiplier", value, 0, open_low=True)
    if value > 1e9:  # products stay finite and the message stays about the multiplier
        raise UserError(f"{what} multiplier must be at most 1e9, got {value:g}")
