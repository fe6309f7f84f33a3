"""Samples of more than 8 bits, and floats: what is white, and how they become 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Largest values of 8, 10, 12, 14, 16 and 32 bits: samples are taken as of the least that holds them all.
WHITES = (255, 1023, 4095, 16383, 65535, 2**32 - 1)


def choose_white(low: float, high: float, *, floats: bool) -> float:
    """What is white in samples from ``low`` to ``high``: 1 for floats up to 1, else the largest value of a bit depth.

    Raises:
        ValueError: they are below 0, not finite, or beyond 32 bits.
    """
    white = 1 if floats and high <= 1 else next((white for white in WHITES if high <= white), None)
    if not low >= 0 or white is None:
        raise ValueError(
            f"samples from {low:.6g} to {high:.6g}: they must be 0 to 1, or 0 to the largest value of a bit depth "
            f"({', '.join(map(str, WHITES[:5]))})"
        )
    return white


def find_range(samples: npt.NDArray[Any]) -> tuple[float, float]:
    """Least and greatest sample; NaN where one is."""
    return float(samples.min()), float(samples.max())


def to_uint8(samples: npt.NDArray[Any], white: float | None) -> npt.NDArray[np.uint8]:
    """Samples as 0 to 255; what is above white is white.

    Args:
        samples: of any kind of number.
        white: None: by the samples' own range.

    Raises:
        ValueError: samples that are below 0 or not finite.
    """
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    low, high = find_range(samples)
    own = choose_white(low, high, floats=samples.dtype.kind == "f")
    scaled = samples.astype(np.float64) * (255 / (own if white is None else white))
    return np.minimum(scaled + 0.5, 255).astype(np.uint8)
