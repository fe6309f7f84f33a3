"""How weights and the user's network make a trained network: the one way of all commands that are given weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..space.architecture import Architecture
from ..space.builders.module import make_on_meta
from ..space.built import BuiltNetwork, check_network, find_built
from ..space.errors import UserError
from ..space.network_spec import NetworkSpec
from ..space.weights.channels import adapt_channels, count_channels
from ..space.weights.contents import Weights
from ..space.weights.fit import Fit, count_classes, fit_names
from ..space.weights.needs import adapt_network
from ..space.weights.weights import load_into, read_weights
from ..space.zoo import load_architecture
from .data.labelled_images import LabelledImages
from .data.load import load_part
from .data.split import Part


@dataclass(frozen=True)
class Pretrained:
    """A network and the weights that fit it.

    Args:
        architecture: as the weights need it, with as many classes as they have.
        weights: not loaded yet; with a normalisation, where one is known.
        note: where they come from and what was assumed, for people.
        asked_classes: what the architecture said before the weights did.
        fit: names of the network's tensors in the file.
        classes: outputs of the classifier in the file; None: it has none.
    """

    architecture: NetworkSpec
    weights: Weights
    note: str
    asked_classes: int
    fit: Fit
    classes: int | None

    def load(self) -> nn.Module:
        """The module with the weights, on the CPU.

        Raises:
            UserError: they are of another network.
        """
        module = self.architecture.module()
        load_into(module, self.weights)
        return module

    def load_part(self, data: LabelledImages, part: str) -> Part:
        """Images as the network takes them, with its classes: :func:`~effnas.evaluate.data.load.load_part`.

        Raises:
            UserError: as there.
        """
        network = self.architecture
        return load_part(
            data,
            part,
            network.in_channels,
            resolution=network.resolution,
            num_classes=network.num_classes,
            classes=self.weights.classes,
            normalization=self.weights.normalization,
        )


def read_pretrained(
    given: NetworkSpec | str | None,
    weights: Weights | str | Path | None,
    own: BuiltNetwork | None = None,
    *,
    padding: str | None = None,
    bn_eps: float | None = None,
    resolution: int | None = None,
    in_channels: int | None = None,
) -> Pretrained:
    """Read the weights and bring the architecture into agreement with them.

    Args:
        given: the network; None: the weights name it.
        weights: a file of them, or what was read.
        own: a network of the user's own builder; files of its networks need it.
        padding, bn_eps: None: as the weights' format needs them.
        resolution, in_channels: None: the architecture's. Weights for images of colour, or grey, are adapted to
            others (:func:`~effnas.space.weights.channels.adapt_channels`).

    Raises:
        UserError: there are no weights, they cannot be read, or do not say which network they are of.
    """
    read = read_weights_of(given, weights, own)
    if read is None:
        raise UserError("weights: none given; use weights=FILE (effnas train writes weights.safetensors)")
    asked = find_architecture(given, read, own)
    if in_channels is not None:
        asked = asked.with_(in_channels=in_channels)
    fit = fit_names(make_on_meta(asked.module), read)
    axes = asked.input_axes
    had = count_channels(fit, axes, read) or asked.in_channels
    network, read, note = adapt_network(asked.with_(in_channels=had), read, padding=padding, bn_eps=bn_eps)
    read, adapted = adapt_channels(fit, axes, read, asked.in_channels)
    network = network.with_(in_channels=asked.in_channels)
    note += f"; {adapted}" if adapted else ""
    classes = count_classes(fit, network, read)
    if classes is not None:
        network = network.with_(num_classes=classes)
    if resolution is not None:
        network = network.with_(resolution=resolution)
    note += f"; {fit.note}" if fit.note else ""
    return Pretrained(network, read, note, asked.num_classes, fit, classes)


def read_weights_of(
    given: NetworkSpec | str | None, weights: Weights | str | Path | None, own: BuiltNetwork | None
) -> Weights | None:
    """The weights of a file, which may be of a network of the user's own builder; what was read stays as it is.

    Raises:
        UserError: as :func:`~effnas.space.weights.weights.read_weights`, or ``own`` is not a network.
    """
    own = check_network(own)
    if weights is None or isinstance(weights, Weights):
        return weights
    named = load_architecture(given, own) if isinstance(given, str) else given
    return read_weights(weights, find_built(own, named))


def find_architecture(
    given: NetworkSpec | str | None, weights: Weights | None, own: BuiltNetwork | None = None
) -> NetworkSpec:
    """The requested network, else the one that the weights name, else the user's own.

    Args:
        given: itself, a name or a file.
        weights: what was read.
        own: a network of the user's own builder; files of its networks need it.

    Raises:
        UserError: nothing says it, or there is no such network.
    """
    if isinstance(given, Architecture | BuiltNetwork):
        return given
    if given is not None:
        return load_architecture(str(given), own)
    if own is not None:  # the weights' network is one of its builder, if they say it
        return find_built(None if weights is None else weights.architecture, own) or own
    if weights is None:
        raise UserError(
            "architecture: none given; use architecture=FILE (outputs/search/baseline.yaml), a name "
            "(efficientnet_b0), or weights=FILE that names its network"
        )
    if weights.architecture is None:
        raise UserError(
            f"architecture: the weights ({weights.format} format) do not name their network: "
            "give architecture=FILE or a name (efficientnet_b0)"
        )
    return weights.architecture
