"""``effnas predict``: the settings, what is asked of the law, the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluate.arguments import as_list
from ...space.built import BuiltNetwork
from ...space.errors import UserError, check_choice, check_number
from ...space.multipliers import DIVISOR
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.quantity import parse_cost
from ..scale.job import read_family
from .checks import Backtest, OffLaw, falls, find_off_law, fit_members, run_backtests
from .family import Family, find_family
from .law import FEW, FEWEST, LEVEL, TESTED, Law
from .members import AXES, Member, choose_axis, merge_results, seed_noise
from .reading import KINDS, costs_of, read_runs
from .report import write_prediction

#: What is predicted where nothing is asked, as multiples of the largest member's cost.
FACTORS = (2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Asked:
    """A cost whose accuracy is asked for; of a network of the family its φ, name and other costs."""

    cost: float
    phi: float | None = None
    name: str | None = None
    costs: Mapping[str, float] | None = None


def run_predict(
    runs: Sequence[str] | str = (),
    *,
    x: str | None = None,
    phi: float | None = None,
    family: Sequence[float] | float | str | None = None,
    at_macs: Sequence[float | str] | float | str | None = None,
    at_activations: Sequence[float | str] | float | str | None = None,
    at_params: Sequence[float | str] | float | str | None = None,
    at_latency: Sequence[float | str] | float | str | None = None,
    target_accuracy: float | None = None,
    doubling: float = 0.005,
    baseline: NetworkSpec | str | None = None,
    network: BuiltNetwork | None = None,
    rule: str | None = None,
    coefficients: Any = None,
    shares: Any = None,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
    dataset: str | None = None,
    differing: Sequence[str] | str = (),
    output: str | Path = "outputs/predict",
    command: str = "",
) -> dict[str, Any]:
    """Predict the accuracy of larger members of a family from those that were trained.

    The members' errors follow err = c + a·M^−b over what they cost (:mod:`~effnas.scaling.predict.law`). What would
    have been said of the larger members before they were trained is told with it.

    Args:
        runs: folders of ``effnas train``, ``evaluate``, ``grid-alpha-beta-gamma`` (the network of its coefficients),
            ``ablate`` (its base and the networks of ``rule``, None: of its reference) or ``transfer``, patterns of
            these, or CSV files with the columns ``accuracy`` (a fraction) and ``macs``, ``activations``,
            ``params`` or ``latency``. Trainings of one network with several seeds are one point, with their noise.
        x: what the law is over: ``macs``, ``activations``, ``params`` or ``latency``; None: the first that all have.
        phi, family: members of the family, as :func:`~effnas.scaling.scale.job.run_scale` takes them.
        at_macs, at_activations, at_params, at_latency: costs, one or several, of networks whose accuracy is asked for;
            numbers or strings like 4.5G; of seconds. All of them of ``x``.
        target_accuracy: a fraction; the cost and φ that it needs.
        doubling: tell the cost from which doubling it gains less than this (a fraction of 1).
        baseline, network, rule, coefficients, shares, divisor, depth_rounding: of the family, as
            :func:`~effnas.scaling.scale.job.run_scale`; None: as the runs tell them, where they do.
        dataset: of a transfer with several.
        differing: settings of the trainings that may differ, like ``lr``.
        output: folder of ``predict.json``, ``predict.csv``, ``predict.png`` and ``predict.svg``.
        command: as the user typed it, for the record.

    Returns:
        The content of ``predict.json``: ``predictions`` (rows of ``accuracy low high``, the cost by its name, and
        ``phi name`` and the other costs where they are known; ``low`` and ``high`` end a 90 % interval), ``law`` (``c a
        b``, the error being c + a·cost^−b), ``x``, ``members``, ``off_law``, ``backtest`` (rows of ``from``, the
        largest cost that was known, the cost, ``predicted low high actual``), ``doubling``, ``target`` and ``notes``.

    Raises:
        UserError: fewer than 4 members, members that do not belong in one law, something that cannot be read, or
            questions that the runs give no answer to.
    """
    if x is not None:
        check_choice("x", x, AXES)
    check_number("doubling", doubling, 0, 1, open_low=True, open_high=True)
    if target_accuracy is not None:
        check_number("target_accuracy (a fraction)", target_accuracy, 0, 1, open_low=True, open_high=True)
    if phi is not None:
        check_number("phi", phi, -100, 100)
    costs = {"macs": at_macs, "activations": at_activations, "params": at_params, "latency": at_latency}
    given = [name for name, value in costs.items() if value is not None]
    if len(given) > 1 or (given and x not in (None, given[0])):
        raise UserError(f"a law is over one cost: got {', '.join(f'at_{n}' for n in given)}{f' and x={x}' * bool(x)}")
    entries = [str(entry) for entry in as_list(runs)]
    if not entries:
        raise UserError(f"from: nothing given; use --from RUN… with folders of {KINDS}, or a CSV file")
    found = read_runs(entries, rule=rule, dataset=dataset, own=network)
    members = merge_results([r for one in found for r in one.results], [str(name) for name in as_list(differing)])
    axis = choose_axis(members, given[0] if given else x) if members else AXES[0]
    _check_number(members, axis)
    members.sort(key=lambda member: (member.costs[axis], member.name))
    noise = seed_noise(members)
    kept, off = find_off_law(members, axis, noise)
    law = fit_members(kept, axis, noise)
    grown = find_family(
        found,
        members,
        baseline=baseline,
        network=network,
        rule=rule,
        coefficients=coefficients,
        shares=shares,
        rounding={"divisor": divisor, "depth_rounding": depth_rounding},
    )
    asked = _asked(law, axis, grown, phi, family, _split(costs[axis]))
    backtests = run_backtests(members, axis, noise)
    rows = [_predicted(law, axis, one) for one in asked]
    return write_prediction(
        law,
        axis,
        members,
        off,
        backtests,
        {
            "predictions": rows,
            "doubling": _doubling(law, axis, doubling, grown),
            "target": None if target_accuracy is None else _target(law, axis, target_accuracy, grown),
            "noise": noise or None,
            "notes": _notes(law, axis, members, kept, off, backtests, asked),
        },
        as_path("output", output),
        command,
    )


def _split(value: Any) -> list[Any]:
    """One or several numbers, or a text of them."""
    return [part for one in as_list(value) for part in (one.strip("[]").split(",") if isinstance(one, str) else [one])]


def _check_number(members: Sequence[Member], axis: str) -> None:
    sizes = len({member.costs[axis] for member in members})
    if sizes < FEWEST:
        names = ", ".join(member.name for member in members)
        raise UserError(
            f"a law has three constants and needs at least {FEWEST} members of different {axis}, got {sizes}"
            + (f" ({names:.200})" if names else "")
            + ": train more members of the family (effnas scale --family makes them), small ones are enough"
        )


def _asked(
    law: Law,
    axis: str,
    grown: Family | None,
    phi: float | None,
    family: Any,
    costs: Sequence[Any],
) -> list[Asked]:
    """The costs whose accuracies are asked for, in the order of the options."""
    asked = [Asked(parse_cost(f"at_{axis}", axis, cost)) for cost in costs]
    phis = ([] if phi is None else [float(phi)]) + ([] if family is None else read_family(family))
    if phis and axis == "latency":
        raise UserError("phi and family: the latency of networks that are not measured is unknown; use x=macs")
    if phis and grown is None:
        raise UserError(
            "phi and family need what the family grows from: give baseline=FILE (and coefficients=FILE), or the folder "
            "of its effnas grid-alpha-beta-gamma among the runs"
        )
    for one in phis:
        assert grown is not None
        made = grown.network(one)
        known = costs_of(made)
        asked.append(Asked(known[axis], one, made.name, known))
    if not asked:
        asked = [Asked(law.largest * factor) for factor in FACTORS]
    return asked


def _predicted(law: Law, axis: str, one: Asked) -> dict[str, Any]:
    said = law.predict(one.cost)
    row: dict[str, Any] = {} if one.phi is None else {"phi": one.phi, "name": one.name}
    costs = {axis: one.cost} if one.costs is None else one.costs
    row |= {name: value if name == "latency" else round(value) for name, value in costs.items()}
    return {**row, "accuracy": said.accuracy, "low": said.low, "high": said.high}


def _doubling(law: Law, axis: str, gain: float, grown: Family | None) -> dict[str, Any]:
    """From which cost doubling it gains less than that."""
    cost = law.equation.worthwhile(gain)
    low, high = law.worthwhile(gain)
    return {"gain": gain, axis: cost, "low": low, "high": high, "phi": _phi(grown, axis, cost)}


def _target(law: Law, axis: str, accuracy: float, grown: Family | None) -> dict[str, Any]:
    """What an accuracy needs."""
    cost = law.equation.cost(accuracy)
    low, high, probability = law.needed(accuracy)
    return {
        "accuracy": accuracy,
        axis: cost,
        "low": low,
        "high": high,
        "probability": probability,
        "phi": _phi(grown, axis, cost),
        "limit": 1 - law.equation.c,
    }


def _phi(grown: Family | None, axis: str, cost: float | None) -> float | None:
    return None if grown is None or cost is None or not math.isfinite(cost) else grown.phi_of(axis, cost)


def _notes(
    law: Law,
    axis: str,
    members: Sequence[Member],
    kept: Sequence[Member],
    off: Sequence[OffLaw],
    backtests: Sequence[Backtest],
    asked: Sequence[Asked],
) -> list[str]:
    """What makes the answers less certain than they look."""
    notes = []
    for one in off:
        said = one.expected
        notes.append(
            f"OFF THE LAW, and left out of it: {one.member.name} has {one.member.accuracy:.2%}, where the others say "
            f"{said.low:.2%} to {said.high:.2%} (99 %); {one.reason}"
        )
    if off and off[0].member.costs[axis] >= kept[-1].costs[axis]:
        notes.append(
            "the largest member does not follow the law of the smaller ones: larger ones need not either, and the "
            "predictions hold only where that has another reason than size"
        )
    named = {one.member.name for one in off}
    for member, smaller in falls(members, axis):
        if member.name not in named:
            notes.append(
                f"{member.name} ({member.accuracy:.2%}) is less accurate than the smaller {smaller.name} "
                f"({smaller.accuracy:.2%}): noise, as far as the law can tell, or the family ends here"
            )
    if len({member.costs[axis] for member in kept}) <= FEW:
        notes.append(
            f"{len(kept)} members are the fewest that give a law: its interval is wide, and mostly what published "
            "families taught; a fifth member says more than anything else"
        )
    far = [one for one in asked if one.cost > TESTED * law.largest]
    if far:
        notes.append(
            f"{len(far)} of {len(asked)} predictions are more than {TESTED:g} times the largest member's {axis}: no "
            "law was tested so far away"
        )
    missed = [b for b in backtests if not b.predicted.low <= b.member.accuracy <= b.predicted.high]
    if backtests and len(missed) > max(1, 0.25 * len(backtests)):
        notes.append(
            f"{len(missed)} of {len(backtests)} backtests lie outside their {LEVEL:.0%} interval: this family follows "
            "no such law, or its recipe changed with size"
        )
    return notes
