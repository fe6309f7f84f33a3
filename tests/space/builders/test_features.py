"""Feature maps of several sizes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from own_networks import plain

from effnas import UserError, build, load_architecture
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.stage import Stage


@pytest.mark.parametrize(
    ("name", "channels", "reduction"),
    [  # timm's feature_info, but that the stem of its ResNets, at stride 2, is no part of ours
        ("efficientnet_b0", (16, 24, 40, 112, 320), (2, 4, 8, 16, 32)),
        ("mobilenet_v2", (16, 24, 32, 96, 320), (2, 4, 8, 16, 32)),
        ("resnet50", (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ("mobilenet_v3_large", (16, 24, 40, 112, 160), (2, 4, 8, 16, 32)),
        ("shufflenet_v2_x1_0", (24, 116, 232, 464), (4, 8, 16, 32)),
        ("squeezenet1_1", (128, 256, 512), (4, 8, 16)),
        ("googlenet", (480, 832, 1024), (8, 16, 32)),
    ],
)
def test_channels_and_strides(name: str, channels: tuple[int, ...], reduction: tuple[int, ...]) -> None:
    with torch.device("meta"):
        features = build(load_architecture(name), features_only=True)
        maps = features(torch.zeros(2, 3, 128, 96))
    info = features.feature_info
    assert (info.channels, info.reduction) == (channels, reduction)
    assert [x.shape[1] for x in maps] == list(channels)
    if name not in ("squeezenet1_1",):  # which does not pad
        assert [tuple(x.shape[2:]) for x in maps] == [(128 // r, 96 // r) for r in reduction]


NET = Architecture((Stage("mbconv", 8, 2), Stage("conv", 12, 1, 3, 2), Stage("conv", 16, 1, 3, 3)), stem=4, head=32)


def test_the_weights_are_the_modules_own() -> None:
    module = build(NET, 1).eval()
    features = build(NET, features_only=True, module=module).eval()
    x = torch.randn(1, 3, 36, 36)
    with torch.no_grad():
        maps = features(x)
        assert torch.equal(module.head(maps[-1]), module.forward_features(x))
    assert features.feature_info.reduction == (2, 4, 12)
    assert features.feature_info.module_name == ("stages.0", "stages.1", "stages.2")
    assert set(features.state_dict()) < set(module.state_dict())


def test_some_of_the_maps() -> None:
    features = build(NET, features_only=True, out_indices=(1, -3))
    info = features.feature_info
    assert (info.out_indices, info.channels, len(features.stages)) == ((0, 1), (8, 12), 2)
    assert [x.shape[-1] for x in features(torch.zeros(1, 3, 24, 24))] == [12, 6]


def test_a_later_part_in_place_changes_no_map() -> None:
    resnet = load_architecture("resnet18").with_(width=0.125)  # type: ignore[call-arg]
    module = build(resnet, 1).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = build(resnet, features_only=True, module=module)(x)
        assert torch.equal(maps[0], module.stages[0](module.stem(x)))  # type: ignore[index, operator]


@pytest.mark.parametrize("index", [3, -4, True, 1.0])
def test_no_such_map(index: object) -> None:
    with pytest.raises(UserError, match=r"out_indices: .* is none of the 3 maps of the network"):
        build(NET, features_only=True, out_indices=[index])  # type: ignore[list-item]
    with pytest.raises(UserError, match="out_indices: no map is asked for"):
        build(NET, features_only=True, out_indices=[])


def test_a_builder_without_stages() -> None:
    with pytest.raises(UserError, match=r"builder own_networks.plain has no parts stem and stages"):
        build(BuiltNetwork(partial(plain), in_channels=1, num_classes=10), features_only=True)


def test_the_same_seed_the_same_weights() -> None:
    x = torch.randn(1, 3, 32, 32)
    first, again, whole = (
        build(NET, 3, features_only=True).eval(),
        build(NET, 3, features_only=True).eval(),
        build(NET, 3),
    )
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(first(x), again(x), strict=True))
        assert torch.equal(first(x)[0], whole.eval().stages[0](whole.stem(x)))


@pytest.mark.parametrize(("name", "value"), [("out_indices", (0,)), ("module", torch.nn.Identity())])
def test_what_belongs_to_features_alone(name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"^{name} belongs to features_only=True$"):
        build(NET, **{name: value})  # type: ignore[call-overload]
