"""Weights of networks: files of ours, and checkpoints of timm, torchvision and lukemelas/EfficientNet-PyTorch."""

from __future__ import annotations

import hashlib
import json
import re
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
from ..network_spec import NetworkSpec
from ..paths import expand_path
from ..zoo import parse_network
from .contents import SUPERNET, Normalization, Weights
from .files import read_tensors, read_timm_config
from .fit import Fit, check_fit, find_format, fit_names
from .formats import recognise_format

CLASSIFIERS = ("require", "skip")
#: A folder of one of timm's networks, in the hub's cache or as people call it.
_HUB_FOLDER = re.compile(
    r"(?:models--timm--)?((?:tf_|se)?(?:efficientnet|mobilenetv|mnasnet|resnet)[a-z0-9_]*(?:\.[a-z0-9_]+)?)"
)


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
    ``model_ema``, ``ema_state_dict``, …), else ``state_dict``, ``model``, ``net`` and the like; of ours likewise. What
    wrappers put before the names (``module.``, ``_orig_mod.``, ``backbone.``, …) does not matter.

    Args:
        path: of the file.
        network: of the user's own builder, which the file of one of its networks needs beside it; with it the names
            may be those of any network.

    Raises:
        UserError: no such file, not a checkpoint, truncated, more than data in it, names of no known format, or the
            network of another builder.
    """
    if not isinstance(path, str | Path):
        raise UserError(f"weights: must be a file's path, got {path!r:.60}")
    path = expand_path(path)
    tensors, facts, entry = read_tensors(path)
    if SUPERNET in facts:
        raise UserError(
            f"weights: {path} is a supernet, whose weights all members of its space share: give those of one member, "
            "as a search with evaluator=supernet keeps them in weights/, or search with evaluator.path=FILE"
        )
    architecture = _read_architecture(path, facts, network)
    if architecture is not None:
        form = "effnas"
    else:
        form = "own" if network is not None and recognise_format(tensors) is None else find_format(path, tensors).name
    try:
        own = form in ("effnas", "own")
        found = _read_own_facts(facts, architecture) if own else _read_foreign_facts(path, facts, tensors)
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from None
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return Weights(path=str(path), tensors=tensors, format=form, entry=entry, digest=digest, **found)


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
    own, fit, skip = network.state_dict(), fit_names(network, weights), classifier == "skip"
    ends = _find_classifier(network, fit, architecture) if skip else [n for n in own if n.startswith("classifier.")]
    dropped = {fit.names[name] for name in ends if name in fit.names} if skip else set()
    names = {ours: name for ours, name in fit.names.items() if name not in dropped}
    known = {*names.values(), *fit.left_out, *dropped}
    gone = (fit.head, *map(_layers_of, dropped)) if skip else ()  # whatever the layers of the file's classifier
    extra = [name for name in weights.tensors if name not in known and not name.startswith(gone)]
    check_fit(network, weights, names, extra, ends)
    with torch.no_grad():
        for ours, name in names.items():
            own[ours].copy_(weights.tensors[name])


def _layers_of(name: str) -> str:
    """What the names of a classifier's layers begin with, of which one tensor has this name."""
    parent = name.rpartition(".")[0]
    above, _, last = parent.rpartition(".")
    return f"{above if above and last.isdigit() else parent}."


def _find_classifier(network: nn.Module, fit: Fit, architecture: NetworkSpec | None) -> list[str]:
    """Our names of the classifier's tensors.

    Raises:
        UserError: a builder makes the same classifier for any number of classes.
    """
    if architecture is None:
        return [name for name in fit.names if name.startswith("classifier.")]
    if not architecture.classifier_axes:
        raise UserError(
            f"{architecture.maker} makes the same classifier for any number of classes: give it a parameter num_classes"
        )
    return list(architecture.classifier_axes)


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


def _read_foreign_facts(path: Path, facts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the file says, else timm's ``config.json`` beside files that timm may have written, else the file's name."""
    form = recognise_format(tensors)
    timms = form is not None and (form.name == "timm" or form.sign.startswith("layer1."))
    config = {**(read_timm_config(path) if timms else {}), **_read_timm_description(facts)}
    found: dict[str, Any] = {"model": facts.get("arch") or config.get("architecture") or _name_of(path)}
    if "mean" in config and "std" in config:  # in units of 0 to 1
        parts = ([255 * value for value in config[name]] for name in ("mean", "std"))
        found["normalization"] = _check_normalization(tuple(parts), None)
    return found


def _read_timm_description(facts: Mapping[str, str]) -> dict[str, Any]:
    """timm's description inside a file: as one entry, or as entries of their own."""
    found: dict[str, Any] = {}
    for name in ("default_cfg", "pretrained_cfg"):
        description = json.loads(facts[name]) if name in facts else {}
        found |= description if isinstance(description, dict) else {}
    found |= {name: json.loads(facts[name]) for name in ("mean", "std") if name in facts}
    if isinstance(facts.get("architecture"), str):
        found["architecture"] = facts["architecture"]
    return found if isinstance(found.get("architecture", ""), str) else {}


def _name_of(path: Path) -> str:
    """The file's name, or its folder's where the hub calls every file the same."""
    if path.stem not in ("model", "pytorch_model"):
        return path.stem
    names = (_HUB_FOLDER.fullmatch(folder.name) for folder in path.absolute().parents)
    return next((name[1] for name in names if name), path.stem)


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
