"""Weights for colour images in networks for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from effnas import build, load_architecture
from effnas.evaluate.data import ImageData
from effnas.evaluate.pretrained import read_pretrained
from effnas.evaluate.train.starting_point import find_starting_point
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network_spec import NetworkSpec
from effnas.space.stage import Stage
from effnas.space.weights.weights import save_weights

NET = Architecture((Stage("mbconv", 8),), stem=8, head=16, resolution=16, num_classes=10, name="net")
ZOO = load_architecture("resnet18").with_(width=0.125, resolution=32, num_classes=10)  # type: ignore[call-arg]
NORM = ((100.0, 110.0, 120.0), (50.0, 55.0, 60.0))


def saved(network: NetworkSpec, path: Path) -> tuple[Path, torch.nn.Module]:
    module = build(network, 3).eval()
    norm: Any = tuple(part[: network.in_channels] for part in NORM)
    return save_weights(path / "w.safetensors", module, architecture=network, normalization=norm), module


@pytest.mark.parametrize("network", [NET, ZOO], ids=["architecture", "builder"])
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_a_grey_image_gets_the_answer_of_its_copy_in_colour(
    network: NetworkSpec, channels: int, tmp_path: Path
) -> None:
    file, colour = saved(network, tmp_path)
    start = read_pretrained(None, file, in_channels=channels)
    assert start.architecture.in_channels == channels
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        found = start.load().eval()(grey.expand(2, channels, 32, 32))
        # weights of a repeated layer that is not a multiple of 3 sum to something else for each colour
        if channels in (1, 6):
            torch.testing.assert_close(found, colour(grey.expand(2, 3, 32, 32)), atol=1e-5, rtol=1e-4)
    first = next(iter(network.input_axes))
    ours, theirs = start.load().state_dict()[first], colour.state_dict()[first]
    if channels == 1:
        expected = theirs.sum(1, keepdim=True)
    else:
        expected = torch.cat([theirs, theirs], 1)[:, :channels] * 3 / channels
    torch.testing.assert_close(ours, expected)
    assert f"from 3 channels to {channels}" in start.note


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [(1, (110.0,), (55.0,)), (4, (100.0, 110.0, 120.0, 100.0), (50.0, 55.0, 60.0, 50.0)), (3, *NORM)],
)
def test_the_normalisation_follows(
    channels: int, mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path
) -> None:
    file, _ = saved(NET, tmp_path)
    assert read_pretrained(NET.with_(in_channels=channels), file).weights.normalization == (mean, std)


def test_foreign_weights_too(tmp_path: Path) -> None:
    network = load_architecture("resnet18")
    torch.save(build(NET, 1).state_dict(), tmp_path / "w.pth")
    start = read_pretrained(NET, tmp_path / "w.pth", in_channels=1)
    assert start.load().state_dict()["stem.conv.weight"].shape == (8, 1, 3, 3)
    assert network.input_axes == {"stem.0.conv.weight": 1}


def test_grey_weights_for_colour_images(tmp_path: Path) -> None:
    file, grey = saved(NET.with_(in_channels=1), tmp_path)
    start = read_pretrained(NET, file)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(start.load().eval()(x.expand(2, 3, 16, 16)), grey(x), atol=1e-5, rtol=1e-4)
    assert "first layer repeated and rescaled from 1 channel to 3" in start.note


def test_weights_of_other_channels_are_refused(tmp_path: Path) -> None:
    torch.save(build(NET.with_(in_channels=5), 1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"other shapes: stem.conv.weight is 8×5×3×3, our stem.conv.weight 8×3×3×3"):
        read_pretrained(NET, tmp_path / "w.pth").load()


def test_a_training_begins_with_them(tmp_path: Path) -> None:
    file, _ = saved(NET, tmp_path)
    data = ImageData(limit=100)
    for given, channels in ((None, 1), (NET.with_(in_channels=1), None)):
        start = find_starting_point(given, data, file, in_channels=channels)
        assert start.architecture.in_channels == 1
        assert start.normalization == ((110.0,), (55.0,))
        start.build(0)
    assert find_starting_point(NET, data, None, in_channels=1).architecture.in_channels == 1
