"""Names beside the points of a figure, placed so that they cover as little as may be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .style import SMALL

#: Places around a point: directions, and distances from it in points of 1/72 inch; nearer ones are tried first.
DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
DISTANCES = (5.0, 12.0, 20.0, 30.0)
#: What covering costs: another name, a point, a sample of a line, the frame; and a step further away.
NAME, POINT, LINE, FRAME, STEP = 60.0, 12.0, 1.5, 1000.0, 2.0

Box = tuple[float, float, float, float]


def place_labels(
    axes: Any,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    colours: Sequence[str],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
    boxes: Sequence[Box] = (),
    size: float = SMALL,
) -> int:
    """Write each name near its point, where it covers least; a thin line leads to one further off.

    A name that has no room is left out, the last ones first.

    Call it when the limits of the axes are final and the figure has its layout.

    Args:
        axes: matplotlib's.
        points: in the data's units.
        names, colours: of the points.
        lines: polygons that are drawn, in the data's units, to be kept clear of.
        boxes: that are taken, in pixels: left, bottom, right, top.
        size: of the letters, in points.

    Returns:
        How many names were left out.
    """
    scale = axes.figure.dpi / 72
    where = axes.transData.transform(np.array(points, dtype=float).reshape(-1, 2))
    drawn = [_sampled(axes.transData.transform(np.array(line, dtype=float))) for line in lines if len(line) > 1]
    samples = np.concatenate([np.empty((0, 2)), *drawn])
    (x0, y0), (x1, y1) = axes.get_window_extent().padded(-3 * scale).get_points()
    candidates = []
    for i, name in enumerate(names):
        text = axes.text(0, 0, name, fontsize=size)
        extent = text.get_window_extent()
        text.remove()
        found = []
        for step, distance in enumerate(DISTANCES):
            for number, (dx, dy) in enumerate(DIRECTIONS):
                box = _box(where[i], (dx, dy), distance * scale, extent.width, extent.height)
                cost = STEP * step + 0.01 * number
                cost += POINT * _within(np.delete(where, i, 0), box, 4 * scale) + LINE * _within(samples, box, 0)
                inside = x0 <= box[0] and box[2] <= x1 and y0 <= box[1] and box[3] <= y1
                cost += NAME * sum(_overlap(box, other) for other in boxes) + (0 if inside else FRAME)
                found.append(_Place(cost, box, (dx * distance, dy * distance), _within(where, box, 0)))
        candidates.append(found)
    taken = list(boxes)
    left_out = 0
    for place, name, point, colour in zip(_settled(candidates), names, points, colours, strict=True):
        if place.cost >= FRAME or place.covered or any(_overlap(place.box, box) for box in taken):
            left_out += 1
            continue
        taken.append(place.box)
        dx, dy = np.sign(place.offset)
        lead = {"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name,
            point,
            place.offset,
            textcoords="offset points",
            ha={1: "left", -1: "right", 0: "center"}[int(dx)],
            va={1: "bottom", -1: "top", 0: "center"}[int(dy)],
            fontsize=size,
            color=colour,
            arrowprops=lead if max(map(abs, place.offset)) > DISTANCES[0] else None,
            zorder=5,
        )
    return left_out


class _Place(NamedTuple):
    """Where a name may go: what it covers there but for other names, its box in pixels, its offset in points, and how
    many points are under it.
    """

    cost: float
    box: Box
    offset: tuple[float, float]
    covered: int


def _settled(candidates: Sequence[Sequence[_Place]], sweeps: int = 4) -> list[_Place]:
    """One place for each: first the best alone, then each in turn the best given where the others are."""
    chosen = [min(places) for places in candidates]
    for _ in range(sweeps):
        for i, places in enumerate(candidates):
            others = [place.box for j, place in enumerate(chosen) if j != i]
            chosen[i] = min(places, key=lambda p: p.cost + NAME * sum(_overlap(p.box, box) for box in others))
    return chosen


def _box(at: NDArray[np.float64], direction: tuple[int, int], distance: float, width: float, height: float) -> Box:
    """In pixels: left, bottom, right, top of a text in that direction of a point."""
    x, y = at[0] + direction[0] * distance, at[1] + direction[1] * distance
    left = x - width * {1: 0, -1: 1, 0: 0.5}[direction[0]]
    bottom = y - height * {1: 0, -1: 1, 0: 0.5}[direction[1]]
    return left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Box) -> float:
    """The shared area as a fraction of the smaller box; touching counts a little."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return 0.1 + width * height / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))


def _within(points: NDArray[np.float64], box: Box, margin: float) -> int:
    x, y = points[:, 0], points[:, 1]
    inside = (box[0] - margin <= x) & (x <= box[2] + margin) & (box[1] - margin <= y) & (y <= box[3] + margin)
    return int(inside.sum())


def _sampled(corners: NDArray[np.float64], step: float = 6.0) -> NDArray[np.float64]:
    """Points on a polygon of pixels, every few of them."""
    parts = []
    for a, b in pairwise(corners):
        count = max(2, int(np.hypot(*(b - a)) / step))
        parts.append(a + (b - a) * np.linspace(0, 1, count)[:, None])
    return np.concatenate(parts)
