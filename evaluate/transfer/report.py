"""The output folder of ``effnas transfer``: the table of all trainings, as Table 5 of the EfficientNet paper."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...space.tables import text_table
from ..folder import versions, write_csv, write_json

#: What the command writes to its folder.
RESULTS = ("runs", "transfer.csv", "transfer.json")


@dataclass(frozen=True)
class Run:
    """What one training came to.

    Args:
        dataset, network: their names.
        seed: of the training.
        accuracy: top-1, a fraction of 1, of ``part``: ``test``, or ``heldout`` where there is no test part.
        params, macs: of the network with the data's classifier, at ``resolution`` pixels.
        classes: of the data.
        train_images: that were trained on; those held out are not among them.
        measured_images: of ``part``.
        epochs, seconds: of the training.
        weights: file that it started from; empty: from scratch.
        output: folder.
    """

    dataset: str
    network: str
    seed: int
    accuracy: float
    part: str
    params: int
    macs: int
    resolution: int
    classes: int
    train_images: int
    measured_images: int
    epochs: int
    seconds: float
    weights: str
    output: str


def write_transfer(runs: Sequence[Run], output: Path, command: str) -> dict[str, Any]:
    """Write ``transfer.csv`` (one row per data set and network) and ``transfer.json``, whose content is returned.

    Args:
        runs: in the order of the table: data set, network, seed.
        output: folder.
        command: as the user typed it.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.dataset, run.network), []).append(run)
    first = runs[0].network
    rows = [_row(group, groups[dataset, first][0].params) for (dataset, _), group in groups.items()]
    write_csv(output / "transfer.csv", list(rows[0]), rows)
    networks = list(dict.fromkeys(run.network for run in runs))
    summary: dict[str, Any] = {
        "rows": rows,
        "geometric_mean_ratio": {
            name: statistics.geometric_mean(row["params_ratio"] for row in rows if row["network"] == name)
            for name in networks
        },
        "runs": [asdict(run) for run in runs],
        "versions": versions(),
        "command": command,
        "output": str(output),
    }
    write_json(output / "transfer.json", summary)
    return summary


def _row(runs: Sequence[Run], first_params: int) -> dict[str, Any]:
    values, one = [run.accuracy for run in runs], runs[0]
    return {
        "dataset": one.dataset,
        "network": one.network,
        "accuracy": statistics.fmean(values),
        "standard_error": statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        "seeds": len(values),
        "part": one.part,
        "params": one.params,
        "params_ratio": first_params / one.params,
        "macs": one.macs,
        "resolution": one.resolution,
        "classes": one.classes,
        "train_images": one.train_images,
        "measured_images": one.measured_images,
        "seconds": sum(run.seconds for run in runs),
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas transfer`` prints."""
    rows, cells, before = summary["rows"], [], None
    digits = 1 if max(row["macs"] for row in rows) >= 1e7 else 3
    for row in rows:
        same, before = row["dataset"] == before, row["dataset"]
        measured = f"{row['measured_images']:,}{'' if row['part'] == 'test' else ' held out'}"
        cells.append(
            [
                "" if same else row["dataset"],
                row["network"],
                f"{row['accuracy']:.2%}",
                "–" if row["standard_error"] is None else f"{row['standard_error']:.2%}",
                f"{row['params'] / 1e6:,.3f}",
                f"{row['params_ratio']:.2f}×",
                f"{row['macs'] / 1e6:,.{digits}f}",
                f"{row['resolution']}²",
                *(["", "", ""] if same else [f"{row['classes']:,}", f"{row['train_images']:,}", measured]),
            ]
        )
    means = summary["geometric_mean_ratio"]
    if len({row["dataset"] for row in rows}) > 1:
        for i, (name, ratio) in enumerate(means.items()):
            cells.append(["" if i else "geometric mean", name, "", "", "", f"{ratio:.2f}×", "", "", "", "", ""])
    header = ["data set", "network", "top-1", "s. e.", "M params", "ratio", "M MACs", "pixels"]
    header += ["classes", "train", "test"]
    seeds = rows[0]["seeds"]
    noise = (
        f"top-1: mean of {seeds} seeds, with its standard error over them"
        if seeds > 1
        else "one seed each: the variation between trainings is unknown; use seeds=3 or more"
    )
    return "\n".join(
        [
            text_table(header, cells, left=2),
            "",
            f"{noise}; ratio: parameters of {next(iter(means))} over the network's, both with the data's classifier",
            f"{len(summary['runs'])} trainings, {sum(run['seconds'] for run in summary['runs']):,.0f} s in all",
            f"written to {summary['output']}: transfer.csv transfer.json runs/",
        ]
    )
