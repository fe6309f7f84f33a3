"""The networks of ``effnas cam``: each with its weights, a name of its own, and what its classes are called."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...space.built import BuiltNetwork
from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ...space.weights.contents import Weights
from ..arguments import as_list
from ..pretrained import read_pretrained

#: Names of classes that a message shows.
_SHOWN = 5


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights loaded.

    Args:
        name: of its column; no two are the same.
        architecture: with the weights' number of classes, at the resolution that is shown.
        weights: with a normalisation, where one is known.
        note: what was assumed of the weights, for people.
        model: the module.
    """

    name: str
    architecture: NetworkSpec
    weights: Weights
    note: str
    model: nn.Module

    def class_names(self, data_classes: tuple[str, ...]) -> tuple[str, ...] | None:
        """Of the outputs: the weights say them, or the data has as many; None where nobody knows."""
        if self.weights.classes is not None:
            return self.weights.classes
        return data_classes if len(data_classes) == self.architecture.num_classes else None

    def class_number(self, target: int | str, names: Sequence[str] | None) -> int:
        """The index of a class that is given by number or by name.

        Raises:
            UserError: there is no such class, or nobody knows its name.
        """
        last = self.architecture.num_classes - 1
        if isinstance(target, int):
            if not 0 <= target <= last:
                raise UserError(f"target must be between 0 and {last}, the classes of {self.name}, got {target}")
            return target
        if names is None:
            raise UserError(
                f"target: neither {self.weights.path} nor the data name the classes of {self.name}: give the number of "
                f"{target!r}, 0 to {last}"
            )
        if target not in names:
            near = difflib.get_close_matches(target, names, n=_SHOWN, cutoff=0.4) or names[:_SHOWN]
            raise UserError(f"target: {self.name} has no class {target!r}. Nearest are: {', '.join(near)}")
        return list(names).index(target)


def load_networks(
    weights: Any,
    architecture: Any,
    *,
    network: BuiltNetwork | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
    resolution: int | None = None,
    in_channels: int | None = None,
) -> list[LoadedNetwork]:
    """Build the networks and load their weights; arguments as :func:`~effnas.evaluate.cam.job.run_cam`.

    Raises:
        UserError: there are none, the two lists differ in length, or weights and architecture do not fit each other.
    """
    files, given = as_list(weights), as_list(architecture)
    if not files:
        raise UserError("weights: none given; use weights=FILE or weights=[FILE,FILE], one column of the figure each")
    if given and len(given) != len(files):
        raise UserError(
            f"architecture must have as many entries as weights, {len(files)}, or none where the weights name their "
            f"networks; got {len(given)}"
        )
    members: list[LoadedNetwork] = []
    for file, named in zip(files, given or [None] * len(files), strict=True):
        start = read_pretrained(
            named,
            file,
            network,
            padding=padding,
            bn_eps=bn_eps,
            resolution=resolution,
            in_channels=in_channels,
        )
        one = start.architecture
        name, same = one.name or "network", [m for m in members if m.architecture.name == one.name]
        if same:  # another training of it
            name += f" ({len(same) + 1})"
        members.append(LoadedNetwork(name, one, start.weights, start.note, start.load()))
    return members
