"""ShuffleNetV2: torchvision's, exactly; how it scales."""

import pytest
import torch
from builders import NETWORKS, check_answers, check_costs, check_multipliers, check_parts, cost_of

from effnas.space.builders.shufflenet_v2 import shufflenet_v2

CHANNELS = {
    "shufflenet_v2_x0_5": (24, 48, 96, 192, 1024),
    "shufflenet_v2_x1_0": (24, 116, 232, 464, 1024),
    "shufflenet_v2_x1_5": (24, 176, 352, 704, 1024),
    "shufflenet_v2_x2_0": (24, 244, 488, 976, 2048),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_costs_are_torchvisions(name):
    check_costs(NETWORKS[name], cost_of(shufflenet_v2, stages_out_channels=CHANNELS[name]))


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0"])
def test_answers_are_torchvisions(name):
    check_answers(name, shufflenet_v2, stages_out_channels=CHANNELS[name])


def test_parts():
    check_parts(shufflenet_v2)


def test_each_multiplier_costs():
    check_multipliers(shufflenet_v2)


def test_the_default_is_the_base():
    check_costs(NETWORKS["shufflenet_v2_x1_0"], cost_of(shufflenet_v2))


@pytest.mark.parametrize(
    ("width", "expected"),
    [(0.5, [58, 116, 232]), (1.3, [150, 302, 604]), (0.001, [2, 2, 2])],  # of 150.8, 301.6, 603.2
)
def test_widths_are_even(width, expected):
    with torch.device("meta"):
        model = shufflenet_v2(1.0, width, 224)
        found = [2 * stage[0].layers[2].conv.out_channels for stage in model.stages]
    assert found == expected
    assert (model.stem[0].conv.out_channels, model.num_features) == (24, 1024)


def test_depth():
    with torch.device("meta"):
        model = shufflenet_v2(1.3, 1.0, 224)
    assert [len(stage) for stage in model.stages] == [6, 11, 6]
