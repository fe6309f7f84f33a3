"""Rules of scaling, worked out by hand from their papers."""

import math

import pytest

from effnas import Coefficients, UserError, cost
from effnas.scaling.compound import scale, scale_by
from effnas.scaling.rules import LACS, RULES, Compound, Shares, TinyNet, make_rule, published
from effnas.space.zoo import load_architecture, zoo

B0 = zoo("efficientnet_b0")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_leaves_the_base_at_phi_0(name):
    rule = make_rule(name)
    assert rule.name == name
    assert rule.low <= 0 <= rule.high
    assert rule(0) == pytest.approx((1, 1, 1, 1))
    assert scale_by(B0, rule, 0) == B0


@pytest.mark.parametrize("name", RULES)
def test_no_rule_costs_less_for_more(name):
    rule = make_rule(name)
    phis = [max(rule.low, -2), -1, -0.5, 0, 1, 2] if rule.high else [-4, -3, -2, -1, 0]
    macs = [cost(scale_by(B0, rule, phi)).macs for phi in phis if rule.low <= phi]
    assert macs == sorted(macs)
    assert macs[-1] > macs[0]


@pytest.mark.parametrize(
    ("name", "phi", "expected"),
    [
        ("depth", 2, (4, 1, 1)),
        ("width", 2, (1, 2, 1)),
        ("resolution", 2, (1, 1, 2)),
        # Dollár et al. 2021: d = s^.1, w = s^(.8/2), r = s^(.1/2) with s = 4; pycls' d1_w8_r1
        ("dwr", 2, (4**0.1, 4**0.4, 4**0.05)),
        ("compound", 2, (1.44, 1.21, 1.3225)),
        # tensorflow/tpu's x-gpu-b4 (2.40, 1.63, 282 px) has nominal MACs of log2 = 3.33
        ("lacs", 3.33, (2.40, 1.63, 282 / 224)),
        ("published", 4, (1.8, 1.4, 380 / 224)),
        ("published", 3.5, (1.6, 1.3, 340 / 224)),
    ],
)
def test_multipliers(name, phi, expected):
    assert make_rule(name)(phi)[:3] == pytest.approx(expected, rel=0.015 if name == "lacs" else 1e-9)


@pytest.mark.parametrize("name", ["depth", "width", "resolution", "dwr", "tinynet"])
def test_a_step_of_phi_doubles_the_nominal_macs(name):
    for phi in (-1.5, -1, -0.25):
        assert make_rule(name)(phi).macs_ratio == pytest.approx(2**phi)


@pytest.mark.parametrize("i", range(9))
def test_published_on_its_own_base_is_the_published_network(i):
    assert scale_by(B0, make_rule("published"), i) == zoo(f"efficientnet_b{i}")


@pytest.mark.parametrize("i", range(5))
def test_published_lite(i):
    assert scale_by(zoo("efficientnet_lite0"), published(lite=True), i) == zoo(f"efficientnet_lite{i}")


@pytest.mark.parametrize(
    ("resolution", "width", "depth"),
    # TinyNet-A…E: r, w, d of the authors' code (huawei-noah/Efficient-AI-Backbones, tinynet_pytorch)
    [(0.86, 1.0, 1.2), (0.84, 0.75, 1.1), (0.825, 0.54, 0.85), (0.68, 0.54, 0.695), (0.475, 0.51, 0.6)],
)
def test_tinynet_passes_through_its_networks(resolution, width, depth):
    phi = math.log2(depth * width**2 * resolution**2)
    assert make_rule("tinynet")(phi)[:3] == pytest.approx((depth, width, resolution))


def test_tinynet_shrinks_resolution_before_width():
    found = TinyNet()(-0.17)  # A, nearly: narrower in pixels alone, and deeper
    assert found.width == pytest.approx(1.0, abs=0.01)
    assert found.resolution < 0.9 < 1.1 < found.depth


def test_activations_of_fast_scaling_grow_with_about_the_root():
    """Dollár et al. 2021, section 4: activations s^0.6 for d1_w8_r1, s^0.5 for width, s for depth and resolution."""
    big = B0.with_(stem=128, head=5120, stages=tuple(scale(B0, Coefficients(4, 4, 1), 1).stages))
    base = cost(big)
    growth = {}
    for name in ("dwr", "width", "resolution"):
        found = cost(scale_by(big, make_rule(name), 2))
        growth[name] = math.log(found.activations / base.activations) / math.log(found.macs / base.macs)
    assert growth["resolution"] == pytest.approx(1, abs=0.03)
    assert growth["dwr"] == pytest.approx(0.6, abs=0.05)
    assert growth["width"] == pytest.approx(0.5, abs=0.03)


def test_coefficients_of_the_users():
    found = Coefficients(1.3, 1.1, 1.1)
    assert make_rule("compound", coefficients=found) == Compound(found)
    assert make_rule("lacs", coefficients=found)(1)[:3] == pytest.approx((1.3, 1.1, 1.1))
    assert make_rule("lacs") == Compound(LACS, "lacs")
    assert LACS.macs_ratio == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("widht", {}, "rule: unknown 'widht'. Did you mean 'width'.* Choose one of: compound, published, depth"),
        ("depth", {"shares": (1, 0, 0)}, "shares belong to rule=dwr, not to rule=depth"),
        ("dwr", {"coefficients": LACS}, "coefficients belong to rule=compound and rule=lacs, not to rule=dwr"),
        (
            "compound",
            {"coefficients": Coefficients(3, 3, 3)},
            r"coefficients 3, 3, 3: alpha·beta²·gamma² is 243; a step of phi must .* above 1 and at most 4",
        ),
        (
            "lacs",
            {"coefficients": Coefficients(1, 1, 1)},
            r"coefficients 1, 1, 1: alpha·beta²·gamma² is 1; a step of phi",
        ),
        ("dwr", {"shares": (0.5, 0.2, 0.2)}, "shares of depth, width and resolution must add up to 1, got 0.9"),
        ("dwr", {"shares": (1.5, -0.5, 0)}, r"shares: depth must be in \[0, 1\], got 1.5"),
        ("dwr", {"shares": (1, 0)}, r"shares must be three numbers, of depth, width and resolution, got \(1, 0\)"),
    ],
)
def test_mistakes(name, settings, message):
    with pytest.raises(UserError, match=message):
        make_rule(name, **settings)


@pytest.mark.parametrize(
    ("rule", "phi", "message"),
    [
        (
            make_rule("published"),
            9,
            "rule published: phi must be between 0 and 8, where its published table ends, got 9",
        ),
        (published(lite=True), 5, "phi must be between 0 and 4"),
        (TinyNet(), 0.5, "rule tinynet: phi must be between -4.828 and 0"),
        (Shares((0, 0, 1), "resolution"), -7, r"phi = -7, rule resolution: the resolution would be 19.8 pixels"),
    ],
)
def test_phi_out_of_a_rule(rule, phi, message):
    with pytest.raises(UserError, match=message):
        scale_by(B0, rule, phi)


def test_a_builders_network_scales_by_the_same_rules():
    base = load_architecture("resnet18")
    found = scale_by(base, make_rule("depth"), 1)
    assert (found.depth, found.width, found.resolution) == (2, 1, 224)
    assert found.name == "resnet18_depth_phi1"
    assert cost(found).macs > 1.8 * cost(base).macs
