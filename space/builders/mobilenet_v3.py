"""Builder of MobileNetV3 (Howard et al. 2019)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Block, ConvNormAct, SqueezeExcite, make_activation
from ..errors import check_choice
from ..multipliers import round_filters, round_repeats
from .convnet import ConvNet

_Stage = tuple[int, int, tuple[tuple[int, int, bool, str], ...]]
#: Channels, stride of the first block, and blocks (kernel size, expanded channels, SE, activation): tables 1 and 2.
_STAGES: dict[str, tuple[_Stage, ...]] = {
    "large": (
        (16, 1, ((3, 16, False, "relu"),)),
        (24, 2, ((3, 64, False, "relu"), (3, 72, False, "relu"))),
        (40, 2, ((5, 72, True, "relu"), (5, 120, True, "relu"), (5, 120, True, "relu"))),
        (
            80,
            2,
            (
                (3, 240, False, "hardswish"),
                (3, 200, False, "hardswish"),
                (3, 184, False, "hardswish"),
                (3, 184, False, "hardswish"),
            ),
        ),
        (112, 1, ((3, 480, True, "hardswish"), (3, 672, True, "hardswish"))),
        (160, 2, ((5, 672, True, "hardswish"), (5, 960, True, "hardswish"), (5, 960, True, "hardswish"))),
    ),
    "small": (
        (16, 2, ((3, 16, True, "relu"),)),
        (24, 2, ((3, 72, False, "relu"), (3, 88, False, "relu"))),
        (40, 2, ((5, 96, True, "hardswish"), (5, 240, True, "hardswish"), (5, 240, True, "hardswish"))),
        (48, 1, ((5, 120, True, "hardswish"), (5, 144, True, "hardswish"))),
        (96, 2, ((5, 288, True, "hardswish"), (5, 576, True, "hardswish"), (5, 576, True, "hardswish"))),
    ),
}
#: Channels of the linear layer between the pooling and the classifier.
_LAST = {"large": 1280, "small": 1024}

_layer = partial(ConvNormAct, padding="symmetric", bn_eps=1e-3, bn_momentum=0.01)


class HardSqueezeExcite(SqueezeExcite):
    """Squeeze-and-excitation with ReLU inside and the paper's hard sigmoid, ReLU6(x + 3) / 6, as the gate."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__(channels, reduced, "relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape."""
        gate = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * functional.hardsigmoid(gate)


def mobilenet_v3(
    depth: float,
    width: float,
    resolution: int,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    size: str = "large",
) -> ConvNet:
    """MobileNetV3; at depth 1 torchvision's networks of any ``width_mult``.

    ``width`` is the multiplier of the paper's figure 5: of all channels, those inside the blocks, of the stem and of
    the last layers too, rounded to multiples of 8 (:func:`~effnas.space.multipliers.round_filters`). ``depth``, which
    the paper does not scale, multiplies the number of blocks of each stage, as in EfficientNet
    (:func:`~effnas.space.multipliers.round_repeats`); more of them repeat the stage's last one with stride 1.

    Args:
        depth, width: multipliers, 1 is the published network.
        resolution: of the images in pixels; the network takes any, from 1 on.
        num_classes, in_channels: of labels and images.
        size: ``large`` or ``small``.

    Raises:
        UserError: a multiplier is not a positive number, or there is no such size.
    """
    check_choice("size", size, _STAGES)
    channels = round_filters(16, width)
    stem = _layer(in_channels, channels, 3, 2, activation="hardswish")
    stages = []
    for base, first_stride, rows in _STAGES[size]:
        out, count = round_filters(base, width), round_repeats(len(rows), depth)
        stage = []
        for j, (kernel_size, expanded, squeeze, activation) in enumerate(
            rows[:count] + rows[-1:] * (count - len(rows))
        ):
            stride = first_stride if j == 0 else 1
            middle = round_filters(expanded, width)
            stage.append(_block(channels, middle, out, kernel_size, stride, squeeze, activation))
            channels = out
        stages.append(nn.Sequential(*stage))
    features, last = 6 * channels, round_filters(_LAST[size], width)
    return ConvNet(
        stem,
        nn.Sequential(*stages),
        _layer(channels, features, 1, activation="hardswish"),
        features,
        num_classes,
        dropout=0.2,
        neck=(nn.Sequential(nn.Linear(features, last), make_activation("hardswish")), last),
    )


def _block(
    in_channels: int, middle: int, out_channels: int, kernel_size: int, stride: int, squeeze: bool, activation: str
) -> Block:
    """Expand (where that changes the channels), depthwise, SE of a quarter of the expanded channels, project."""
    same = stride == 1 and in_channels == out_channels
    block = Block("identity" if same else "none", stride, out_channels, 0.0)
    if middle != in_channels:
        block.add_module("expand", _layer(in_channels, middle, 1, activation=activation))
    block.add_module("depthwise", _layer(middle, middle, kernel_size, stride, middle, activation=activation))
    if squeeze:
        block.add_module("se", HardSqueezeExcite(middle, round_filters(middle, 0.25)))
    block.add_module("project", _layer(middle, out_channels, 1, activation=""))
    return block
