"""GoogLeNet: torchvision's, exactly; how it scales."""

import torch
from builders import NETWORKS, check_answers, check_costs, check_multipliers, check_parts, cost_of

from effnas.space.builders.googlenet import Inception, googlenet


def outputs(depth: float, width: float = 1.0) -> list[list[int]]:
    with torch.device("meta"):
        model = googlenet(depth, width, 224)
    return [[m.out_channels for m in stage if isinstance(m, Inception)] for stage in model.stages]


def test_costs_are_torchvisions():
    check_costs(NETWORKS["googlenet"], cost_of(googlenet))


def test_answers_are_torchvisions():
    check_answers("googlenet", googlenet)


def test_parts():
    check_parts(googlenet)


def test_each_multiplier_costs():
    check_multipliers(googlenet)


def test_depth():
    assert outputs(1.0) == [[256, 480], [512, 512, 512, 528, 832], [832, 1024]]
    assert outputs(0.5) == [[480], [512, 528, 832], [1024]]
    assert outputs(1.4) == [[256, 480, 480], [512, 512, 512, 528, 832, 832, 832], [832, 1024, 1024]]


def test_width():
    doubled = [[512, 960], [1024, 1024, 1024, 1056, 1664], [1664, 2048]]
    assert outputs(1.0, 2.0) == doubled
    with torch.device("meta"):
        model = googlenet(1.0, 0.5, 224)
    convs = [m.out_channels for m in model.stages[0][0].modules() if isinstance(m, torch.nn.Conv2d)]
    assert convs == [32, 48, 64, 8, 16, 16]
    assert [model.stem[i].conv.out_channels for i in (0, 2, 3)] == [32, 32, 96]


def test_dropout_before_the_classifier():
    with torch.device("meta"):
        assert googlenet(1.0, 1.0, 224).dropout.p == 0.2
