"""From budgets to φ, for every rule and every kind of limit."""

import pytest

from effnas import UserError, cost
from effnas.scaling.compound import scale_by
from effnas.scaling.rules import make_rule
from effnas.scaling.solve import STEPS, TARGETS, solve_phi
from effnas.space.zoo import load_architecture, zoo

B0 = zoo("efficientnet_b0")
UP = ("compound", "published", "depth", "width", "resolution", "dwr", "lacs")


@pytest.mark.parametrize("name", UP)
@pytest.mark.parametrize("target", TARGETS)
def test_the_largest_network_within(name, target):
    rule = make_rule(name)
    growing = {"resolution": ("macs", "activations", "memory"), "depth": ("macs", "params", "activations")}
    if target not in growing.get(name, TARGETS):
        limit = 2 * getattr(cost(B0), TARGETS[target])
        with pytest.raises(UserError, match="every network up to phi"):
            solve_phi(B0, rule, **{target: limit})
        return
    limit = 2 * getattr(cost(B0), TARGETS[target])
    phi = solve_phi(B0, rule, **{target: limit})
    at, beyond = (getattr(cost(scale_by(B0, rule, p)), TARGETS[target]) for p in (phi, phi + 1 / STEPS))
    assert at <= limit < beyond


def test_several_limits_at_once():
    rule = make_rule("width")
    each = [solve_phi(B0, rule, **{name: 2 * getattr(cost(B0), of)}) for name, of in TARGETS.items()]
    both = {name: 2 * getattr(cost(B0), of) for name, of in TARGETS.items()}
    assert solve_phi(B0, rule, **both) == min(each)


def test_shrinking():
    rule = make_rule("tinynet")
    phi = solve_phi(B0, rule, macs=1e8)
    assert phi < 0
    assert 0.9e8 < cost(scale_by(B0, rule, phi)).macs <= 1e8
    with pytest.raises(UserError, match=r"target macs 1,000,000: out of reach; the smallest network, phi = -4.82"):
        solve_phi(B0, rule, macs=1e6)


def test_a_rule_that_cannot_shrink():
    rule = make_rule("published")
    message = "target macs 100,000,000: out of reach; the smallest network, phi = 0, has macs 385,814,752"
    with pytest.raises(UserError, match=message):
        solve_phi(B0, rule, macs=1e8)


def test_latency_is_what_measure_says_and_each_network_is_measured_once():
    seen = []

    def measure(network):
        seen.append(network.digest)
        return cost(network).macs / 1e10  # seconds

    rule = make_rule("compound")
    phi = solve_phi(B0, rule, latency=0.1, measure=measure)
    assert phi == solve_phi(B0, rule, macs=1e9)
    assert len(seen) == len(set(seen)) < 30
    seen.clear()
    assert solve_phi(B0, rule, latency=0.2, macs=6e8, measure=measure) == solve_phi(B0, rule, macs=6e8)
    assert max(cost(scale_by(B0, rule, p)).macs for p in (0, phi)) < 2e9


def test_latency_needs_a_measure():
    with pytest.raises(UserError, match="target latency needs measure, a function that measures it"):
        solve_phi(B0, make_rule("compound"), latency=0.1)
    with pytest.raises(
        UserError, match=r"target latency 1e-09 s: out of reach; the smallest network, phi = -10, has latency"
    ):
        solve_phi(B0, make_rule("compound"), latency=1e-9, measure=lambda network: cost(network).macs / 1e10)


def test_a_builders_network():
    base = load_architecture("resnet18").with_(resolution=64)
    rule = make_rule("width")
    limit = 2 * cost(base).macs
    phi = solve_phi(base, rule, macs=limit)
    assert 0.5 < phi < 1.5
    assert 0.9 * limit < cost(scale_by(base, rule, phi)).macs <= limit
