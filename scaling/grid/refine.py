"""Finer points around the best ones of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...space.errors import UserError
from ..coefficients import Coefficients
from .points import Grid, Measure, Scaled, read_point
from .ranking import group_networks
from .response import Surface, log_growth, shares

#: New networks of a round.
ROUND = 8
#: The networks whose neighbourhoods are looked at.
CENTERS = 3


def finer_points(
    grid: Grid,
    scaled: Scaled,
    rows: Sequence[dict[str, Any]],
    surface: Surface | str,
    level: int,
    measure: Measure | None = None,
) -> list[Coefficients]:
    """Points at half the step around the best ones: up to :data:`ROUND` new networks, the most promising first.

    The neighbourhoods, one step to each side, are those of the networks with the highest upper confidence bounds
    (prediction + standard error); the points with the largest expected improvement over the surface's maximum are
    taken. Without a surface they are those nearest to the best mean accuracies.

    Args:
        grid: the coarse one.
        scaled: makes the networks.
        rows: all points so far, best mean accuracy first.
        surface: the response surface of the rows, or why there is none.
        level: rounds before: each halves the step.
        measure: as for :meth:`~effnas.scaling.grid.points.Grid.points`.
    """
    groups, growth = group_networks([row for row in rows if row["accuracy"] is not None])
    if not groups:
        return []
    mixture = shares(growth)
    if isinstance(surface, str):
        order, best = np.arange(len(groups)), growth[0]
    else:
        means, errors = surface.predict(mixture)
        order, best = np.argsort(-(means + errors), kind="stable"), mixture[int(np.argmax(means))]
    step = grid.step / 2**level
    known = {row["digest"] for row in rows}
    found: dict[str, Coefficients] = {}
    for i in order[:CENTERS]:
        for row in groups[i]:
            center = read_point(row)
            for p in _around(grid, scaled, center, step, measure):
                network = scaled.network(p)
                if network is not None and network.digest not in known:
                    found.setdefault(network.digest, p)
    points = list(found.values())
    if not points:
        return []
    at = np.array([log_growth(p) for p in points])
    worth = -np.abs(at - best).sum(axis=1) if isinstance(surface, str) else surface.improvement(shares(at), best)
    return [points[i] for i in np.argsort(-worth, kind="stable")[:ROUND]]


def _around(
    grid: Grid, scaled: Scaled, center: Coefficients, step: float, measure: Measure | None
) -> list[Coefficients]:
    """Points of half the step within one step of the center; none where the ratio is held by none."""
    try:
        return grid.near(center, step).points(scaled, measure)
    except UserError:
        return []
