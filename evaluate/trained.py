"""A trained network as its weights and the user name it, for what measures it or looks into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..space.built import AnyArchitecture, BuiltNetwork
from ..space.errors import UserError
from ..space.weights.weights import Weights, suited
from .pretrained import named_architecture, read_own


@dataclass(frozen=True)
class Trained:
    """A network and the weights that fit it.

    Args:
        architecture: with as many classes as the weights have.
        weights: not loaded yet.
        note: where they come from and what was assumed, for people.
        num_classes: what the architecture said before the weights did.
    """

    architecture: AnyArchitecture
    weights: Weights
    note: str
    num_classes: int


def trained(
    given: AnyArchitecture | str | None,
    file: str | Path | None,
    own: BuiltNetwork | None,
    *,
    padding: str | None,
    bn_eps: float | None,
    resolution: int | None,
) -> Trained:
    """Read the weights and bring the architecture into agreement with them.

    Args:
        given: the network; None: the weights name it.
        file: of the weights.
        own: network of the user's own builder, which a file of one of its networks needs.
        padding, bn_eps: None: as the weights' format needs them.
        resolution: None: the architecture's.

    Raises:
        UserError: there are no weights, they cannot be read, or do not say which network they are of.
    """
    weights = read_own(file, given, own)
    if weights is None:
        raise UserError("weights: which ones? Give weights=FILE; effnas train writes weights.safetensors")
    found = named_architecture(given, weights, own)
    network, weights, note = suited(found, weights, padding=padding, bn_eps=bn_eps)
    matrices = [tensor for tensor in weights.tensors.values() if tensor.ndim == 2]
    if isinstance(network, BuiltNetwork):
        if weights.architecture is not None:
            network = network.with_(num_classes=weights.architecture.num_classes)
    elif len(matrices) == 1:  # the classifier's: it says how many classes there are
        network = network.with_(num_classes=len(matrices[0]))
    if resolution is not None:
        network = network.with_(resolution=resolution)
    return Trained(network, weights, note, found.num_classes)
