import pytest

from effnas.scaling.coefficients import PAPER, Coefficients
from effnas.scaling.compound import round_filters, round_repeats, scale
from effnas.scaling.solve import solve_phi
from effnas.space import multipliers
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.stage import Stage
from effnas.space.zoo import ARCHITECTURES, zoo

B0 = zoo("efficientnet_b0")
#: widths that 8 does not divide
ODD = Architecture((Stage("conv", 12, 2, stride=2), Stage("mbconv", 20, 2, expand_ratio=3)), stem=10, head=0)


def test_phi_one_of_b0_by_hand():
    scaled = scale(B0, PAPER, 1)
    # width 1.1: 17.6 26.4 44 88 123.2 211.2 352; depth 1.2: ⌈1.2 2.4 2.4 3.6 3.6 4.8 1.2⌉
    assert [stage.channels for stage in scaled.stages] == [16, 24, 48, 88, 120, 208, 352]
    assert [stage.repeats for stage in scaled.stages] == [2, 3, 3, 4, 4, 5, 2]
    assert (scaled.stem, scaled.head) == (32, 1408)
    assert scaled.resolution == 258  # 257.6
    assert scaled.dropout == pytest.approx(0.2 + 0.3 / 7)
    assert scaled.drop_path == 0.2
    assert scaled.name == "efficientnet_b0_phi1"


def test_phi_one_has_the_width_and_depth_of_b2():
    b2 = zoo("efficientnet_b2")
    assert scale(B0, PAPER, 1).stages == b2.stages
    assert b2.resolution == 260


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("phi", [0, 0.0, -0.0])
def test_phi_zero_is_the_identity(name, phi):
    assert scale(zoo(name), PAPER, phi) == zoo(name)


def test_phi_zero_is_the_identity_for_odd_widths_and_any_dropout():
    network = ODD.with_(dropout=0.95, resolution=1)
    assert scale(network, PAPER, 0) == network
    assert scale(network, PAPER, 0).digest == network.digest


def test_coefficients_of_one_change_only_dropout():
    assert scale(B0, Coefficients(1, 1, 1), 5).with_(dropout=0.2) == B0


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0", "mobilenet_v1", "mnasnet_a1"])
def test_costs_never_fall_with_phi(name):
    base = zoo(name)
    costs = [cost(scale(base, PAPER, step / 10)) for step in range(-60, 61)]
    for field in ("params", "macs", "activations", "peak_memory"):
        values = [getattr(c, field) for c in costs]
        assert values == sorted(values), field
    assert costs[0].macs < costs[60].macs < costs[-1].macs


def test_phi_half_and_minus_one_by_hand():
    half, less = scale(B0, PAPER, 0.5), scale(B0, PAPER, -1)
    # 1.2^0.5 = 1.0954, 1.1^0.5 = 1.0488, 224 · 1.15^0.5 = 240.2
    assert [stage.repeats for stage in half.stages] == [2, 3, 3, 4, 4, 5, 2]
    assert [stage.channels for stage in half.stages] == [16, 24, 40, 80, 120, 200, 336]
    assert half.resolution == 240
    # 1/1.2 = 0.833, 1/1.1 = 0.909, 224 / 1.15 = 194.8
    assert [stage.repeats for stage in less.stages] == [1, 2, 2, 3, 3, 4, 1]
    assert [stage.channels for stage in less.stages] == [16, 24, 40, 72, 104, 176, 288]
    assert less.resolution == 195
    assert less.name == "efficientnet_b0_phi-1"


def test_dropout_reaches_b7s_and_stays_a_rate():
    assert scale(B0, PAPER, 7).dropout == pytest.approx(0.5)
    assert scale(B0, PAPER, -6).dropout == 0
    assert 0.8 < scale(B0, PAPER, 20).dropout < 0.9


def test_floating_dust_adds_no_block():
    # 2^0.5 squared is 2.0000000000000004: 3 blocks become 6, not 7
    scaled = scale(B0, Coefficients(2**0.5, 1, 1), 2)
    assert [stage.repeats for stage in scaled.stages] == [2, 4, 4, 6, 6, 8, 2]


def test_lite_keeps_its_ends():
    scaled = scale(zoo("efficientnet_lite0"), PAPER, 3)
    assert (scaled.stem, scaled.head, scaled.stages[0].repeats, scaled.stages[-1].repeats) == (32, 1280, 1, 1)
    assert scaled.stages[1].repeats == 4


