"""Layers that train faster than PyTorch's own way to the same result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...space.blocks import Block, DropPath, SameConv2d, SqueezeExcite
from .depthwise import Depthwise, SameDepthwise, is_supported

#: Autograd wants the input of these: in place, they copy it first.
_COPIED_IN_PLACE = (nn.SiLU, nn.Hardswish, nn.Mish)


class FastSqueezeExcite(SqueezeExcite):
    """The mean by way of the sum: its gradient is a view of one number per channel, not a map of equal numbers.

    And in bf16 ``mean`` makes a copy in fp32 first, ``sum`` adds in fp32 without one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape."""
        gate = x.sum((2, 3), keepdim=True) * (1 / (x.shape[2] * x.shape[3]))
        gate = self.expand(self.act(self.reduce(gate)))
        return x * torch.sigmoid(gate)


class FastBlock(Block):
    """Stochastic depth and an identity shortcut in one operation."""

    def forward(self, x: Tensor) -> Tensor:
        """As :class:`~effnas.space.blocks.Block`."""
        *layers, last = self
        if self.shortcut != "identity" or not isinstance(last, DropPath) or not self.training:
            return super().forward(x)
        y = x
        for layer in layers:
            y = layer(y)
        keep = 1.0 - last.rate
        return torch.addcmul(x, y, y.new_empty((y.shape[0], 1, 1, 1)).bernoulli_(keep).div_(keep))


class Pointwise(nn.Conv2d):
    """A 1×1 convolution of a small map as the matrix product that it is, which needs no reordered kernel.

    One such layer and its gradients with AVX-512: on 1×1 maps 4 times as fast in bf16, 1.6 times in fp32; on 3×3 maps
    1.5 times in bf16, on 24×24 ones no faster; in fp32 from 3×3 on the convolution is twice as fast.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        pixels = x.shape[2] * x.shape[3]
        low = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        if pixels == 1 or (low and pixels <= 64 and x.is_contiguous(memory_format=torch.channels_last)):
            weight = self.weight.view(self.out_channels, self.in_channels)
            return functional.linear(x.permute(0, 2, 3, 1), weight, self.bias).permute(0, 3, 1, 2)
        return super().forward(x)


@contextlib.contextmanager
def fast_layers(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Exchange the layers of ``model`` while inside: the same parameters, names, function, and random numbers.

    What changes is how gradients are computed, and the order of sums in the last digits. On a CPU depthwise
    convolutions too, see :class:`~effnas.evaluate.machine.depthwise.DepthwiseConv`.
    """
    swapped: list[tuple[nn.Module, type[nn.Module]]] = []
    in_place: list[nn.Module] = []
    try:
        for layer in model.modules():
            if isinstance(layer, _COPIED_IN_PLACE) and layer.inplace:
                layer.inplace = False
                in_place.append(layer)
            kind = _faster(layer, device)
            if kind is not None:
                swapped.append((layer, type(layer)))
                layer.__class__ = kind
        yield
    finally:
        for layer, before in swapped:
            layer.__class__ = before
        for layer in in_place:
            layer.inplace = True  # type: ignore[assignment]


def exchange_for_inference(model: nn.Module, device: torch.device) -> None:
    """Exchange what is faster in inference too, and for good: ``model`` is a copy to run and throw away."""
    for layer in model.modules():
        kind = _faster(layer, device)
        if kind is Pointwise or kind is FastSqueezeExcite:
            layer.__class__ = kind


def _faster(layer: nn.Module, device: torch.device) -> type[nn.Module] | None:
    if type(layer) is SqueezeExcite:
        return FastSqueezeExcite
    if type(layer) is Block:
        return FastBlock
    if isinstance(layer, nn.Conv2d) and device.type == "cpu":
        if _pointwise(layer):
            return Pointwise
        if is_supported(layer):
            return {nn.Conv2d: Depthwise, SameConv2d: SameDepthwise}.get(type(layer))
    return None


def _pointwise(layer: nn.Conv2d) -> bool:
    plain = layer.stride == (1, 1) and layer.padding == (0, 0) and layer.dilation == (1, 1)
    return type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.groups == 1 and plain
