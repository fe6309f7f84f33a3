"""What a weights file holds; torch-free, as ``needs`` is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..network_spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor

#: Entry of a file of shared weights, which describes them: they are no one network's.
SUPERNET = "effnas_supernet"
#: Mean and standard deviation of each channel, in units of 0 to 255.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Weights:
    """The content of a weights file.

    Args:
        path: of the file.
        tensors: by the names that the file has.
        format: ``effnas``, ``timm``, ``torchvision`` or ``lukemelas``; ``own`` where the names are those of a builder's
            network and the file says nothing about itself.
        architecture: of the network, where the file says it (ours do).
        normalization: that the images need, where the file (or timm's ``config.json`` beside it) says it.
        classes: names, where the file says them.
        model: timm's name of the network, as the checkpoint, ``config.json`` or else the file's name has it.
        entry: of a checkpoint that the tensors are, and whether that is an average; empty: all of the file.
        digest: 16 hexadecimal digits that identify the file's content.
        eps_carried: whether running variances have been changed so that they compute the same with the network's eps.
    """

    path: str
    tensors: Mapping[str, Tensor]
    format: str
    architecture: NetworkSpec | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] | None = None
    model: str = ""
    entry: str = ""
    digest: str = ""
    eps_carried: bool = False
