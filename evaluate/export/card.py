"""The model card: README.md beside an export, in the form of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...space.files import write_text
from ..arguments import describe_device
from .formats import FORMATS
from .inside import RESIZE
from .subject import Subject
from .usage import list_usage

#: Of the table of the files.
HEADER = ("format", "file", "MB", "difference", "same class", "top-1 before", "after", "ms at batch 1")
#: Formats that are graphs, and may have the preprocessing inside.
GRAPHS = ("torchscript", "torch_export", "onnx", "openvino", "executorch", "litert")
#: Of the classes' names on the card.
SHOWN = 20


def write_card(path: Path, subject: Subject, summary: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> Path:
    """Write it.

    Args:
        path: of the file.
        subject: what was exported.
        summary: the content of ``export.json``.
        rows: of the formats, with the columns of :data:`HEADER`.
    """
    s = summary
    head: dict[str, Any] = {"library_name": "effnas", "pipeline_tag": "image-classification"}
    head["license"] = s["license"] or "unknown"
    head["tags"] = ["image-classification", "effnas"]
    name = s["architecture"] or "network"
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {_escape(name)}",
        f"{s['num_classes']} classes, input {subject.preprocessing.channels} × {s['resolution']} × {s['resolution']}. "
        f"{s['params']:,} parameters, {s['macs']:,} multiply-accumulates (MACs) and {s['activations']:,} activations "
        "an image.",
        "## Numbers",
        _numbers(s),
        "## Files",
        _table(HEADER, rows),
        _explain_files(subject, s),
        "## Use",
        _use(subject, s),
        "## Images",
        _images(subject, s),
        "## The network",
        f"```\n{_fence(str(subject.architecture))}\n```",
        "## Where it comes from",
        _origin(s),
        "## Limits",
        _limits(s),
    ]
    return write_text(path, "\n\n".join(parts) + "\n")


def _numbers(s: Mapping[str, Any]) -> str:
    told = s["reported"]
    labels = {
        "accuracy": f"held-out accuracy of its run ({told.get('heldout_images', '?')} images, which chose nothing but "
        "may have stopped the training)",
        "test_accuracy": f"test accuracy of its run ({told.get('test_images', '?')} images)",
        "selected_on": "what its search chose it for (too high: it was chosen)",
        "confirmed_on": "confirmed on seeds that chose nothing (`confirmed_on`)",
        "epochs": "epochs",
        "seed": "seed",
    }
    rows = [[text, _value(told[key])] for key, text in labels.items() if key in told]
    proof = s["formats"]["safetensors"]["proof"]
    if proof["accuracy_before"] is not None:
        rows.append([f"top-1 on {proof['images']}, measured by this export", _value(proof["accuracy_before"])])
    if not rows:
        return "No accuracy is known: the run reports none, and there were no labelled images."
    if "confirmed_on" not in told:
        rows.append(["confirmed on seeds that chose nothing (`confirmed_on`)", "not measured"])
    return _table(("what", "value"), rows)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(number)}" for key, number in value.items())
    if isinstance(value, float):
        return f"{value:.2%}" if 0 <= value <= 1 else f"{value:.4g}"
    return _escape(str(value))


def _explain_files(subject: Subject, s: Mapping[str, Any]) -> str:
    text = (
        "Difference: largest difference of a logit from PyTorch's, over the largest logit, at two batch sizes. Same "
        "class: fraction of all images that get PyTorch's class. "
    )
    if s["torch_latency"]:
        text += f"Latency: {describe_device('cpu', s['threads'])} of the machine that exported it, in alternation. "
    text += "`export.json` has all of it."
    for name, found in s["formats"].items():
        if "kept_in_float" in found:
            kept = found["kept_in_float"]
            text += f" {_escape(name)}: eight bits, calibrated on {found['calibration']}"
            text += f"; in 32 bits stay {_escape(', '.join(kept))}." if kept else "; every layer."
            if found.get("latency"):
                gain = found["latency"]["speedup"]
                text += f" {gain['median']:.2f} times as fast as `{gain['over']}` ({gain['low']:.2f} to "
                text += f"{gain['high']:.2f}, quartiles of {found['latency']['rounds']} rounds)."
        if (most := FORMATS[name].most if name in FORMATS else None) is not None:
            text += f" {_escape(name)}: {most} image{'s' * (most > 1)} at once, at most."
    by = {found["proof"]["by"] for name, found in s["formats"].items() if name == "timm" and "proof" in found}
    return text + "".join(f" The folder `timm` was opened by {one}." for one in by)


def _use(subject: Subject, s: Mapping[str, Any]) -> str:
    parts = list_usage(s["formats"], subject.preprocessing, subject.inside)
    return "\n\n".join(f"{title}:\n\n```python\n{code}\n```" for title, code in parts)


def _images(subject: Subject, s: Mapping[str, Any]) -> str:
    p = subject.preprocessing
    text = (
        f"The centre square of an image is resized to {p.stored_size} pixels ({p.interpolation}, antialiased) and its "
        f"centre {p.size} × {p.size} taken. With values from 0 to 255, `mean` {_list(p.mean)} is taken off each "
        f"channel and `std` {_list(p.std)} divided by. "
    )
    graphs = [name for name in s["formats"] if name.removesuffix("_int8") in GRAPHS]
    inside = ", ".join(graphs) or "none here"
    if subject.inside == RESIZE:
        text += (
            f"**All of that is inside the graphs** ({inside}): they take decoded images, uint8 (n, channels, height, "
            "width), upright and of any size; the other formats take images that were made ready so."
        )
        if (r := s["resizing"]) is not None:
            text += (
                f" Their pixels differ from those of the data's own preprocessing by {r['mean_difference']:.2g} of 255 "
                f"in the mean and {r['largest_difference']:.0f} at most; {r['agreement']:.2%} of the images get the "
                f"same class both ways, and top-1 the data's own way is {r['accuracy']:.2%}."
            )
    elif subject.inside:
        text += (
            f"**The last step is inside the graphs** ({inside}): they take values from 0 to 255; the other formats "
            "take normalised images."
        )
    else:
        text += "Every format takes images that are normalised so."
    if s["classes"] is None:
        return text + "\n\nThe classes have no names in the weights."
    names = ", ".join(_escape(name) for name in s["classes"][:SHOWN])
    more = f", and {len(s['classes']) - SHOWN} more in `config.json`" if len(s["classes"]) > SHOWN else ""
    return f"{text}\n\nClasses: {names}{more}."


def _origin(s: Mapping[str, Any]) -> str:
    rows = [["weights", s["weights"]], ["their digest", s["weights_digest"]], ["note", s["weights_note"]]]
    if s["training_command"]:
        rows.append(["trained by", _code(str(s["training_command"]))])
    if s["trained_on"] is not None:
        rows.append(["data", _code(json.dumps(s["trained_on"]))])
    else:
        rows.append(["data", "not recorded with the weights"])
    rows.append(["exported by", _code(s["command"]) if s["command"] else "`effnas.run_export`"])
    rows.append(["licence of the weights", s["license"] or "not stated: ask whoever trained them"])
    told = [[name, value if value.startswith("`") else _escape(value)] for name, value in rows]
    return _table(("what", "value"), told)


def _limits(s: Mapping[str, Any]) -> str:
    lines = ["It knows the classes above and nothing else: any image gets one of them."]
    proof = s["formats"]["safetensors"]["proof"]
    if proof["accuracy_before"] is None:
        lines.append(f"The exports were proved on {proof['images']}: equal outputs, but no accuracy.")
    lines.append("Latencies are of one machine, one batch of one image.")
    lines.append("Accuracies are of the images named above; images of other cameras or places may be harder.")
    return "\n".join(f"- {line}" for line in lines)


def _list(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _escape(text: str) -> str:
    """Text that is no Markdown or HTML, on one line."""
    plain = " ".join(text.split())
    for mark in "\\`*_|[]":
        plain = plain.replace(mark, "\\" + mark)
    return plain.replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    """Text as code in a cell of a table, on one line."""
    return f"`{_fence(' '.join(text.split()))}`"


def _fence(text: str) -> str:
    """Text that ends no code."""
    return text.replace("`", "'").replace("|", "¦")
