"""Members of a space within limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from effnas.search.feasible import find_feasible_member
from effnas.search.objective import Accuracy
from effnas.space.cost import cost, cost_batch
from effnas.space.errors import UserError
from effnas.space.space import SearchSpace, load_space


def macs_of_random_members(space: SearchSpace, n: int = 20_000) -> Any:
    return np.sort(cost_batch(space.batch(space.sample_indices(n, np.random.default_rng(5)))).macs)


@pytest.mark.parametrize("name", ["tiny", "mobile_cifar", "mnasnet", "accel_nasbench"])
@pytest.mark.parametrize("share", [1.0, 0.01, 0.0005])
def test_members_meet_the_limit_and_differ(name: str, share: float) -> None:
    space = load_space(name)
    macs = macs_of_random_members(space)
    limit = float(macs[int(share * len(macs)) - 1])
    members = [find_feasible_member(space, Accuracy(max_macs=limit), np.random.default_rng(i)) for i in range(6)]
    assert all(space.contains(member) for member in members)
    assert all(cost(space.build(member)).macs <= limit for member in members)
    assert len({space.build(member).digest for member in members}) >= 3


def test_rarer_than_random_draws_find() -> None:
    """The cheapest of 10^13 and more is found by descent."""
    space = load_space("mnasnet")
    with pytest.raises(UserError, match="no network of the space mnasnet meets macs ≤ 1; the nearest found") as error:
        find_feasible_member(space, Accuracy(max_macs=1), np.random.default_rng(1))
    smallest = int(str(error.value).rpartition(" ")[2].replace(",", ""))
    assert smallest < 0.8 * macs_of_random_members(space)[0]
    member = find_feasible_member(space, Accuracy(max_macs=smallest), np.random.default_rng(0))
    assert cost(space.build(member)).macs == smallest


def every_member(space: SearchSpace) -> Any:
    choices = np.array(np.meshgrid(*[range(len(labels)) for labels in space.choices.values()], indexing="ij"))
    return cost_batch(space.batch(choices.reshape(len(space.choices), -1).T))


def test_several_limits_at_once() -> None:
    space = load_space("tiny")
    costs = every_member(space)
    example = int(np.argsort(costs.macs, kind="stable")[len(costs.macs) // 500])  # so there is one
    names = ("macs", "params", "activations", "peak_memory")
    limits = {f"max_{name}": float(getattr(costs, name)[example]) for name in names}
    within = np.logical_and.reduce([getattr(costs, name) <= limits[f"max_{name}"] for name in names])
    assert within.mean() < 0.002
    for seed in range(5):
        member = cost(space.build(find_feasible_member(space, Accuracy(**limits), np.random.default_rng(seed))))
        assert all(getattr(member, name) <= limits[f"max_{name}"] for name in names)


def test_the_generator_decides() -> None:
    space, objective = load_space("tiny"), Accuracy(max_macs=300e3)
    first, again = (find_feasible_member(space, objective, np.random.default_rng(3)) for _ in range(2))
    assert first == again


def test_without_limits_any_member_will_do() -> None:
    space = load_space("tiny")
    assert space.contains(find_feasible_member(space, Accuracy(), np.random.default_rng(0)))


def test_limits_out_of_reach_name_the_nearest() -> None:
    space = load_space("tiny")
    params = every_member(space).params
    objective = Accuracy(max_params=500)
    text = f"the space tiny meets params ≤ 500; the nearest found has params {int(params.min()):,}"
    with pytest.raises(UserError, match=f"^objective: no network of {text}$"):
        find_feasible_member(space, objective, np.random.default_rng(0))
