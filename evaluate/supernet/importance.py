"""Channels in the order of their importance, so that the first ones are those that a narrower member should have.

A permutation of channels, undone by whatever reads them, changes nothing of what a network computes. How important a
channel is: the sum of the absolute weights that read it (Cai et al. 2020, Once-for-All, section 3.3), times the scale
that the BatchNorms which write it give it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...space.architecture import Architecture
from ...space.blocks import Block, ConvNormAct, SqueezeExcite
from ...space.network import Network


@dataclass
class _Channels:
    """The channels that some layers write and others read, in one order for all of them."""

    #: Tensors that have them along an axis.
    places: list[tuple[Tensor, int]] = field(default_factory=list)
    reading: list[Tensor] = field(default_factory=list)
    writing: list[Tensor] = field(default_factory=list)
    #: They are handed on to others by their place: their order stays.
    fixed: bool = False

    def read(self, layer: nn.Module, *, counts: bool = True) -> None:
        """By a convolution or a linear layer, along its second axis."""
        weight = _weight(layer)
        self.places.append((weight, 1))
        if counts:
            self.reading.append(weight.abs().transpose(0, 1).flatten(1).sum(1))

    def write(self, layer: ConvNormAct) -> None:
        """By a convolution with BatchNorm, along the first axis."""
        self.places.append((layer.conv.weight, 0))
        norm: Any = layer.bn
        self.places += [(t, 0) for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]
        self.writing.append(norm.weight.square())

    def gate(self, gate: SqueezeExcite) -> None:
        """Weighed by squeeze-and-excite, whose inner channels get their own order."""
        self.read(gate.reduce, counts=False)
        assert gate.expand.bias is not None
        assert gate.reduce.bias is not None
        self.places += [(gate.expand.weight, 0), (gate.expand.bias, 0)]
        inner = _Channels([(gate.reduce.weight, 0), (gate.reduce.bias, 0)])
        inner.read(gate.expand)
        inner.sort()

    def sort(self) -> None:
        """The most important first."""
        if self.fixed or not self.reading:
            return
        worth = torch.stack(self.reading).sum(0)
        if self.writing:
            scale = torch.stack(self.writing).sum(0).sqrt()
            worth = worth * scale if bool(worth.any()) else scale  # a classifier that starts at zero reads all alike
        order = worth.argsort(descending=True, stable=True)
        for tensor, axis in self.places:
            tensor.copy_(tensor.index_select(axis, order))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


@torch.no_grad()
def sort_channels(network: Network, architecture: Architecture) -> None:
    """Order the channels of ``network``, which is of ``architecture``, in place; it computes what it did.

    The blocks of a stage have one order, also where they have no shortcut: a member may end the stage after any of
    them. Where a pooled shortcut hands channels on to another number of them, their order stays.
    """
    stream, streams = _Channels(), []
    stream.write(network.stem)
    for stage in network.stages:
        blocks: Any = stage
        own = stream if blocks[0].shortcut != "none" else _Channels()
        if blocks[0].shortcut == "pool" and not _is_as_wide(blocks[0], stream):
            own = _Channels(fixed=True)
            stream.fixed = True
        for block in blocks:
            _walk_block(block, stream, own)
            if own is not stream:
                streams.append(stream)
            stream = own
    streams.append(stream)
    if architecture.head:
        assert isinstance(network.head, ConvNormAct)
        stream.read(network.head.conv)
        stream = _Channels()
        stream.write(network.head)
        streams.append(stream)
    stream.read(network.classifier)
    for each in {id(one): one for one in streams}.values():
        each.sort()


def _is_as_wide(block: Block, stream: _Channels) -> bool:
    tensor, axis = stream.places[0]
    return block.out_channels == tensor.shape[axis]


def _walk_block(block: Block, inward: _Channels, outward: _Channels) -> None:
    layers: dict[str, Any] = dict(block.named_children())
    gate = layers.get("se")
    if "conv" in layers:
        inward.read(layers["conv"].conv)
        outward.write(layers["conv"])
        if gate is not None:
            outward.gate(gate)
        return
    middle = inward
    if "expand" in layers:
        inward.read(layers["expand"].conv)
        middle = _Channels()
        middle.write(layers["expand"])
    if "depthwise" in layers:
        known = list(inward.writing)
        middle.write(layers["depthwise"])
        if middle is inward:
            inward.writing = known  # the scale of what is written, not of what a depthwise convolution makes of it
        else:
            middle.writing = middle.writing[-1:]  # the scale that is read
    if gate is not None:
        middle.gate(gate)
    middle.read(layers["project"].conv)
    outward.write(layers["project"])
    if middle is not inward:
        middle.sort()
