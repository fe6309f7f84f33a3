"""How far shortcuts for training may be trusted: their rank correlations, and each against the accuracy."""

from __future__ import annotations

from typing import Any

from ..folders import Run
from ..marks import COLOURS, axis, percent_axis, spec
from ..markup import Figure, Piece, number, paragraph, table
from ..networks import Networks, decisions_of, list_costs
from ..trials import is_number

#: Shortcuts that have a figure, the best ones.
DRAWN = 6


def show_shortcuts(run: Run, networks: Networks) -> Piece | None:
    """The table of shortcuts, and scatters of the best against what full trainings say."""
    if run.kind != "rank":
        return None
    found = run.summary
    rows = [row for row in found.get("rows", []) if isinstance(row, dict)]
    if not rows:
        return None
    body = paragraph(
        f"{found.get('members')} networks of {found.get('space')}. Nothing that is known before training can agree "
        f"with it better than the ceiling, τ = {number(found.get('ceiling'), '.3f')}."
    )
    cells = [
        [
            str(row.get("shortcut")),
            str(row.get("kind", "")),
            (number(row.get("tau"), ".3f"), row.get("tau")),
            (
                f"{number(row.get('low'), '.3f')} to {number(row.get('high'), '.3f')}",
                f"{row.get('low')} {row.get('high')}",
            ),
            (number(row.get("tau_over_ceiling"), ".2f"), row.get("tau_over_ceiling")),
            (number(row.get("tau_top"), ".2f"), row.get("tau_top")),
            (number(row.get("tau_equal_macs"), ".2f"), row.get("tau_equal_macs")),
            (number(row.get("cost"), ".3%"), row.get("cost")),
        ]
        for row in rows
    ]
    header = ["shortcut", "kind", "Kendall's τ", "95 %", "of the ceiling", "among the best", "at equal MACs", "cost"]
    body += table(header, cells, f"Shortcuts of {run.name}", left=2)
    members = list(run.table("members"))
    ordered = sorted((row for row in rows if is_number(row.get("tau"))), key=lambda row: -row["tau"])
    numbers = [_add(run, i, row, networks) for i, row in enumerate(members)]
    figures: list[Figure] = []
    for row in ordered:
        column = f"shortcut.{row['shortcut']}"
        marks = [
            {"x": one[column], "y": one["accuracy"], "network": numbers[i]}
            for i, one in enumerate(members)
            if is_number(one.get(column)) and is_number(one.get("accuracy"))
        ]
        if marks and len(figures) < DRAWN:
            figures.append(_figure(str(row["shortcut"]), row["tau"], marks))
    return Piece("How far shortcuts may be trusted", body, figures)


def _add(run: Run, index: int, row: dict[str, Any], networks: Networks) -> int:
    facts = {"accuracy": number(row.get("accuracy"), ".2%")}
    facts |= list_costs(row)
    facts |= {str(key).partition(".")[2]: str(row[key]) for key in decisions_of(row)}
    return networks.add(run.name, f"member {index}", facts)


def _figure(name: str, tau: float, marks: list[dict[str, Any]]) -> Figure:
    y = percent_axis("y", "accuracy, trained in full", [mark["y"] for mark in marks])
    layer = {
        "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.7, "color": COLOURS[0], "cursor": "pointer"},
        "encoding": {"x": axis("x", name[:80], axis={"format": "~g", "tickCount": 5}), "y": y},
    }
    return Figure(f"{name[:80]}: τ = {tau:.3f}", spec(marks, [layer]), "", 240)
