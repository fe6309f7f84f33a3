"""ResNets: torchvision's, exactly; how they scale."""

from functools import partial

import pytest
import torch
from builders import NETWORKS, SCALED, check_answers, check_costs, check_multipliers, check_parts, cost_of

from effnas.space.builders.resnet import resnet, wide_resnet

OPTIONS = {
    "resnet18": {"blocks": (2, 2, 2, 2), "bottleneck": False},
    "resnet34": {"bottleneck": False},
    "resnet50": {},
    "resnet101": {"blocks": (3, 4, 23, 3)},
    "resnet152": {"blocks": (3, 8, 36, 3)},
    "wide_resnet50_2": {"base_width": 128},
    "wide_resnet101_2": {"blocks": (3, 4, 23, 3), "base_width": 128},
    "seresnet50": {"se_ratio": 1 / 16},
}
SLIM = {"small": {"blocks": (1, 1, 2, 1), "bottleneck": False}, "se": {"blocks": (1, 1, 1, 1), "se_ratio": 1 / 16}}


@pytest.mark.parametrize("name", OPTIONS)
def test_costs_are_torchvisions(name):
    check_costs(NETWORKS[name], cost_of(resnet, **OPTIONS[name]))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "seresnet50"])
def test_answers_are_torchvisions(name):
    check_answers(name, resnet, **OPTIONS[name])


@pytest.mark.parametrize("kind", SLIM)
def test_parts(kind):
    check_parts(resnet, **SLIM[kind])


def test_wide_resnet_parts():
    check_parts(wide_resnet, dropout=0.3)


@pytest.mark.parametrize("builder", [resnet, partial(resnet, **SLIM["small"]), wide_resnet])
def test_each_multiplier_costs(builder):
    check_multipliers(builder)


def test_four_times_the_blocks():
    check_costs(SCALED["resnet50 depth=4"], cost_of(resnet, depth=4))


@pytest.mark.parametrize(
    ("depth", "width", "resolution", "billions"),
    [(1, 1, 224, 4.1), (4, 1, 224, 14.7), (1, 2, 224, 16.2), (1, 1, 448, 16.4)],
)
def test_scaled_as_in_the_efficientnet_paper(depth, width, resolution, billions):
    """Tan & Le 2019, table 3, where the figures of d=4 (16.2) and w=2 (14.7) must have changed places."""
    macs = cost_of(resnet, depth=depth, width=width, resolution=resolution)["macs"]
    assert macs / 1e9 == pytest.approx(billions, rel=0.01)


def test_wrn_28_10():
    """Worked out from the paper's table 1: convolutions, two vectors a BatchNorm, classifier."""
    params, macs, cin, side = 16 * 27, 32 * 32 * 16 * 27, 16, 32
    for i, cout in enumerate((160, 320, 640)):
        side //= 2 if i else 1
        weights = 9 * cin * cout + 7 * 9 * cout * cout + cin * cout
        params += weights + 2 * cin + 7 * 2 * cout
        macs += weights * side * side
        cin = cout
    params += 2 * 640 + 640 * 10 + 10
    macs += 640 * 10
    assert round(params / 1e6, 1) == 36.5  # as the paper's table 4 says
    found = cost_of(wide_resnet, resolution=32)
    assert (found["params"], found["macs"]) == (params, macs)


def test_wrn_by_its_numbers():
    """Depth 10 of 4 blocks is WRN-64, width 0.4 of the factor 10 is 4; the stem keeps 16 channels."""
    with torch.device("meta"):
        model = wide_resnet(2.5, 0.4, 32, num_classes=100)
    assert [len(stage) for stage in model.stages] == [10, 10, 10]
    assert (model.stem.out_channels, model.num_features, model.classifier.out_features) == (16, 256, 100)


def test_wrn_dropout_between_convolutions():
    torch.manual_seed(0)
    model = wide_resnet(0.25, 0.1, 32, dropout=0.5)
    images = torch.randn(2, 3, 32, 32)
    first, second = model.stages[0](model.stem(images)), model.stages[0](model.stem(images))
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(images), model(images))


def test_widths_are_multiples_of_8():
    with torch.device("meta"):
        model = resnet(1.0, 1.3, 224)
    widths = [model.stem[0].conv.out_channels] + [stage[0].layers[0].conv.out_channels for stage in model.stages]
    assert widths == [80, 80, 168, 336, 664]  # 83.2, 83.2, 166.4, 332.8 and 665.6, rounded by the official rule
    assert model.num_features == 4 * 664


def test_unscaled_widths_stay():
    """A width of 1 rounds nothing: 36 channels of base width 36."""
    with torch.device("meta"):
        model = resnet(1.0, 1.0, 224, base_width=36)
    assert model.stages[0][0].layers[0].conv.out_channels == 36
