"""What a training begins with: the network, the images, and the weights where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..space.architecture import Architecture
from ..space.built import AnyArchitecture, BuiltNetwork, check_network
from ..space.cost import cost
from ..space.errors import UserError, check_int
from ..space.weights.needs import no_settings
from ..space.weights.weights import Normalization, Weights, read_weights, suited
from ..space.zoo import load_architecture
from .data.labelled_images import LabelledImages
from .data.load import load_split
from .data.split import Split


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

    architecture: AnyArchitecture
    split: Split
    weights: Weights | None
    smaller: Architecture | None
    keep_classifier: bool
    note: str
    normalization: Normalization | None
    identity: Mapping[str, Any]


def starting_point(
    architecture: AnyArchitecture | str | None,
    data: LabelledImages,
    weights_file: str | Path | None,
    *,
    own: BuiltNetwork | None = None,
    grow: bool = False,
    num_classes: int | str = "auto",
    resolution: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
) -> Start:
    """Put them together; arguments as :func:`~effnas.evaluate.train.job.run_train`, whose ``network`` is ``own``.

    Raises:
        UserError: something is missing, or does not fit.
    """
    weights = read_own(weights_file, architecture, own)
    network = named_architecture(architecture, weights, own)
    note, smaller = "from scratch", None
    if grow:
        smaller = _smaller(architecture, network, weights)
        note = f"grown from {weights_file}"
    elif weights is not None:
        network, weights, note = suited(network, weights, padding=padding, bn_eps=bn_eps)
    elif isinstance(network, BuiltNetwork):
        no_settings(network, padding, bn_eps)
    else:
        given = {"padding": padding, "bn_eps": bn_eps}
        network = network.with_(**{key: value for key, value in given.items() if value is not None})
    if resolution is not None:
        network = network.with_(resolution=resolution)
    normalization = None if weights is None else weights.normalization
    split = load_split(data, network.in_channels, normalization)
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
    if isinstance(network, BuiltNetwork):
        cost(network)  # what is wrong with its builder is told before the training
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


def read_own(file: str | Path | None, given: AnyArchitecture | str | None, own: BuiltNetwork | None) -> Weights | None:
    """The weights of a file, which may be of a network of the user's own builder.

    Raises:
        UserError: as :func:`~effnas.space.weights.weights.read_weights`, or ``own`` is no network.
    """
    own = check_network(own)
    return None if file is None else read_weights(file, given if isinstance(given, BuiltNetwork) else own)


def named_architecture(
    given: AnyArchitecture | str | None, weights: Weights | None, own: BuiltNetwork | None = None
) -> AnyArchitecture:
    """The network that is asked for, or else the one that the weights name, or else the user's own.

    Args:
        given: itself, a name or a file.
        weights: what was read.
        own: of the user's own builder, which a file of one of its networks needs beside it.

    Raises:
        UserError: nothing says it, or there is no such network.
    """
    if isinstance(given, Architecture | BuiltNetwork):
        return given
    if given is not None:
        return load_architecture(given, own)
    if own is not None:  # the weights' network is one of its builder, if they say it
        said = None if weights is None else weights.architecture
        return said if isinstance(said, BuiltNetwork) else own
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


def _smaller(given: AnyArchitecture | str | None, network: AnyArchitecture, weights: Weights | None) -> Architecture:
    """The network that is grown from."""
    said = None if weights is None else weights.architecture
    if isinstance(network, BuiltNetwork) or isinstance(said, BuiltNetwork):
        raise UserError("grow: networks of a builder cannot be grown; leave grow out")
    if given is None:
        raise UserError("grow: into which network? Give architecture=FILE, a larger member of the weights' family")
    if said is None:
        raise UserError("grow needs weights=FILE of effnas train, which says what network it is of")
    return said


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
