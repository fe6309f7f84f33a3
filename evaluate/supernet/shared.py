"""The shared weights: every member of a space is a part of them.

A member is built as any network is, without memory for its weights, and computes with views of the shared tensors: the
first channels, the first blocks of a stage, the centre of a kernel (Cai et al. 2020, Once-for-All, section 3.2; without
their transformation of kernels). So what a member computes here, and what it computes when its weights are copied out,
is the same code on the same numbers.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...space.architecture import Architecture
from ...space.blocks import ConvNormAct, init_weights, make_block
from ...space.errors import UserError
from ...space.network import Network
from ...space.torch_private import is_batch_norm
from ..machine.fast_layers import fast_layers
from .members import KindSizes, Sizes, name_kind

#: Members whose modules are kept: a step of training uses a few, and some of them at every step.
KEPT = 32


@dataclass(frozen=True)
class _Part:
    """A member, and where its tensors are: its name of each, the shared one's, and its shape."""

    module: Network
    places: tuple[tuple[str, str, torch.Size], ...]


class SharedNetwork(nn.Module):
    """Weights for every member of a space.

    Each stage has a chain of blocks for each kind of block that members have there, as large as the largest of that
    kind. Called by itself it is the largest member.

    Args:
        sizes: of the space.
        largest: the member that a call of the module runs.
    """

    def __init__(self, sizes: Sizes, largest: Architecture) -> None:
        super().__init__()
        self.largest = largest
        self._norm = {"activation": "relu", "padding": "symmetric", "bn_eps": 1e-3, "bn_momentum": 0.01}
        self.stem = self._layer(sizes.in_channels, sizes.stem, 3)
        channels, stages = sizes.stem, []
        for stage in sizes.stages:
            chains = {kind: self._chain(kind, channels, stage.channels, of) for kind, of in sorted(stage.kinds.items())}
            stages.append(nn.ModuleDict(chains))
            channels = stage.channels
        self.stages = nn.Sequential(*stages)
        self.head = self._layer(channels, sizes.head, 1) if sizes.head else nn.Identity()
        self.classifier = nn.Linear(max(sizes.head, channels), sizes.num_classes)
        self._parts: dict[tuple[str, bool], _Part] = {}
        init_weights(self)

    def _layer(self, in_channels: int, out_channels: int, kernel_size: int) -> ConvNormAct:
        return ConvNormAct(in_channels, out_channels, kernel_size, **self._norm)  # type: ignore[arg-type]

    def _chain(self, kind: str, in_channels: int, channels: int, sizes: KindSizes) -> nn.Sequential:
        blocks = []
        for _ in range(sizes.repeats):
            block = make_block(
                "mbconv" if kind == "mbconv1" else kind,
                in_channels,
                channels,
                kernel_size=sizes.kernel_size,
                stride=1,
                expand_ratio=sizes.expand_ratio,
                reduced=max(1, int(in_channels * sizes.se_ratio)) if sizes.se_ratio else 0,
                skip="none",
                drop_path=0.0,
                **self._norm,  # type: ignore[arg-type]
            )
            blocks.append(block)
            in_channels = channels
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """The largest member: (n, in_channels, h, w) to logits (n, num_classes)."""
        return self.run(self.largest, x)

    def run(self, architecture: Architecture, x: Tensor, *, regularise: bool = True) -> Tensor:
        """A member's logits, with the shared weights themselves: gradients reach them.

        Args:
            architecture: of the member.
            x: images (n, in_channels, h, w), of any side.
            regularise: with the member's dropout and stochastic depth, where the module is in training mode.

        Raises:
            UserError: it is no part of these weights.
        """
        part = self._find_part(architecture, regularise)
        momentum = self.stem.bn.momentum
        for module in part.module.modules():
            if is_batch_norm(module):
                module.momentum = momentum  # type: ignore[assignment]  # the training's, for a while
        part.module.train(self.training)
        # faster gradients; where there are none, the very layers of the plain network
        fast = fast_layers(part.module, x.device) if torch.is_grad_enabled() else contextlib.nullcontext()
        with fast:
            return functional_call(part.module, self._take(part), (x,))  # type: ignore[no-any-return]

    def extract(self, architecture: Architecture) -> Network:
        """The plain network of a member, with copies of its weights, on the same device, in evaluation mode.

        Raises:
            UserError: it is no part of these weights.
        """
        network = _make_empty(architecture)
        part = _Part(network, self._find_places(network, architecture))
        network.to_empty(device=self.classifier.weight.device)
        with torch.no_grad():
            own = network.state_dict()
            for name, tensor in self._take(part).items():
                own[name].copy_(tensor)
        return network.eval()

    def parts_of(self, architecture: Architecture) -> dict[str, Tensor]:
        """Views of the shared tensors that are a member's, by its own names.

        Raises:
            UserError: it is no part of these weights.
        """
        return self._take(self._find_part(architecture, True))

    def _take(self, part: _Part) -> dict[str, Tensor]:
        shared: dict[str, Tensor] = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {own: take_part(shared[name], shape) for own, name, shape in part.places}

    def _find_part(self, architecture: Architecture, regularise: bool) -> _Part:
        key = architecture.digest, regularise
        if key not in self._parts:
            while len(self._parts) >= KEPT:
                del self._parts[next(iter(self._parts))]
            module = _make_empty(architecture if regularise else _without_noise(architecture))
            self._parts[key] = _Part(module, self._find_places(module, architecture))
        part = self._parts[key] = self._parts.pop(key)  # the last one used is the last one to go
        return part

    def _find_places(self, module: Network, architecture: Architecture) -> tuple[tuple[str, str, torch.Size], ...]:
        shared = self.state_dict()
        places = []
        for name, tensor in module.state_dict().items():
            words = name.split(".")
            if words[0] == "stages":
                words.insert(2, name_kind(architecture.stages[int(words[1])]))
            there = shared.get(".".join(words))
            if there is None or any(a > b for a, b in zip(tensor.shape, there.shape, strict=True)):
                raise UserError(f"the network {architecture.name} is no part of this supernet: it has no such {name}")
            places.append((name, ".".join(words), tensor.shape))
        return tuple(places)


def _make_empty(architecture: Architecture) -> Network:
    """Its module, without memory for its weights."""
    with torch.device("meta"):
        return architecture.module()


def _without_noise(architecture: Architecture) -> Architecture:
    return architecture.with_(dropout=0.0, drop_path=0.0)


def take_part(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A view of the first rows and columns, and of the centre of a kernel."""
    for axis, size in enumerate(shape):
        if size < tensor.shape[axis]:
            start = (tensor.shape[axis] - size) // 2 if axis > 1 else 0
            tensor = tensor.narrow(axis, start, size)
    return tensor
