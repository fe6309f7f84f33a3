"""Shared weights: what a member computes in them and what it computes alone, its part of them, and who is a member."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnas.evaluate.supernet.members import Members
from effnas.evaluate.supernet.shared import SharedNetwork
from effnas.space.architecture import Architecture
from effnas.space.built import BuiltNetwork
from effnas.space.built_space import BuilderSpace
from effnas.space.errors import UserError
from effnas.space.network import build
from effnas.space.space import SHIPPED, SearchSpace, load_space
from effnas.space.stage import Stage

FIRST = {"block": "mbconv", "channels": 8, "expand_ratio": 2, "stride": 2}
SECOND: dict[str, Any] = {"block": "mbconv", "channels": 12, "repeats": 2, "expand_ratio": 2, "se_ratio": 0.25}
NETWORK: dict[str, Any] = {"stem": 8, "stem_stride": 1, "head": 16, "resolution": 12, "in_channels": 1}
#: What changes in a stage, or in the network: every elastic dimension alone.
STAGE = {
    "kernel": {"kernel_size": [3, 5, 7]},
    "expansion": {"expand_ratio": [1, 2, 4]},
    "repeats": {"repeats": [1, 2, 3]},
    "width": {"channels": {"base": 16, "times": [0.5, 1.0, 1.5]}},
    "squeeze and excite": {"se_ratio": [0.0, 0.25, 0.5]},
    "block": {"block": ["conv", "ds", "mbconv", "fused_mbconv"]},
    "fused expansion": {"block": "fused_mbconv", "expand_ratio": [1, 2, 4]},
    "fused kernel": {"block": "fused_mbconv", "kernel_size": [1, 3, 5]},
    "fused width": {"block": "fused_mbconv", "channels": {"base": 16, "times": [0.5, 1.0, 1.5]}},
    "skip": {"skip": ["identity", "none", "pool"]},
    "stride": {"stride": [1, 2]},
}
WHOLE = {
    "stem": {"stem": [8, 16]},
    "head": {"head": [0, 16, 24]},
    "resolution": {"resolution": [8, 11, 12]},
    "activation": {"activation": ["relu", "silu"]},
    "padding": {"padding": ["symmetric", "same"]},
    "stem stride": {"stem_stride": [1, 2]},
}


def make_space(stage: dict[str, Any] | None = None, **network: Any) -> SearchSpace:
    return SearchSpace("small", [FIRST, {**SECOND, **(stage or {})}], **{**NETWORK, "num_classes": 5, **network})


def make_shared(members: Members) -> SharedNetwork:
    """With statistics and scales of BatchNorm that are not those of the start."""
    torch.manual_seed(0)
    network = SharedNetwork(members.sizes, members.largest).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_mean", "bn.bias")):
                tensor.normal_(0, 0.2)
            elif name.endswith(("running_var", "bn.weight")):
                tensor.uniform_(0.5, 1.5)
    return network


def images(architecture: Architecture, side: int | None = None, count: int = 2) -> Tensor:
    side = side or architecture.resolution
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, architecture.in_channels, side, side, generator=generator)


def check_exact(network: SharedNetwork, architecture: Architecture, side: int | None = None) -> None:
    """The plain network, built as any is and loaded by its own names, computes what the supernet does."""
    x = images(architecture, side)
    plain = build(architecture, 1)
    plain.load_state_dict(network.extract(architecture).state_dict())
    with torch.no_grad():
        expected, found = network.run(architecture, x), plain.eval()(x)
    assert found.std() > 1e-3
    assert torch.allclose(found, expected, rtol=0, atol=1e-6 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("dimension", [*STAGE, *WHOLE])
def test_each_dimension_alone_is_extracted_exactly(dimension: str) -> None:
    space = make_space(STAGE.get(dimension), **WHOLE.get(dimension, {}))
    members = Members(space)
    network = make_shared(members)
    (name,) = space.choices
    found = [space.build({name: choice}) for choice in space.choices[name]]
    assert len({architecture.digest for architecture in found}) == len(found) > 1
    for architecture in found:
        check_exact(network, members.check(architecture))


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_members_of_every_shipped_space_are_extracted_exactly(name: str) -> None:
    members = Members(load_space(name))
    network = make_shared(members)
    rng = np.random.default_rng(3)
    for architecture in (members.largest, members.smallest, *(members.draw(rng) for _ in range(4))):
        check_exact(network, members.check(architecture), 32)


def test_in_training_a_member_computes_the_same_too() -> None:
    """But for the last digits: gradients are computed by layers of their own."""
    members = Members(make_space(STAGE["kernel"], dropout=0.0, drop_path=0.0))
    network = make_shared(members)
    plain = network.extract(members.smallest).train()
    network.train()
    x = images(members.smallest, count=8)
    expected = plain(x)
    expected.square().sum().backward()
    found = network.run(members.smallest, x)
    found.square().sum().backward()
    assert torch.allclose(found, expected, atol=1e-5)
    name = "stages.1.mbconv.0.depthwise.conv.weight"
    gradient = dict(network.named_parameters())[name].grad
    own = dict(plain.named_parameters())["stages.1.0.depthwise.conv.weight"].grad
    assert gradient is not None
    assert own is not None
    assert torch.allclose(gradient[:, :, 2:-2, 2:-2], own, atol=1e-4)
    assert gradient[:, :, :2].abs().sum() == 0  # outside the centre of a kernel of 7
    statistics = dict(network.named_buffers())["stages.1.mbconv.0.depthwise.bn.running_mean"]
    assert torch.allclose(statistics, plain.state_dict()["stages.1.0.depthwise.bn.running_mean"], atol=1e-5)


def test_members_share_the_centre_of_kernels_first_channels_and_first_blocks() -> None:
    space = make_space({"kernel_size": [3, 5], "channels": [8, 12], "repeats": [1, 2], "expand_ratio": [2, 4]})
    members = Members(space)
    network = make_shared(members)
    large, small = (network.extract(a).state_dict() for a in (members.largest, members.smallest))
    own, other = "stages.1.0.depthwise.conv.weight", "stages.1.0.project.conv.weight"
    assert large[own].shape == (32, 1, 5, 5)
    assert torch.equal(small[own], large[own][:16, :, 1:-1, 1:-1])
    assert torch.equal(small[other], large[other][:8, :16])
    assert torch.equal(small["head.conv.weight"], large["head.conv.weight"][:, :8])
    assert set(small) == {name for name in large if not name.startswith("stages.1.1.")}


def test_kinds_of_blocks_have_weights_of_their_own() -> None:
    members = Members(make_space({"block": ["conv", "mbconv"], "expand_ratio": [1, 2]}))
    assert set(members.sizes.stages[1].kinds) == {"conv", "mbconv", "mbconv1"}
    network = make_shared(members)
    chains = network.stages[1]
    assert isinstance(chains, nn.ModuleDict)
    assert set(chains) == {"conv", "mbconv", "mbconv1"}
    assert network.extract(members.largest.with_(name="x")).state_dict()["stages.1.0.se.reduce.weight"].shape[0] == 2


def test_fused_blocks_of_every_ratio_share_their_weights() -> None:
    members = Members(make_space({"block": ["fused_mbconv", "mbconv"], "expand_ratio": [1, 2], "kernel_size": [3, 5]}))
    assert set(members.sizes.stages[1].kinds) == {"fused_mbconv", "mbconv", "mbconv1"}
    network = make_shared(members)
    base = members.largest.stages[1]
    large, small = (
        network.extract(members.largest.with_(stages=(members.largest.stages[0], stage))).state_dict()
        for stage in (
            replace(base, block="fused_mbconv"),
            replace(base, block="fused_mbconv", expand_ratio=1, kernel_size=3),
        )
    )
    name = "stages.1.0.expand.conv.weight"
    assert (large[name].shape, small[name].shape) == ((16, 8, 5, 5), (8, 8, 3, 3))
    assert torch.equal(small[name], large[name][:8, :, 1:-1, 1:-1])


def test_regularisation_is_left_out_where_it_is_to_be() -> None:
    members = Members(make_space(STAGE["repeats"], dropout=0.5, drop_path=0.5))
    network = make_shared(members).train()
    x = images(members.largest, count=4)
    torch.manual_seed(0)
    plain = [network.run(members.largest, x, regularise=False) for _ in range(2)]
    noisy = [network.run(members.largest, x) for _ in range(2)]
    assert torch.equal(*plain)
    assert not torch.allclose(*noisy)


def test_the_extremes_of_a_space() -> None:
    members = Members(load_space("tiny"))
    last = {name: choices[-1] for name, choices in members.space.choices.items()}  # type: ignore[attr-defined]
    first = {name: choices[0] for name, choices in members.space.choices.items()}  # type: ignore[attr-defined]
    assert members.largest.digest == members.space.build(last).digest
    assert members.smallest.digest == members.space.build(first).digest
    rng = np.random.default_rng(0)
    assert members.draw_largest(rng).digest == members.largest.digest


def test_kinds_are_drawn_and_sizes_are_extreme_where_a_space_decides_both() -> None:
    members = Members(load_space("mnasnet"))
    rng = np.random.default_rng(0)
    large, small = [[draw(rng) for _ in range(20)] for draw in (members.draw_largest, members.draw_smallest)]
    assert len({stage.block for architecture in large for stage in architecture.stages}) == 3
    assert {stage.kernel_size for a in large for stage in a.stages} == {5}
    assert {stage.expand_ratio for a in large for stage in a.stages if stage.block == "mbconv"} == {6}
    assert {stage.expand_ratio for a in small for stage in a.stages if stage.block == "mbconv"} == {3}
    assert {a.stages[3].repeats for a in large} == {5}
    assert {a.stages[3].repeats for a in small} == {3}


class Odd:
    """A space of a user's own: some decisions describe no network, and stages come in two numbers."""

    def __init__(self, stages: bool = False, classes: bool = False) -> None:
        from optuna.distributions import CategoricalDistribution

        self.name = "odd"
        self.stages, self.classes = stages, classes
        self.distributions = {n: CategoricalDistribution((1, 2, 3)) for n in ("width", "depth")}

    def build(self, decisions: Any) -> Architecture:
        if decisions["width"] + decisions["depth"] > 5:
            raise UserError("too large")
        stage = Stage("ds", 8 * decisions["width"], decisions["depth"])
        return Architecture(
            (stage,) * (decisions["depth"] if self.stages else 2),
            **{**NETWORK, "num_classes": decisions["width"] + 1 if self.classes else 5},
        )


