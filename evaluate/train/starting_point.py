"""What a training starts with: the network, the images and, if given, the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...space.architecture import Architecture
from ...space.built import BuiltNetwork
from ...space.cost import cost
from ...space.errors import UserError, check_int
from ...space.network import build
from ...space.network_spec import NetworkSpec
from ...space.weights.contents import Normalization, Weights
from ...space.weights.grow import check_growable, grow
from ...space.weights.weights import load_into
from ..data.labelled_images import LabelledImages
from ..data.load import load_split
from ..data.split import Split
from ..pretrained import Pretrained, find_architecture, read_pretrained, read_weights_of

_NOT_GROWN = "grow: networks of a builder cannot be grown; leave grow out"


@dataclass(frozen=True)
class StartingPoint:
    """A network that fits the images, and the weights that fit the network.

    Args:
        architecture: with the data's classes, at the resolution of the training.
        split: the images, normalised as the weights need.
        weights: None: from scratch.
        smaller: of the weights, where the network is grown from them; None: they are its own.
        keep_classifier: the file has a classifier, and its classes are the data's.
        note: where the weights come from and what was assumed, for people.
        identity: for the checkpoint: plain data.
    """

    architecture: NetworkSpec
    split: Split
    weights: Weights | None
    smaller: Architecture | None
    keep_classifier: bool
    note: str
    identity: Mapping[str, Any]

    @property
    def normalization(self) -> Normalization | None:
        """Of the weights; None: of the images."""
        return None if self.weights is None else self.weights.normalization

    def build(self, seed: int) -> nn.Module:
        """The module, its first weights drawn with ``seed`` where the file's do not set them.

        Raises:
            UserError: the weights are of another network, or of another family.
        """
        if self.weights is None:
            return build(self.architecture, seed)
        if self.smaller is not None:
            small = build(self.smaller)
            load_into(small, self.weights)
            return grow(small, self.smaller, check_growable(self.architecture, _NOT_GROWN), seed=seed).network
        module = build(self.architecture, seed)
        classifier = "require" if self.keep_classifier else "skip"
        load_into(module, self.weights, classifier=classifier, architecture=self.architecture)
        if not self.keep_classifier:
            # random logits of trained features are large, and what they send back undoes the features before the
            # classifier has learnt anything (so Kolesnikov et al. 2020, section 3.3, begin at zero)
            fresh = self.architecture.classifier_axes
            for name, tensor in module.state_dict().items():
                if name in fresh and tensor.ndim > 1:
                    nn.init.zeros_(tensor)
        return module


def find_starting_point(
    architecture: NetworkSpec | str | None,
    data: LabelledImages,
    weights: Weights | str | Path | None,
    *,
    own: BuiltNetwork | None = None,
    grow: bool = False,
    num_classes: int | str = "auto",
    resolution: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
    in_channels: int | None = None,
) -> StartingPoint:
    """Put them together; arguments as :func:`~effnas.evaluate.train.job.run_train`, whose ``network`` is ``own``.

    Raises:
        UserError: something is missing, or does not fit.
    """
    read = read_weights_of(architecture, weights, own)
    smaller, pretrained, note = None, None, "from scratch"
    if grow:
        network = find_architecture(architecture, read, own)
        network = network if in_channels is None else network.with_(in_channels=in_channels)
        smaller = _check_smaller(architecture, network, read)
        assert read is not None  # or there is no smaller network
        note = f"grown from {read.path}"
    elif read is not None:
        pretrained = read_pretrained(architecture, read, own, padding=padding, bn_eps=bn_eps, in_channels=in_channels)
        network, read, note = pretrained.architecture, pretrained.weights, pretrained.note
    else:
        network = find_architecture(architecture, None, own).with_settings(padding, bn_eps)
        network = network if in_channels is None else network.with_(in_channels=in_channels)
    if resolution is not None:
        network = network.with_(resolution=resolution)
    split = load_split(data, network.in_channels, None if read is None else read.normalization)
    count = _check_count(num_classes, split)
    if smaller is not None and smaller.num_classes != count:
        raise UserError(
            f"grow: the weights have {smaller.num_classes} classes, the data {count}: train the smaller network on "
            "this data"
        )
    keep = False
    if pretrained is not None:
        keep, read, said = _compare_classes(pretrained, tuple(split.classes))
        note += f"; {said}" if said else ""
    network = network.with_(num_classes=count)
    cost(network)  # what is wrong with a builder is told before the training
    return StartingPoint(
        architecture=network,
        split=split,
        weights=read,
        smaller=smaller,
        keep_classifier=keep,
        note=note,
        identity={
            "architecture": network.digest,
            "weights": None if read is None else read.digest,
            "grow": grow,
        },
    )


def _compare_classes(start: Pretrained, classes: tuple[str, ...]) -> tuple[bool, Weights, str]:
    """Whether the file's classifier is one of the data's classes; the weights, its rows in their order; and why not.

    What the architecture says of the number of classes does not matter: it may be the file's or the data's.
    """
    weights, count, named = start.weights, len(classes), start.weights.classes
    if start.classes is None:
        return False, weights, "it has no classifier: a fresh one"
    if start.classes != count:
        return False, weights, f"its {start.classes} classes are not the data's {count}: a fresh classifier"
    if named is None:
        return True, weights, "" if weights.format == "effnas" else f"its {count} classes are taken for the data's"
    if named == classes:
        return True, weights, ""
    axes = start.architecture.classifier_axes
    if sorted(named) != sorted(classes) or len(set(named)) != count or not axes:
        return (
            False,
            weights,
            (
                f"its {count} classes have other names ({_few(named)}) than the data's ({_few(classes)}): "
                "a fresh classifier"
            ),
        )
    order = torch.tensor([named.index(name) for name in classes])
    rows = {start.fit.names[own]: axis for own, axis in axes.items()}
    tensors = {
        name: tensor.index_select(rows[name], order) if name in rows else tensor
        for name, tensor in weights.tensors.items()
    }
    return True, replace(weights, tensors=tensors, classes=classes), "its classifier's rows in the data's order"


def _few(names: Sequence[str]) -> str:
    return ", ".join(f"{name:.40}" for name in names[:3]) + (", …" if len(names) > 3 else "")


def _check_smaller(given: NetworkSpec | str | None, network: NetworkSpec, weights: Weights | None) -> Architecture:
    """The network that is grown from."""
    check_growable(network, _NOT_GROWN)
    if weights is None or weights.architecture is None:
        said = None
    else:
        said = check_growable(weights.architecture, _NOT_GROWN)
    if given is None:
        raise UserError("grow needs architecture=FILE, a larger member of the weights' family")
    if said is None:
        raise UserError("grow needs weights=FILE of effnas train, which names its network")
    return said


def _check_count(given: int | str, split: Split) -> int:
    there = len(split.classes)
    if given == "auto":
        return there
    if isinstance(given, str):
        raise UserError(f"num_classes must be auto or a whole number, got {given!r}")
    check_int("num_classes", given, 1)
    if given != there:
        raise UserError(f"num_classes must be the number of classes of the data, {there}, or auto; got {given}")
    return given
