"""An evaluation: how far confidence can be trusted, each class, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..columns import row_table
from ..folders import Run
from ..marks import COLOURS, GREY, share_colour, spec, tips
from ..markup import Figure, Piece, count, number, paragraph, percent, seconds
from ..trials import is_number

#: Classes of which the confusions are drawn, and of which each has a row.
DRAWN, ROWS = 40, 200


def show_evaluation(run: Run) -> Piece | None:
    """The accuracies in words, the reliability, the confusions, and a row for each class."""
    found = run.summary
    if run.kind != "evaluate" or not is_number(found.get("top1")):
        return None
    low, high = (found.get("top1_interval") or (None, None))[:2]
    words = (
        f"{found.get('architecture')} on {number(found.get('images'), ',d')} images of {found.get('data')}, "
        f"{found.get('part')} part: top-1 {percent(found['top1'])} (95 %: {percent(low)} to {percent(high)}), top-5 "
        f"{percent(found.get('top5'))}, balanced {percent(found.get('balanced_accuracy'))}, macro F1 "
        f"{number(found.get('macro_f1'), '.3f')}, loss {number(found.get('loss'), '.4f')}, calibration error "
        f"{percent(found.get('ece'))}; {count(found.get('params'))} parameters, {count(found.get('macs'))} MACs"
    )
    latency = found.get("latency")
    if isinstance(latency, Mapping) and is_number(latency.get("seconds", latency.get("median"))):
        words += f"; {seconds(latency.get('seconds', latency.get('median')))} a batch"
    classes = list(run.table("classes"))
    body = paragraph(words + ".")
    if classes:
        keys = list(classes[0])
        body += row_table(classes[:ROWS], keys, f"Classes of {run.name}")
        if len(classes) > ROWS:
            body += paragraph(f"The first {ROWS} of {len(classes)} classes; classes.csv has all.", "note")
    bins = [one for one in found.get("bins") or () if is_number(one.get("accuracy")) and one.get("images")]
    figures = [_reliability(bins)] if bins else []
    confusions = [row for row in run.table("confusion") if row.get("images")]
    names = [str(row.get("class")) for row in classes] or list(dict.fromkeys(str(row["class"]) for row in confusions))
    if confusions and len(names) <= DRAWN:
        figures.append(_confusions(confusions, names))
    return Piece("The measurement", body, figures)


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Figure:
    marks = [{"x": one["confidence"], "y": one["accuracy"], "n": one["images"], "line": False} for one in bins]
    line = [{"x": end, "y": end, "line": True} for end in (0, 1)]
    x, y = (
        {
            "field": field,
            "type": "quantitative",
            "title": title,
            "scale": {"domain": [0, 1]},
            "axis": {"format": ".0%", "tickCount": 5},
        }
        for field, title in (("x", "confidence"), ("y", "accuracy"))
    )
    told = tips(("x", "confidence", ".1%"), ("y", "accuracy", ".1%"), ("n", "images", ",d"))
    layers = [
        {
            "transform": [{"filter": "datum.line"}],
            "mark": {"type": "line", "color": GREY, "strokeDash": [4, 3]},
            "encoding": {"x": x, "y": y},
        },
        {
            "transform": [{"filter": "!datum.line"}],
            "mark": {"type": "point", "filled": True, "color": COLOURS[0], "opacity": 0.9},
            "encoding": {
                "x": x,
                "y": y,
                "size": {"field": "n", "type": "quantitative", "legend": None, "scale": {"range": [30, 400]}},
                "tooltip": told,
            },
        },
    ]
    caption = "Each point is a range of confidence, as large as it has images; below the line the network is too sure."
    return Figure("Confidence and accuracy", spec([*line, *marks], layers), caption, 360)


def _confusions(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    totals: dict[str, float] = {}
    for row in rows:
        totals[str(row["class"])] = totals.get(str(row["class"]), 0) + row["images"]
    tiles = [
        {"c": str(row["class"]), "p": str(row.get("predicted")), "n": row["images"]}
        | {"v": row["images"] / totals[str(row["class"])]}
        for row in rows
    ]
    order = list(dict.fromkeys([*names, *(tile["p"] for tile in tiles)]))
    turned = {"labelAngle": 0} if max(map(len, order)) <= 4 else {}
    x, y = (
        {
            "field": field,
            "type": "nominal",
            "title": title,
            "scale": {"domain": order},
            "axis": {"labelLimit": 110, "labelOverlap": True, "grid": False, **turned},
        }
        for field, title in (("p", "taken for"), ("c", "class"))
    )
    colour = share_colour("v", "of the class")
    told = tips(("c", "class", ""), ("p", "taken for", ""), ("n", "images", ",d"), ("v", "of the class", ".1%"))
    layer = {"mark": "rect", "encoding": {"x": x, "y": y, "color": colour, "tooltip": told}}
    caption = "A row is a class, its colours which share of its images is taken for what."
    return Figure("What is taken for what", spec(tiles, [layer]), caption, 150 + 20 * min(len(order), 25))
