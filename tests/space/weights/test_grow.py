"""Larger members of a family that start from a smaller one's weights."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from effnas.scaling.coefficients import Coefficients
from effnas.scaling.compound import scale
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import Network, build
from effnas.space.space import load_space
from effnas.space.stage import Stage
from effnas.space.weights.grow import Growth, grow
from effnas.space.zoo import zoo

SIDE = 40
#: Every kind of block, SE, an expansion of 1 and shortcuts across stages.
MIXED = Architecture(
    (
        Stage("conv", 8, 2, se_ratio=0.5),
        Stage("ds", 8, 2, kernel_size=5),
        Stage("mbconv", 16, 2, stride=2, expand_ratio=3, se_ratio=0.25),
        Stage("mbconv", 16, 1, expand_ratio=1, se_ratio=0.25),
        Stage("fused_mbconv", 16, 2, expand_ratio=2, se_ratio=0.25),
        Stage("fused_mbconv", 24, 1, expand_ratio=1),
    ),
    stem=8,
    head=24,
    dropout=0.0,
    drop_path=0.0,
    resolution=SIDE,
    in_channels=2,
    num_classes=5,
)


def trained(architecture: Architecture, seed: int = 0) -> Network:
    """A network in double precision, none of whose tensors has the value that it was made with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(architecture).double()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.7, 1.3, generator=generator)
            nn.init.normal_(m.bias, 0.2, 0.3, generator=generator)
            nn.init.normal_(m.running_mean, 0, 0.3, generator=generator)
            nn.init.uniform_(m.running_var, 0.5, 1.5, generator=generator)
        elif isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None:
            nn.init.normal_(m.bias, 0, 0.5, generator=generator)
    return model


