"""What other implementations call the tensors of our networks.

The names are made by walking our own network, so that a scaled member of a family has its names too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, cast

from torch import nn

from .blocks import Block, ConvNormAct
from .network import Network

#: Our prefix and theirs of a convolution, a BatchNorm, a linear layer.
Pair = tuple[str, str]

_NORM = ("weight", "bias", "running_mean", "running_var")


class Format(NamedTuple):
    """One way of naming.

    Args:
        name: of the implementation.
        sign: a key that every checkpoint of it has, and no other.
        pairs: prefixes of all layers of a network.
    """

    name: str
    sign: str
    pairs: Callable[[Network], Iterator[Pair]]


def recognise(keys: Collection[str]) -> Format | None:
    """The format of a checkpoint by its keys."""
    return next((found for found in FORMATS if found.sign in keys), None)


def names(network: Network, form: Format) -> dict[str, str]:
    """Our key to theirs, for every tensor that carries the network's function."""
    modules = dict(network.named_modules())
    found = {}
    for ours, theirs in form.pairs(network):
        module = modules[ours]
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            suffixes: tuple[str, ...] = _NORM
        else:
            suffixes = ("weight",) if getattr(module, "bias", None) is None else ("weight", "bias")
        found.update({f"{ours}.{suffix}": f"{theirs}.{suffix}" for suffix in suffixes})
    return found


def _blocks(network: Network) -> Iterator[tuple[int, int, Block]]:
    for i, stage in enumerate(network.stages):
        for j, block in enumerate(cast("nn.Sequential", stage)):
            yield i, j, cast(Block, block)


def _layer(prefix: str, conv: str, norm: str) -> Iterator[Pair]:
    yield f"{prefix}.conv", conv
    yield f"{prefix}.bn", norm


def _own(network: Network) -> Iterator[Pair]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm):
            yield name, name


def _timm(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "conv_stem", "bn1")
    for i, j, block in _blocks(network):
        ours, theirs = f"stages.{i}.{j}", f"blocks.{i}.{j}"
        point = "conv_pwl" if hasattr(block, "expand") else "conv_pw"
        convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": point, "conv": "conv"}
        norms = 0
        for name, layer in block.named_children():
            if isinstance(layer, ConvNormAct):
                norms += 1
                yield from _layer(f"{ours}.{name}", f"{theirs}.{convs[name]}", f"{theirs}.bn{norms}")
            elif name == "se":
                yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
                yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
    if isinstance(network.head, ConvNormAct):
        yield from _layer("head", "conv_head", "bn2")
    yield "classifier", "classifier"


def _lukemelas(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "_conv_stem", "_bn0")
    places = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    for flat, (i, j, block) in enumerate(_blocks(network)):
        for name, layer in block.named_children():
            if isinstance(layer, ConvNormAct):
                conv, norm = places.get(name, (f"_{name}", "_bn1"))
                yield from _layer(f"stages.{i}.{j}.{name}", f"_blocks.{flat}.{conv}", f"_blocks.{flat}.{norm}")
            elif name == "se":
                yield f"stages.{i}.{j}.se.reduce", f"_blocks.{flat}._se_reduce"
                yield f"stages.{i}.{j}.se.expand", f"_blocks.{flat}._se_expand"
    if isinstance(network.head, ConvNormAct):
        yield from _layer("head", "_conv_head", "_bn1")
    yield "classifier", "_fc"


def _torchvision_efficientnet(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "features.0.0", "features.0.1")
    for i, j, block in _blocks(network):
        children = [(name, layer) for name, layer in block.named_children() if name != "drop_path"]
        for k, (name, layer) in enumerate(children):
            ours, theirs = f"stages.{i}.{j}.{name}", f"features.{i + 1}.{j}.block.{k}"
            if isinstance(layer, ConvNormAct):
                yield from _layer(ours, f"{theirs}.0", f"{theirs}.1")
            else:
                yield f"{ours}.reduce", f"{theirs}.fc1"
                yield f"{ours}.expand", f"{theirs}.fc2"
    last = f"features.{len(network.stages) + 1}"
    yield from _layer("head", f"{last}.0", f"{last}.1")
    yield "classifier", "classifier.1"


def _torchvision_mobilenet_v2(network: Network) -> Iterator[Pair]:
    yield from _layer("stem", "features.0.0", "features.0.1")
    flat = 0
    for flat, (i, j, block) in enumerate(_blocks(network), 1):
        layers = [name for name, layer in block.named_children() if isinstance(layer, ConvNormAct)]
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
        layers = [name for name, layer in block.named_children() if isinstance(layer, ConvNormAct)]
        for k, name in enumerate(layers):
            # the first stage lies flat behind the stem: convolution, BatchNorm, activation, and so on
            theirs, at = ("layers", 3 + 3 * k) if i == 0 else (f"layers.{7 + i}.{j}.layers", 3 * k)
            yield from _layer(f"stages.{i}.{j}.{name}", f"{theirs}.{at}", f"{theirs}.{at + 1}")
    last = 7 + len(network.stages)
    yield from _layer("head", f"layers.{last}", f"layers.{last + 1}")
    yield "classifier", "classifier.1"


FORMATS = (
    Format("effnas", "stem.conv.weight", _own),
    Format("timm", "conv_stem.weight", _timm),
    Format("lukemelas", "_conv_stem.weight", _lukemelas),
    Format("torchvision", "features.1.0.block.0.0.weight", _torchvision_efficientnet),
    Format("torchvision", "features.1.conv.0.0.weight", _torchvision_mobilenet_v2),
    Format("torchvision", "layers.8.0.layers.0.weight", _torchvision_mnasnet),
)
