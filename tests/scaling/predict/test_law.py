"""The law of a family: what it recovers, how often its interval holds, and published families."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest

from effnas.scaling.predict.checks import find_off_law, run_backtests
from effnas.scaling.predict.law import Equation, Prior, fit_law
from effnas.scaling.predict.members import Member
from effnas.space.errors import UserError

COSTS = [0.4e9, 0.7e9, 1.0e9, 1.9e9, 4.5e9, 10e9]


def truth(c: float, b: float, first: float) -> Equation:
    """With an error of ``first`` at the smallest cost."""
    return Equation(c, (first - c) * COSTS[0] ** b, b)


def members(accuracies: list[float], costs: list[float] | None = None, runs: int = 1) -> list[Member]:
    costs = COSTS if costs is None else costs
    return [
        Member(f"m{i}", accuracy, {"macs": cost}, runs, None, None)
        for i, (accuracy, cost) in enumerate(zip(accuracies, costs, strict=False))
    ]


def published(family: str, tag: str, shared_data: Path) -> list[Member]:
    """Of timm's results."""
    with (shared_data / "timm_results" / "networks.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["tag"] == tag and re.fullmatch(family, row["model"])]
    found = [
        Member(row["model"], float(row["top1"]) / 100, {"macs": 1e9 * float(row["gmacs"])}, 1, None, None)
        for row in rows
    ]
    return sorted(found, key=lambda member: member.costs["macs"])


@pytest.mark.parametrize("c", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("b", [0.3, 0.6, 1.0])
def test_a_law_without_noise_is_found(c: float, b: float) -> None:
    law = truth(c, b, 0.5)
    found = fit_law(COSTS, [law.accuracy(cost) for cost in COSTS])
    for factor in (2, 5):
        cost = factor * COSTS[-1]
        said = found.predict(cost)
        assert said.accuracy == pytest.approx(law.accuracy(cost), abs=0.005), (c, b, factor)
        assert said.low <= said.accuracy <= said.high
        assert found.equation.accuracy(cost) == pytest.approx(said.accuracy, abs=1e-9)


def test_the_interval_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        b, c = 0.86 * math.exp(0.35 * rng.standard_normal()), rng.uniform(0.05, 0.2)
        law = truth(c, b, rng.uniform(0.25, 0.4))
        errors = [1 - law.accuracy(cost) for cost in (*COSTS, 40e9)]
        seen = [1 - error * math.exp(0.01 * rng.standard_normal()) for error in errors]
        said = fit_law(COSTS[:5], seen[:5]).predict(40e9)
        inside += said.low <= seen[-1] <= said.high
    assert 0.8 <= inside / 60 <= 0.99


def test_more_members_narrow_the_interval_and_distance_widens_it() -> None:
    law = truth(0.15, 0.7, 0.3)
    widths = []
    for count in (4, 5, 6):
        said = fit_law(COSTS[:count], [law.accuracy(cost) for cost in COSTS[:count]]).predict(40e9)
        widths.append(said.high - said.low)
    assert widths[0] > widths[1] > widths[2]
    found = fit_law(COSTS, [law.accuracy(cost) for cost in COSTS])
    spans = [found.predict(cost) for cost in (12e9, 40e9, 160e9)]
    assert spans[0].high - spans[0].low < spans[1].high - spans[1].low < spans[2].high - spans[2].low


def test_the_noise_of_trainings_counts_less_the_more_there_are() -> None:
    law = truth(0.15, 0.7, 0.3)
    accuracies = [law.accuracy(cost) for cost in COSTS]
    quiet = fit_law(COSTS, accuracies)
    one = fit_law(COSTS, accuracies, runs=[1] * 6, noise=0.05).predict(20e9)
    many = fit_law(COSTS, accuracies, runs=[20] * 6, noise=0.05).predict(20e9)
    assert one.high - one.low > many.high - many.low > quiet.predict(20e9).high - quiet.predict(20e9).low


def test_the_equation_answers_what_is_asked_of_it() -> None:
    law = Equation(0.15, 3000.0, 0.5)
    cost = law.cost(0.8)
    assert cost is not None
    assert law.accuracy(cost) == pytest.approx(0.8)
    assert law.cost(0.85) is None
    at = law.worthwhile(0.005)
    assert law.accuracy(2 * at) - law.accuracy(at) == pytest.approx(0.005)
    found = fit_law(COSTS, [law.accuracy(one) for one in COSTS])
    low, high = found.worthwhile(0.005)
    assert low is not None
    assert high is not None
    assert low < at < high
    low, high, probability = found.needed(0.84)
    assert low is not None
    assert low < law.cost(0.84) < (high or math.inf)  # type: ignore[operator]
    assert 0.5 < probability <= 1
    assert found.needed(0.99) == (None, None, 0.0)


def test_too_few_members_are_refused() -> None:
    with pytest.raises(UserError, match="a law needs at least 4 members of different macs, got 3"):
        fit_law([1e9, 2e9, 2e9, 4e9], [0.7, 0.75, 0.75, 0.78])


def test_a_prior_of_ones_own() -> None:
    accuracies = [0.70, 0.75, 0.78, 0.80]
    wide, narrow = (fit_law(COSTS[:4], accuracies, prior=Prior(factor=factor)).predict(40e9) for factor in (0.6, 0.15))
    assert narrow.high - narrow.low < wide.high - wide.low


# -- members off the law ---------------------------------------------------------------------------------


def test_a_member_off_the_law_is_named_and_does_not_bend_it() -> None:
    law = truth(0.15, 0.7, 0.3)
    accuracies = [law.accuracy(cost) for cost in COSTS]
    kept, off = find_off_law(members(accuracies), "macs", 0.0)
    assert len(kept) == 6
    assert off == []
    for place, shift, words in ((2, 0.03, "above the law"), (3, -0.03, "falls below"), (5, -0.05, "falls below")):
        bent = [a + shift * (i == place) for i, a in enumerate(accuracies)]
        kept, off = find_off_law(members(bent), "macs", 0.0)
        assert [one.member.name for one in off] == [f"m{place}"], (place, shift)
        assert words in off[0].reason
        assert off[0].expected.accuracy == pytest.approx(accuracies[place], abs=0.006)


def test_four_members_are_never_fewer() -> None:
    kept, off = find_off_law(members([0.70, 0.76, 0.60, 0.80]), "macs", 0.0)
    assert (len(kept), off) == (4, [])


def test_backtests_know_only_what_was_there() -> None:
    law = truth(0.15, 0.7, 0.3)
    accuracies = [law.accuracy(cost) for cost in COSTS]
    found = run_backtests(members(accuracies), "macs", 0.0)
    assert [(len(one.known), one.member.name) for one in found] == [(4, "m4"), (4, "m5"), (5, "m5")]
    changed = run_backtests(members([*accuracies[:5], 0.1]), "macs", 0.0)
    assert changed[0].predicted == found[0].predicted
    assert changed[1].predicted == found[1].predicted


# -- published families ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "tag", "points"),
    [
        (r"tf_efficientnet_b\d", "aa_in1k", 0.8),
        (r"tf_efficientnet_b\d", "ap_in1k", 0.5),
        (r"tf_efficientnet_b\d", "ns_jft_in1k", 0.7),
        (r"xcit_.*p8_224", "fb_dist_in1k", 0.9),
        (r"repghostnet_\d+", "in1k", 0.5),
        (r"mobilevitv2_\d+", "cvnets_in1k", 0.5),
    ],
)
def test_the_largest_of_a_published_family(family: str, tag: str, points: float, shared_data: Path) -> None:
    found = published(family, tag, shared_data)
    known = found[:5]
    law = fit_law([m.costs["macs"] for m in known], [m.accuracy for m in known])
    last = found[-1]
    said = law.predict(last.costs["macs"])
    assert abs(said.accuracy - last.accuracy) < points / 100
    assert said.low <= last.accuracy <= said.high
