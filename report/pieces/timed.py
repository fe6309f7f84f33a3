"""How fast networks are: a profile, and the measurements and the model of a space's latency."""

from __future__ import annotations

from collections.abc import Mapping

from ..columns import row_table
from ..folders import Run
from ..marks import COLOURS, cost_axis, count_axis, spec
from ..markup import Figure, Piece, number, paragraph, percent, seconds
from ..networks import Networks, list_costs
from ..trials import is_number, thin_out

_PROFILED = (
    *("name", "resolution", "params", "macs", "activations", "peak_memory", "latency", "images_per_second"),
    *("measured_memory", "batch_size", "threads", "device", "precision"),
)
#: Measurements that are drawn, and that have a row.
DRAWN, ROWS = 1000, 100
#: Columns of a file of measurements that are no decisions.
_MEASURED = ("seconds", "throughput", "batch_size", "threads", "device", "precision", "rounds")


def show_profile(run: Run, networks: Networks) -> Piece | None:
    """The costs of each network, and its latency over its MACs."""
    if run.kind != "profile":
        return None
    rows = [row for row in run.summary.get("networks") or () if isinstance(row, Mapping)]
    if not rows:
        return None
    marks = []
    for row in rows:
        facts = list_costs(row)
        index = networks.add(run.name, str(row.get("name")), facts | {"resolution": f"{row.get('resolution')}²"})
        if is_number(row.get("latency")) and is_number(row.get("macs")):
            marks.append({"x": row["macs"], "y": row["latency"], "network": index})
    body = row_table(rows, _PROFILED, f"Networks of {run.name}")
    if len(marks) < 2:
        return Piece("The profile", body)
    x = cost_axis("x", "MACs", [mark["x"] for mark in marks])
    y = cost_axis("y", "latency of a batch", [mark["y"] for mark in marks], "s")
    point = {"type": "point", "filled": True, "size": 90, "opacity": 0.95, "color": COLOURS[0], "cursor": "pointer"}
    figure = spec(marks, [{"mark": point, "encoding": {"x": x, "y": y}}])
    return Piece("The profile", body, (Figure("Latency against MACs", figure, "Click to pin a network.", 320),))


def show_latency(run: Run, networks: Networks) -> Piece | None:
    """The measured networks from the fastest to the slowest, or how good the model of them is."""
    found = run.summary
    if run.kind != "latency":
        return None
    low, high = found.get("seconds_low"), found.get("seconds_high")
    body = ""
    if is_number(found.get("kendall_tau")):
        body = paragraph(
            f"A model of the latency of {found.get('space')}, learned from {found.get('networks')} networks of "
            f"{found.get('file')} ({seconds(low)} to {seconds(high)}). Of networks that it was not fitted on "
            f"(cross-validation) it is off by {percent(found.get('median_error'))} in the median, and orders them with "
            f"Kendall's τ = {number(found['kendall_tau'], '.3f')}."
        )
    rows = [row for row in run.table("measurements") if is_number(row.get("seconds"))]
    if not rows:
        return Piece("The latency", body) if body else None
    if found:
        body += paragraph(
            f"{found.get('rows')} networks of {found.get('space')}, {found.get('measured')}: {seconds(low)} to "
            f"{seconds(high)}, median {seconds(found.get('seconds_median'))}."
        )
    rows.sort(key=lambda row: row["seconds"])
    marks = []
    for i in thin_out(rows, set(), DRAWN):
        row = rows[i]
        facts = {"latency": seconds(row["seconds"])}
        facts |= {str(key): str(value) for key, value in row.items() if key not in _MEASURED and value is not None}
        marks.append({"x": i + 1, "y": row["seconds"], "network": networks.add(run.name, f"place {i + 1}", facts)})
    keys = ["seconds", *(key for key in rows[0] if key not in _MEASURED)]
    body += row_table(rows[:ROWS], keys, f"Measurements of {run.name}")
    if len(rows) > ROWS:
        body += paragraph(f"The {ROWS} fastest of {len(rows)} networks; measurements.csv has all.", "note")
    x = count_axis("x", "networks, from the fastest to the slowest")
    y = cost_axis("y", "latency of a batch", [mark["y"] for mark in marks], "s")
    point = {"type": "point", "filled": True, "size": 36, "opacity": 0.9, "color": COLOURS[0], "cursor": "pointer"}
    figure = spec(marks, [{"mark": point, "encoding": {"x": x, "y": y}}])
    caption = "Each point is a network, its decisions are told when it is pointed at. Click to pin."
    return Piece("The latency", body, (Figure("Measured latency", figure, caption, 320, wide=True),))