def distance(small: Network, growth: Growth, training: bool = False, side: int = SIDE) -> float:
    """The largest difference of logits on random images, relative to how much the logits differ between images."""
    channels = small.stem.conv.in_channels
    x = torch.randn(6, channels, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        old, new = (model.train(training)(x) for model in (small, growth.network))
    spread = old.std(0).mean()
    assert spread > 1e-6
    return float((old - new).abs().max() / spread)


def larger(architecture: Architecture, width: float = 1.0, depth: float = 1.0) -> Architecture:
    return architecture.scaled(width, depth, architecture.resolution)


# -- function-preserving --------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize(("width", "depth"), [(1.0, 1.4), (1.4, 1.0), (1.25, 2.0), (3.0, 3.0)])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_same_function(width: float, depth: float, noise: float, training: bool) -> None:
    small = trained(MIXED)
    growth = grow(small, MIXED, larger(MIXED, width, depth), noise=noise)
    assert growth.exact
    assert growth.notes == ()
    assert distance(small, growth, training) < 1e-6


@pytest.mark.parametrize("name", ["efficientnet_b1", "efficientnet_b2", "efficientnet_b3"])
def test_published_efficientnets(name: str) -> None:
    base = zoo("efficientnet_b0").with_(num_classes=10)
    small = trained(base)
    growth = grow(small, base, zoo(name).with_(num_classes=10, resolution=base.resolution))
    assert (growth.exact, growth.notes) == (True, ())
    assert distance(small, growth) < 1e-6
    for model in (small, growth.network):  # of dropout and stochastic depth nothing is left
        for m in model.modules():
            m.p = m.rate = m.drop_path_rate = 0.0
    assert distance(small, growth, training=True, side=64) < 1e-6


def test_scaled_efficientnet() -> None:
    base = zoo("efficientnet_b0").with_(num_classes=10)
    small = trained(base)
    growth = grow(small, base, scale(base, Coefficients(1.2, 1.1, 1.0), 2))
    assert (growth.exact, growth.notes) == (True, ())
    assert distance(small, growth) < 1e-6


def test_published_lite_keeps_its_ends() -> None:
    base = zoo("efficientnet_lite0").with_(num_classes=10)
    small = trained(base)
    growth = grow(small, base, zoo("efficientnet_lite3").with_(num_classes=10, resolution=base.resolution))
    assert (growth.exact, growth.notes) == (True, ())
    assert distance(small, growth) < 1e-6


def test_mobilenet_v2() -> None:
    base = zoo("mobilenet_v2").with_(num_classes=10)
    small = trained(base)
    growth = grow(small, base, larger(base, 1.3, 1.5))
    assert (growth.exact, growth.notes) == (True, ())
    assert distance(small, growth) < 1e-6


def test_without_shortcuts_relu_lets_new_blocks_be_the_identity() -> None:
    """In training the BatchNorms of new blocks go by the batch; on sums that are about normal they roughly agree."""
    base = zoo("mobilenet_v1").with_(num_classes=10)
    small = trained(base)
    growth = grow(small, base, larger(base, 1.25, 1.5))
    assert growth.exact
    assert [note.split(":")[0] for note in growth.notes] == [f"stage {i}" for i in range(5)]
    assert all("they are only roughly the identity" in note for note in growth.notes)
    assert distance(small, growth) < 1e-6
    assert 0.01 < distance(small, growth, training=True, side=96) < 2  # 4 to 5 with random new blocks


def test_padded_as_tensorflow_does() -> None:
    base = MIXED.with_(padding="same")
    small = trained(base)
    growth = grow(small, base, larger(base, 1.4, 2.0))
    assert growth.exact
    assert distance(small, growth, side=33) < 1e-6


def test_in_single_precision() -> None:
    small = trained(MIXED).float().eval()
    model = grow(small, MIXED, larger(MIXED, 1.5, 2.0)).network.eval()
    x = torch.randn(4, 2, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(model(x), small(x), rtol=1e-5, atol=1e-5)
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("space", ["mnasnet", "mobile_cifar", "tiny", "accel_nasbench"])
def test_members_of_the_spaces_are_exact_or_say_why_not(space: str) -> None:
    """``exact`` is neither claimed where the logits differ, nor denied where they agree."""
    members = load_space(space)
    rng = np.random.default_rng(5)
    seen = set()
    for trial in range(12):
        base = members.build(members.sample(rng))
        base = base.with_(stem=8, head=32 * bool(trial % 2), num_classes=4, resolution=SIDE)
        base = base.with_(stages=tuple(replace(s, channels=max(4, s.channels // 8)) for s in base.stages))
        wide = larger(base, 1 + rng.integers(3) / 4, 1 + rng.integers(3) / 2)
        small = trained(base, trial)
        growth = grow(small, base, wide, seed=trial)
        found = distance(small, growth, side=64)
        assert (found < 1e-6) == growth.exact, (base, wide, found, growth.notes)
        assert growth.exact or growth.notes
        seen.add(growth.exact)
    assert True in seen


# -- where operators do not allow it --------------------------------------------------------------------


def stages(*rows: Stage, **fields: object) -> Architecture:
    base = {"stem": 8, "head": 16, "resolution": 16, "num_classes": 3, "dropout": 0.0, "drop_path": 0.0}
    return Architecture(rows, **{**base, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "activation", "note"),
    [
        (Stage("mbconv", 8, skip="none"), "relu", "stage 1: new blocks have no shortcut and start from random weights"),
        (Stage("ds", 8, skip="none"), "silu", "stage 1: new blocks have no shortcut and start from random weights"),
        (
            Stage("conv", 8, skip="none", se_ratio=0.5),
            "relu",
            "stage 1: new blocks have no shortcut and start from random weights",
        ),
        (
            Stage("mbconv", 8, skip="pool"),
            "silu",
            "stage 1: new blocks pass their input on through average pooling, which blurs it",
        ),
        (Stage("ds", 8), "softplus", "stage 1: new blocks add softplus(0), not 0, to their input"),
    ],
)
def test_new_blocks_that_cannot_be_the_identity(stage: Stage, activation: str, note: str) -> None:
    base = stages(Stage("mbconv", 8), stage, activation=activation)
    small = trained(base)
    growth = grow(small, base, base.with_(stages=(base.stages[0], replace(stage, repeats=3))))
    assert growth.exact is False
    assert growth.notes == (note,)
    assert distance(small, growth) > 1e-3


def test_narrower_layers_keep_their_first_channels() -> None:
    base = stages(Stage("mbconv", 12, 2, expand_ratio=2, se_ratio=0.5))
    small = trained(base)
    growth = grow(small, base, base.with_(stem=7, head=13, stages=(replace(base.stages[0], channels=10),)))
    assert growth.exact is False
    assert growth.notes == (
        "the stem has 7 channels instead of 8: the first 7 are kept",
        "stage 0 has 10 channels instead of 12: the first 10 are kept",
        "the head has 13 channels instead of 16: the first 13 are kept",
    )
    assert torch.equal(growth.network.stem.conv.weight, small.stem.conv.weight[:7])
    assert torch.equal(growth.network.classifier.weight, small.classifier.weight[:, :13])


def test_a_shortcut_that_only_one_of_them_has() -> None:
    base = stages(Stage("mbconv", 8))
    small = trained(base)
    gone = grow(small, base, base.with_(stages=(Stage("mbconv", 12),)))
    note = "stage 0: the first block has a shortcut only in the smaller network: only there its widths are equal"
    assert (gone.exact, gone.notes) == (False, (note,))
    assert distance(small, gone) > 1e-3
    base = stages(Stage("mbconv", 10))
    new = grow(trained(base), base, base.with_(stem=16, stages=(Stage("mbconv", 16),)))
    note = "stage 0: the first block has a shortcut only in the larger network: only there its widths are equal"
    assert (new.exact, new.notes) == (False, (note,))


@pytest.mark.parametrize(
    ("before", "after", "exact"),
    [
        ((8, 16), (12, 24), True),  # channels 8… of the sum got nothing, and still get nothing
        ((8, 16), (8, 24), True),
        ((8, 8), (12, 12), True),
        ((8, 8), (12, 16), False),  # channels 12… would have no shortcut
        ((8, 12), (16, 16), False),  # channels 8… of the smaller have none, and no channel is left for them
        ((16, 8), (24, 12), False),  # channels 8… were cut
    ],
)
def test_pooled_shortcuts_hand_channels_on_by_their_number(
    before: tuple[int, int], after: tuple[int, int], exact: bool
) -> None:
    base = stages(Stage("ds", before[0], stride=2, skip="pool"), Stage("ds", before[1], 2, stride=2, skip="pool"))
    wide = base.with_(stages=tuple(replace(s, channels=c) for s, c in zip(base.stages, after, strict=True)))
    small = trained(base)
    growth = grow(small, base, wide)
    note = "stage 1: the pooled shortcut of the first block adds other channels to the copies"
    assert [found for found in growth.notes if found.startswith("stage 1")] == ([] if exact else [note])
    assert (distance(small, growth) < 1e-6) == growth.exact


def test_another_resolution_is_stated() -> None:
    base = stages(Stage("mbconv", 8))
    small = trained(base)
    growth = grow(small, base, base.with_(resolution=24))
    assert growth.exact
    assert growth.notes == ("the resolution is 24 instead of 16: the weights do not depend on it, the logits do",)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), growth.network.parameters(), strict=True))


# -- what training makes of it --------------------------------------------------------------------------


def gradients(growth: Growth) -> dict[str, torch.Tensor]:
    model = growth.network.train()
    x = torch.randn(8, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    nn.functional.cross_entropy(model(x), torch.arange(8) % 5).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_unequal_shares_tell_copies_apart() -> None:
    """With equal shares the copies of a channel get equal gradients, and would stay copies."""
    small = trained(MIXED)
    wide = larger(MIXED, 2.0)
    equal, unequal = (gradients(grow(small, MIXED, wide, noise=noise)) for noise in (0.0, 0.5))
    for name in ("stem.conv.weight", "stages.0.1.conv.bn.weight", "stages.2.1.project.conv.weight", "head.conv.weight"):
        half = len(equal[name]) // 2
        assert torch.allclose(equal[name][:half], equal[name][half:], atol=1e-10), name
        assert not torch.allclose(unequal[name][:half], unequal[name][half:], rtol=0.01), name


@pytest.mark.parametrize("activation", ["relu", "silu", "hardswish"])
def test_new_blocks_learn(activation: str) -> None:
    """Branches that are nothing yet get gradients through their last BatchNorm, a ReLU behind it or not."""
    base = MIXED.with_(activation=activation)
    found = gradients(grow(trained(base), base, larger(base, 1.0, 2.0)))
    for name in ("stages.0.3.conv.bn.weight", "stages.1.3.project.bn.weight", "stages.2.3.project.bn.weight"):
        assert (found[name].abs() > 1e-6).float().mean() > 0.9, name


def test_the_seed_decides_and_nothing_else_changes() -> None:
    small = trained(MIXED)
    before = {key: value.clone() for key, value in small.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    wide = larger(MIXED, 1.5, 2.0)
    first, again, other = (grow(small, MIXED, wide, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.conv.weight"], other["head.conv.weight"])
    assert not torch.equal(first["stages.2.3.expand.conv.weight"], other["stages.2.3.expand.conv.weight"])
    assert all(torch.equal(before[key], value) for key, value in small.state_dict().items())
    assert not any(a.data_ptr() == b.data_ptr() for a, b in zip(before.values(), first.values(), strict=False))


def test_copies_are_in_turn_and_share_by_number() -> None:
    """Six channels to fifteen: three copies of the first three, two of the others."""
    base = stages(Stage("mbconv", 8), head=6)
    small = trained(base)
    model = grow(small, base, base.with_(head=15), noise=0.0).network
    copies = torch.tensor([3, 3, 3, 2, 2, 2] * 2 + [3, 3, 3])
    source = [0, 1, 2, 3, 4, 5] * 2 + [0, 1, 2]
    assert torch.equal(model.head.bn.running_var, small.head.bn.running_var[source])
    assert torch.allclose(model.classifier.weight, small.classifier.weight[:, source] / copies)


# -- errors ---------------------------------------------------------------------------------------------


FAMILY = "the networks are not a smaller and a larger member of one family: "
REST = ". Only widths, repeats (upwards), resolution, dropout, drop_path and bn_momentum may differ"


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (MIXED.with_(num_classes=10), "num_classes is 5 in the smaller and 10 in the larger"),
        (MIXED.with_(in_channels=3), "in_channels is 2 in the smaller and 3 in the larger"),
        (MIXED.with_(activation="relu"), "activation is 'silu' in the smaller and 'relu' in the larger"),
        (MIXED.with_(padding="same"), "padding is 'symmetric' in the smaller and 'same' in the larger"),
        (
            MIXED.with_(stem_stride=1, bn_eps=1e-5),
            "stem_stride is 2 in the smaller and 1 in the larger; "
            "bn_eps is 0.001 in the smaller and 1e-05 in the larger",
        ),
        (MIXED.with_(head=0), "head is 24 in the smaller and 0 in the larger"),
        (MIXED.with_(stages=MIXED.stages[:3]), "the smaller has 6 stages and the larger 3"),
        (
            MIXED.with_(
                stages=(*MIXED.stages[:3], replace(MIXED.stages[3], kernel_size=5, se_ratio=0.0), *MIXED.stages[4:])
            ),
            "stage 3: kernel_size is 3 in the smaller and 5 in the larger; "
            "stage 3: se_ratio is 0.25 in the smaller and 0.0 in the larger",
        ),
        (
            MIXED.with_(stages=(replace(MIXED.stages[0], repeats=1), *MIXED.stages[1:])),
            "stage 0: the smaller has 2 blocks and the larger only 1",
        ),
    ],
)
def test_not_of_one_family(other: Architecture, difference: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(FAMILY + difference + REST)}$"):
        grow(build(MIXED), MIXED, other)


def test_what_a_family_may_differ_in() -> None:
    other = MIXED.with_(dropout=0.5, drop_path=0.3, bn_momentum=0.1, fixed_ends=True, resolution=64, name="other")
    assert grow(build(MIXED), MIXED, other).exact


def test_weights_of_another_network() -> None:
    where = "the smaller network is not of the architecture given: its "
    text = re.escape("head.conv.weight is of shape (32, 24, 1, 1), not of shape (24, 24, 1, 1)")
    with pytest.raises(UserError, match=f"^{where}{text}$"):
        grow(build(MIXED.with_(head=32)), MIXED, MIXED)
    model = build(MIXED)
    model.reset_classifier(0)
    with pytest.raises(UserError, match=rf"^{where}classifier\.weight is missing, not of shape \(5, 24\)$"):
        grow(model, MIXED, MIXED)


@pytest.mark.parametrize(("name", "value"), [("noise", -0.1), ("noise", float("nan")), ("seed", -1), ("seed", 0.5)])
def test_settings(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{name} must be "):
        grow(build(MIXED), MIXED, MIXED, **{name: value})  # type: ignore[arg-type]
