"""What torchvision and timm call the tensors of the networks that the zoo's builders make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ..blocks import Block, SqueezeExcite
from ..builders.googlenet import Inception
from ..builders.resnet import Residual
from ..builders.shufflenet_v2 import Unit
from ..builders.squeezenet import Fire

#: Our prefix and theirs of a convolution, a BatchNorm, a linear layer.
Pair = tuple[str, str]


def _blocks(network: Any, kind: type[nn.Module]) -> Iterator[tuple[int, int, Any]]:
    """Stage, place among the stage's blocks, and block; pools between them do not count."""
    for i, stage in enumerate(network.stages):
        for j, block in enumerate(layer for layer in stage if isinstance(layer, kind)):
            yield i, j, block


def _path(network: nn.Module, part: nn.Module) -> str:
    return next(str(name) for name, module in network.named_modules() if module is part)


def _layer(prefix: str, conv: str, norm: str) -> Iterator[Pair]:
    yield f"{prefix}.conv", conv
    yield f"{prefix}.bn", norm


def _resnet(network: Any) -> Iterator[Pair]:
    yield from _layer("stem.0", "conv1", "bn1")
    for i, j, block in _blocks(network, Residual):
        ours, theirs = f"stages.{i}.{j}", f"layer{i + 1}.{j}"
        for k, part in enumerate(block.layers):
            if isinstance(part, SqueezeExcite):
                yield f"{ours}.layers.{k}.reduce", f"{theirs}.se.fc1"
                yield f"{ours}.layers.{k}.expand", f"{theirs}.se.fc2"
            else:
                yield from _layer(f"{ours}.layers.{k}", f"{theirs}.conv{k + 1}", f"{theirs}.bn{k + 1}")
        yield from _layer(f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    yield "classifier", "fc"


def _timm_mobilenet_v3(network: Any) -> Iterator[Pair]:
    yield from _layer("stem", "conv_stem", "bn1")
    for i, j, block in _blocks(network, Block):
        ours, theirs = f"stages.{i}.{j}", f"blocks.{i}.{j}"
        expanded = hasattr(block, "expand")
        convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl" if expanded else "conv_pw"}
        for k, name in enumerate((name for name in convs if hasattr(block, name)), 1):
            yield from _layer(f"{ours}.{name}", f"{theirs}.{convs[name]}", f"{theirs}.bn{k}")
        yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
        yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
    last = f"blocks.{len(network.stages)}.0"
    yield from _layer("head", f"{last}.conv", f"{last}.bn1")
    yield "neck.0", "conv_head"
    yield "classifier", "classifier"


def _mobilenet_v3(network: Any) -> Iterator[Pair]:
    yield from _layer("stem", "features.0.0", "features.0.1")
    flat = 0
    for flat, (i, j, block) in enumerate(_blocks(network, Block), 1):
        for k, (name, _) in enumerate(block.named_children()):
            ours, theirs = f"stages.{i}.{j}.{name}", f"features.{flat}.block.{k}"
            if name == "se":
                yield f"{ours}.reduce", f"{theirs}.fc1"
                yield f"{ours}.expand", f"{theirs}.fc2"
            else:
                yield from _layer(ours, f"{theirs}.0", f"{theirs}.1")
    yield from _layer("head", f"features.{flat + 1}.0", f"features.{flat + 1}.1")
    yield "neck.0", "classifier.0"
    yield "classifier", "classifier.3"


def _shufflenet_v2(network: Any) -> Iterator[Pair]:
    yield from _layer("stem.0", "conv1.0", "conv1.1")
    for i, j, _ in _blocks(network, Unit):
        ours, theirs = f"stages.{i}.{j}", f"stage{i + 2}.{j}"
        for branch, name, places in ((1, "shortcut", (0, 2)), (2, "layers", (0, 3, 5))):
            for k, place in enumerate(places):  # convolution, BatchNorm and, not after the depthwise one, ReLU
                yield from _layer(
                    f"{ours}.{name}.{k}", f"{theirs}.branch{branch}.{place}", f"{theirs}.branch{branch}.{place + 1}"
                )
    yield from _layer("head", "conv5.0", "conv5.1")
    yield "classifier", "fc"


def _squeezenet(network: Any) -> Iterator[Pair]:
    yield "stem.0", "features.0"
    flat = 3  # after the stem's convolution, ReLU and pool
    for i, stage in enumerate(network.stages):
        for j, part in enumerate(stage):
            if isinstance(part, Fire):
                for ours, theirs in (("squeeze", "squeeze"), ("expand1", "expand1x1"), ("expand3", "expand3x3")):
                    yield f"stages.{i}.{j}.{ours}", f"features.{flat}.{theirs}"
            flat += 1
    yield "classifier", "classifier.1"


def _googlenet(network: Any) -> Iterator[Pair]:
    for ours, theirs in (("stem.0", "conv1"), ("stem.2", "conv2"), ("stem.3", "conv3")):
        yield from _layer(ours, f"{theirs}.conv", f"{theirs}.bn")
    for i, j, block in _blocks(network, Inception):
        theirs = f"inception{i + 3}{chr(ord('a') + j)}"
        for b, branch in enumerate(block.branches):
            for name, layer in branch.named_modules():
                if hasattr(layer, "conv") and hasattr(layer, "bn"):
                    path, tail = _path(network, layer), f".{name}" if name else ""
                    yield from _layer(path, f"{theirs}.branch{b + 1}{tail}.conv", f"{theirs}.branch{b + 1}{tail}.bn")
    yield "classifier", "fc"


#: Implementation, a key of every checkpoint, names, our block, and beginnings of names that are left out: GoogLeNet's
#: auxiliary classifiers, which serve its training alone.
BUILDERS: tuple[tuple[str, str, Callable[[Any], Iterator[Pair]], type[nn.Module], tuple[str, ...]], ...] = (
    ("timm", "conv_head.bias", _timm_mobilenet_v3, Block, ()),
    ("timm", "layer1.0.se.fc1.weight", _resnet, Residual, ()),
    ("torchvision", "layer1.0.conv1.weight", _resnet, Residual, ()),
    ("torchvision", "features.1.block.0.0.weight", _mobilenet_v3, Block, ()),
    ("torchvision", "stage2.0.branch1.0.weight", _shufflenet_v2, Unit, ()),
    ("torchvision", "features.3.squeeze.weight", _squeezenet, Fire, ()),
    ("torchvision", "inception3a.branch1.conv.weight", _googlenet, Inception, ("aux1.", "aux2.")),
)
