"""What an ablation trains: the base, and what each rule makes of it at each budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optuna.distributions import CategoricalDistribution, FloatDistribution

from ...search.problem import Enqueued
from ...space.cost import cost
from ...space.errors import UserError, check_choice, check_number
from ...space.multipliers import DIVISOR
from ...space.network_spec import NetworkSpec
from ..coefficients import load_coefficients
from ..meet import Met, meet
from ..rules import RULES, Multipliers, make_rule

#: The base's place among the rules.
BASE = "base"


class Member(NamedTuple):
    """One network of an ablation: a rule's at a multiple of the base's MACs."""

    rule: str
    factor: float
    met: Met

    @property
    def network(self) -> NetworkSpec:
        """The network."""
        return self.met.network


def make_ablation_problem(members: Sequence[Member], seed: int, seeds: int) -> Enqueued:
    """The trainings as the search loop sees them: rule, factor and seed are the parameters of a trial."""
    networks = {(m.rule, m.factor): m.network for m in members}
    parameters = {"rule": CategoricalDistribution((BASE, *RULES)), "factor": FloatDistribution(0, 1e6)}
    return Enqueued(lambda params: networks[params["rule"], params["factor"]], parameters, seed, seeds)


def checked_rules(rules: Any) -> tuple[str, ...]:
    """Two or more different names of rules.

    Raises:
        UserError: they are not.
    """
    given = [rules] if isinstance(rules, str) else list(rules) if isinstance(rules, Sequence) else [rules]
    for name in given:
        check_choice("rules", name, RULES)
        if given.count(name) > 1:
            raise UserError(f"rules: {name} appears twice")
    if len(given) < 2:
        raise UserError(f"rules: give at least two, got {given}; choose from: {', '.join(RULES)}")
    return tuple(given)


def checked_factors(factors: Any) -> tuple[float, ...]:
    """Different positive numbers other than 1, the smallest first.

    Raises:
        UserError: they are not.
    """
    given = list(factors) if isinstance(factors, Sequence) and not isinstance(factors, str) else [factors]
    if not given:
        raise UserError("factors: none given; use one or more multiples of the base's MACs, like [2, 4]")
    for factor in given:
        check_number("factors: factor", factor, 0, 1e6, open_low=True)
        if factor == 1:
            raise UserError("factors: 1 is the base itself, which is trained anyway; use others, like [2, 4]")
        if given.count(factor) > 1:
            raise UserError(f"factors: {factor:g} appears twice")
    return tuple(sorted(float(factor) for factor in given))


def make_members(
    base: NetworkSpec,
    names: Sequence[str],
    factors: Sequence[float],
    coefficients: Any,
    shares: Any,
    tolerance: float,
    depth_rounding: str,
) -> tuple[Member, ...]:
    """The base, and then each rule at each factor.

    Args:
        base: what is scaled.
        names, factors: rules and multiples of the base's MACs.
        coefficients, shares: of ``compound`` and ``dwr``; None: their own.
        tolerance: of achieved MACs / budget.
        depth_rounding: of the repeats, "up" or "nearest".

    Raises:
        UserError: invalid coefficients or shares, or some for a rule that is not among ``names``; a budget that a rule
            cannot meet.
    """
    base.check_scalable(depth_rounding)
    given = None if coefficients is None else load_coefficients(coefficients)
    for setting, owner in ((given, "compound"), (shares, "dwr")):
        if setting is not None and owner not in names:
            what = "coefficients" if owner == "compound" else "shares"
            raise UserError(f"{what} belong to rule {owner}, which is not among rules=[{', '.join(names)}]")
    macs = cost(base).macs
    found = [Member(BASE, 1.0, Met(base, 0.0, Multipliers(1.0, 1.0, 1.0), 1.0, 1.0, DIVISOR))]
    for factor in factors:
        for name in names:
            rule = make_rule(
                name,
                coefficients=given if name == "compound" else None,
                shares=shares if name == "dwr" else None,
                lite=base.fixed_ends,
            )
            met = meet(base, rule, factor * macs, tolerance, depth_rounding=depth_rounding)
            network = met.network.with_(name=f"{base.name or 'network'}"[:160] + f"_{name}_x{factor:g}")
            found.append(Member(name, factor, met._replace(network=network)))
    return tuple(found)
