"""Axes whose limits hold what is drawn, with round numbers along them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

#: Room beyond the outermost points, as a part of what they span.
ROOM = 0.07
#: Labels along an axis, at most.
MOST_TICKS = 9
#: Where the ends of a logarithmic axis are closer than so many times, round numbers are those of a linear one.
EVEN = 4.0
#: What a number may be told in, the largest first: how large it is, and the word before the noun.
COUNTS = ((1e9, "billion "), (1e6, "million "), (1e3, "thousand "), (1.0, ""))
SECONDS = ((1.0, "seconds"), (1e-3, "milliseconds"), (1e-6, "microseconds"))
BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1.0, "bytes"))


def choose_unit(values: Iterable[float], units: Sequence[tuple[float, str]] = COUNTS) -> tuple[float, str]:
    """The unit that the largest of the values fills: how large it is, and its name."""
    largest = max(values, default=0.0)
    return next((entry for entry in units if largest >= entry[0]), units[-1])


def percent_axis(axes: Any, values: Iterable[float], side: str = "y") -> None:
    """Limits around values in per cent, with ticks within 0 and 100.

    Args:
        axes: matplotlib's.
        values: all that is drawn, ends of error bars included.
        side: ``x`` or ``y``.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [value for value in values if math.isfinite(value)]
    low, high = min(shown), max(shown)
    room = max(ROOM * (high - low), 0.02)
    if high - low < 0.2:  # equal points, or one: not on the frame
        room = 1.0
    low, high = low - room, high + room
    ticks = MaxNLocator(7, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3).tick_values(low, high)
    ticks = [tick for tick in ticks if max(low, -1e-9) <= tick <= min(high, 100 + 1e-9)]
    if side == "x":
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        axes.set_ylim(low, high)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def cost_axis(axes: Any, values: Iterable[float], label: str, scale: str = "log") -> tuple[float, float]:
    """A horizontal axis of positive numbers around what is drawn; its limits.

    Args:
        axes: matplotlib's.
        values: all that is drawn.
        label: of the axis, with its unit.
        scale: ``log``, or ``linear``, which begins at 0.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    shown = list(values)
    low, high = min(shown), max(shown)
    if scale == "log":
        axes.set_xscale("log")
        factor = max(high / low, 1.05) ** ROOM * 1.03
        low, high = low / factor, high * factor
        ticks = log_ticks(low, high)
        axes.set_xticks(ticks, [f"{tick:,g}" if tick < 1e6 else f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        label += " (log scale)"
    else:
        low, high = 0.0, high * (1 + ROOM)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlim(low, high)
    axes.set_xlabel(label)
    return low, high


def log_axis(axes: Any, values: Iterable[float]) -> None:
    """A logarithmic vertical axis around positive numbers."""
    from matplotlib.ticker import NullLocator

    shown = list(values)
    factor = max(max(shown) / min(shown), 1.05) ** ROOM
    low, high = min(shown) / factor, max(shown) * factor
    axes.set_yscale("log")
    ticks = log_ticks(low, high)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)


def whole_axis(axes: Any, values: Sequence[int], label: str) -> None:
    """A horizontal axis of whole numbers, epochs or the like; one alone stands in the middle."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if len(set(values)) == 1:
        axes.set_xlim(values[0] - 1, values[0] + 1)
        axes.set_xticks(values[:1])


def log_ticks(low: float, high: float) -> list[float]:
    """Two to nine round numbers between two positive ones, for a logarithmic axis; one at least."""
    from matplotlib.ticker import MaxNLocator

    if high / low < EVEN:
        steps = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3).tick_values(low, high)
        even = dict.fromkeys(float(f"{step:.6g}") for step in steps)
        return [tick for tick in even if low <= tick <= high] or [_middle(low, high)]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for mantissas in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]):
        ticks = [float(f"{m * 10.0**e:.6g}") for e in exponents for m in mantissas if low <= m * 10.0**e <= high]
        if len(ticks) >= 4:
            break
    while len(ticks) > MOST_TICKS:
        ticks = ticks[::2]
    return ticks or [_middle(low, high)]


def _middle(low: float, high: float) -> float:
    return float(f"{math.sqrt(low * high):.4g}")
