"""The networks that figures and tables of the page name: what is told of one when it is pointed at or pinned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..space.paths import as_text
from .markup import count, number, percent, seconds
from .trials import is_number

#: Letters of a name, of a decision's name and of its value, in what is told of a network.
LONGEST = 300
#: Columns of tables that are told with a unit: the name on the page, and how it is written.
COSTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "macs": ("MACs", count),
    "params": ("parameters", count),
    "activations": ("activations", count),
    "peak_memory": ("peak memory, bytes", count),
    "latency": ("latency", seconds),
}
#: Of those that are more than numbers of something: 0.012 is told as 12 ms.
UNITS = {"latency": "s"}
_OTHERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "accuracy": ("accuracy", percent),
    "merit": ("merit (no accuracy)", number),
    "score": ("score", number),
    "seconds": ("evaluated in", seconds),
    "epochs": ("epochs", number),
}
#: In front of a decision's name, in the columns of a table.
DECISION = "decision."


class Networks:
    """Those of the page, numbered as they are added."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, run: str, name: str, facts: Mapping[str, str]) -> int:
        """Add one and return its number.

        Args:
            run: whose it is.
            name: as people read it.
            facts: what is told of it, in order.
        """
        told = [[_cut(key), _cut(value)] for key, value in facts.items()]
        self.rows.append({"run": _cut(run), "name": _cut(name), "facts": told})
        return len(self.rows) - 1

    def add_trial(self, run: str, row: Mapping[str, Any]) -> int:
        """Add the network of a row of ``trials.csv``: accuracy, costs with units, decisions."""
        facts = _list_facts(row, _OTHERS) | list_costs(row)
        facts |= {str(key).removeprefix(DECISION): str(row[key]) for key in decisions_of(row) if row[key] is not None}
        return self.add(run, f"trial {row.get('number', '?')}", facts)


def decisions_of(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row that are decisions."""
    return [key for key in row if str(key).startswith(DECISION)]


def list_costs(row: Mapping[str, Any]) -> dict[str, str]:
    """What a network costs, each with its unit, as far as a row has it."""
    return _list_facts(row, COSTS)


def _list_facts(row: Mapping[str, Any], forms: Mapping[str, tuple[str, Callable[[Any], str]]]) -> dict[str, str]:
    return {name: form(row[key]) for key, (name, form) in forms.items() if is_number(row.get(key))}


def _cut(text: str) -> str:
    plain = as_text(text)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
