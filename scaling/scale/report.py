"""What ``effnas scale`` writes and prints."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluate.folder import check_owner, make_folder, write_json
from ...space.errors import UserError
from ...space.files import load_yaml, read_text
from ...space.network_spec import NetworkSpec
from ...space.tables import text_table
from .explain import explain as explanation

#: The record of what the command wrote into its folder.
FILE = "scale.json"


def write_scale(
    networks: Sequence[NetworkSpec], rows: Sequence[dict[str, Any]], output: Path, *, several: bool = False
) -> dict[str, Any] | list[dict[str, Any]]:
    """Write ``scale.json`` and a YAML file for each network, and return the content of the former.

    Args:
        networks: one of each row; none where the rows are of no networks: nothing is written then.
        rows: plain data, which get the file's name.
        output: the folder; what an earlier run wrote there and this one does not is removed.
        several: write a list, however many there are.
    """
    document = [*rows] if several else rows[0]
    if not networks:
        return document
    check_owner(output, "scale")
    make_folder(output)
    for row, network in zip(rows, networks, strict=True):
        row["file"] = str(output / (re.sub(r"[^\w.-]+", "_", row["name"], flags=re.ASCII) + ".yaml"))
        network.save(row["file"])
    _remove_older(output, {Path(row["file"]).name for row in rows})
    write_json(output / FILE, document)
    return document


def _remove_older(output: Path, kept: set[str]) -> None:
    """Remove the networks that the folder's record names and that are as they were written; what the user has changed
    stays, and so does everything else.
    """
    try:
        known = json.loads((output / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    for row in known if isinstance(known, list) else [known]:
        name = Path(str(row.get("file", ""))).name if isinstance(row, dict) else ""
        file = output / name
        if not name.endswith(".yaml") or name in kept or not file.is_file() or file.is_symlink():
            continue
        with contextlib.suppress(UserError, OSError):
            if load_yaml(read_text(file, "network"), name) == row.get("architecture"):
                file.unlink()


def summary_text(found: dict[str, Any] | list[dict[str, Any]], explain: bool = False) -> str:
    """What the command prints: a table of what :func:`~effnas.scaling.scale.job.run_scale` returns, and with
    ``explain`` the explanation.
    """
    rows = found if isinstance(found, list) else [found]
    parts = [table(rows), *_gain(rows[0]), _written(rows)] if "architecture" in rows[0] else []
    return "\n\n".join([*parts, explanation()] if explain else parts)


def _gain(row: dict[str, Any]) -> list[str]:
    """What the stages' own growth is expected to gain."""
    if "stagewise_gain" not in row:
        return []
    gain, error = (100 * value for value in row["stagewise_gain"])
    return [
        f"stages grow by what they are worth: {gain:+.2f} points ± {error:.2f} expected at twice the MACs, against "
        "equal growth, by networks that had no part in the choice"
    ]


def _written(rows: Sequence[dict[str, Any]]) -> str:
    """What was written, and what comes next."""
    files = [Path(row["file"]) for row in rows]
    what = str(files[0]) if len(files) == 1 else f"{len(files)} networks, {files[0].name} to {files[-1].name}"
    where = "" if len(files) == 1 else f" in {files[0].parent}"
    return (
        f"written: {what}{where}, and {files[0].parent / FILE}\n"
        f"next: effnas train --architecture {shlex.quote(str(files[0]))}"
    )


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
