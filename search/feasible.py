"""Members of a space that meet the limits known before training: found, or shown to be out of reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from ..evaluate.latency.laws import KnownLatency
from ..space.cost import CostBatch, cost, cost_batch
from ..space.errors import UserError
from ..space.formulas import Cost
from ..space.network_spec import NetworkSpec
from ..space.space import Decisions, SearchSpace
from .encoding import Rows, list_neighbours
from .objective import Objective, list_known

DRAWS = 4096
#: The same where members are built one by one.
SINGLE_DRAWS = 512
#: Random members that the descent starts from when none of the draws is feasible.
STARTS = 8


class Space(Protocol):
    """What a space must have to be searched; :class:`~effnas.space.space.SearchSpace` has more."""

    name: str

    @property
    def distributions(self) -> Mapping[str, CategoricalDistribution]:
        """The decisions."""

    def build(self, decisions: Mapping[str, Any]) -> NetworkSpec:
        """The network that the decisions describe.

        Raises:
            UserError: they describe none.
        """


def cost_of(network: NetworkSpec, latency: KnownLatency | None = None) -> Cost:
    """What a network costs, with its latency where that is known before training."""
    found = cost(network)
    return found if latency is None else replace(found, latency=latency(network))


def cost_rows(space: SearchSpace, indices: Rows, latency: KnownLatency | None = None) -> CostBatch:
    """The same of the members with these choice numbers; no latency where only single networks can be asked for it."""
    batch = space.batch(indices)
    found, many = cost_batch(batch), getattr(latency, "many", None)
    return found if many is None else replace(found, latency=np.asarray(many(batch, found), np.float64))


def find_feasible_member(
    space: Space, objective: Objective, rng: np.random.Generator, latency: KnownLatency | None = None
) -> Decisions:
    """A random member that meets the limits; where such are rare, one that a descent on the costs finds.

    In a space that is no :class:`~effnas.space.space.SearchSpace` members are only drawn at random, fewer of them.

    Raises:
        UserError: nothing was found; the nearest member is named with its cost.
    """
    if not isinstance(space, SearchSpace):
        return _draw_feasible(space, objective, rng, latency)

    def excess_at(indices: Rows) -> NDArray[np.float64]:
        return compute_excess(objective, cost_rows(space, indices, latency))

    indices = space.sample_indices(DRAWS, rng)
    excess = excess_at(indices)
    if (excess <= 0).any():
        return space.decisions(indices[int(np.argmax(excess <= 0))])
    sizes = [len(labels) for labels in space.choices.values()]
    best, nearest = np.inf, indices[0]
    for start in np.argsort(excess, kind="stable")[:STARTS]:
        row, value = descend_to_limits(indices[start], float(excess[start]), sizes, excess_at)
        if value <= 0:
            return space.decisions(row)
        if value < best:
            best, nearest = value, row
    raise _explain_out_of_reach(space, objective, cost_of(space.build(space.decisions(nearest)), latency))


def _draw_feasible(
    space: Space, objective: Objective, rng: np.random.Generator, latency: KnownLatency | None
) -> Decisions:
    best, nearest, reason = np.inf, None, ""
    for _ in range(SINGLE_DRAWS):
        decisions: dict[str, Any] = {
            name: d.choices[int(rng.integers(len(d.choices)))] for name, d in space.distributions.items()
        }
        try:
            costs = cost_of(space.build(decisions), latency)
        except UserError as error:
            reason = reason or str(error)
            continue
        excess = max(objective.violations(costs).values(), default=-np.inf)
        if excess <= 0:
            return decisions
        if excess < best:
            best, nearest = excess, costs
    if nearest is None:
        raise UserError(
            f"space {space.name}: none of {SINGLE_DRAWS} random members could be built; the first: {reason}"
        )
    raise _explain_out_of_reach(space, objective, nearest)


def _explain_out_of_reach(space: Space, objective: Objective, member: Cost) -> UserError:
    limits = [m for m in list_known(member) if getattr(objective, f"max_{m}", None) is not None]
    wanted = ", ".join(f"{m} ≤ {_show(m, getattr(objective, f'max_{m}'))}" for m in limits)
    has = ", ".join(f"{m} {_show(m, getattr(member, m))}" for m in limits)
    return UserError(f"objective: no network of the space {space.name} meets {wanted}; the nearest found has {has}")


def explain_broken(objective: Objective, costs: Cost, metrics: Iterable[str]) -> str:
    """Which limits a network breaks, with its costs."""
    most = {metric: getattr(objective, f"max_{metric}", 0) for metric in metrics}
    return ", ".join(f"{m} {_show(m, getattr(costs, m))} > {_show(m, limit)}" for m, limit in most.items())


def _show(metric: str, value: float) -> str:
    return f"{value:.4g} s" if metric == "latency" else f"{value:,.0f}"


def compute_excess(objective: Objective, costs: CostBatch) -> NDArray[np.float64]:
    """The largest ``cost / limit - 1`` of each network; at most 0 where all limits hold, minus infinity without any."""
    violations = list(objective.violations(costs).values())  # type: ignore[arg-type]  # columns instead of numbers
    if not violations:
        return np.full(len(costs.macs), -np.inf)
    excess: NDArray[np.float64] = np.max(np.stack([np.asarray(v, np.float64) for v in violations]), axis=0)
    return excess


def descend_to_limits(
    row: NDArray[np.int64],
    value: float,
    sizes: Sequence[int] | NDArray[np.int64],
    excess: Callable[[Rows], NDArray[np.float64]],
) -> tuple[NDArray[np.int64], float]:
    """Change the one level that lowers the excess most, until the limits hold or nothing helps.

    Args:
        row: level numbers to begin with, shape (d,).
        value: its excess.
        sizes: number of levels of each column.
        excess: of rows, shape (n, d) to (n,).
    """
    while value > 0:
        moves = list_neighbours(row, sizes)
        values = excess(moves)
        best = int(np.argmin(values))
        if values[best] >= value:
            break
        row, value = moves[best], float(values[best])
    return row, value