def test_the_rounding_is_that_of_the_space():
    assert round_filters is multipliers.round_filters
    assert round_repeats is multipliers.round_repeats


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        (float("nan"), "phi must be a finite number, got nan"),
        ("3", "phi must be a finite number, got '3'"),
        (1000, r"phi must be in \[-100, 100\], got 1000"),
        (
            -20,
            r"phi = -20, alpha=.*: the resolution would be 13.69 pixels; it must be between 32 \(the total",
        ),
        (99, "phi = 99, alpha=.*: the resolution would be 2.287e\\+08 pixels"),
    ],
)
def test_impossible_phi(phi, message):
    with pytest.raises(UserError, match=message):
        scale(B0, PAPER, phi)


def test_networks_out_of_bounds_name_phi():
    with pytest.raises(UserError, match=r"phi = 60, alpha=1.2 beta=1 gamma=1 .*: repeats must be between 1 and 10000"):
        scale(B0, Coefficients(1.2, 1, 1), 60)
    with pytest.raises(UserError, match=r"phi = 90, alpha=1 beta=10 .*: width multiplier must be at most 1e9"):
        scale(B0, Coefficients(1, 10, 1), 90)


@pytest.mark.parametrize(
    ("option", "field", "limit"),
    [
        ("macs", "macs", 1e9),
        ("macs", "macs", 100e6),
        ("params", "params", 5e6),
        ("params", "params", 50e6),
        ("memory", "peak_memory", 20e6),
        ("memory", "peak_memory", 1e6),
    ],
)
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_solved_phi_is_the_last_that_fits(name, option, field, limit):
    base = zoo(name)
    phi = solve_phi(base, PAPER, **{option: limit})
    assert getattr(cost(scale(base, PAPER, phi)), field) <= limit
    assert getattr(cost(scale(base, PAPER, phi + 0.00011)), field) > limit


def test_several_targets_hold_together():
    each = [solve_phi(B0, PAPER, macs=1e9), solve_phi(B0, PAPER, params=8e6), solve_phi(B0, PAPER, memory=30e6)]
    assert solve_phi(B0, PAPER, macs=1e9, params=8e6, memory=30e6) == min(each)


def test_a_target_of_the_cost_itself_is_met():
    phi = solve_phi(B0, PAPER, macs=cost(scale(B0, PAPER, 3)).macs)
    assert cost(scale(B0, PAPER, phi)).macs == cost(scale(B0, PAPER, 3)).macs
    assert phi >= 3


def test_odd_widths_that_rounding_would_grow():
    # 12 channels become 16 for the least φ but 0, on either side of it
    target = cost(ODD).params
    assert cost(scale(ODD, PAPER, -0.001)).params > target
    assert solve_phi(ODD, PAPER, params=target) == 0


def test_infeasible_targets_name_the_nearest():
    smallest = cost(scale(B0, PAPER, -10)).macs
    with pytest.raises(
        UserError, match=f"macs 1,000: out of reach; the smallest network, phi = -10, has macs {smallest:,}"
    ):
        solve_phi(B0, PAPER, macs=1000)
    # resolution alone: at 32 pixels, log2(31.5 / 224), it ends
    with pytest.raises(
        UserError, match=r"params 1,000: out of reach; the smallest network, phi = -2.83, has params 5,2"
    ):
        solve_phi(B0, Coefficients(1, 1, 2), params=1000)


@pytest.mark.parametrize(
    ("coefficients", "targets", "message"),
    [
        (PAPER, {}, "solve_phi needs a target"),
        (PAPER, {"macs": 0}, r"target macs must be in \(0, inf\], got 0"),
        (PAPER, {"memory": "x"}, "target memory must be a finite number, got 'x'"),
        (PAPER, {"macs": 1e30}, "every network up to phi = 20 fits"),
        (Coefficients(1, 1, 1), {"macs": 1e9}, "every network up to phi = 20 fits, with alpha=1 beta=1 gamma=1"),
        (Coefficients(1, 1, 2), {"params": 1e7}, "every network up to phi = 8.8022 fits, with .* set phi instead"),
    ],
)
def test_targets_that_say_nothing(coefficients, targets, message):
    with pytest.raises(UserError, match=message):
        solve_phi(B0, coefficients, **targets)
