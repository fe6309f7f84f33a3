"""The larger members of a family: which networks they would be, and the φ that a cost needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...space.built import BuiltNetwork, check_network
from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ...space.zoo import load_architecture
from ..coefficients import Coefficients, load_coefficients
from ..compound import scale_by
from ..rules import Rule, load_shares, make_rule
from ..solve import solve_phi
from .members import AXES, Member
from .reading import Found, costs_of

#: How ``effnas scale`` names a network: the φ at the end.
_PHI = re.compile(r"_phi(-?[0-9.]+(?:e-?[0-9]+)?)$")
#: Steps of φ that an answer is given in.
STEP = 0.01


class Family:
    """A baseline and the rule that it grows by.

    Args:
        baseline: of φ = 0.
        rule: how it grows.
        rounding: ``divisor`` and ``depth_rounding`` as ``effnas scale`` has them.
    """

    def __init__(self, baseline: NetworkSpec, rule: Rule, rounding: Mapping[str, Any]) -> None:
        self.baseline, self._rule, self._rounding = baseline, rule, dict(rounding)

    def network(self, phi: float) -> NetworkSpec:
        """The member of φ."""
        return scale_by(self.baseline, self._rule, phi, **self._rounding)

    def phi_of(self, axis: str, amount: float) -> float | None:
        """The smallest φ, in steps of 0.01, whose network costs so much; None: no φ of the rule does."""
        if axis == "latency":
            return None
        try:
            limit: dict[str, Any] = {axis: amount}
            below = solve_phi(self.baseline, self._rule, **limit, **self._rounding)
        except UserError:
            return None
        step = round(below / STEP)
        for k in range(step - 1, step + 400):
            try:
                if costs_of(self.network(k * STEP))[axis] >= amount:
                    return round(k * STEP, 2)
            except UserError:
                return None
        return None

    def check_members(self, members: Sequence[Member]) -> None:
        """Members whose names say their φ must be the networks of that φ.

        Raises:
            UserError: one is not: the family is another one.
        """
        for member in members:
            found = _PHI.search(member.name)
            if found is None or member.network is None:
                continue
            made = self.network(float(found[1]))
            same = made.digest == member.network.digest
            if not same and all(costs_of(made)[axis] == member.costs.get(axis) for axis in AXES if axis != "latency"):
                same = True
            if not same:
                raise UserError(
                    f"{member.name} is not what the baseline {self.baseline.name} becomes at phi = {found[1]}: give "
                    "the family's own baseline, coefficients and rule"
                )


def find_family(
    found: Sequence[Found],
    members: Sequence[Member],
    *,
    baseline: NetworkSpec | str | None,
    network: BuiltNetwork | None,
    rule: str | None,
    coefficients: Any,
    shares: Any,
    rounding: Mapping[str, Any],
) -> Family | None:
    """The family of the members, as far as options and folders tell it; None: they do not.

    Args:
        found: what the folders tell of it.
        members: of the law; the one that is called ``…_phi0`` may be the baseline.
        baseline, network, rule, coefficients, shares, rounding: as the user gives them.

    Raises:
        UserError: the folders tell of two families, or the members are not of this one.
    """
    own = check_network(network)
    base = load_architecture(baseline, own) if isinstance(baseline, str) else baseline or own
    told = {one.baseline.digest: one.baseline for one in found if one.baseline is not None}
    if base is None and len(told) > 1:
        names = ", ".join(one.name or digest for digest, one in told.items())
        raise UserError(f"the runs are of different baselines ({names}): give baseline=FILE")
    if base is None:
        base = next(iter(told.values()), None) or _named_baseline(members)
    if base is None:
        return None
    base = _with_classes(base, members)
    ways = {str(one.coefficients): one.coefficients for one in found if one.coefficients is not None}
    if coefficients is None and len(ways) > 1:
        raise UserError(f"the runs are of different coefficients ({'; '.join(ways)}): give coefficients=FILE")
    given: Coefficients | None = next(iter(ways.values()), None) if coefficients is None else None
    if coefficients is not None:
        given = load_coefficients(coefficients)
    rule = rule or next((one.rule for one in found if one.rule), "compound")
    made = make_rule(
        rule,
        coefficients=given if rule in ("compound", "lacs") else None,
        shares=load_shares(shares),
        lite=base.fixed_ends,
    )
    base.check_scalable(rounding["depth_rounding"], rounding["divisor"])
    family = Family(base, made, rounding)
    family.check_members(members)
    return family


def _named_baseline(members: Sequence[Member]) -> NetworkSpec | None:
    named = [m.network for m in members if m.network is not None and (p := _PHI.search(m.name)) and float(p[1]) == 0]
    return named[0] if len(named) == 1 else None


def _with_classes(base: NetworkSpec, members: Sequence[Member]) -> NetworkSpec:
    """As the members were trained: a training gives its network as many classes as the data has."""
    known = {(m.network.num_classes, m.network.in_channels) for m in members if m.network is not None}
    if len(known) != 1:
        return base
    (classes, channels) = known.pop()
    return base.with_(num_classes=classes, in_channels=channels)
