"""Where in a space a network is that the user knows to be good: the start of a prior."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from optuna.samplers import BaseSampler

from ...space.errors import UserError, unknown
from ...space.files import load_yaml, read_text
from ...space.network_spec import NetworkSpec
from ...space.zoo import load_architecture, parse_network
from ..feasible import Space

#: Of a network's plain data: what computes nothing.
NAMES = ("name", "effnas_architecture", "effnas_network")


@dataclass(frozen=True)
class KnownNetwork:
    """A network and the member of the space that is nearest to it.

    Args:
        source: what it is called.
        decisions: of the member; of decisions that the user has given, those.
        differences: what that member does not have of it, as ``field: network → member``; empty: it is the network.
    """

    source: str
    decisions: dict[str, Any]
    differences: tuple[str, ...] = ()

    def explain(self) -> str:
        """One line for people."""
        if not self.differences:
            return f"prior: {self.source} (in the space)"
        return (
            f"prior: {self.source} is not in the space; the nearest member differs in {len(self.differences)} "
            f"setting{'s' * (len(self.differences) > 1)}: {_list_some(self.differences)}"
        )


def locate_network(space: Space, given: object) -> KnownNetwork:
    """The member of the space that is nearest to what is given.

    It differs in the fewest settings, and of equally many in the least factor, as far as changing one decision at a
    time finds it.

    Args:
        space: to search.
        given: the name of a network, a YAML file of a network or of decisions, a network, or decisions by name: all, or
            those that something is known about.

    Raises:
        UserError: nothing of these; an unknown decision or choice; a network that is outside the space altogether.
    """
    if isinstance(given, str | os.PathLike):
        source = str(given)
        data = load_yaml(read_text(source, "prior"), f"prior {source}") if os.path.isfile(source) else None
        if isinstance(data, Mapping) and not set(NAMES[1:]) & set(data):
            return KnownNetwork(source, _check_decisions(space, data))
        try:
            found = load_architecture(source) if data is None else parse_network(data, source, _read_builder(space))
        except UserError as error:
            raise UserError(f"prior: {error}") from None
        return _find_nearest(space, found, source)
    if isinstance(given, Mapping):
        return KnownNetwork("the decisions given", _check_decisions(space, given))
    if not hasattr(given, "to_dict"):
        raise UserError(f"prior must be a network's name, a file, or decisions by name, got {given!r:.100}")
    network: NetworkSpec = given  # type: ignore[assignment]  # what has its plain data
    return _find_nearest(space, network, network.name or "the network given")


def begin_around(
    algorithm: Callable[..., BaseSampler], space: Space
) -> tuple[Callable[..., BaseSampler], KnownNetwork | None]:
    """The algorithm with the decisions of what its ``prior`` names, and where that is; None: it has none.

    Raises:
        UserError: as :func:`locate_network`, or the algorithm takes no prior.
    """
    given = getattr(algorithm, "keywords", {}).get("prior")
    if given is None:
        return algorithm, None
    taken = inspect.signature(getattr(algorithm, "func", algorithm)).parameters
    if "prior" not in taken:
        name = getattr(getattr(algorithm, "func", algorithm), "__name__", str(algorithm))
        raise UserError(f"algorithm {name} takes no prior; auto, predictor, evolution and local do")
    found = locate_network(space, given)
    return partial(algorithm, prior=found.decisions), found


def _read_builder(space: Space) -> Any:
    """The network of a space of a builder's, whose files need it."""
    return getattr(space, "network", None)


def _check_decisions(space: Space, given: Mapping[str, Any]) -> dict[str, Any]:
    choices = {name: distribution.choices for name, distribution in space.distributions.items()}
    found = {}
    for name, value in given.items():
        if name not in choices:
            raise unknown(f"prior: space {space.name}: decision", name, choices)
        same = [
            label for label in choices[name] if label == value and isinstance(label, bool) == isinstance(value, bool)
        ]
        if not same:
            raise unknown(f"prior: space {space.name}: {name}", value, choices[name])
        found[str(name)] = same[0]
    if not found:
        raise UserError(f"prior: no decision is given; space {space.name} has {_list_some(list(choices))}")
    return _canonicalise(space, found) if len(found) == len(choices) else found


