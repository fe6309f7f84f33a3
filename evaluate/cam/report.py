"""The output folder of ``effnas cam``: maps, the summary, the figure, and the text on the terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...space.files import write_bytes
from ..folder import versions, write_json
from .figure import Column, cam_figure
from .images import Picture


def write_cam(
    columns: Sequence[Column],
    pictures: Sequence[Picture],
    arrays: Mapping[str, Any],
    facts: Mapping[str, Any],
    output: Path,
) -> dict[str, Any]:
    """Write everything and return the content of ``cam.json``.

    Args:
        columns: of the figure, one per network.
        pictures: of its rows.
        arrays: NumPy's, of ``maps.npz``, by name.
        facts: what was shown, and how; taken over into the summary.
        output: folder.
    """
    summary = {
        **facts,
        "images": [{"name": picture.name, "class": picture.label} for picture in pictures],
        "versions": versions(),
        "output": str(output),
    }
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    write_bytes(output / "maps.npz", archive.getvalue())
    write_json(output / "cam.json", summary)
    cam_figure(columns, pictures, heading(summary), output / "cam")
    return summary


def column_title(facts: Mapping[str, Any]) -> str:
    """Of one network's column, from its part of ``cam.json``."""
    millions, (height, width) = facts["macs"] / 1e6, facts["map"]
    macs = f"{millions:,.0f}" if millions >= 10 else f"{millions:.2g}"
    return f"{facts['name']}\n{macs} M MACs, {facts['resolution']}², map {height} × {width}"


def heading(summary: Mapping[str, Any]) -> str:
    """What the maps are."""
    method = {"cam": "Class activation maps", "grad_cam": "Grad-CAM"}[summary["method"]]
    layers = dict.fromkeys(network["layer"] for network in summary["networks"])
    of = f" at {', '.join(layers)}" if summary["method"] == "grad_cam" else ""
    what = "the predicted class" if summary["target"] is None else f"class {summary['target']}"
    return f"{method} of {what}{of}"


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas cam`` prints."""
    lines = [heading(summary)]
    for network in summary["networks"]:
        height, width = network["map"]
        lines += [
            "",
            f"{network['name']} ({network['params'] / 1e6:,.3f} M parameters, {network['macs'] / 1e6:,.1f} M MACs at "
            f"{network['resolution']}²; map {height} × {width})",
            network["weights_note"],
        ]
        names = [_called(image) for image in summary["images"]]
        longest = max(map(len, names))
        for name, found in zip(names, network["predictions"], strict=True):
            text = f"  {name:<{longest}}  {found['class']} {found['probability']:.1%}"
            if found["target_index"] != found["index"]:
                text += f"; map of {found['target']} {found['target_probability']:.1%}"
            lines.append(text)
    return "\n".join([*lines, "", f"written to {summary['output']}: cam.png maps.npz cam.json"])


def _called(image: Mapping[str, Any]) -> str:
    return f"{image['name']}, {image['class']}:" if image["class"] else f"{image['name']}:"
