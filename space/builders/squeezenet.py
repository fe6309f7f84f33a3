"""Builder of SqueezeNet (Iandola et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks import make_activation
from ..errors import check_choice
from ..multipliers import round_filters, round_repeats
from .convnet import ConvNet

#: Channels and kernel size of the stem, and the fire modules (squeeze, expand) between the pools: table 1 of the paper,
#: and the authors' later version at https://github.com/forresti/SqueezeNet.
_VERSIONS: dict[str, tuple[int, int, tuple[tuple[tuple[int, int], ...], ...]]] = {
    "1.0": (
        96,
        7,
        (((16, 64), (16, 64), (32, 128)), ((32, 128), (48, 192), (48, 192), (64, 256)), ((64, 256),)),
    ),
    "1.1": (
        64,
        3,
        (((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256))),
    ),
}


class Fire(nn.Module):
    """1×1 convolution to ``squeeze`` channels, then 1×1 and 3×3 ones side by side to ``expand`` each, all with ReLU."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.act = make_activation("relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, 2 · expand, h, w)."""
        x = self.act(self.squeeze(x))
        return self.act(torch.cat((self.expand1(x), self.expand3(x)), 1))  # type: ignore[no-any-return]


class SqueezeNet(ConvNet):
    """Its classifier is a 1×1 convolution of the feature map; ReLU and the mean over the map come after it.

    There is no BatchNorm, so that the start matters: He et al. 2015's uniform one (by the fan-in), for the classifier
    normal with 0.01, as in torchvision.
    """

    def __init__(self, stem: nn.Module, stages: nn.Sequential, num_features: int, num_classes: int) -> None:
        super().__init__(stem, stages, None, num_features, num_classes, dropout=0.5)
        self.act = make_activation("relu")
        for layer in (*self.stem.modules(), *self.stages.modules()):
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
        self._start_classifier()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature map to logits (n, num_classes), or with ``pre_logits`` to pooled features (n, num_features)."""
        x = self.dropout(x)
        if not pre_logits:
            x = self.act(self.classifier(x))
        return self.pool(x).flatten(1)  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier for another number of classes; 0 leaves pooled features as the output."""
        super().reset_classifier(num_classes)
        self._start_classifier()

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.num_features, num_classes, 1)

    def _start_classifier(self) -> None:
        if isinstance(self.classifier, nn.Conv2d):
            nn.init.normal_(self.classifier.weight, std=0.01)


def squeezenet(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    version: str = "1.1",
) -> SqueezeNet:
    """SqueezeNet; at depth 1 and width 1 torchvision's networks.

    ``width`` multiplies the channels of the stem and those that the fire modules squeeze and expand to
    (:func:`~effnas.space.multipliers.round_filters`; the paper's squeeze ratio stays), ``depth`` the number of fire
    modules of each of the three groups between the pools (:func:`~effnas.space.multipliers.round_repeats`): more of
    them repeat the group's last one, with fewer the first ones go, so that the width after each group stays. The
    authors scale neither; the rules are EfficientNet's.

    Args:
        depth, width: multipliers, 1 is the published network.
        resolution: of the images in pixels; the network takes any from 21 on (version 1.1: 17).
        num_classes, in_channels: of labels and images.
        version: ``1.0`` or ``1.1``, which pools earlier: 2.3 times fewer MACs for the same accuracy.

    Raises:
        UserError: a multiplier is not a positive number, or there is no such version.
    """
    check_choice("version", version, _VERSIONS)
    base, kernel_size, groups = _VERSIONS[version]
    channels = round_filters(base, width)
    stem = nn.Sequential(nn.Conv2d(in_channels, channels, kernel_size, 2), make_activation("relu"), _pool())
    stages = []
    for i, rows in enumerate(groups):
        stage: list[nn.Module] = [_pool()] if i else []
        count = round_repeats(len(rows), depth)
        for squeeze, expand in rows[-count:] + rows[-1:] * (count - len(rows)):
            stage.append(Fire(channels, round_filters(squeeze, width), round_filters(expand, width)))
            channels = 2 * round_filters(expand, width)
        stages.append(nn.Sequential(*stage))
    return SqueezeNet(stem, nn.Sequential(*stages), channels, num_classes)


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)
