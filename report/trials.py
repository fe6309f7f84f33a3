"""What the rows of ``trials.csv`` say: which count, what they are worth, which is the front, which is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .folders import Run
from .journal import Row


def is_number(value: Any) -> bool:
    """Whether a cell holds a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def complete_trials(run: Run) -> list[Row]:
    """The trials with a score of their own: evaluated to the end, each network once."""
    return [
        row
        for row in run.table("trials")
        if row.get("state") == "complete" and row.get("duplicate_of") is None and is_number(worth(row))
    ]


def worth(row: Mapping[str, Any]) -> Any:
    """The accuracy, or the merit where nothing was trained."""
    return row.get("accuracy") if row.get("merit") is None else row["merit"]


def worth_name(rows: Sequence[Mapping[str, Any]]) -> str:
    """What :func:`worth` is of these rows: ``accuracy`` or ``merit``."""
    return "merit" if any(row.get("merit") is not None for row in rows) else "accuracy"


def cost_axis(rows: Sequence[Mapping[str, Any]]) -> str:
    """The cost that the rows are drawn over: MACs where they are known, else parameters or latency; "": none is."""
    return next(
        (key for key in ("macs", "params", "latency") if rows and all(is_number(row.get(key)) for row in rows)), ""
    )


def find_front(rows: Sequence[Row], axis: str) -> set[int]:
    """The indices of rows that no other beats in both worth and cost."""
    best, found = float("-inf"), set()
    for i in sorted(range(len(rows)), key=lambda i: (rows[i][axis], -worth(rows[i]))):
        if worth(rows[i]) > best:
            best = worth(rows[i])
            found.add(i)
    return found


def maximizes(run: Run) -> bool:
    """Whether the first objective is better where it is larger."""
    directions = (run.summary.get("study") or {}).get("directions") or run.directions or ["maximize"]
    return bool(directions[0] == "maximize")


def thin_out(rows: Sequence[Row], front: set[int], limit: int) -> list[int]:
    """At most so many indices of the rows: the front's, and the others evenly."""
    if len(rows) <= limit:
        return list(range(len(rows)))
    others = [i for i in range(len(rows)) if i not in front]
    room = max(1, limit - len(front))
    step = max(1.0, len(others) / room)
    kept = {others[int(k * step)] for k in range(min(room, len(others))) if int(k * step) < len(others)}
    return sorted(front | kept)
