"""What ``effnas reproduce`` writes and prints."""

from __future__ import annotations

import csv
import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluate.folder import check_owner, make_folder, write_json
from ...space.files import remove_leftovers, write_text
from ...space.tables import text_table

#: Of printed numbers.
UNITS = {"M": 10**6, "B": 10**9}
_TITLES = {
    "table2": "Table 2: EfficientNet-B0..B7; multipliers of the authors' code, the paper prints none",
    "table3": "Table 3: scaling up MobileNets and ResNet-50",
    "table7": "Table 7: EfficientNet-B0 scaled along one dimension and along all three",
}
_CONVENTIONS = (
    "difference: ours against the printed number; agrees: ours, rounded to as many digits, is the printed number.",
    "Ours are MACs of convolutions and linear layers. Repeats of every stage round up; all channels (stem and head "
    "too) go to multiples of 8; the resolution is the nearest whole number of pixels.",
    "The printed coefficients are rounded, too: the paper's Figure 4 calls 299 pixels r=1.3, which would be 291.",
)


def write_reproduction(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write ``reproduce.json`` and ``reproduce.csv``."""
    check_owner(output, "reproduce")
    make_folder(output)
    remove_leftovers(output, held=False)
    write_json(output / "reproduce.json", rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / "reproduce.csv", text.getvalue())


def summary_text(rows: Sequence[Mapping[str, Any]], table: str) -> str:
    """What the command prints: a table of rows of :func:`~effnas.scaling.reproduce.job.reproduce` with its notes."""
    with_params = any(row["paper_params"] for row in rows)
    header = ["", "d", "w", "r", "pixels", "MACs: paper", "ours", "difference", "agrees"]
    header += ["params: paper", "ours", "difference", "agrees"] if with_params else []
    cells = []
    for row in rows:
        line = [row["name"], *(f"{row[key]:g}" for key in ("depth", "width", "resolution_ratio"))]
        line += [str(row["resolution"]), *_compared(row, "macs", "B")]
        cells.append(line + (_compared(row, "params", "M") if with_params else []))
    notes = []
    for note, same in itertools.groupby((row for row in rows if row["note"]), lambda row: row["note"]):
        names = " and ".join(row["name"] for row in same)
        notes.append(textwrap.fill(f"{names}: {note}", 118, initial_indent="- ", subsequent_indent="  "))
    printed = any(row["coefficients"] == "printed" for row in rows)
    closing = "\n".join(textwrap.fill(line, 118) for line in _CONVENTIONS[: 3 if printed else 2])
    parts = [_TITLES[table], text_table(header, cells), "\n".join(notes), closing]
    return "\n\n".join(part for part in parts if part)


def _compared(row: Mapping[str, Any], what: str, unit: str) -> list[str]:
    ours = row[what] / UNITS[unit]
    agrees = "yes" if row[f"{what}_agree"] else "no"
    return [row[f"paper_{what}"], f"{ours:#.4g}{unit}", f"{row[f'{what}_difference']:+.1f} %", agrees]
