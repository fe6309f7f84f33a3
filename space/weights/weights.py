"""Weights of networks: files of ours, and checkpoints of timm, torchvision and lukemelas/EfficientNet-PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..builders.module import make_on_meta
from ..built import BuiltNetwork
from ..errors import UserError, check_choice, check_number
from ..files import load_yaml, write_bytes
from ..network import Network
from ..network_spec import NetworkSpec
from ..zoo import parse_network
from .contents import Normalization, Weights
from .files import find_wrappers_prefix, read_tensors, read_timm_config
from .formats import FORMATS, Format, map_names, recognise_format

CLASSIFIERS = ("require", "skip")
_SHOWN = 5


def save_weights(
    path: str | Path,
    network: nn.Module,
    *,
    architecture: NetworkSpec,
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
        UserError: the facts do not fit each other or the network.
        OSError: the file cannot be written.
    """
    tensors = _copy_apart(network.state_dict())
    wanted = make_on_meta(architecture.module).state_dict()
    for name in (*wanted, *tensors):
        if name not in tensors or name not in wanted or tensors[name].shape != wanted[name].shape:
            raise UserError(f"weights: the network to be written does not match its architecture: {name} differs")
    facts: dict[str, Any] = {}
    if normalization is not None:
        facts["normalization"] = _check_normalization(normalization, architecture)
    if classes is not None:
        facts["classes"] = _check_classes(list(classes), architecture)
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    return write_bytes(path, save(tensors, {"effnas_architecture": architecture.to_yaml(), **metadata}))


def _copy_apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each with memory of its own: a network of a user's may have one tensor under two names."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        found[name] = own.clone() if place in seen else own
        seen.add(place)
    return found


def read_weights(path: str | Path, network: BuiltNetwork | None = None) -> Weights:
    """Read a file of weights: ``.safetensors``, or what ``torch.save`` wrote.

    Of a training script's checkpoint the averaged weights are taken where there are some (``state_dict_ema``,
    ``model_ema``), else ``state_dict``, ``model_state_dict`` or ``model``; of ours likewise. Prefixes that wrappers put
    before all names (``module.``, ``_orig_mod.``, ``model.``) are dropped.

    Args:
        path: of the file.
        network: of the user's own builder, which the file of one of its networks needs beside it; with it the names
            may be those of any network.

    Raises:
        UserError: no such file, not a checkpoint, truncated, more than data in it, names of no known format, or the
            network of another builder.
    """
    path = Path(path).expanduser()
    tensors, facts = read_tensors(path)
    architecture = _read_architecture(path, facts, network)
    if architecture is not None:
        form = "effnas"
    else:
        form = "own" if network is not None and recognise_format(tensors) is None else _find_format(path, tensors).name
    try:
        found = _read_timm_facts(path, facts) if form == "timm" else _read_own_facts(facts, architecture)
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from None
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return Weights(path=str(path), tensors=tensors, format=form, digest=digest, **found)


def load_into(
    network: nn.Module, weights: Weights, *, classifier: str = "require", architecture: NetworkSpec | None = None
) -> None:
    """Put the weights into a network; where they do not fit it stays as it is.

    Args:
        network: of the weights' architecture.
        weights: what was read; for a builder's network by the names that its ``state_dict`` has.
        classifier: ``skip`` leaves the network's own, whatever the file has.
        architecture: of a builder's network, which tells its classifier where that is skipped.

    Raises:
        UserError: they are of another network: the message names keys and shapes.
    """
    check_choice("classifier", classifier, CLASSIFIERS)
    own, found = network.state_dict(), dict(weights.tensors)
    if isinstance(network, Network):
        form = _find_format(Path(weights.path), weights.tensors)
        theirs, head = map_names(network, form), dict(form.pairs(network))["classifier"]
        left = [name for name in own if name.startswith("classifier.")]
        dropped = [name for name in found if name.startswith(f"{head}.")]
    else:
        prefix, head = find_wrappers_prefix(own), ""
        theirs = {name: name.removeprefix(prefix) for name in own if not name.endswith("num_batches_tracked")}
        left = sorted(architecture.classifier_names) if architecture is not None and classifier == "skip" else []
        dropped = [name.removeprefix(prefix) for name in left]
    if classifier == "skip":
        theirs = {ours: name for ours, name in theirs.items() if ours not in left}
        found = {name: tensor for name, tensor in found.items() if name not in dropped}
    _check_fit(weights, found, theirs, own, head)
    with torch.no_grad():
        for ours, name in theirs.items():
            own[ours].copy_(found[name])