def test_a_users_space_needs_distributions_and_build_alone() -> None:
    members = Members(Odd())
    assert members.sizes.stages[0].channels == 24
    network = make_shared(members)
    rng = np.random.default_rng(0)
    for architecture in (members.largest, members.smallest, members.draw(rng)):
        check_exact(network, members.check(architecture))


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (Odd(stages=True), "members of the space odd have 1 to 3 stages; those of a supernet have one number of them"),
        (Odd(classes=True), "have 2 to 4 classes"),
        (
            BuilderSpace("built", BuiltNetwork("resnet50", resolution=64, num_classes=10), width=[0.5, 1.0]),
            "the space built is of a builder's networks",
        ),
    ],
)
def test_spaces_that_cannot_share_weights_are_refused(space: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        Members(space)


def test_a_network_that_is_no_member_is_refused_with_what_differs() -> None:
    space = make_space({"kernel_size": [3, 5], "repeats": [1, 2]})
    members = Members(space)
    member = members.smallest
    stages = member.stages
    others = {
        r"stage 1: kernel_size is 7, members have 3, 5": (stages[0], Stage(**{**as_dict(stages[1]), "kernel_size": 7})),
        r"stage 0: channels is 16, members have 8": (Stage(**{**as_dict(stages[0]), "channels": 16}), stages[1]),
        r"it has 1 stages, members have 2": (stages[0],),
    }
    for text, changed in others.items():
        with pytest.raises(UserError, match=f"is not in the space small of the supernet: {text}"):
            members.check(member.with_(stages=changed))
    with pytest.raises(UserError, match="num_classes is 7, members have 5"):
        members.check(member.with_(num_classes=7))
    with pytest.raises(UserError, match=r"it is a builder's, which has no stages"):
        members.check(BuiltNetwork("resnet50"))
    assert members.check(member.with_(name="another name")) == member


def test_a_combination_that_no_decisions_give_is_refused() -> None:
    space = SearchSpace(
        "tied",
        [{**FIRST, "repeats": [1, 2]}, {"block": ["conv", "mbconv"], "channels": 8, "skip": ["identity", "none"]}],
        **NETWORK,
    )
    members = Members(space)
    member = space.build({"block0_repeats": 1, "block1_block": "mbconv", "block1_skip": "none"})
    stage = Stage(**{**as_dict(member.stages[1]), "expand_ratio": 1})
    assert members.check(member.with_(stages=(member.stages[0], stage))) == member

    class Narrow(SearchSpace):
        """Some of the combinations alone."""

        def decisions_of(self, architecture: Any) -> Any:
            found = super().decisions_of(architecture)
            return None if found == {name: choices[0] for name, choices in self.choices.items()} else found

    narrow = Members(Narrow("narrow", [FIRST, {**SECOND, "kernel_size": [3, 5], "repeats": [1, 2]}], **NETWORK))
    with pytest.raises(UserError, match="no decisions give this combination of sizes"):
        narrow.check(narrow.smallest)


def as_dict(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in Stage.__dataclass_fields__}
