"""Columns of tables that commands write: what each is called on the page, and how its values are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .markup import count, number, percent, seconds, table
from .networks import COSTS
from .trials import is_number

_FORMS: dict[str, tuple[str, Callable[[Any], str]]] = {
    **COSTS,
    **{
        key: (key.replace("_", " "), percent)
        for key in ("accuracy", "standard_error", "precision", "f1", "probability")
    },
    "heldout_accuracy": ("held-out accuracy", percent),
    "seconds": ("time", seconds),
    "macs_ratio": ("MACs ratio", lambda value: number(value, ".3f")),
    "nominal_macs_ratio": ("nominal", lambda value: number(value, ".3f")),
    "params_ratio": ("parameters ratio", lambda value: number(value, ".2f")),
    "images_per_second": ("images/s", lambda value: number(value, ",.1f")),
    "measured_memory": ("measured memory, bytes", count),
    "bytes": ("bytes", count),
    "resolution": ("pixels", lambda value: number(value, ".0f")),
}


def label(key: str) -> str:
    """What a column is called."""
    return _FORMS[key][0] if key in _FORMS else str(key).replace("_", " ")


def written(key: str, value: Any) -> Any:
    """A cell of a column: what is shown, and what is copied."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not is_number(value):
        return "–" if value is None or value == "" else str(value)
    share = str(key).endswith("_accuracy") or str(key).startswith("recall")
    return (_FORMS[key][1] if key in _FORMS else percent if share else number)(value), value


def row_table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], name: str) -> str:
    """A table of these columns, those that no row has left out; columns of words are to the left.

    Args:
        rows: with a cell by its column's name.
        keys: of the columns, in order.
        name: of the table.
    """
    held = [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]
    words = {i for i, key in enumerate(held) if any(_is_word(row.get(key)) for row in rows)}
    cells = [[written(key, row.get(key)) for key in held] for row in rows]
    return table([label(key) for key in held], cells, name, left=words)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and not value[:1].isdigit()