def _canonicalise(space: Space, decisions: dict[str, Any]) -> dict[str, Any]:
    canonical = getattr(space, "canonical", dict)
    return dict(canonical(decisions))


def _find_nearest(space: Space, network: NetworkSpec, source: str) -> KnownNetwork:
    target = dict(_list_settings(network.to_dict()))
    choices = {name: distribution.choices for name, distribution in space.distributions.items()}

    def measure(decisions: Mapping[str, Any]) -> tuple[int, float]:
        try:
            member = dict(_list_settings(space.build(decisions).to_dict()))
        except UserError:  # choices that stand for no network together
            return 1_000_000, 0.0
        steps = [_compare(target.get(name), member.get(name)) for name in {**target, **member}]
        return sum(step > 0 for step in steps), sum(steps)

    best = {name: labels[0] for name, labels in choices.items()}
    _refuse_others(space, network, source, best)
    reached = measure(best)
    moved = True
    while moved:  # a decision may have no effect before another has changed
        moved = False
        for name, labels in choices.items():
            for label in labels:
                tried = {**best, name: label}
                if (distance := measure(tried)) < reached:
                    best, reached, moved = tried, distance, True
    member = space.build(best)
    has = dict(_list_settings(member.to_dict()))
    differences = [
        f"{name}: {target.get(name)!r} → {has.get(name)!r}"
        for name in {**target, **has}
        if target.get(name) != has.get(name)
    ]
    return KnownNetwork(
        source, _canonicalise(space, best), () if member.digest == network.digest else tuple(differences)
    )


def _refuse_others(space: Space, network: NetworkSpec, source: str, decisions: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` where no member can be compared with the network."""
    try:
        member = space.build(decisions)
    except UserError:
        return
    where = f"prior: {source} is outside the space {space.name}"
    instead = "name a network of the space's kind, or give its decisions by name"
    stages = [len(spec.to_dict().get("stages", ())) for spec in (network, member)]
    if stages[0] != stages[1] and all(stages):
        raise UserError(f"{where}: it has {stages[0]} stages, and the space's networks have {stages[1]}; {instead}")
    if network.maker != member.maker or stages[0] != stages[1]:
        raise UserError(
            f"{where}: it is {_name_kind(network)}, and the space's networks are {_name_kind(member)}; {instead}"
        )


def _name_kind(network: NetworkSpec) -> str:
    data = network.to_dict()
    return f"a network of {len(data['stages'])} stages" if "stages" in data else f"made by {network.maker}"


def _list_settings(data: object, place: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a network's plain data, each with its place."""
    if isinstance(data, Mapping):
        items = [(str(key), value) for key, value in data.items() if place or key not in NAMES]
    elif isinstance(data, list | tuple):
        items = [(str(number), value) for number, value in enumerate(data)]
    else:
        yield place, data
        return
    for key, value in items:
        yield from _list_settings(value, f"{place} {key}".strip())


def _compare(first: Any, second: Any) -> float:
    """0 for equal settings, above 0 for others: of numbers the logarithm of their ratio, at most that of 1,000."""
    if first == second:
        return 0.0
    numbers = [x for x in (first, second) if isinstance(x, int | float) and not isinstance(x, bool) and x > 0]
    return min(abs(math.log(numbers[0] / numbers[1])), math.log(1000)) if len(numbers) == 2 else 1.0


def _list_some(texts: tuple[str, ...] | list[str], count: int = 4) -> str:
    return ", ".join(texts[:count]) + (f" and {len(texts) - count} more" if len(texts) > count else "")
