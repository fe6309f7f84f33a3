"""A supernet whose largest member begins with weights that were trained elsewhere."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch

from ...space.errors import UserError
from ...space.network import Network
from ..data.labelled_images import LabelledImages
from ..train.starting_point import StartingPoint, find_starting_point
from .importance import sort_channels
from .members import Members
from .shared import SharedNetwork


def find_start(members: Members, data: LabelledImages, weights: str | Path) -> StartingPoint:
    """The largest member with the weights of a file, and the images as these need them.

    Args:
        members: of the space.
        data: the images.
        weights: a file of any format that :func:`~effnas.space.weights.weights.read_weights` reads.

    Raises:
        UserError: the file cannot be read, is of another network than the largest member, or needs settings that the
            space does not have.
    """
    largest = members.largest
    try:
        start = find_starting_point(largest, data, weights)
    except UserError as error:
        raise UserError(f"evaluator.weights: {error}") from None
    start.split.check(largest)
    names = [f.name for f in fields(largest) if f.name not in ("name", "stages")]
    pairs = {name: (getattr(start.architecture, name), getattr(largest, name)) for name in names}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if changes:
        needs = ", ".join(f"{name} {needed} (the space has {has})" for name, (needed, has) in changes.items())
        settings = " ".join(f"space.{name}={needed}" for name, (needed, _) in changes.items())
        raise UserError(f"evaluator.weights: {weights} needs {needs}: set {settings}")
    return start


def begin_with(network: SharedNetwork, members: Members, start: StartingPoint, seed: int) -> None:
    """Give the largest member's part of ``network`` the weights, its channels in the order of their importance.

    What the largest member does not use (other types of blocks) stays as it is. A classifier of other classes begins at
    zero.

    Raises:
        UserError: the weights are of another network.
    """
    try:
        module = start.build(seed)
    except UserError as error:
        raise UserError(
            f"evaluator.weights: they must be of the largest member of the space {members.space.name}: {error}"
        ) from None
    assert isinstance(module, Network)
    sort_channels(module, members.largest)
    with torch.no_grad():
        for name, part in network.parts_of(members.largest).items():
            part.copy_(module.state_dict()[name])
