"""The network of a rule that meets a budget as counted."""

from __future__ import annotations

import math

import pytest

from effnas.scaling.meet import TRIM, Met, meet
from effnas.scaling.rules import make_rule
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network_spec import NetworkSpec
from effnas.space.stage import Stage
from effnas.space.zoo import load_architecture

#: Few blocks and channels, so that neighbouring φ are far apart in MACs.
CIFAR = Architecture(
    (
        Stage("mbconv", 16),
        Stage("mbconv", 24, 1, stride=2, expand_ratio=3),
        Stage("mbconv", 32, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 64, 2, stride=2, expand_ratio=3),
    ),
    stem=16,
    stem_stride=1,
    head=128,
    activation="relu",
    dropout=0.0,
    resolution=32,
    num_classes=10,
    name="cifar",
)


def met(base: NetworkSpec, rule: str, factor: float, tolerance: float = 0.02) -> Met:
    return meet(base, make_rule(rule), factor * cost(base).macs, tolerance)


def made_again(base: NetworkSpec, found: Met) -> NetworkSpec:
    """The network from what the result says of it, without the code that found it."""
    by = found.multipliers
    side = round(base.resolution * by.resolution)
    return base.scaled(by.width, by.depth, side, divisor=found.divisor)


#: The last is a builder's, whose networks take a hundred times as long to cost.
BASES: dict[str, NetworkSpec] = {
    "efficientnet_b0": load_architecture("efficientnet_b0"),
    "mobilenet_v2": load_architecture("mobilenet_v2"),
    "cifar": CIFAR,
    "resnet18": load_architecture("resnet18").with_(resolution=64, num_classes=10),
}
RULES = ("compound", "depth", "width", "resolution", "dwr", "lacs")
CASES = [(name, rule, factor) for name in list(BASES)[:3] for rule in RULES for factor in (2.0, 4.0)]
BUILT = [("resnet18", "resolution", 2.0), ("resnet18", "compound", 4.0)]
SLOW = [("resnet18", rule, factor) for rule in RULES for factor in (2.0, 4.0)]


@pytest.mark.parametrize(
    ("name", "rule", "factor"),
    [*CASES, *BUILT, *(pytest.param(*c, marks=pytest.mark.slow) for c in SLOW if c not in BUILT)],
)
def test_every_rule_meets_the_budget(name: str, rule: str, factor: float) -> None:
    base = BASES[name]
    found = met(base, rule, factor)
    assert found.macs_ratio == pytest.approx(1, abs=0.02)
    assert cost(found.network).macs / cost(base).macs == pytest.approx(factor * found.macs_ratio)
    again = made_again(base, found)
    assert cost(again) == cost(found.network)
    nominal = make_rule(rule)(found.phi)
    assert found.multipliers.width == pytest.approx(nominal.width * found.trimmed)
    assert (found.multipliers.depth, found.multipliers.resolution) == (nominal.depth, nominal.resolution)
    assert 1 - TRIM <= found.trimmed <= 1 + TRIM
    assert found.divisor in (8, 4, 2, 1)


def test_what_needs_no_trim_is_the_nearest_network_of_the_rule() -> None:
    base = load_architecture("efficientnet_b0")
    for rule in ("compound", "depth", "width", "resolution"):
        found = met(base, rule, 4)
        assert (found.trimmed, found.divisor) == (1.0, 8)
        at = make_rule(rule)
        ratios = []
        for i in range(1000, 2500):  # φ from 1 to 2.5
            by = at(i / 1000)
            side = round(224 * by.resolution)
            ratios.append(cost(base.scaled(by.width, by.depth, side)).macs / (4 * cost(base).macs))
        assert abs(found.macs_ratio - 1) <= min(abs(r - 1) for r in ratios) + 1e-9


def test_depth_alone_leaves_width_and_resolution() -> None:
    found = met(load_architecture("efficientnet_b0"), "depth", 4)
    assert isinstance(found.network, Architecture)
    # ⌈d · n⌉ of EfficientNet-B0's repeats 1, 2, 2, 3, 3, 4, 1, d a little above 11/3
    assert found.multipliers.depth == pytest.approx(11 / 3, abs=1e-3)
    assert [stage.repeats for stage in found.network.stages] == [4, 8, 8, 12, 12, 15, 4]
    assert [stage.channels for stage in found.network.stages] == [16, 24, 40, 80, 112, 192, 320]
    assert found.network.resolution == 224


