"""What other implementations call the tensors of our networks.

The names are made by walking our own network, so that a scaled member of a family has its names too; those of the
zoo's builders are in :mod:`~effnas.space.weights.zoo_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

from torch import nn

from ..blocks import Block, ConvNormAct
from ..builders.convnet import ConvNet
from ..errors import UserError
from ..network import Network
from ..stage import BLOCKS
from .zoo_names import BUILDERS, Pair


class Format(NamedTuple):
    """One way of naming.

    Args:
        name: of the implementation.
        sign: a key that every checkpoint of it has, and no other.
        pairs: prefixes of all layers of a network.
        blocks: kinds that it has names for; of a builder's network, what its blocks are.
        se: whether it has names for squeeze-and-excitation.
        network: what it names, where that is a builder's of the zoo.
        left_out: beginnings of names of what our network has not, and the logits do not need.
    """

    name: str
    sign: str
    pairs: Callable[[Any], Iterator[Pair]]
    blocks: tuple[str, ...] = ("mbconv",)
    se: bool = True
    network: type[nn.Module] | None = None
    left_out: tuple[str, ...] = ()

    def names(self, module: nn.Module) -> bool:
        """Whether it has names for networks of this kind."""
        if self.network is None:
            return isinstance(module, Network)
        return isinstance(module, ConvNet) and any(isinstance(layer, self.network) for layer in module.modules())


def recognise_format(keys: Iterable[str]) -> Format | None:
    """The format of a checkpoint by its keys, whatever a wrapper puts before them."""
    keys = list(keys)
    tails = {".".join(parts[i:]) for parts in (key.split(".") for key in keys) for i in range(len(parts))}
    return next((found for found in FORMATS if found.sign in tails), None)


def map_names(network: nn.Module, form: Format) -> dict[str, str]:
    """Our key to theirs, for every tensor that carries the network's function.

    Raises:
        UserError: the network has blocks that the format has no names for.
    """
    if isinstance(network, Network):
        _check_blocks(network, form)
    prefixes = dict(form.pairs(network))
    keys = [key.rpartition(".") for key in network.state_dict()]
    return {f"{p}.{end}": f"{prefixes[p]}.{end}" for p, _, end in keys if end != "num_batches_tracked"}


def _check_blocks(network: Network, form: Format) -> None:
    for i, _, block in _blocks(network):
        kind = _name_kind(block)
        if kind not in form.blocks or (hasattr(block, "se") and not form.se):
            has = "squeeze-and-excitation" if kind in form.blocks else f"{kind} blocks"
            raise UserError(
                f"weights: stage {i} of the network has {has}: {form.name} has no such network under these names"
            )


def _name_kind(block: Block) -> str:
    if hasattr(block, "conv"):
        return "conv"
    if not hasattr(block, "depthwise"):
        return "fused_mbconv"
    return "ds" if hasattr(block.project, "act") else "mbconv"


def _blocks(network: Network) -> Iterator[tuple[int, int, Block]]:
    for i, stage in enumerate(network.stages):
        for j, block in enumerate(cast("Iterable[Block]", stage)):
            yield i, j, block


def _layers(block: Block) -> list[str]:
    return [name for name, layer in block.named_children() if isinstance(layer, ConvNormAct)]


def _layer(prefix: str, conv: str, norm: str) -> Iterator[Pair]:
    yield f"{prefix}.conv", conv
    yield f"{prefix}.bn", norm


def _own(network: Network) -> Iterator[Pair]:
    for name, _ in network.named_modules():
        yield name, name


def _timm(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "conv_stem", "bn1")
    for i, j, block in _blocks(network):
        ours, theirs = f"stages.{i}.{j}", f"blocks.{i}.{j}"
        point = "conv_pwl" if hasattr(block, "expand") else "conv_pw"
        wide = "conv_pw" if hasattr(block, "depthwise") else "conv_exp"
        convs = {"expand": wide, "depthwise": "conv_dw", "project": point, "conv": "conv"}
        for k, name in enumerate(_layers(block), 1):
            yield from _layer(f"{ours}.{name}", f"{theirs}.{convs[name]}", f"{theirs}.bn{k}")
        yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
        yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
    yield from _layer("head", "conv_head", "bn2")
    yield "classifier", "classifier"


def _lukemelas(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "_conv_stem", "_bn0")
    for flat, (i, j, _) in enumerate(_blocks(network)):
        ours, theirs = f"stages.{i}.{j}", f"_blocks.{flat}"
        for k, name in enumerate(("expand", "depthwise", "project")):
            yield from _layer(f"{ours}.{name}", f"{theirs}._{name}_conv", f"{theirs}._bn{k}")
        yield f"{ours}.se.reduce", f"{theirs}._se_reduce"
        yield f"{ours}.se.expand", f"{theirs}._se_expand"
    yield from _layer("head", "_conv_head", "_bn1")
    yield "classifier", "_fc"


def _torchvision_efficientnet(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "features.0.0", "features.0.1")
    for i, j, block in _blocks(network):
        for k, (name, _) in enumerate(block.named_children()):
            ours, theirs = f"stages.{i}.{j}.{name}", f"features.{i + 1}.{j}.block.{k}"
            if name == "se":
                yield f"{ours}.reduce", f"{theirs}.fc1"
                yield f"{ours}.expand", f"{theirs}.fc2"
            else:
                yield from _layer(ours, f"{theirs}.0", f"{theirs}.1")
    last = f"features.{len(network.stages) + 1}"
    yield from _layer("head", f"{last}.0", f"{last}.1")
    yield "classifier", "classifier.1"


def _torchvision_mobilenet_v2(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "features.0.0", "features.0.1")
    flat = 0
    for flat, (i, j, block) in enumerate(_blocks(network), 1):
        layers = _layers(block)
        for k, name in enumerate(layers):
            ours, theirs = f"stages.{i}.{j}.{name}", f"features.{flat}.conv"
            if k < len(layers) - 1:
                yield from _layer(ours, f"{theirs}.{k}.0", f"{theirs}.{k}.1")
            else:
                yield from _layer(ours, f"{theirs}.{k}", f"{theirs}.{k + 1}")
    yield from _layer("head", f"features.{flat + 1}.0", f"features.{flat + 1}.1")
    yield "classifier", "classifier.1"


def _torchvision_mnasnet(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "layers.0", "layers.1")
    for i, j, block in _blocks(network):
        # the first block lies flat behind the stem: convolution, BatchNorm, activation, and so on
        theirs, at = ("layers", 3) if (i, j) == (0, 0) else (f"layers.{7 + i}.{j}.layers", 0)
        for k, name in enumerate(_layers(block)):
            yield from _layer(f"stages.{i}.{j}.{name}", f"{theirs}.{at + 3 * k}", f"{theirs}.{at + 3 * k + 1}")
    last = 7 + len(network.stages)
    yield from _layer("head", f"layers.{last}", f"layers.{last + 1}")
    yield "classifier", "classifier.1"


#: Of its EfficientNets; the fused blocks of V2 are ``conv`` where they do not expand.
_OF_TORCHVISION = ("conv", "mbconv", "fused_mbconv")
_BUILT = tuple(Format(name, sign, pairs, network=block, left_out=rest) for name, sign, pairs, block, rest in BUILDERS)
FORMATS = (
    Format("effnas", "stem.conv.weight", _own, BLOCKS),
    *(form for form in _BUILT if form.name == "timm"),  # before its networks without a bias in their last convolution
    Format("timm", "conv_stem.weight", _timm, BLOCKS),
    Format("lukemelas", "_conv_stem.weight", _lukemelas),
    Format("torchvision", "features.1.0.block.0.0.weight", _torchvision_efficientnet, _OF_TORCHVISION),
    Format("torchvision", "features.1.conv.0.0.weight", _torchvision_mobilenet_v2, se=False),
    Format("torchvision", "layers.8.0.layers.0.weight", _torchvision_mnasnet, se=False),
    *(form for form in _BUILT if form.name != "timm"),
)
