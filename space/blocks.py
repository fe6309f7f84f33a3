"""The modules that networks are made of.  Shapes are (batch, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]

#: With a type, which torch's own has not.
_is_tracing: Callable[[], bool] = is_tracing

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
_NOT_IN_PLACE = ("gelu", "softplus", "tanh")


def make_activation(name: str) -> nn.Module:
    """The module of one of ``ACTIVATIONS``, in place where PyTorch can."""
    kind = _ACTIVATIONS[name]
    return kind() if name in _NOT_IN_PLACE else kind(inplace=True)


def _same_total(side: int, kernel_size: int, stride: int) -> int:
    """Pixels that TensorFlow's SAME adds along one axis, so that ⌈side/stride⌉ come out."""
    total = kernel_size - 1 - (side - 1) % stride
    return total if kernel_size >= stride else (total + abs(total)) // 2  # not below 0, and a symbol may be asked so


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: by what the input needs, the odd pixel at the bottom and right.

    What follows from the size is computed, not decided, wherever the module is traced, exported or made a graph of, so
    that the result serves every size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        rows = _same_total(x.shape[2], self.kernel_size[0], self.stride[0])
        columns = _same_total(x.shape[3], self.kernel_size[1], self.stride[1])
        top, left = rows // 2, columns // 2
        if is_scripting():
            any_size = False
        else:
            any_size = _is_tracing() or torch.compiler.is_exporting() or isinstance(x, Proxy)
        # a convolution pads both sides alike without a copy, which is up to a quarter of its time
        if any_size or rows % 2 == 1 or columns % 2 == 1:
            # as many pixels in all as the kernel may ever need, or no symbolic size would come out simple
            x = F.pad(x, (left, self.kernel_size[1] - 1 - left, top, self.kernel_size[0] - 1 - top))
            top, left = 0, 0
        return self.convolve(x, top, left)

    def convolve(self, x: Tensor, top: int, left: int) -> Tensor:
        """The convolution itself, of an input to be padded by ``top`` rows and ``left`` columns on both sides."""
        return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm and, unless ``activation`` is empty, an activation.

    ``padding`` is one of :data:`~effnas.space.architecture.PADDINGS`: k//2 on all sides, or TensorFlow's SAME, which is
    the same where the stride is 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        activation: str,
        padding: str,
        bn_eps: float,
        bn_momentum: float,
    ) -> None:
        super().__init__()
        kind = SameConv2d if padding == "same" and stride > 1 and kernel_size > 1 else nn.Conv2d
        self.conv = kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        if activation:
            self.act = make_activation(activation)


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al. 2018): mean, 1×1 to ``reduced``, activation, 1×1 back, sigmoid, product."""

    def __init__(self, channels: int, reduced: int, activation: str) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.act = make_activation(activation)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape."""
        gate = x.mean((2, 3), keepdim=True)
        gate = self.expand(self.act(self.reduce(gate)))
        return x * torch.sigmoid(gate)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, drops a sample's branch at ``rate`` and scales the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"rate={self.rate:g}"


class Block(nn.Sequential):
    """Layers in a row with a shortcut around them.

    ``shortcut`` is "none", "identity" (adds the input) or "pool" (adds the input, 3×3 average-pooled with
    ``stride``, its channels cut or zero-padded to ``out_channels``). The pool is padded by 1 on all sides, whatever
    the padding of the convolutions.
    """

    def __init__(self, shortcut: str, stride: int, out_channels: int, drop_path: float) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.stride = stride
        self.out_channels = out_channels
        self.drop_path_rate = drop_path if shortcut != "none" else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y = x
        for layer in self:
            y = layer(y)
        if self.shortcut == "none":
            return y
        if self.shortcut == "pool":
            x = F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
            missing = self.out_channels - x.shape[1]
            x = F.pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x[:, : self.out_channels]
        return y + x


def make_block(
    kind: str,
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int,
    stride: int,
    expand_ratio: int,
    reduced: int,
    skip: str,
    drop_path: float,
    activation: str,
    padding: str,
    bn_eps: float,
    bn_momentum: float,
) -> Block:
    """One block of a stage, as :class:`~effnas.space.architecture.Stage` describes it; ``reduced`` 0 means no SE."""
    eligible = skip == "pool" or (skip == "identity" and stride == 1 and in_channels == out_channels)
    block = Block(skip if eligible else "none", stride, out_channels, drop_path)

    def layer(name: str, cin: int, cout: int, kernel: int, step: int = 1, groups: int = 1, act: bool = True) -> None:
        block.add_module(
            name,
            ConvNormAct(
                cin,
                cout,
                kernel,
                step,
                groups,
                activation=activation if act else "",
                padding=padding,
                bn_eps=bn_eps,
                bn_momentum=bn_momentum,
            ),
        )

    def squeeze_excite(channels: int) -> None:
        if reduced:
            block.add_module("se", SqueezeExcite(channels, reduced, activation))

    if kind == "conv":
        layer("conv", in_channels, out_channels, kernel_size, stride)
        squeeze_excite(out_channels)
    else:
        middle = in_channels * expand_ratio
        if kind == "fused_mbconv":
            layer("expand", in_channels, middle, kernel_size, stride)
        else:
            if middle != in_channels:
                layer("expand", in_channels, middle, 1)
            layer("depthwise", middle, middle, kernel_size, stride, groups=middle)
        squeeze_excite(middle)
        layer("project", middle, out_channels, 1, act=kind == "ds")
    if block.drop_path_rate > 0:
        block.add_module("drop_path", DropPath(block.drop_path_rate))
    return block


def init_weights(module: nn.Module) -> None:
    """The official code's start: convolutions normal with variance 2 / fan-out, linear uniform ±1/√outputs, biases 0.

    The fan-out of a depthwise kernel is k·k, as in TensorFlow's shape (k, k, channels, 1).
    """
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.Conv2d):
                height, width = cast("tuple[int, int]", m.kernel_size)
                fan_out = height * width * m.out_channels // m.groups
                m.weight.normal_(0.0, (2.0 / fan_out) ** 0.5)
                if m.bias is not None:
                    m.bias.zero_()
            elif isinstance(m, nn.Linear):
                bound = m.out_features**-0.5
                m.weight.uniform_(-bound, bound)
                m.bias.zero_()
