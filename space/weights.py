"""Weights of networks: files of ours, and checkpoints of timm, torchvision and lukemelas/EfficientNet-PyTorch.

Files are data: safetensors, or torch's with ``weights_only``; nothing in them is ever run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .architecture import Architecture
from .errors import UserError, check_choice
from .files import write_bytes
from .network import Network
from .weight_formats import FORMATS, Format, names, recognise

#: Mean and standard deviation of each channel, in units of 0 to 255.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]

#: What most checkpoints were trained with; EfficientNet-Lite's TensorFlow code has (x − 127) / 128 instead.
_IMAGENET: Normalization = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_LITE: Normalization = ((127.0,) * 3, (128.0,) * 3)
#: Where training scripts keep the weights in their checkpoints; averaged ones first.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
CLASSIFIERS = ("require", "skip")
_SHOWN = 5
#: How torch says that a pickle names functions or classes.
_MORE_THAN_DATA = re.compile(r"unsupported (global|class|operand)", re.IGNORECASE)


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    Args:
        path: of the file.
        tensors: by the names that the file has.
        format: ``effnas``, ``timm``, ``torchvision`` or ``lukemelas``.
        architecture: of the network, where the file says it (ours do).
        normalization: that the images need, where the file says it or it is known of the format.
        classes: names, where the file says them.
        digest: 16 hexadecimal digits that identify the file's content.
    """

    path: str
    tensors: Mapping[str, Tensor]
    format: str
    architecture: Architecture | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] | None = None
    digest: str = ""


