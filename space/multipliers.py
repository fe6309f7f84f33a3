"""Width, depth and resolution multipliers: how the official EfficientNet code turns them into whole numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import overload

from .architecture import Architecture, Stage
from .built import AnyArchitecture, BuiltNetwork
from .errors import UserError, check_choice, check_int, check_number

#: Channels are multiples of this.
DIVISOR = 8
#: How ``depth · repeats`` becomes whole.
ROUNDINGS = ("up", "nearest")
#: Digits kept of a product before it is rounded: 1.21 ** 0.5 · 40 is 44, not 43.99999999999999.
_DIGITS = 6


def round_filters(channels: int, width: float, divisor: int = DIVISOR) -> int:
    """``width · channels`` to the nearest multiple of ``divisor``, at least that, and at most 10 % below the product.

    ``width`` 1 changes nothing, so that scaling by nothing is the identity for widths that 8 does not divide.
    Source: ``round_filters`` in efficientnet_model.py, tensorflow/tpu.

    Raises:
        UserError: ``channels`` is not a positive whole number or ``width`` not a positive number.
    """
    check_int("channels", channels, 1)
    _check_multiplier("width", width)
    if width == 1:
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
    _check_multiplier("depth", depth)
    exact = round(depth * repeats, _DIGITS)
    return max(1, math.ceil(exact) if rounding == "up" else math.floor(exact + 0.5))


@overload
def apply_multipliers(
    architecture: Architecture,
    width: float,
    depth: float,
    resolution: int,
    dropout: float | None = None,
    *,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
) -> Architecture: ...


@overload
def apply_multipliers(
    architecture: AnyArchitecture,
    width: float,
    depth: float,
    resolution: int,
    dropout: float | None = None,
    *,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
) -> AnyArchitecture: ...


def apply_multipliers(
    architecture: AnyArchitecture,
    width: float,
    depth: float,
    resolution: int,
    dropout: float | None = None,
    *,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
) -> AnyArchitecture:
    """The network with its channels times ``width`` and its repeats times ``depth``, at ``resolution`` pixels.

    Stem and head scale with the width, a head of 0 stays none. With ``fixed_ends`` (EfficientNet-Lite) stem, head and
    the repeats of the first and last stage stay as they are; the channels of those two stages do scale.
    ``dropout`` None leaves the rate as it is; ``divisor`` is what widths become multiples of, and
    ``depth_rounding`` how repeats become whole. A builder's network has its multipliers multiplied, and is rounded, and
    given a dropout, by the builder.

    Raises:
        UserError: a multiplier is not a positive number, or the result is outside what an Architecture may be.
    """
    _check_multiplier("width", width)
    _check_multiplier("depth", depth)
    if isinstance(architecture, BuiltNetwork):
        return architecture.with_(
            depth=architecture.depth * depth, width=architecture.width * width, resolution=resolution
        )
    last = len(architecture.stages) - 1

    def grown(i: int, stage: Stage) -> Stage:
        keep = architecture.fixed_ends and i in (0, last)
        repeats = stage.repeats if keep else round_repeats(stage.repeats, depth, depth_rounding)
        return replace(stage, channels=round_filters(stage.channels, width, divisor), repeats=repeats)

    ends = {}
    if not architecture.fixed_ends:
        head = architecture.head
        ends = {
            "stem": round_filters(architecture.stem, width, divisor),
            "head": round_filters(head, width, divisor) if head else 0,
        }
    return architecture.with_(
        stages=tuple(grown(i, stage) for i, stage in enumerate(architecture.stages)),
        resolution=resolution,
        dropout=architecture.dropout if dropout is None else dropout,
        **ends,
    )


def _check_multiplier(what: str, value: float) -> None:
    check_number(f"{what} multiplier", value, 0, open_low=True)
    if value > 1e9:  # products stay finite and the message stays about the multiplier
        raise UserError(f"{what} multiplier must be at most 1e9, got {value:g}")
