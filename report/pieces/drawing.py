"""The network that was found, drawn stage by stage, with what each stage costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...space.cost import cost
from ...space.errors import UserError
from ...space.stage import EXPANDING
from ...space.zoo import load_architecture, parse_network
from ..folders import Run
from ..marks import COLOURS, spec, tips
from ..markup import Figure, Piece, count, paragraph, percent, table

#: Blocks that are drawn one by one; of longer stages the first ones.
BLOCKS = 12


def show_network(run: Run) -> Piece | None:
    """A picture and a table of the network that a run has found or trained."""
    network = _find(run)
    if network is None:
        return None
    try:
        network = parse_network(network, run.name) if isinstance(network, Mapping) else network
        costs = cost(network)
    except UserError as error:
        return Piece("The network", paragraph(f"It cannot be drawn: {error}", "note"))
    stages = getattr(network, "stages", ())
    if not stages or not costs.stages:
        words = (
            f"{network.name}: {count(costs.params)} parameters, {count(costs.macs)} MACs; of a builder, without stages."
        )
        return Piece("The network", paragraph(words))
    rows, marks = _rows(network, costs), _marks(network, costs)
    header = ["stage", "block", "channels", "blocks", "pixels", "MACs", "of all", "parameters", "activations"]
    title = f"{network.name}, stage by stage"
    body = table(header, rows, title, left=2)
    caption = (
        f"Left to right from the image ({network.resolution}²) to the classes: each box is a block; its height is the "
        "side of its feature map, its width its channels (both on a logarithmic scale), its colour the kind."
    )
    return Piece("The network", body, (Figure(title, _spec(marks), caption, 260, wide=True),))


def _find(run: Run) -> Any:
    """The network as data, or as its file says."""
    summary = run.summary
    for holder in (
        summary.get("best"),
        summary.get("baseline"),
        summary if run.kind in ("scale", "compress") else None,
    ):
        if isinstance(holder, Mapping) and isinstance(holder.get("architecture"), Mapping):
            return holder["architecture"]
    for name in ("architecture.yaml", "baseline.yaml"):
        try:
            if (run.folder / name).is_file():
                return load_architecture(run.folder / name)
        except UserError:
            continue
    return None


def _describe(stage: Any) -> str:
    if stage is None:
        return "conv 3×3"
    parts = [f"{stage.block} {stage.kernel_size}×{stage.kernel_size}"]
    parts += [f"expand {stage.expand_ratio}"] if stage.block in EXPANDING else []
    parts += [f"SE {stage.se_ratio:g}"] if stage.se_ratio else []
    parts += [f"stride {stage.stride}"] if stage.stride > 1 else []
    parts += [f"skip {stage.skip}"] if stage.skip != "identity" else []
    return ", ".join(parts)


def _parts(network: Any, costs: Any) -> list[tuple[Any, Any]]:
    """Each row of the costs with its stage; None of the stem's and the head's."""
    names = iter(network.stages)
    inner = len(costs.stages) - len(network.stages)
    before = 1 if inner >= 1 else 0
    return [
        (next(names) if before <= i < before + len(network.stages) else None, row) for i, row in enumerate(costs.stages)
    ]


def _rows(network: Any, costs: Any) -> list[list[Any]]:
    return [
        [
            row.name,
            _describe(stage) if stage is not None else "convolution" if i == 0 else "1×1 convolution, pool, classifier",
            row.channels,
            1 if stage is None else stage.repeats,
            f"{row.resolution}²",
            (count(row.macs), row.macs),
            (percent(row.macs / costs.macs), row.macs / costs.macs),
            (count(row.params), row.params),
            (count(row.activations), row.activations),
        ]
        for i, (stage, row) in enumerate(_parts(network, costs))
    ]


def _marks(network: Any, costs: Any) -> list[dict[str, Any]]:
    marks: list[dict[str, Any]] = []
    x = 0.0
    for stage, row in _parts(network, costs):
        width = 0.35 + 0.22 * max(0.0, math.log2(row.channels) - 3)
        height = math.log2(row.resolution + 1)
        repeats = 1 if stage is None else stage.repeats
        kind = "stem and head" if stage is None else f"{stage.block} {stage.kernel_size}×{stage.kernel_size}"
        start = x
        for block in range(min(repeats, BLOCKS)):
            marks.append(
                {
                    "x0": x,
                    "x1": x + width,
                    "y0": -height / 2,
                    "y1": height / 2,
                    "kind": kind,
                    "stage": row.name,
                    "what": _describe(stage) if stage is not None else row.name,
                    "channels": row.channels,
                    "pixels": f"{row.resolution}²",
                    "block": f"{block + 1} of {repeats}",
                    "macs": count(row.macs),
                    "params": count(row.params),
                }
            )
            x += width + 0.12
        marks.append(
            {
                "label": f"{row.channels}" + (f" ×{repeats}" if repeats > 1 else ""),
                "xm": (start + x - 0.12) / 2,
                "ym": -height / 2,
            }
        )
        x += 0.35
    return marks


def _spec(marks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(mark["kind"] for mark in marks if "kind" in mark))
    none: dict[str, Any] = {"axis": None, "scale": {"zero": False, "nice": False, "padding": 6}}
    told = tips(
        *(("stage", "stage", ""), ("what", "block", ""), ("block", "this one", ""), ("channels", "channels", "")),
        *(("pixels", "feature map", ""), ("macs", "MACs of the stage", ""), ("params", "parameters", "")),
    )
    colour = {
        "field": "kind",
        "type": "nominal",
        "title": None,
        "scale": {"domain": kinds, "range": [COLOURS[(i - 1) % len(COLOURS)] for i in range(len(kinds))]},
        "legend": {"orient": "bottom", "columns": 3},
    }
    boxes = {
        "transform": [{"filter": "isValid(datum.kind)"}],
        "mark": {"type": "rect", "cornerRadius": 2, "stroke": "#80808080"},
        "encoding": {
            "x": {"field": "x0", "type": "quantitative", **none},
            "x2": {"field": "x1"},
            "y": {"field": "y0", "type": "quantitative", **none},
            "y2": {"field": "y1"},
            "color": colour,
            "tooltip": told,
        },
    }
    labels = {
        "transform": [{"filter": "isValid(datum.label)"}],
        "mark": {"type": "text", "dy": 11, "fontSize": 10},
        "encoding": {
            "x": {"field": "xm", "type": "quantitative", **none},
            "y": {"field": "ym", "type": "quantitative", **none},
            "text": {"field": "label"},
        },
    }
    return spec(marks, [boxes, labels], view={"stroke": None})
