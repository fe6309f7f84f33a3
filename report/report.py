"""What ``effnas report`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary_text(summary: Mapping[str, Any]) -> str:
    """The runs that are on the page, what is missing of them, and where it is."""
    lines = []
    for run in summary["runs"]:
        lines.append(f"{run['name']}: effnas {run['command'] or '?'}{'' if run['finished'] else ', has not ended'}")
        lines += [f"  note: {note}" for note in run["notes"]]
    return "\n".join(
        [*lines, f"written to {summary['output']} ({summary['bytes'] / 1e6:.2f} MB): open it in any browser"]
    )
