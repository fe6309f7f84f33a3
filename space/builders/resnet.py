"""Builders of ResNet (He et al. 2016), also with wide bottlenecks or squeeze-and-excitation, and of wide ResNets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ..blocks import ConvNormAct, SqueezeExcite, make_activation
from ..multipliers import round_filters, round_repeats
from .convnet import ConvNet

_layer = partial(ConvNormAct, activation="relu", padding="symmetric", bn_eps=1e-5, bn_momentum=0.1)
_linear_layer = partial(ConvNormAct, activation="", padding="symmetric", bn_eps=1e-5, bn_momentum=0.1)


class Residual(nn.Module):
    """A basic (two 3×3) or bottleneck (1×1, 3×3, 1×1) block: its layers plus the input, then ReLU.

    The bottleneck's stride is in the 3×3 convolution, as torchvision has it ("v1.5"). Where the shape changes, the
    input passes a 1×1 convolution with BatchNorm. ``reduced`` 0 means no squeeze-and-excitation, which otherwise is
    the last thing before the sum (Hu et al. 2018, figure 3).
    """

    def __init__(
        self, in_channels: int, middle: int, out_channels: int, stride: int, *, bottleneck: bool, reduced: int
    ) -> None:
        super().__init__()
        if bottleneck:
            layers: list[nn.Module] = [
                _layer(in_channels, middle, 1),
                _layer(middle, middle, 3, stride),
                _linear_layer(middle, out_channels, 1),
            ]
        else:
            layers = [_layer(in_channels, middle, 3, stride), _linear_layer(middle, out_channels, 3)]
        if reduced:
            layers.append(SqueezeExcite(out_channels, reduced, "relu"))
        self.layers = nn.Sequential(*layers)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else _linear_layer(in_channels, out_channels, 1, stride)
        self.act = make_activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        return self.act(self.layers(x) + self.shortcut(x))  # type: ignore[no-any-return]


def resnet(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    blocks: Sequence[int] = (3, 4, 6, 3),
    bottleneck: bool = True,
    base_width: int = 64,
    se_ratio: float = 0.0,
) -> ConvNet:
    """ResNet-50, and by its options its relatives; at depth 1 and width 1 torchvision's networks.

    ``depth`` multiplies the number of blocks of each stage (:func:`~effnas.space.multipliers.round_repeats`), ``width``
    the channels of stem and stages (:func:`~effnas.space.multipliers.round_filters`): the rules by which the
    EfficientNet paper scales ResNet-50 in its Table 3.

    Args:
        depth, width: multipliers, 1 is the published network.
        resolution: of the images in pixels; the network takes any, from 1 on.
        num_classes, in_channels: of labels and images.
        blocks: of each stage at depth 1: (2, 2, 2, 2) for ResNet-18, (3, 4, 6, 3) for 34 and 50, (3, 4, 23, 3) for
            101, (3, 8, 36, 3) for 152 (He et al. 2016, table 1).
        bottleneck: blocks of three layers with 4 times the channels at their end, else of two.
        base_width: channels inside a block of the first stage at width 1; 128 makes torchvision's wide_resnet50_2.
        se_ratio: squeezed channels over channels of the block's output, 1/16 in Hu et al. 2018; 0: without.

    Raises:
        UserError: a multiplier is not a positive number.
    """
    stem = round_filters(64, width)
    channels, stages = stem, []
    for i, count in enumerate(blocks):
        planes = round_filters(64 * 2**i, width)
        out = 4 * planes if bottleneck else planes
        stage = []
        for j in range(round_repeats(count, depth)):
            block = Residual(
                channels,
                max(1, planes * base_width // 64),
                out,
                2 if i > 0 and j == 0 else 1,
                bottleneck=bottleneck,
                reduced=max(1, int(out * se_ratio)) if se_ratio else 0,
            )
            stage.append(block)
            channels = out
        stages.append(nn.Sequential(*stage))
    first = nn.Sequential(_layer(in_channels, stem, 7, 2), nn.MaxPool2d(3, 2, 1))
    return ConvNet(first, nn.Sequential(*stages), None, channels, num_classes)


class PreActivation(nn.Module):
    """A block of BatchNorm, ReLU, 3×3 convolution, twice (He et al. 2016b), with dropout before the second convolution.

    Where the shape changes, the shortcut is a 1×1 convolution of what the first BatchNorm and ReLU made.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(in_channels), make_activation("relu"))
        self.layers = nn.Sequential(
            _layer(in_channels, out_channels, 3, stride),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y = self.before(x)
        return self.layers(y) + (x if self.shortcut is None else self.shortcut(y))  # type: ignore[no-any-return]


def wide_resnet(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    blocks: int = 4,
    widening: int = 10,
    dropout: float = 0.0,
) -> ConvNet:
    """WRN-28-10 for images of 32 pixels, with pre-activation (Zagoruyko & Komodakis 2016, table 1).

    ``depth`` multiplies the blocks of each of the three groups (WRN-n has (n - 4) / 6 of them), ``width`` the widening
    factor; as in the paper, the stem's 16 channels stay. Widths are rounded by
    :func:`~effnas.space.multipliers.round_filters`.

    Args:
        depth, width: multipliers, 1 is the published network.
        resolution: of the images in pixels; the network takes any, from 1 on.
        num_classes, in_channels: of labels and images.
        blocks: of each group at depth 1.
        widening: the paper's k at width 1.
        dropout: rate between the two convolutions of a block; the paper tries 0 and 0.3.

    Raises:
        UserError: a multiplier is not a positive number.
    """
    channels, stages = 16, []
    for i in range(3):
        out = round_filters(16 * 2**i * widening, width)
        stage = []
        for j in range(round_repeats(blocks, depth)):
            stage.append(PreActivation(channels, out, 2 if i > 0 and j == 0 else 1, dropout))
            channels = out
        stages.append(nn.Sequential(*stage))
    stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
    head = nn.Sequential(nn.BatchNorm2d(channels), make_activation("relu"))
    return ConvNet(stem, nn.Sequential(*stages), head, channels, num_classes)
