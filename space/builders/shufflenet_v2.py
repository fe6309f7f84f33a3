"""Builder of ShuffleNetV2 (Ma et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..blocks import ConvNormAct
from ..errors import check_number
from ..multipliers import round_repeats
from .convnet import ConvNet

_layer = partial(ConvNormAct, padding="symmetric", bn_eps=1e-5, bn_momentum=0.1)


class Unit(nn.Module):
    """Half the channels pass layers, half pass by; then the halves are interleaved (figure 3 of the paper, c and d).

    With stride 2 both halves are made of the whole input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.halves = stride == 1
        self.shortcut = nn.Sequential()
        if not self.halves:
            self.shortcut.append(_layer(in_channels, in_channels, 3, stride, in_channels, activation=""))
            self.shortcut.append(_layer(in_channels, half, 1, activation="relu"))
        self.layers = nn.Sequential(
            _layer(half if self.halves else in_channels, half, 1, activation="relu"),
            _layer(half, half, 3, stride, half, activation=""),
            _layer(half, half, 1, activation="relu"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        halves = x.chunk(2, 1) if self.halves else [x, x]
        return torch.stack((self.shortcut(halves[0]), self.layers(halves[1])), 2).flatten(1, 2)


def shufflenet_v2(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    stages_out_channels: Sequence[int] = (24, 116, 232, 464, 1024),
    stages_repeats: Sequence[int] = (4, 8, 4),
) -> ConvNet:
    """ShuffleNetV2 ×1.0; at depth 1 and width 1 torchvision's network of those channels.

    ``width`` multiplies the channels of the three stages and rounds to even numbers, ``depth`` the number of units of
    each stage (:func:`~effnas.space.multipliers.round_repeats`). Stem and last convolution keep their channels, as from
    ×0.5 to ×1.5 in the paper's table 5, whose own rounding differs from this by a few channels.

    Args:
        depth, width: multipliers, 1 is the published network.
        resolution: of the images in pixels; the network takes any, from 1 on.
        num_classes, in_channels: of labels and images.
        stages_out_channels: of the stem, the three stages at width 1, and the last convolution.
        stages_repeats: units of each stage at depth 1.

    Raises:
        UserError: a multiplier is not a positive number.
    """
    check_number("width multiplier", width, 0, 1e9, open_low=True)
    first, *bases, last = stages_out_channels
    stem = nn.Sequential(_layer(in_channels, first, 3, 2, activation="relu"), nn.MaxPool2d(3, 2, 1))
    channels, stages = first, []
    for base, repeats in zip(bases, stages_repeats, strict=True):
        out = max(2, 2 * round(base * width / 2))
        stage = []
        for j in range(round_repeats(repeats, depth)):
            stage.append(Unit(channels, out, 1 if j else 2))
            channels = out
        stages.append(nn.Sequential(*stage))
    return ConvNet(stem, nn.Sequential(*stages), _layer(channels, last, 1, activation="relu"), last, num_classes)
