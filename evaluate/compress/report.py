"""What ``effnas compress`` writes and prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...space.architecture import Architecture
from ...space.tables import text_table
from ..folder import versions, write_json
from .figure import compress_figure

RECORD, PRUNED, TRAINED = "compress.json", "pruned.safetensors", "trained"
#: What a compression writes to its folder.
RESULTS = (RECORD, PRUNED, "architecture.yaml", TRAINED, "compress.png", "compress.svg")


def check_record(record: Mapping[str, Any], folder: Path) -> None:
    """Raise KeyError, TypeError or ValueError where a record lacks what is told of it."""
    Architecture.from_dict(record["architecture"], str(folder / RECORD))
    for of in (record["before"], record["pruned"]):
        float(of["macs"]), float(of["params"]), float(of["accuracy"]), str(of["name"])
    float(record["loss"]), float(record["target"])
    for cut in record["cuts"]:
        float(cut["macs"]), float(cut["loss"]), str(cut["what"])


def write_compressed(record: Mapping[str, Any], before: Architecture, output: Path) -> dict[str, Any]:
    """Write ``compress.json`` and the figure, and return the content.

    Args:
        record: what was done.
        before: the network.
        output: folder.
    """
    document = {**record, "versions": versions(), "output": str(output)}
    after = Architecture.from_dict(record["architecture"], str(output / RECORD))
    compress_figure(document, before, after, output)
    write_json(output / RECORD, document)
    return document


def summary_text(record: Mapping[str, Any]) -> str:
    """What the command prints."""
    before, pruned, trained = record["before"], record["pruned"], record.get("trained")
    rows = [[before["name"] or "the network", before, before["accuracy"]], ["pruned", pruned, pruned["accuracy"]]]
    if trained is not None:
        rows.append(["fine-tuned", pruned, trained["accuracy"]])
    cells = [
        [str(name), f"{of['macs']:,}", f"{of['macs'] / before['macs']:.3f}", f"{of['params']:,}", f"{accuracy:.2%}"]
        for name, of, accuracy in rows
    ]
    table = text_table(["", "MACs", "of all", "params", "accuracy on held-out images"], cells)
    cuts = "; ".join(cut["what"] for cut in record["cuts"])
    files = f"{PRUNED} architecture.yaml {RECORD} compress.png compress.svg" + f" {TRAINED}/" * (trained is not None)
    place = record["output"]
    after = (
        f"next: effnas evaluate --weights {place}/{TRAINED}/weights.safetensors"
        if trained is not None
        else f"next: effnas train --weights {place}/{PRUNED} --training finetune"
    )
    tested = ""
    if trained is not None and trained.get("test_accuracy") is not None:
        tested = f"on the test part {trained['test_accuracy']:.2%}\n"
    return f"{table}\n{tested}cut: {cuts}\nwritten to {place}: {files}\n{after}"
