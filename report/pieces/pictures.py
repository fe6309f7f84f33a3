"""Pictures that a command has painted, where nothing else can show what it found: activation maps, a model's fit."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ..columns import row_table
from ..folders import Run
from ..markup import Piece, attribute, paragraph

#: Bytes of a picture that is put on the page; a larger one is named.
MAX_PICTURE = 1_500_000
_PAINTED = {
    "cam": ("cam.png", "Where the networks look", "Activation maps: one row an image, one column a network"),
    "latency": ("latency.png", "The model's fit", "Predicted and measured latency"),
}


def show_pictures(run: Run, room: bool) -> Piece | None:
    """The picture of a run, and what the networks predict of the images.

    Args:
        run: whose it is.
        room: whether the page has room for it.
    """
    name, title, what = _PAINTED.get(run.kind, ("", "", ""))
    file = run.folder / name
    if not name or not file.is_file():
        return None
    if room and file.stat().st_size <= MAX_PICTURE:
        data = base64.b64encode(file.read_bytes()).decode()
        body = f'<p><img class="picture" alt="{attribute(what)}" src="data:image/png;base64,{data}"></p>'
    else:
        body = paragraph(f"{file} has the picture, for which the page has no room.", "note")
    told = run.summary.get("networks") or () if run.kind == "cam" else ()
    if rows := [row for network in told for row in _predictions(run, network)]:
        body += row_table(rows, ("network", "image", "is", "predicted", "probability"), f"Predictions of {run.name}")
    return Piece(title, body)


def _predictions(run: Run, network: Mapping[str, Any]) -> list[dict[str, Any]]:
    images = run.summary.get("images") or []
    return [
        {"network": network.get("name"), "image": image.get("name"), "is": image.get("class")}
        | {"predicted": found.get("class"), "probability": found.get("probability")}
        for image, found in zip(images, network.get("predictions") or [], strict=False)
    ]
