"""Sampling rules: which members a step trains."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from effnas.evaluate.supernet.members import Members
from effnas.evaluate.supernet.rules import RULES, WINDOW, Sampler
from effnas.space.errors import UserError
from effnas.space.space import SearchSpace, load_space


@pytest.fixture(scope="module")
def members() -> Members:
    return Members(load_space("tiny"))


def digests(members: Members, rule: str, seed: int = 0, steps: int = 6) -> list[list[str]]:
    sampler = Sampler(members, rule, seed)
    return [[pick.architecture.digest for pick in sampler.pick(step)] for step in range(steps)]


@pytest.mark.parametrize("rule", RULES)
def test_a_step_draws_the_same_whenever_it_is_asked_for(rule: str, members: Members) -> None:
    found = digests(members, rule)
    sampler = Sampler(members, rule, 0)
    assert [p.architecture.digest for p in sampler.pick(4)] == found[4]  # without the steps before it
    assert [p.architecture.digest for p in sampler.pick(1)] == found[1]
    assert digests(members, rule, seed=1) != found
    assert len({tuple(row) for row in found}) == 6


def test_rules_differ(members: Members) -> None:
    assert len({str(digests(members, rule)) for rule in RULES}) == len(RULES)
    with pytest.raises(UserError, match=r"evaluator.rule: unknown 'sandwitch'. Did you mean 'sandwich'\?"):
        Sampler(members, "sandwitch", 0)


def test_sandwich_is_the_largest_then_the_smallest_and_two_between(members: Members) -> None:
    for step in range(3):
        picks = Sampler(members, "sandwich", 0).pick(step)
        assert [pick.architecture.digest for pick in picks[:2]] == [members.largest.digest, members.smallest.digest]
        assert [(pick.taught, pick.regularise) for pick in picks] == [(False, True)] + [(True, False)] * 3


def test_single_path_is_one_uniform_member(members: Members) -> None:
    picks = [Sampler(members, "single_path", 0).pick(step) for step in range(300)]
    assert {len(row) for row in picks} == {1}
    assert {(p.taught, p.regularise) for row in picks for p in row} == {(False, True)}
    repeats = Counter(row[0].architecture.stages[1].repeats for row in picks)
    assert set(repeats) == {1, 2, 3}
    assert min(repeats.values()) > 70


def test_fair_trains_every_choice_of_a_step_as_often() -> None:
    space = SearchSpace(
        "three",
        [{"block": "mbconv", "channels": 8, "expand_ratio": [1, 2, 3], "kernel_size": [3, 5, 7], "repeats": [1, 2]}],
    )
    members = Members(space)
    for step in range(5):
        picks = Sampler(members, "fair", 0).pick(step)
        assert len(picks) == 3
        stages = [pick.architecture.stages[0] for pick in picks]
        assert sorted(stage.expand_ratio for stage in stages) == [1, 2, 3]
        assert sorted(stage.kernel_size for stage in stages) == [3, 5, 7]
        assert sorted(Counter(stage.repeats for stage in stages).values()) == [1, 2]  # three steps for two choices
        assert not any(pick.taught for pick in picks)


def test_complexity_moves_through_the_macs_by_small_steps(members: Members) -> None:
    sampler, uniform = (Sampler(members, rule, 0) for rule in ("complexity", "single_path"))
    steps = range(4 * WINDOW)

    def jumps(of: Sampler) -> float:
        macs = [of.pick(step)[0].architecture.cost.macs for step in steps]
        return float(np.mean([abs(np.log(a / b)) for a, b in itertools.pairwise(macs)]))

    assert jumps(sampler) < 0.2 * jumps(uniform)
    repeats = Counter(sampler.pick(step)[0].architecture.stages[1].repeats for step in steps)
    assert min(repeats.values()) > 25  # of a third of 128 each
