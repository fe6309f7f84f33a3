"""Compound scaling: one baseline and one number φ give a network of any size (Tan & Le 2019, section 3.3).

Torch-free, so that ``effnas scale`` starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from ..space.architecture import Architecture
from ..space.cost import cost
from ..space.errors import UserError, check_number
from ..space.multipliers import apply_multipliers, round_filters, round_repeats
from .coefficients import Coefficients

__all__ = ["round_filters", "round_repeats", "scale", "solve_phi"]

#: ``solve_phi`` searches [LOWEST, HIGHEST] in steps of 1/STEPS: from 1/100 to 400,000 times B0's MACs with PAPER.
LOWEST, HIGHEST, STEPS = -10, 20, 10_000
#: B0's dropout rises linearly from 0.2 to B7's 0.5, which is φ = 7 by MACs.
_DROPOUT_GROWTH = 1.5 / 7
_HIGHEST_DROPOUT = 0.899
#: Architecture's own limit, checked here to say which φ broke it.
_HIGHEST_RESOLUTION = 100_000


def scale(architecture: Architecture, coefficients: Coefficients, phi: float) -> Architecture:
    """The network with depth × α^φ, width × β^φ and resolution × γ^φ, rounded as the official code does.

    φ is any real number: 0 gives an equal network, negative ones shrink. The dropout rate follows as
    ``dropout · (1 + 1.5·φ/7)``, kept in [0, 0.9); ``drop_path`` stays the rate of the last of the (now more) blocks.

    Raises:
        UserError: φ is not a number in [−100, 100], the resolution would fall below the total stride (no pixel left
            to see), or the network would grow out of bounds.
    """
    check_number("phi", phi, -100, 100)
    side = architecture.resolution * coefficients.gamma**phi
    smallest = min(architecture.total_stride, architecture.resolution)
    if side > _HIGHEST_RESOLUTION or round(side) < smallest:
        raise UserError(
            f"phi = {phi:g}: the resolution would be {side:.4g} pixels; it must be between {smallest} "
            f"(the total stride is {architecture.total_stride}) and {_HIGHEST_RESOLUTION:,}"
        )
    dropout = min(max(architecture.dropout * (1 + _DROPOUT_GROWTH * phi), 0.0), _HIGHEST_DROPOUT)
    try:
        scaled = apply_multipliers(
            architecture,
            width=coefficients.beta**phi,
            depth=coefficients.alpha**phi,
            resolution=round(side),
            dropout=dropout if phi else None,
        )
    except UserError as error:
        raise UserError(f"phi = {phi:g}, {coefficients}: {error}") from None
    return scaled.with_(name=f"{architecture.name or 'network'}"[:180] + f"_phi{phi:g}")


def solve_phi(
    architecture: Architecture,
    coefficients: Coefficients,
    *,
    macs: float | None = None,
    params: float | None = None,
    memory: float | None = None,
) -> float:
    """The largest φ, to 1/10,000, whose network keeps within every target given.

    The cost is a step function of φ that never falls, so bisection finds the last step that fits; the network of the φ
    returned was costed and fits. ``memory`` is ``cost(...).peak_memory`` in bytes.

    Raises:
        UserError: no target, a target that is not a positive number, one that no φ of at least −10 meets (the message
            gives the nearest cost that can be had), or targets that every φ up to 20 meets.
    """
    targets = {"macs": macs, "params": params, "peak_memory": memory}
    limits = {name: value for name, value in targets.items() if value is not None}
    if not limits:
        raise UserError("solve_phi needs a target: macs, params or memory")
    for name, value in limits.items():
        check_number(f"target {name}", value, 0, open_low=True)

    @cache
    def costs(step: int) -> dict[str, int] | None:
        """Costs at φ = step / STEPS, None where there is no such network."""
        try:
            found = cost(scale(architecture, coefficients, step / STEPS))
        except UserError:
            return None
        return {name: getattr(found, name) for name in limits}

    def fits(step: int) -> bool:
        found = costs(step)
        return found is not None and all(found[name] <= limit for name, limit in limits.items())

    # φ = 0 comes first: there widths stay unrounded, so it may be cheaper than its neighbours on either side.
    if fits(0):
        low = _bisect(fits, 0, HIGHEST * STEPS + 1)
        if low == HIGHEST * STEPS or costs(low + 1) is None:  # the search ended, not the target
            raise UserError(
                f"target {_show(limits)}: every network up to phi = {low / STEPS:g} fits, with {coefficients}; "
                "set phi instead of a target"
            )
        return low / STEPS
    # resolutions below the total stride end the range: start from the lowest φ that still gives a network
    low = LOWEST * STEPS
    if costs(low) is None:
        low = _bisect(lambda step: costs(step) is None, low, 0) + 1
    if not fits(low):
        nearest = costs(low) or {}
        raise UserError(
            f"target {_show(limits)}: out of reach; the smallest network, phi = {low / STEPS:g}, has {_show(nearest)}"
        )
    return _bisect(fits, low, 0) / STEPS


def _bisect(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The last whole number of [low, high) that ``holds``, which low does and high does not."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _show(amounts: Mapping[str, float]) -> str:
    """Amounts by name as text: "macs 1,000,000 and params 5,000"."""
    return " and ".join(f"{name} {amount:,.0f}" for name, amount in amounts.items())
