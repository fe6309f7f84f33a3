"""A network that leaves: the formats of an export with their proofs, and what a compression has cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..columns import row_table
from ..folders import Run
from ..marks import COLOURS, axis, cost_axis, in_unit, spec, tips
from ..markup import Figure, Piece, count, number, paragraph, percent, seconds, table
from ..trials import is_number


def show_export(run: Run) -> Piece | None:
    """A row for each format: its proof against torch, its accuracy, its latency; and these as bars."""
    found = run.summary
    formats = found.get("formats")
    if run.kind != "export" or not isinstance(formats, Mapping):
        return None
    words = (
        f"{found.get('architecture')} at {found.get('resolution')}²: {count(found.get('params'))} parameters, "
        f"{count(found.get('macs'))} MACs, {found.get('num_classes')} classes, from {found.get('weights')}."
    )
    rows: list[list[Any]] = []
    bars: list[dict[str, Any]] = []
    torch = found.get("torch_latency")
    if isinstance(torch, Mapping) and is_number(torch.get("seconds")):
        bars.append(_bar("torch", torch["seconds"]))
        rows.append(["torch, as trained", *["–"] * 7, (seconds(torch["seconds"]), torch["seconds"])])
    for name, one in formats.items():
        proof, latency = one.get("proof") or {}, one.get("latency") or {}
        rows.append(
            [
                str(name),
                str(one.get("file", "")),
                str(proof.get("by", "")),
                (number(proof.get("max_difference"), ".2g"), proof.get("max_difference")),
                (percent(proof.get("agreement")), proof.get("agreement")),
                (percent(proof.get("accuracy_before")), proof.get("accuracy_before")),
                (percent(proof.get("accuracy_after")), proof.get("accuracy_after")),
                (count(one.get("bytes")), one.get("bytes")),
                (seconds(latency.get("seconds")), latency.get("seconds")),
            ]
        )
        if is_number(latency.get("seconds")):
            bars.append(_bar(str(name), latency["seconds"]))
    header = ["format", "file", "proved by", "largest difference", "same answer", "accuracy before", "after", "bytes"]
    body = paragraph(words) + table([*header, "latency"], rows, f"Formats of {run.name}", left=3)
    threads = found.get("threads")
    many = f", {threads} CPU thread{'s' * (threads != 1)}" if is_number(threads) else ""
    figures = [_bars(bars, f"Latency at batch 1{many}")] if len(bars) > 1 else []
    return Piece("What was exported", body, figures)


def _bar(name: str, latency: float) -> dict[str, Any]:
    return {"d": name, "v": latency, "t": seconds(latency)}


def _bars(bars: Sequence[dict[str, Any]], title: str) -> Figure:
    y = {"field": "d", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 170}}
    x = axis("v", "latency of an image", scale={"zero": True}, axis={**in_unit("s"), "tickCount": 5})
    layer = {
        "mark": {"type": "bar", "color": COLOURS[0], "height": {"band": 0.7}},
        "encoding": {"y": y, "x": x, "tooltip": tips(("d", "format", ""), ("t", "latency", ""))},
    }
    return Figure(
        title, spec(bars, [layer]), "Median of rounds in which all took turns, on the machine that exported.", 160
    )


def show_compression(run: Run) -> Piece | None:
    """The network before and after, and what each cut left."""
    found = run.summary
    before, pruned = found.get("before"), found.get("pruned")
    if run.kind != "compress" or not isinstance(before, Mapping) or not isinstance(pruned, Mapping):
        return None
    rows = [{"what": "before", **before}, {"what": "pruned", **pruned}]
    if isinstance(found.get("trained"), Mapping):
        rows.append({"what": "pruned and fine-tuned", **pruned, **found["trained"]})
    keys = ("what", "name", "heldout_accuracy", "test_accuracy", "macs", "params", "epochs", "seconds")
    rows = [row | {"heldout_accuracy": row.get("accuracy")} for row in rows]
    body = row_table(rows, keys, f"Networks of {run.name}")
    cuts = [one for one in found.get("cuts") or () if is_number(one.get("macs")) and is_number(one.get("loss"))]
    if is_number(found.get("target")):
        body = paragraph(f"At most {count(found['target'])} MACs were to be left.") + body
    if not cuts:
        return Piece("What was cut", body)
    body += row_table(cuts, ("what", "macs", "loss"), f"Cuts of {run.name}")
    drawn = [{"what": "none", "macs": before.get("macs"), "loss": found.get("loss")}, *cuts]
    drawn = [one for one in drawn if is_number(one["macs"]) and is_number(one["loss"])]
    marks = [{"x": one["macs"], "y": one["loss"], "w": str(one.get("what", "")), "o": i} for i, one in enumerate(drawn)]
    told = tips(("w", "cut", ""), ("x", "MACs left", ".4s"), ("y", "loss", ".4f"))
    shared = {
        "x": cost_axis("x", "MACs left", [mark["x"] for mark in marks]),
        "y": axis("y", "loss on the calibration images"),
        "order": {"field": "o"},
        "tooltip": told,
    }
    line = {"type": "line", "color": COLOURS[0], "point": {"size": 40}}
    caption = "From right to left: the network, and after each cut what is left of it, before any fine-tuning."
    figure = Figure("What each cut costs", spec(marks, [{"mark": line, "encoding": shared}]), caption, 300, wide=True)
    return Piece("What was cut", body, (figure,))
