"""By how much the best of many noisy values is too good."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Draws of :func:`expect_optimism`.
DRAWS = 2000


def find_standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None of one value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def seed_noise(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Standard deviation over seeds, pooled over all rows that have several; None where none has."""
    spreads = [(row["sd"], row["seeds"] - 1) for row in rows if row["sd"] is not None]
    if not spreads:
        return None
    return math.sqrt(sum(sd**2 * n for sd, n in spreads) / sum(n for _, n in spreads))


def expect_optimism(
    values: Sequence[float], errors: Sequence[float], smoother: NDArray[np.float64] | None = None
) -> float:
    """By how much the largest of noisy values is above its own truth, in expectation (the winner's curse).

    A parametric bootstrap: the values, drawn together towards their mean until their spread is what is left without
    the noise (empirical Bayes; Morris 1983), stand for the truths; noise is drawn anew, the largest is chosen, and its
    noise is what it was chosen for.

    Args:
        values: one per candidate, larger is better.
        errors: standard errors of them, from repeats.
        smoother: of shape (n, n), where what is chosen has not the largest value, but the largest of ``smoother @
            values``, a fit's; the fit then stands for the truths.
    """
    seen, noise = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    if len(seen) < 2:
        return 0.0
    spread = max(0.0, float(seen.var(ddof=1) - (noise**2).mean()))
    with np.errstate(invalid="ignore"):
        kept = np.nan_to_num(spread / (spread + noise**2), nan=1.0)
    drawn = np.random.default_rng(0).standard_normal((DRAWS, len(seen))) * noise
    if smoother is not None:
        chosen = (smoother @ seen + drawn @ smoother.T).argmax(axis=1)
        return float(drawn[np.arange(DRAWS), chosen].mean())
    # so that the spread of the truths is right as a whole, and not only in expectation for each of them
    truths = seen.mean() + np.sqrt(kept) * (seen - seen.mean())
    chosen = (truths + drawn).argmax(axis=1)
    return float(drawn[np.arange(DRAWS), chosen].mean())
