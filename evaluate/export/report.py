"""The output folder of ``effnas export``: what is said of it in ``export.json``, on the card and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...space.cost import cost
from ...space.tables import text_table
from ..arguments import describe_device
from ..folder import versions, write_json
from ..pretrained import Pretrained
from .card import HEADER, write_card
from .pretrained_folder import CONFIG, write_config
from .subject import Subject

RESULT = "export.json"


def read_facts(run: Mapping[str, Any], start: Pretrained, file: Path, licence: str | None) -> dict[str, Any]:
    """What is known of the weights: their file, what they were trained on, the accuracies that their run reports.

    Args:
        run: ``summary.json`` of the run, empty where there is none.
        start: the network and its weights.
        file: of the weights.
        licence: of them; None: not stated.
    """
    best = run.get("best") if isinstance(run.get("best"), Mapping) else {}
    names = ("accuracy", "test_accuracy", "heldout_images", "test_images", "epochs", "seed")
    reported = {name: run[name] for name in names if run.get(name) is not None}
    for name in ("selected_on", "confirmed_on"):
        if (found := run.get(name, (best or {}).get(name))) is not None:
            reported[name] = found
    return {
        "weights": str(file),
        "weights_digest": start.weights.digest,
        "weights_note": start.note,
        "reported": reported,
        "trained_on": run.get("trained_on"),
        "training_command": run.get("command"),
        "training_versions": run.get("versions"),
        "license": licence,
    }


def summarize(
    subject: Subject,
    formats: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    command: str,
    output: Path,
) -> dict[str, Any]:
    """The content of ``export.json``."""
    a, costs = subject.architecture, cost(subject.architecture)
    return {
        "architecture": a.name,
        "digest": a.digest,
        "resolution": a.resolution,
        "params": costs.params,
        "macs": costs.macs,
        "activations": costs.activations,
        "classes": None if subject.classes is None else list(subject.classes),
        "num_classes": a.num_classes,
        "preprocessing": subject.preprocessing.to_dict(),
        "preprocess_inside": subject.inside,
        **facts,
        "formats": {name: dict(found) for name, found in formats.items()},
        "versions": versions(),
        "command": command,
        "output": str(output),
    }


def write_documents(subject: Subject, summary: Mapping[str, Any], folder: Path) -> None:
    """Write ``config.json``, the card and ``export.json``."""
    write_config(folder / CONFIG, subject.architecture, subject.preprocessing, subject.classes)
    write_card(folder / "README.md", subject, summary, formats_rows(summary))
    write_json(folder / RESULT, summary)


def formats_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """A row a format: name, file, size, proof, agreement, accuracies, latency."""
    rows = []
    for name, found in summary["formats"].items():
        proof, latency = found.get("proof"), found.get("latency")
        cells = [name, found.get("file", "–"), f"{found['bytes'] / 1e6:.2f}" if "bytes" in found else "–"]
        if proof is None:
            cells += ["–", "–", "–", "–"]
        else:
            cells += [f"{proof['max_difference']:.1e}", f"{proof['agreement']:.2%}"]
            cells += [_percent(proof["accuracy_before"]), _percent(proof["accuracy_after"])]
        rows.append([*cells, f"{1e3 * latency['seconds']:,.2f}" if latency else "–"])
    if summary["torch_latency"]:
        rows.append(["(torch)", *["–"] * 6, f"{1e3 * summary['torch_latency']['seconds']:,.2f}"])
    return rows


def summary_text(summary: Mapping[str, Any]) -> str:
    """What ``effnas export`` prints."""
    s = summary
    first = next(iter(s["formats"].values()))["proof"]
    lines = [
        f"{s['architecture']}: {s['resolution']}², {s['params']:,} parameters, {s['macs']:,} MACs",
        text_table(list(HEADER), formats_rows(s)),
        f"proved at batch {' and '.join(map(str, first['batches']))} on {first['images']}; difference: of a logit, "
        "over the largest",
    ]
    if s["torch_latency"]:
        where = describe_device("cpu", s["threads"])
        lines.append(f"latency: {where}, in alternation; (torch): eager, in evaluation mode, as trained")
    for name, found in s["formats"].items():
        if gain := (found.get("latency") or {}).get("speedup"):
            times = f"{gain['median']:.2f} times as fast as {gain['over']} ({gain['low']:.2f} to {gain['high']:.2f})"
            lines.append(f"{name}: {times}" + "; slower: keep the float format" * (gain["median"] < 1))
    files = " ".join(found["file"] for found in s["formats"].values() if "file" in found)
    return "\n".join([*lines, f"written to {s['output']}: {files} config.json README.md export.json"])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"