def _find_format(path: Path, tensors: Mapping[str, Tensor]) -> Format:
    found = recognise_format(tensors)
    if found is None:
        known = ", ".join(dict.fromkeys(form.name for form in FORMATS))
        raise UserError(
            f"weights: the names in {path} match no known format ({', '.join(list(tensors)[:3])}, …); known are those "
            f"of {known}, for EfficientNet, MnasNet and MobileNet"
        )
    return found


# -- what a file says about itself --------------------------------------------------------------------------


def _read_architecture(path: Path, facts: Mapping[str, str], network: BuiltNetwork | None) -> NetworkSpec | None:
    text = facts.get("effnas_architecture")
    if not text:
        return None
    try:
        data = load_yaml(text, "architecture")
        if not (isinstance(data, Mapping) and "effnas_network" in data):
            return parse_network(data)
    except UserError as error:
        raise _unreadable(path, error) from None
    return parse_network(data, f"weights: {path}", network)


def _read_own_facts(facts: Mapping[str, str], architecture: NetworkSpec | None) -> dict[str, Any]:
    found: dict[str, Any] = {"architecture": architecture}
    if text := facts.get("normalization"):
        found["normalization"] = _check_normalization(json.loads(text), architecture)
    if text := facts.get("classes"):
        found["classes"] = _check_classes(json.loads(text), architecture)
    return found


def _unreadable(path: Path, error: BaseException) -> UserError:
    return UserError(f"weights: the description inside {path} cannot be read ({' '.join(str(error).split())[:200]})")


def _read_timm_facts(path: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    config = read_timm_config(path)
    found: dict[str, Any] = {"model": facts.get("arch") or config.get("architecture") or path.stem}
    if "mean" in config and "std" in config:  # in units of 0 to 1
        parts = ([255 * value for value in config[name]] for name in ("mean", "std"))
        found["normalization"] = _check_normalization(tuple(parts), None)
    return found


def _check_normalization(value: Any, architecture: NetworkSpec | None) -> Normalization:
    mean, std = (tuple(part) for part in value)
    for number in mean:
        check_number("normalization: mean", number)
    for number in std:
        check_number("normalization: std", number, 0, open_low=True)
    if len(mean) != len(std) or (architecture is not None and len(mean) != architecture.in_channels):
        channels = "each other" if architecture is None else f"the {architecture.in_channels} channels of the network"
        raise UserError(f"normalization: {len(mean)} means and {len(std)} standard deviations do not fit {channels}")
    return mean, std


def _check_classes(value: Any, architecture: NetworkSpec | None) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError("classes must be a list of names")
    if architecture is not None and len(value) != architecture.num_classes:
        raise UserError(f"{len(value)} names of classes, but the network has {architecture.num_classes} outputs")
    return tuple(value)


# -- fitting ------------------------------------------------------------------------------------------------


def _check_fit(
    weights: Weights, found: Mapping[str, Tensor], theirs: Mapping[str, str], own: Mapping[str, Tensor], head: str
) -> None:
    """Raise :class:`UserError` unless every tensor has its place and its shape."""
    expected = set(theirs.values())
    missing = {name: f"{name} (our {ours})" for ours, name in theirs.items() if name not in found}
    extra = {name: name for name in found if name not in expected and not name.endswith("num_batches_tracked")}
    shapes = {
        name: f"{name} is {_format_shape(found[name])}, our {ours} {_format_shape(own[ours])}"
        for ours, name in theirs.items()
        if name in found and found[name].shape != own[ours].shape
    }
    wrong = [*missing, *extra, *shapes]
    if wrong and all(name.startswith(f"{head}.") for name in wrong):
        sides = (found.get(f"{head}.weight"), own.get("classifier.weight"))
        have, want = (0 if side is None else len(side) for side in sides)
        if have != want:
            raise UserError(
                f"weights: {weights.path} has {have} classes, the network {want}: set num_classes to the former, or "
                "fine-tune with a fresh classifier (effnas train with these weights on your data)"
            )
    problems = [
        f"{what}: {', '.join(list(items.values())[:_SHOWN])}"
        f"{f' and {len(items) - _SHOWN} more' if len(items) > _SHOWN else ''}"
        for what, items in (("missing", missing), ("not of this network", extra), ("other shapes", shapes))
        if items
    ]
    if problems:
        of = f", {weights.architecture.name}" if weights.architecture and weights.architecture.name else ""
        raise UserError(
            f"weights: {weights.path} ({weights.format} format{of}) belongs to another network; {'; '.join(problems)}"
        )


def _format_shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