def save_weights(
    path: str | Path,
    network: Network,
    *,
    architecture: Architecture,
    normalization: Normalization | None = None,
    classes: Sequence[str] | None = None,
) -> Path:
    """Write a safetensors file that says by itself what it holds; a crash or a full disk leaves the old file.

    Args:
        path: of the file.
        network: whose ``state_dict`` is written.
        architecture: of it.
        normalization: that its images need, in units of 0 to 255.
        classes: names of its outputs.

    Raises:
        OSError: the file cannot be written.
    """
    facts = {
        "effnas_architecture": architecture.to_yaml(),
        "normalization": None if normalization is None else json.dumps(normalization),
        "classes": None if classes is None else json.dumps(list(classes)),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return write_bytes(path, save(tensors, {key: text for key, text in facts.items() if text is not None}))


def read_weights(path: str | Path) -> Weights:
    """Read a file of weights: ``.safetensors``, or what ``torch.save`` wrote.

    Of a training script's checkpoint the averaged weights are taken where there are some (``state_dict_ema``,
    ``model_ema``), else ``state_dict`` or ``model``; of ours likewise.

    Raises:
        UserError: no such file, not a checkpoint, cut short, more than data in it, or names of no known format.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"weights: no such file: {path}")
    tensors, facts = _safetensors(path) if path.suffix == ".safetensors" else (_torch(path), {})
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    form = _format(path, tensors)
    return Weights(
        path=str(path),
        tensors=tensors,
        format=form.name,
        digest=_digest(path),
        **_facts(path, facts),
    )


def load_into(network: Network, weights: Weights, *, classifier: str = "require") -> None:
    """Put the weights into a network.

    Args:
        network: of the weights' architecture.
        weights: what was read.
        classifier: ``skip`` leaves the network's own, whatever the file has.

    Raises:
        UserError: they are of another network: the message names keys and shapes.
    """
    check_choice("classifier", classifier, CLASSIFIERS)
    form = _format(Path(weights.path), weights.tensors)
    theirs = names(network, form)
    own = network.state_dict()
    if classifier == "skip":
        theirs = {ours: name for ours, name in theirs.items() if not ours.startswith("classifier.")}
    _check(network, weights, form, theirs, own, skip_classifier=classifier == "skip")
    with torch.no_grad():
        for ours, name in theirs.items():
            own[ours].copy_(weights.tensors[name])


def suited(
    architecture: Architecture, weights: Weights, *, padding: str | None = None, bn_eps: float | None = None
) -> tuple[Architecture, Weights, str]:
    """The architecture as the format of the weights needs it, and what was assumed.

    - lukemelas: ported from TensorFlow: padding ``same``, BatchNorm eps 1e-3.
    - torchvision: symmetric padding, eps 1e-5, but 1e-3 in EfficientNet-B5, B6 and B7.
    - timm: symmetric padding, eps 1e-5; its ``tf_…`` models have the same names of tensors and need
      ``padding=same`` and ``bn_eps=1e-3``.
    - normalisation: the file's, else ImageNet's, but (x − 127) / 128 for EfficientNet-Lite from lukemelas.

    Args:
        architecture: of the network.
        weights: what was read.
        padding, bn_eps: settings that go before these.

    Returns:
        The architecture, the weights with a normalisation, and a line for people.
    """
    assumed: dict[str, Any] = {}
    if weights.format == "lukemelas":
        assumed = {"padding": "same", "bn_eps": 1e-3}
    elif weights.format in ("torchvision", "timm") and architecture.padding == "symmetric":
        late = weights.format == "torchvision" and architecture.name.endswith(("_b5", "_b6", "_b7"))
        assumed = {"bn_eps": 1e-3 if late else 1e-5}
    given = {"padding": padding, "bn_eps": bn_eps}
    assumed.update({key: value for key, value in given.items() if value is not None})
    if weights.format == "timm" and assumed.get("padding") == "same" and bn_eps is None:
        assumed["bn_eps"] = 1e-3
    normalization = weights.normalization
    if normalization is None and weights.format != "effnas":
        lite = weights.format == "lukemelas" and architecture.activation == "relu6" and architecture.fixed_ends
        normalization = _for_channels(_LITE if lite else _IMAGENET, architecture.in_channels)
    fitting = architecture.with_(**assumed)
    note = f"weights: {weights.path} ({weights.format} format"
    if weights.format != "effnas":
        note += f"; padding {fitting.padding}, BatchNorm eps {fitting.bn_eps:g}"
    if normalization is not None:
        mean, std = (", ".join(f"{value:g}" for value in dict.fromkeys(part)) for part in normalization)
        note += f"; images normalised with mean {mean} and std {std}"
    return fitting, replace(weights, normalization=normalization), note + ")"


# -- reading ----------------------------------------------------------------------------------------------


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"weights: {path} is not a whole safetensors file ({_one_line(error)}); it may be cut short"
        ) from None


def _torch(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        text = _one_line(error)
        if isinstance(error, pickle.UnpicklingError) and _MORE_THAN_DATA.search(str(error)):
            raise UserError(
                f"weights: {path} holds more than tensors and plain data; it is never loaded, for it could run "
                "code. Save its state_dict alone"
            ) from None
        raise UserError(
            f"weights: {path} cannot be read as a checkpoint of torch ({text}); it may be cut short"
        ) from None
    if isinstance(found, dict) and "effnas_checkpoint" in found:
        state = found["state"]
        found = state["average"]["weights"] if state.get("average") else state["model"]
    elif isinstance(found, dict):
        nested = [found[key] for key in _NESTED if isinstance(found.get(key), dict)]
        found = nested[0] if nested else found
    tensors = {}
    if isinstance(found, dict):
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(
            f"weights: {path} holds no tensors by name; a state_dict is needed, alone or under one of: "
            f"{', '.join(_NESTED)}"
        )
    return tensors


def _format(path: Path, tensors: Mapping[str, Tensor]) -> Format:
    found = recognise(tensors)
    if found is None:
        known = ", ".join(dict.fromkeys(form.name for form in FORMATS))
        raise UserError(
            f"weights: the names in {path} are of no known format ({', '.join(list(tensors)[:3])}, …); known are those "
            f"of {known}, for EfficientNet, MnasNet and MobileNet"
        )
    return found


def _facts(path: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    """What a file of ours says about itself."""
    found: dict[str, Any] = {}
    try:
        if text := facts.get("effnas_architecture"):
            found["architecture"] = Architecture.from_yaml(text, f"weights: {path}")
        if text := facts.get("normalization"):
            mean, std = json.loads(text)
            found["normalization"] = tuple(map(float, mean)), tuple(map(float, std))
        if text := facts.get("classes"):
            found["classes"] = tuple(str(name) for name in json.loads(text))
    except (ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"weights: what {path} says about itself cannot be read ({_one_line(error)})") from None
    return found


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _for_channels(normalization: Normalization, channels: int) -> Normalization | None:
    return normalization if channels == 3 else None


# -- fitting ----------------------------------------------------------------------------------------------


def _check(
    network: Network,
    weights: Weights,
    form: Format,
    theirs: Mapping[str, str],
    own: Mapping[str, Tensor],
    *,
    skip_classifier: bool,
) -> None:
    """Raise :class:`UserError` unless every tensor has its place and its shape."""
    found = weights.tensors
    head = names(network, form)["classifier.weight"]
    have, want = found[head].shape[0] if head in found else None, own["classifier.weight"].shape[0]
    if not skip_classifier and have not in (None, want):
        raise UserError(
            f"weights: {weights.path} has {have} classes, the network {want}: set num_classes to the former, or "
            "fine-tune with a fresh classifier (effnas train with these weights on your data)"
        )
    expected = set(theirs.values()) | {name for name in found if name.endswith("num_batches_tracked")}
    if skip_classifier:
        expected |= {name for name in found if name.startswith(head.removesuffix("weight"))}
    missing = [f"{name} (our {ours})" for ours, name in theirs.items() if name not in found]
    extra = [name for name in found if name not in expected]
    shapes = [
        f"{name} is {_shape(found[name])}, our {ours} {_shape(own[ours])}"
        for ours, name in theirs.items()
        if name in found and found[name].shape != own[ours].shape
    ]
    problems = [
        f"{what}: {', '.join(items[:_SHOWN])}{f' and {len(items) - _SHOWN} more' if len(items) > _SHOWN else ''}"
        for what, items in (("missing", missing), ("not of this network", extra), ("other shapes", shapes))
        if items
    ]
    if problems:
        raise UserError(
            f"weights: {weights.path} ({weights.format} format) is of another network; {'; '.join(problems)}"
        )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
