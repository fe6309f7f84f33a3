"""SqueezeNet: torchvision's, exactly; how it scales."""

import pytest
import torch
from builders import NETWORKS, check_answers, check_costs, check_multipliers, check_parts, cost_of
from torch import nn

from effnas.space.builders.squeezenet import Fire, squeezenet
from effnas.space.errors import UserError

VERSIONS = ("1.0", "1.1")


def golden(version: str) -> str:
    return f"squeezenet{version.replace('.', '_')}"


def expands(depth: float, version: str, width: float = 1.0) -> list[list[int]]:
    with torch.device("meta"):
        model = squeezenet(depth, width, 224, version=version)
    return [[fire.expand3.out_channels for fire in stage if isinstance(fire, Fire)] for stage in model.stages]


@pytest.mark.parametrize("version", VERSIONS)
def test_costs_are_torchvisions(version):
    check_costs(NETWORKS[golden(version)], cost_of(squeezenet, version=version))


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_are_torchvisions(version):
    check_answers(golden(version), squeezenet, version=version)


@pytest.mark.parametrize("version", VERSIONS)
def test_parts(version):
    check_parts(squeezenet, classifier=nn.Conv2d, version=version)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_multiplier_costs(version):
    check_multipliers(squeezenet, version=version)


def test_depth():
    assert expands(0.5, "1.0") == [[64, 128], [192, 256], [256]]
    assert expands(1.5, "1.0") == [[64, 64, 128, 128, 128], [128, 192, 192, 256, 256, 256], [256, 256]]
    assert expands(0.5, "1.1") == [[64], [128], [256, 256]]


def test_width():
    assert expands(1.0, "1.1", 1.2) == [[80, 80], [152, 152], [232, 232, 304, 304]]  # of 76.8, 153.6, 230.4, 307.2
    with torch.device("meta"):
        model = squeezenet(1.0, 2.0, 224)
    assert (model.stem[0].out_channels, model.stages[0][0].squeeze.out_channels, model.num_features) == (128, 32, 1024)


def test_a_fresh_classifier_starts_small():
    torch.manual_seed(0)
    model = squeezenet(0.5, 0.25, 64)
    model.reset_classifier(300)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.classifier.bias.abs().max() == 0


def test_the_signal_survives_a_fresh_start():
    """Without BatchNorm it would die or explode with a start by the fan-out: the squeezes change it by 4 to 8."""
    torch.manual_seed(0)
    model = squeezenet(2.0, 1.0, 64).eval()
    with torch.no_grad():
        features = model.forward_features(torch.randn(2, 3, 64, 64))
    assert 0.1 < features.std() < 10


def test_no_such_version():
    with pytest.raises(UserError, match=r"version: unknown '1\.2'\. Did you mean '1\.\d'\? Choose one of: 1\.0, 1\.1"):
        squeezenet(1.0, 1.0, 224, version="1.2")
