"""Figures as Vega-Lite: what all of them share, and marks that several pieces use.

Fields have names of ours alone: what comes from a run's files is data, and Vega-Lite would read a name such as ``a.b``
or ``a[0]`` as a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Okabe & Ito's, as in ``evaluate.drawing.style``; grey for black, which a dark page hides.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
SHADES = "viridis"
GREY = "#8c8c8c"
#: Points over a range wider than this are drawn on a logarithmic axis.
WIDE = 8.0
#: Letters in legends and beside axes; the rest is told when pointed at.
LETTERS = 160

Spec = dict[str, Any]


def spec(data: Sequence[dict[str, Any]], layers: Sequence[Spec], **more: Any) -> Spec:
    """A figure as wide as its place: the data once, and layers over it."""
    return {
        "data": {"values": list(data)},
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": list(layers),
        **more,
    }


def axis(field: str, title: str, **more: Any) -> Spec:
    """A quantity along an axis that need not begin at 0."""
    scale = more.pop("scale", {"zero": False, "nice": True, "padding": 8})
    settings = {"labelLimit": LETTERS, "titleLimit": 400, **more.pop("axis", {})}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": settings, **more}


def count_axis(field: str, title: str) -> Spec:
    """Whole numbers, of trials or epochs."""
    scale = {"zero": False, "nice": False, "padding": 4}
    whole = "datum.value % 1 ? '' : format(datum.value, 'd')"
    return axis(field, title, scale=scale, axis={"tickMinStep": 1, "labelExpr": whole, "labelOverlap": True})


def cost_axis(field: str, title: str, values: Sequence[float], unit: str = "") -> Spec:
    """A cost, logarithmic where it spans much; with units as people write them (4.5M, and 12ms where ``unit`` is s)."""
    positive = [value for value in values if value > 0]
    wide = len(positive) == len(values) and bool(positive) and max(positive) > WIDE * min(positive)
    scale: Spec = {"type": "log", "nice": False, "padding": 8} if wide else {"zero": False, "padding": 8}
    return axis(field, title, scale=scale, axis={**in_unit(unit), "tickCount": 5, "labelOverlap": True})


def in_unit(unit: str) -> Spec:
    """Labels of an axis: numbers with the prefixes of SI before a unit, if there is one."""
    return {"labelExpr": f"format(datum.value, '~s') + '{unit}'"} if unit else {"format": "~s"}


def percent_axis(field: str, title: str, values: Sequence[float]) -> Spec:
    """Fractions in percent, with as many digits as their range needs."""
    spread = max(values, default=1.0) - min(values, default=0.0)
    form = ".0%" if spread > 0.06 else ".1%" if spread > 0.006 else ".2%"
    return axis(field, title, axis={"format": form})


def by_run(names: Sequence[str], title: str = "run") -> Spec:
    """Colour and shape by the field ``run``; nothing where there is one run."""
    if len(names) < 2:
        return {"color": {"value": COLOURS[0]}}
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    legend = {"orient": "bottom", "columns": 2, "labelLimit": 2 * LETTERS, "symbolOpacity": 1}
    return {
        "color": {
            "field": "run",
            "type": "nominal",
            "title": title,
            "scale": {"domain": list(names), "range": colours},
            "legend": legend,
        },
        "shape": {
            "field": "run",
            "type": "nominal",
            "title": title,
            "scale": {"domain": list(names), "range": shapes},
            "legend": legend,
        },
    }


def only_colour(channels: Spec) -> Spec:
    """Of :func:`by_run`, for lines, which have no shape."""
    return {key: value for key, value in channels.items() if key != "shape"}


def shades(field: str, title: str, form: str = ".1%") -> Spec:
    """A value by colour."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"scheme": SHADES, "zero": False},
        "legend": {"format": form, "orient": "bottom", "gradientLength": 180, "titleLimit": 300},
    }


def share_colour(field: str, title: str) -> Spec:
    """A share of a whole, 0 to 1, by colour."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"scheme": SHADES, "domain": [0, 1]},
        "legend": {"format": ".0%", "orient": "bottom", "gradientLength": 180},
    }


def tips(*fields: tuple[str, str, str]) -> list[Spec]:
    """What is told of a mark that is no network: fields with their titles and forms ("" for text)."""
    return [
        {
            "field": field,
            "title": title,
            "type": "quantitative" if form else "nominal",
            **({"format": form} if form else {}),
        }
        for field, title, form in fields
    ]
