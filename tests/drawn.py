"""Figures that are drawn up but not painted, and the laws that each must keep, whatever is in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from effnas.evaluate.drawing.style import SMALL


class Figures:
    """Those that were saved since the beginning of the test, by the names of their files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saved: dict[str, Figure] = {}

        def save(figure: Figure, file: BinaryIO, **_: object) -> None:
            self.saved[Path(file.name).name.lstrip(".").partition(".")[0]] = figure
            figure.draw_without_rendering()
            file.write(b"not painted")

        monkeypatch.setattr(Figure, "savefig", save)

    @property
    def only(self) -> Figure:
        (figure,) = self.saved.values()
        return figure


def check_laws(figure: Figure) -> None:
    """Every point is inside its axes, no legend is over axes, no text is over another, cut or tiny."""
    figure.draw_without_rendering()
    canvas = figure.bbox
    for axes in figure.axes:
        inside = axes.get_window_extent().padded(1)
        for x, y in _points(axes):
            assert inside.contains(x, y), (axes.get_title(), x, y, inside)
    legends = [child for part in (figure, *figure.axes) for child in part.get_children() if isinstance(child, Legend)]
    for legend in legends:
        box = legend.get_window_extent()
        assert _within(box, canvas), ("legend is cut", box, canvas)
        for axes in figure.axes:
            assert not _overlap(box, axes.get_window_extent()), "a legend covers the data"
    unseen = _unseen(figure)
    texts = [
        (text, Text.get_window_extent(text))  # of an annotation without its line
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen
    ]
    for text, box in texts:
        assert _within(box, canvas), ("cut", text.get_text(), box, canvas)
        assert text.get_fontsize() >= SMALL - 1.1, ("tiny", text.get_text())
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert not [point for point in _points(axes) for box in boxes if box.padded(-1).contains(*point)], (
            "under a name"
        )
    for (one, a), (two, b) in itertools.combinations(texts, 2):
        assert not _overlap(a, b), ("collide", one.get_text(), two.get_text(), a.extents.round(), b.extents.round())


def told(figure: Figure) -> list[str]:
    """The labels of the legends."""
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert len(found) == len(set(found))
    return found


def _points(axes: Any) -> Iterator[tuple[float, float]]:
    """In pixels, of everything with a marker."""
    for line in axes.lines:
        if line.get_marker() not in (None, "None", "none", "", " "):
            yield from map(tuple, line.get_transform().transform(np.column_stack(line.get_data()).astype(float)))
    for points in axes.collections:
        if isinstance(points, PathCollection):
            yield from map(tuple, points.get_offset_transform().transform(np.asarray(points.get_offsets())))


def _unseen(figure: Figure) -> set[int]:
    """Labels of ticks beyond the limits, which are not drawn."""
    found = set()
    for axes in figure.axes:
        for axis, place in ((axes.xaxis, 0), (axes.yaxis, 1)):
            shown = set(map(id, axis.get_ticklabels(which="both")))
            low, high = sorted(axis.get_view_interval())
            room = 1e-9 * (high - low)
            ticks = (*axis.majorTicks, *axis.minorTicks)
            for label in (label for tick in ticks for label in (tick.label1, tick.label2)):
                if id(label) not in shown or not low - room <= label.get_position()[place] <= high + room:
                    found.add(id(label))
    return found


def _within(box: Bbox, canvas: Bbox) -> bool:
    return bool(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= canvas.x1 + 1 and box.y1 <= canvas.y1 + 1)


def _overlap(a: Bbox, b: Bbox) -> bool:
    """By more than a pixel: letters have room around them."""
    return bool(min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1)
