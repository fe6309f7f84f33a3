"""MobileNetV3: torchvision's, exactly, at any width; how its depth scales."""

import pytest
import torch
from builders import NETWORKS, SCALED, check_answers, check_costs, check_multipliers, check_parts, cost_of
from torch import nn

from effnas.space.builders.mobilenet_v3 import mobilenet_v3
from effnas.space.errors import UserError

SIZES = ("large", "small")


@pytest.mark.parametrize("size", SIZES)
def test_costs_are_torchvisions(size):
    check_costs(NETWORKS[f"mobilenet_v3_{size}"], cost_of(mobilenet_v3, size=size))


@pytest.mark.parametrize("size", SIZES)
def test_answers_are_torchvisions(size):
    check_answers(f"mobilenet_v3_{size}", mobilenet_v3, size=size)


@pytest.mark.parametrize("width", [0.35, 0.75, 1.25, 2.0])
@pytest.mark.parametrize("size", SIZES)
def test_widths_are_torchvisions(size, width):
    check_costs(SCALED[f"mobilenet_v3_{size} width={width}"], cost_of(mobilenet_v3, width=width, size=size))


@pytest.mark.parametrize("size", SIZES)
def test_parts(size):
    check_parts(mobilenet_v3, size=size)


@pytest.mark.parametrize("size", SIZES)
def test_each_multiplier_costs(size):
    check_multipliers(mobilenet_v3, size=size)


@pytest.mark.parametrize(
    ("depth", "large", "small"),
    [
        (0.5, [1, 1, 2, 2, 1, 2], [1, 1, 2, 1, 2]),
        (1.0, [1, 2, 3, 4, 2, 3], [1, 2, 3, 2, 3]),
        (1.4, [2, 3, 5, 6, 3, 5], [2, 3, 5, 3, 5]),
    ],
)
def test_depth(depth, large, small):
    with torch.device("meta"):
        assert [len(stage) for stage in mobilenet_v3(depth, 1.0, 224).stages] == large
        assert [len(stage) for stage in mobilenet_v3(depth, 1.0, 224, size="small").stages] == small


def test_more_blocks_repeat_the_last_one():
    with torch.device("meta"):
        first, third = (mobilenet_v3(2.0, 1.0, 224, size="small").stages[i] for i in (0, 2))
    strides = [block.depthwise.conv.stride[0] for block in (*first, *third)]
    assert strides == [2, 1, 2, 1, 1, 1, 1, 1]
    assert [block.depthwise.conv.out_channels for block in third] == [96, 240, 240, 240, 240, 240]
    assert [block.shortcut for block in third] == ["none"] + ["identity"] * 5


def test_dropout_before_the_classifier():
    model = mobilenet_v3(0.5, 0.25, 32, num_classes=4)
    assert (model.dropout.p, model.classifier.in_features) == (0.2, 320)
    assert isinstance(model.neck[1], nn.Hardswish)


def test_no_such_size():
    with pytest.raises(UserError, match=r"size: unknown 'larger'\. Did you mean 'large'\? Choose one of: large, small"):
        mobilenet_v3(1.0, 1.0, 224, size="larger")
