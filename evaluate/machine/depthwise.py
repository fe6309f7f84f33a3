"""Depthwise convolutions whose gradients a CPU computes fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ...space.blocks import SameConv2d

KERNELS = (3, 5, 7)
_backward = torch.ops.aten.convolution_backward


class DepthwiseConv(torch.autograd.Function):
    """``conv2d(x, weight, None, stride, padding, 1, channels)`` with gradients that suit oneDNN, in channels-last.

    oneDNN's backward kernels for depthwise convolutions are fast for kernels at most 3 wide and, in bf16, for stride
    1; elsewhere it falls back on ones that are 10 to 50 times slower. So here

    * the gradient of the input is a forward convolution with the kernel turned around, of the output's gradient
      itself at stride 1, with zeros between its pixels at stride 2 (in bf16; fp32 has a fast kernel for stride 2);
    * the gradient of a 5 or 7 wide kernel is put together from kernels 3 wide, over shifted gradients;
    * of a kernel that is larger than the map, only the part is used that ever meets a pixel.

    Args:
        x: (n, c, h, w).
        weight: (c, 1, k, k), k in :data:`KERNELS`, of the dtype of ``x``.
        stride: 1 or 2.
        padding: k // 2, or 0 where ``x`` is padded already.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        """(n, c, ⌊(h + 2·padding − k)/stride⌋ + 1, …)."""
        margin = max(0, padding - max(x.shape[2:]) + 1) if padding else 0
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.margin = stride, padding - margin, margin
        kernel = _cut(weight, margin)
        if kernel.shape[2] == 1:  # one pixel
            return x * kernel.view(1, -1, 1, 1)
        return functional.conv2d(x, kernel, None, stride, ctx.padding, 1, x.shape[1])

    @staticmethod
    @once_differentiable  # type: ignore[misc, untyped-decorator, unused-ignore]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """The gradients of ``x`` and ``weight``."""
        x, weight = ctx.saved_tensors
        kernel, stride, padding = _cut(weight, ctx.margin), ctx.stride, ctx.padding
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _input_gradient(gradient, x, kernel, stride, padding)
        if ctx.needs_input_grad[1]:
            of_weight = _kernel_gradient(gradient, x, kernel, stride, padding)
            if ctx.margin:
                of_weight = functional.pad(of_weight, [ctx.margin] * 4)
        return of_x, of_weight, None, None


def _cut(weight: Tensor, margin: int) -> Tensor:
    return weight[:, :, margin:-margin, margin:-margin].contiguous() if margin else weight


def _input_gradient(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    size, channels = kernel.shape[2], x.shape[1]
    if size == 1:
        return gradient * kernel.view(1, -1, 1, 1)
    if stride > 1 and x.dtype == torch.float32:
        pads, mask = [padding, padding], [True, False, False]
        found = _backward(gradient, x, kernel, None, [stride] * 2, pads, [1, 1], False, [0, 0], channels, mask)
        return found[0]  # type: ignore[no-any-return]
    if stride > 1:
        rows, columns = (side + 2 * padding - size + 1 for side in x.shape[2:])  # of the output at stride 1
        spread = gradient.new_zeros((len(x), rows, columns, channels)).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    return functional.conv2d(gradient, kernel.flip(2, 3), None, 1, size - 1 - padding, 1, channels)


def _kernel_gradient(gradient: Tensor, x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    size, radius, channels = kernel.shape[2], kernel.shape[2] // 2, x.shape[1]
    if size == 1:
        return (gradient * x).sum((0, 2, 3)).view(-1, 1, 1, 1)
    low = size + (-padding % stride) - x.shape[2]  # rows that oneDNN's fast kernel lacks
    if low > 0 or x.shape[3] < 3:
        x = functional.pad(x, (0, max(0, 3 - x.shape[3]), 0, max(0, low)))
    beside = 1 if padding else 0  # columns of padding of the kernels 3 wide
    rows = (x.shape[2] + 2 * padding - size) // stride + 1
    columns = (x.shape[3] + 2 * beside - 3) // stride + 1
    below, right = rows - gradient.shape[2], columns - gradient.shape[3]
    whole = kernel.new_empty(kernel.shape)
    narrow = kernel.new_empty((channels, 1, size, 3))
    for shift, first, last in _windows(size, stride, padding):
        moved = gradient
        if shift or right or below:
            moved = functional.pad(gradient, (shift, right - shift, 0, below))
        pads, mask = [padding, beside], [False, True, False]
        part = _backward(moved, x, narrow, None, [stride] * 2, pads, [1, 1], False, [0, 0], channels, mask)[1]
        start = first - (radius - 1 if padding else 0) - stride * shift
        whole[..., first : last + 1] = part[..., start : start + last - first + 1]
    return whole


def _windows(size: int, stride: int, padding: int) -> list[tuple[int, int, int]]:
    """``(shift, first, last)``: with the gradient moved by ``shift`` columns, columns first to last come out right."""
    if not padding:
        step = 2 // stride
        return [(shift, stride * shift, stride * shift + 2) for shift in range(0, (size - 3) // stride + 1, step)]
    radius = size // 2
    centre = (0, radius - 1, radius + 1)
    if radius == 1:
        return [centre]
    shift = radius - 1 if stride == 1 else 1
    return [centre, (-shift, 0, radius - 2), (shift, radius + 2, size - 1)]


def is_supported(layer: nn.Conv2d) -> bool:
    """Whether :class:`DepthwiseConv` does what the layer does."""
    size, _ = layer.kernel_size
    return (
        layer.groups == layer.in_channels == layer.out_channels > 1
        and layer.bias is None
        and layer.kernel_size in [(k, k) for k in KERNELS]
        and layer.stride in [(1, 1), (2, 2)]
        and layer.padding == (size // 2, size // 2)
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
    )


def _convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    return DepthwiseConv.apply(x, weight, stride, padding)  # type: ignore[no-any-return, no-untyped-call]


class Depthwise(nn.Conv2d):
    """A depthwise ``nn.Conv2d`` by :class:`DepthwiseConv`."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        if self.bias is not None:  # a folded copy: nothing trains
            return super().forward(x)
        return _convolve(x, self.weight, self.stride[0], self.kernel_size[0] // 2)


class SameDepthwise(SameConv2d):
    """A depthwise :class:`~effnas.space.blocks.SameConv2d` by :class:`DepthwiseConv`."""

    def convolve(self, x: Tensor, top: int, left: int) -> Tensor:
        """One that is padded by ``top`` rows and ``left`` columns on both sides."""
        if self.bias is not None:
            return super().convolve(x, top, left)
        return _convolve(x, self.weight, self.stride[0], top)