def test_a_trim_is_the_smallest_that_does_it() -> None:
    found = met(CIFAR, "resolution", 2)  # 44 px make 1.95 times the MACs and 45 px 2.10
    assert (found.divisor, found.network.resolution) == (8, 44)
    assert found.trimmed == pytest.approx(1.0625)
    base, budget = cost(CIFAR).macs, 2 * cost(CIFAR).macs

    def within(width: float, side: int) -> bool:
        return abs(cost(CIFAR.scaled(width, 1.0, side)).macs / budget - 1) <= 0.02

    assert not any(within(1.0, side) for side in range(32, 64))
    # at the sides around the budget nothing nearer to 1 than the trim that was found
    below = max(s for s in range(32, 64) if cost(CIFAR.with_(resolution=s)).macs <= 2 * base)
    closest = min(
        abs(math.log(i / 10_000))
        for i in range(9_000, 11_001)
        for side in (below, below + 1)
        if within(i / 10_000, side)
    )
    assert abs(math.log(found.trimmed)) == pytest.approx(closest)


def test_a_finer_divisor_where_a_trim_is_not_enough() -> None:
    # depth 2 has 0.90 of the budget, and anything above, with a block more in each stage, 1.19
    found = met(CIFAR, "depth", 2)
    assert found.divisor == 4
    assert isinstance(found.network, Architecture)
    assert [stage.repeats for stage in found.network.stages] == [3, 3, 5, 5]
    budget = 2 * cost(CIFAR).macs
    for depth in (2.0, 2.01):  # multiples of 8 within 1 ± 0.1
        for i in range(9_000, 11_001, 5):
            macs = cost(CIFAR.scaled(i / 10_000, depth, 32)).macs
            assert abs(macs / budget - 1) > 0.02


def test_a_wide_tolerance_leaves_the_rule_alone() -> None:
    found = met(CIFAR, "resolution", 2, tolerance=0.1)
    assert (found.trimmed, found.divisor, found.network.resolution) == (1.0, 8, 44)


def test_shrinking() -> None:
    found = met(load_architecture("efficientnet_b0"), "tinynet", 0.5)
    assert found.macs_ratio == pytest.approx(1, abs=0.02)
    assert found.multipliers.resolution < 1


@pytest.mark.parametrize(
    ("base", "rule", "factor", "message"),
    [
        # only two stages have a block to lose: 1.27 times half the MACs is the least
        (
            CIFAR,
            "depth",
            0.5,
            r"rule depth cannot meet 1,992,832 MACs \(0\.5 times those of cifar\) within 2\.00%; the ",
        ),
        (CIFAR, "depth", 0.5, r"nearest network has 1\.2\d+ of that .*: use a larger tolerance, another factor or a"),
        (CIFAR, "tinynet", 2, r"rule tinynet cannot meet .*the nearest network has 0\.6\d+ of that \(phi 0, 32 px\)"),
        (CIFAR, "width", 1e9, r"rule width cannot meet .*within 2\.00%"),
        (CIFAR, "width", 0, r"macs must be in \(0, inf\], got 0"),
        (CIFAR, "width", -1, r"macs must be in \(0, inf\]"),
    ],
)
def test_budgets_out_of_reach(base: NetworkSpec, rule: str, factor: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        met(base, rule, factor)


@pytest.mark.parametrize("tolerance", [-0.1, 0.9, "small"])
def test_tolerances_that_are_none(tolerance: float) -> None:
    with pytest.raises(UserError, match="tolerance must be"):
        met(CIFAR, "width", 2, tolerance)


def test_blocks_rounded_to_the_nearest_follow_the_rule_more_closely() -> None:
    """From one block a stage, any depth above 1 doubles the blocks where they round up."""
    stages = tuple(Stage("mbconv", c, 1, 3, s, 4) for c, s in ((16, 1), (24, 2), (40, 2)))
    base = Architecture(stages, stem=16, stem_stride=1, head=64, resolution=32, num_classes=10)
    rule, budget = make_rule("compound"), 2 * cost(base).macs
    up, nearest = (meet(base, rule, budget, depth_rounding=rounding) for rounding in ("up", "nearest"))
    assert abs(up.macs_ratio - 1) <= 0.02
    assert abs(nearest.macs_ratio - 1) <= 0.02
    assert up.phi < 0.5 < nearest.phi
