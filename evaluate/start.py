"""What a training begins with: the network, the images, and the weights where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..space.architecture import Architecture
from ..space.errors import UserError, check_int
from ..space.weights import Weights, read_weights, suited
from ..space.zoo import load_architecture
from .data import ImageData
from .normalization import Normalization
from .parts import Split


@dataclass(frozen=True)
class Start:
    """A network that fits the images, and the weights that fit the network.

    Args:
        architecture: with the data's classes, at the resolution of the training.
        split: the images, normalised as the weights want them.
        weights: None: from scratch.
        smaller: of the weights, where the network is grown from them; None: they are its own.
        keep_classifier: the weights' classes are the data's.
        note: where the weights come from and what was assumed, for people.
        normalization: of the weights; None: of the images.
        identity: for the checkpoint: plain data.
    """

    architecture: Architecture
    split: Split
    weights: Weights | None
    smaller: Architecture | None
    keep_classifier: bool
    note: str
    normalization: Normalization | None
    identity: Mapping[str, Any]


def starting_point(
    architecture: Architecture | str | None,
    data: ImageData,
    weights_file: str | Path | None,
    *,
    grow: bool = False,
    num_classes: int | str = "auto",
    resolution: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
) -> Start:
    """Put them together; arguments as :func:`~effnas.evaluate.train_job.run_train`.

    Raises:
        UserError: something is missing, or does not fit.
    """
    weights = None if weights_file is None else read_weights(weights_file)
    network = named_architecture(architecture, weights)
    note, smaller = "from scratch", None
    if grow:
        smaller = _smaller(architecture, weights)
        note = f"grown from {weights_file}"
    elif weights is not None:
        network, weights, note = suited(network, weights, padding=padding, bn_eps=bn_eps)
    else:
        given = {"padding": padding, "bn_eps": bn_eps}
        network = network.with_(**{key: value for key, value in given.items() if value is not None})
    if resolution is not None:
        network = network.with_(resolution=resolution)
    normalization = None if weights is None else weights.normalization
    split = data.load(network.in_channels, normalization)
    count = _classes(num_classes, split)
    keep = False
    if smaller is not None and smaller.num_classes != count:
        raise UserError(
            f"grow: the weights have {smaller.num_classes} classes, the data {count}: train the smaller network on "
            "this data"
        )
    if smaller is None and weights is not None:
        keep = network.num_classes == count and weights.classes in (None, split.classes)
        note += "" if keep else f"; its {network.num_classes} classes are not the data's {count}: a fresh classifier"
    network = network.with_(num_classes=count)
    return Start(
        architecture=network,
        split=split,
        weights=weights,
        smaller=smaller,
        keep_classifier=keep,
        note=note,
        normalization=normalization,
        identity={
            "architecture": network.digest,
            "weights": None if weights is None else weights.digest,
            "grow": grow,
        },
    )


def named_architecture(given: Architecture | str | None, weights: Weights | None) -> Architecture:
    """The network that is asked for, or else the one that the weights name.

    Raises:
        UserError: neither says it, or there is no such network.
    """
    if isinstance(given, Architecture):
        return given
    if given is not None:
        return load_architecture(given)
    if weights is None:
        raise UserError(
            "architecture: which network? Give architecture=FILE (outputs/search/baseline.yaml), a name "
            "(efficientnet_b0), or weights=FILE that says it"
        )
    if weights.architecture is None:
        raise UserError(
            f"architecture: the weights ({weights.format} format) do not say which network they are of: "
            "give architecture=FILE or a name (efficientnet_b0)"
        )
    return weights.architecture


def _smaller(given: Architecture | str | None, weights: Weights | None) -> Architecture:
    """The network that is grown from."""
    if given is None:
        raise UserError("grow: into which network? Give architecture=FILE, a larger member of the weights' family")
    if weights is None or weights.architecture is None:
        raise UserError("grow needs weights=FILE of effnas train, which says what network it is of")
    return weights.architecture


def _classes(given: int | str, split: Split) -> int:
    there = len(split.classes)
    if given == "auto":
        return there
    if isinstance(given, str):
        raise UserError(f"num_classes must be auto or a whole number, got {given!r}")
    check_int("num_classes", given, 1)
    if given != there:
        raise UserError(f"num_classes must be the number of classes of the data, {there}, or auto; got {given}")
    return given
