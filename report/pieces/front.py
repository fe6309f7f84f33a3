"""Accuracy against cost: the networks of searches and trainings, with the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..folders import Run
from ..marks import GREY, by_run, cost_axis, only_colour, percent_axis, spec
from ..marks import axis as plain_axis
from ..markup import Figure, Piece, number, percent, table, text
from ..networks import COSTS, UNITS, Networks, list_costs
from ..trials import complete_trials, find_front, is_number, thin_out, worth, worth_name
from ..trials import cost_axis as choose_cost

#: Rows of the front's table.
ROWS = 60


def show_front(runs: Sequence[Run], networks: Networks, limit: int) -> Piece | None:
    """The networks that runs evaluated, over what they cost; of each run the front.

    Args:
        runs: searches, or trainings of one network each.
        networks: of the page; those that are drawn are added.
        limit: of points.
    """
    found = [(run, rows) for run in runs if (rows := _networks_of(run))]
    everything = [row for _, rows in found for row in rows]
    axis = choose_cost(everything)
    if not axis:
        return None
    kind = worth_name(everything)
    points: list[dict[str, Any]] = []
    body = ""
    shown = 0
    for run, rows in found:
        front = find_front(rows, axis)
        kept = thin_out(rows, front, max(20, limit // len(found)))
        shown += len(kept)
        best = (run.summary.get("best") or {}).get("number")
        for i in kept:
            row = rows[i]
            name = "the baseline" if best is not None and row.get("number") == best else ""
            points.append(
                {
                    "x": row[axis],
                    "y": worth(row),
                    "run": run.name,
                    "front": i in front,
                    "best": bool(name),
                    "network": _add(run, row, networks, name),
                }
            )
        body += _front_table(run, [rows[i] for i in sorted(front, key=lambda i: rows[i][axis])], kind, best)
    title = f"{kind.capitalize()} against {COSTS[axis][0]}"
    left = f"; {shown:,} of {len(everything):,} are drawn, all of the front among them" * (shown < len(everything))
    caption = (
        "The line is the front: no other network of its run is at least as good and costs less. A ring marks the "
        "baseline. Point at a network for its costs and decisions, click to pin its table; two can be pinned side by "
        f"side. By keyboard: Tab to the figure, the arrow keys, Enter{left}."
    )
    figure = Figure(title, _spec(points, axis, kind, [run.name for run, _ in found]), caption, 400, True, True)
    return Piece("Accuracy and cost: the front" if kind == "accuracy" else "Merit and cost: the front", body, (figure,))


def _networks_of(run: Run) -> list[dict[str, Any]]:
    """Of a search its complete trials; of a training its network, tested where it was."""
    if run.kind == "search" or run.table("pareto"):
        return complete_trials(run)
    summary = run.summary
    if run.kind == "train" and is_number(summary.get("macs")):
        tested = summary.get("test_accuracy")
        accuracy = tested if is_number(tested) else summary.get("accuracy")
        return [{**summary, "accuracy": accuracy}] if is_number(accuracy) else []
    return []


def _add(run: Run, row: dict[str, Any], networks: Networks, name: str) -> int:
    if run.kind != "train":
        index = networks.add_trial(run.name, row)
        if name:
            networks.rows[index]["name"] += f", {name}"
        return index
    facts = {"accuracy": percent(row["accuracy"])}
    facts |= list_costs(row)
    facts |= {key: str(row[key]) for key in ("resolution", "epochs", "weights", "seed") if row.get(key) is not None}
    return networks.add(run.name, str(row.get("architecture", "network")), facts)


def _spec(points: list[dict[str, Any]], axis: str, kind: str, names: list[str]) -> dict[str, Any]:
    x = cost_axis("x", COSTS[axis][0], [point["x"] for point in points], UNITS.get(axis, ""))
    values = [point["y"] for point in points]
    y = percent_axis("y", kind, values) if kind == "accuracy" else plain_axis("y", kind, axis={"format": "~g"})
    channels = by_run(names)
    dots = {**channels, "x": x, "y": y, "opacity": {"condition": {"test": "datum.front", "value": 0.95}, "value": 0.55}}
    if len(names) < 2:
        dots["color"] = {"condition": {"test": "datum.front", "value": "#0072B2"}, "value": GREY}
    size = {"condition": {"test": "datum.front", "value": 75}, "value": 38}
    line = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5}
    ring = {"type": "point", "shape": "circle", "size": 260, "color": "#D55E00", "strokeWidth": 2, "filled": False}
    seen = {"filter": "!hide || datum.front"}
    ringed = {"transform": [{"filter": "datum.best"}], "mark": ring, "encoding": {"x": x, "y": y}}
    return spec(
        points,
        [
            {
                "transform": [{"filter": "datum.front"}],
                "mark": line,
                "encoding": {**only_colour(channels), "x": x, "y": y},
            },
            {
                "transform": [seen],
                "mark": {"type": "point", "filled": True, "cursor": "pointer"},
                "encoding": {**dots, "size": size},
            },
            *([ringed] if any(point["best"] for point in points) else []),  # a layer of nothing has no extent
        ],
        params=[{"name": "hide", "value": False}],
    )


def _front_table(run: Run, front: Sequence[dict[str, Any]], kind: str, best: Any) -> str:
    if run.kind == "train":
        return ""
    form = percent if kind == "accuracy" else number
    rows = [
        [
            f"{row['number']}{' (baseline)' if row['number'] == best else ''}",
            (form(worth(row)), worth(row)),
            *((form_of(row.get(key)), row.get(key)) for key, (_, form_of) in _FRONT),
            (number(row.get("score")), row.get("score")),
        ]
        for row in front[-ROWS:]
    ]
    header = ["trial", kind, *(label for _, (label, _) in _FRONT), "score"]
    name = f"The front of {run.name}"
    return f"<h3>{_heading(name, len(front))}</h3>{table(header, rows, name)}"


def _heading(name: str, members: int) -> str:
    return text(name) + (f" (the last {ROWS} of {members})" if members > ROWS else "")


_FRONT = [(key, COSTS[key]) for key in ("macs", "params", "activations", "latency")]
