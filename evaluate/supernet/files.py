"""The file of a trained supernet: its weights, and what they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ...space.errors import UserError
from ...space.files import write_bytes
from ...space.paths import is_file
from ...space.weights.contents import SUPERNET, Normalization
from ...space.weights.files import read_tensors
from ..identity import describe_changes
from .members import Members
from .shared import SharedNetwork

#: Raised when what the file holds changes.
FORMAT = 1
#: The name of the file in a supernet's folder.
NAME = "supernet.safetensors"


@dataclass(frozen=True)
class TrainedSupernet:
    """What a file holds.

    Args:
        network: the shared weights, on the CPU.
        normalization: that it was trained with.
        classes: names of its outputs.
        identity: what made it: space, recipe, data, rule, seed.
        training: of its training: ``epochs``, ``steps``, ``seconds``, ``train_loss``.
    """

    network: SharedNetwork
    normalization: Normalization
    classes: tuple[str, ...]
    identity: Mapping[str, Any]
    training: Mapping[str, Any]


def save_supernet(path: Path, trained: TrainedSupernet) -> Path:
    """Write a safetensors file that says what it holds; a crash or a full disk leaves the old file.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.network.state_dict().items()}
    facts = {
        "format": FORMAT,
        "normalization": trained.normalization,
        "classes": trained.classes,
        "identity": trained.identity,
        "training": trained.training,
    }
    return write_bytes(path, save(tensors, {SUPERNET: json.dumps(facts)}))


def read_identity(path: Path) -> dict[str, Any]:
    """What made the supernet in a file.

    Raises:
        UserError: the file cannot be read, or is none of a supernet.
    """
    return dict(_read_facts(path, _read_tensors(path)[1])["identity"])


def read_supernet(path: Path, members: Members) -> TrainedSupernet:
    """Read the supernet of a space.

    Raises:
        UserError: there is no such file, it cannot be read, is none of a supernet, or of another space's.
    """
    if not is_file(path):
        raise UserError(f"evaluator.path: no such file: {path}")
    tensors, facts = _read_tensors(path)
    found = _read_facts(path, facts)
    space = found["identity"]["space"]
    if changes := describe_changes(space["members"], members.describe(), members.list_defaults()):
        theirs, ours = space["name"], members.space.name
        which = f"another space of the name {ours}" if theirs == ours else f"the space {theirs}, not of {ours}"
        raise UserError(
            f"evaluator.path: {path} is a supernet of {which}, which has other members ({changes}): give the space "
            "that it was trained on, or another path"
        )
    network = SharedNetwork(members.sizes, members.largest)
    own = network.state_dict()
    for name in (*own, *tensors):
        if name not in tensors or name not in own or tensors[name].shape != own[name].shape:
            raise UserError(f"evaluator.path: {path} is damaged: {name} is not as the supernet of its space has it")
    network.load_state_dict(tensors)
    mean, std = found["normalization"]
    return TrainedSupernet(
        network, (tuple(mean), tuple(std)), tuple(found["classes"]), found["identity"], found["training"]
    )


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        return read_tensors(path)[:2]
    except UserError as error:  # of weights
        raise UserError(f"evaluator.path: {str(error).removeprefix('weights: ')}") from None


def _read_facts(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {"normalization": list, "classes": list, "identity": dict, "training": dict}
    if SUPERNET not in facts:
        what = "weights of one network" if "effnas_architecture" in facts else "no supernet"
        raise UserError(
            f"evaluator.path: {path} holds {what}: a supernet is what evaluator=supernet has trained ({NAME}); leave "
            "evaluator.path out to train one"
        )
    try:
        found = json.loads(facts[SUPERNET])
        good = all(isinstance(found[name], kind) for name, kind in kinds.items())
        good = good and isinstance(found["identity"]["space"]["members"], dict) and len(found["normalization"]) == 2
    except (ValueError, KeyError, TypeError, RecursionError):
        found, good = {}, False
    if not good or found.get("format") != FORMAT:
        raise UserError(f"evaluator.path: the description inside {path} is damaged, or of another version of effnas")
    return dict(found)
