"""What ``effnas scale`` writes and prints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluate.folder import write_json
from ...space.files import remove_leftovers
from ...space.network_spec import NetworkSpec
from ...space.tables import text_table
from .explain import explain as explanation


def write_scale(
    networks: Sequence[NetworkSpec], rows: Sequence[dict[str, Any]], output: Path, *, several: bool = False
) -> dict[str, Any] | list[dict[str, Any]]:
    """Write ``scale.json`` and a YAML file for each network, and return the content of the former.

    Args:
        networks: one of each row; none where the rows are of no networks.
        rows: plain data, which get the file's name.
        output: the folder.
        several: write a list, however many there are.
    """
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output, held=False)
    for row, network in zip(rows if networks else (), networks, strict=True):
        row["file"] = str(output / (re.sub(r"[^\w.-]+", "_", row["name"], flags=re.ASCII) + ".yaml"))
        network.save(row["file"])
    document = [*rows] if several else rows[0]
    write_json(output / "scale.json", document)
    return document


def summary_text(found: dict[str, Any] | list[dict[str, Any]], explain: bool = False) -> str:
    """What the command prints: a table of what :func:`~effnas.scaling.scale.job.run_scale` returns, and with
    ``explain`` the explanation.
    """
    rows = found if isinstance(found, list) else [found]
    parts = [table(rows)] if "architecture" in rows[0] else []
    return "\n\n".join([*parts, explanation()] if explain else parts)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of :func:`~effnas.scaling.scale.job.run_scale`, aligned; MACs are of one image at the resolution there."""
    header = ["name", "phi", "depth", "width", "resolution", "params", "MACs", "MACs ratio", "nominal", "activations"]
    cells = [
        [
            row["name"],
            "-" if row["phi"] is None else f"{row['phi']:g}",
            f"{row['depth']:.3g}",
            f"{row['width']:.3g}",
            f"{row['resolution']} px",
            *(f"{row[key]:,}" for key in ("params", "macs")),
            *(f"{row[key]:.3f}" for key in ("macs_ratio", "nominal_macs_ratio")),
            f"{row['activations']:,}",
        ]
        for row in rows
    ]
    if any("latency" in row for row in rows):
        header.append("latency")
        cells = [[*line, f"{1e3 * row['latency']:.3g} ms"] for line, row in zip(cells, rows, strict=True)]
    return text_table(header, cells)
