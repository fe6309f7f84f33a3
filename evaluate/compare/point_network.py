"""From a point of a figure back to the network it stands for."""

from __future__ import annotations

import json
from pathlib import Path

from ...space.built import BuiltNetwork
from ...space.errors import UserError
from ...space.files import read_text
from ...space.network_spec import NetworkSpec
from ...space.weights.weights import read_weights
from ...space.zoo import load_architecture
from ..pretrained import read_pretrained
from .points import Point


def network_of(point: Point, own: BuiltNetwork | None = None) -> NetworkSpec:
    """The architecture that a CSV row names, or that a run was of.

    Args:
        point: of a figure.
        own: a network of the user's own builder; files of its networks need it.

    Raises:
        UserError: it is not said, or is not there any more.
    """
    if point.architecture:
        return load_architecture(point.architecture, own)
    if not point.summary:
        raise UserError("its network is unknown: give the CSV file a column architecture (a zoo name or a file)")
    beside = Path(point.summary).with_name("architecture.yaml")
    if beside.is_file():
        return load_architecture(beside, own)
    found = json.loads(read_text(point.summary, "summary"))
    weights = read_weights(found["weights"], own)
    zoo_name = None if weights.architecture is not None else str(found["architecture"])
    network = read_pretrained(zoo_name, weights, resolution=found["resolution"]).architecture
    return network.with_(num_classes=found["classes"])
