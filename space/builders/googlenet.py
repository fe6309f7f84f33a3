"""Builder of GoogLeNet (Szegedy et al. 2015), with BatchNorm and without auxiliary classifiers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..blocks import ConvNormAct
from ..multipliers import round_filters, round_repeats
from .convnet import ConvNet

#: Inception modules between the pools, channels of 1×1; 3×3 reduce, 3×3; 5×5 reduce, 5×5; pool projection (table 1).
_GROUPS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)

_layer = partial(ConvNormAct, activation="relu", padding="symmetric", bn_eps=1e-3, bn_momentum=0.1)


class Inception(nn.Module):
    """Four branches side by side: 1×1; 1×1 and 3×3; 1×1 and 3×3, where the paper has 5×5; 3×3 max-pool and 1×1."""

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, projected = channels
        self.branches = nn.ModuleList(
            (
                _layer(in_channels, one, 1),
                nn.Sequential(_layer(in_channels, reduce3, 1), _layer(reduce3, three, 3)),
                nn.Sequential(_layer(in_channels, reduce5, 1), _layer(reduce5, five, 3)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), _layer(in_channels, projected, 1)),
            )
        )
        self.out_channels = one + three + five + projected

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, h, w)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def googlenet(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> ConvNet:
    """GoogLeNet; at depth 1 and width 1 torchvision's without ``aux_logits``, whose 5×5 convolutions are 3×3 ones.

    ``width`` multiplies the channels of the stem and of every branch
    (:func:`~effnas.space.multipliers.round_filters`), ``depth`` the number of Inception modules of each of the three
    groups between the pools (:func:`~effnas.space.multipliers.round_repeats`): more of them repeat the group's last
    one, with fewer the first ones go, so that the width after each group stays. The paper scales neither; the rules are
    EfficientNet's.

    Args:
        depth, width: multipliers, 1 is the published network.
        resolution: of the images in pixels; the network takes any from 15 on.
        num_classes, in_channels: of labels and images.

    Raises:
        UserError: a multiplier is not a positive number.
    """
    first, channels = round_filters(64, width), round_filters(192, width)
    stem = nn.Sequential(
        _layer(in_channels, first, 7, 2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _layer(first, first, 1),
        _layer(first, channels, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    )
    stages = []
    for rows, pool in zip(_GROUPS, (0, 3, 2), strict=True):
        stage: list[nn.Module] = [nn.MaxPool2d(pool, 2, ceil_mode=True)] if pool else []
        count = round_repeats(len(rows), depth)
        for row in rows[-count:] + rows[-1:] * (count - len(rows)):
            module = Inception(channels, tuple(round_filters(n, width) for n in row))
            stage.append(module)
            channels = module.out_channels
        stages.append(nn.Sequential(*stage))
    return ConvNet(stem, nn.Sequential(*stages), None, channels, num_classes, dropout=0.2)
