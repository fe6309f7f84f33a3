"""The members of a family that a law is fitted to: what their trainings came to, one point a network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...space.errors import UserError
from ...space.network_spec import NetworkSpec

#: What members may cost, the first that all have is the law's by default.
AXES = ("macs", "activations", "params", "latency")
#: Settings of a recipe that change its speed, not its result, and settings of data that do neither.
FREE = ("memory_format", "compile", "precision", "accumulate", "eval_every", "sync_bn", "workers", "threads", "cache")


@dataclass(frozen=True)
class Result:
    """What was read of a network: one training, or the mean of several.

    Args:
        name: for people.
        accuracy: top-1, a fraction of 1.
        costs: by name of :data:`AXES`, those that are known.
        source: where it was read, for messages.
        digest: of the network; empty: its name stands for it.
        seed: of the training; empty: unknown.
        runs: trainings whose mean it is.
        sd: standard deviation over these; None: unknown.
        measured: what the accuracy was measured on, for people; empty: unknown.
        recipe, images: settings of the training and of its data, as far as they are known.
        network: where its file is there.
    """

    name: str
    accuracy: float
    costs: Mapping[str, float]
    source: str
    digest: str = ""
    seed: str = ""
    runs: int = 1
    sd: float | None = None
    measured: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    network: NetworkSpec | None = None


@dataclass(frozen=True)
class Member:
    """One network: its mean accuracy over its trainings.

    Args:
        name, accuracy, costs, network: as :class:`Result`.
        runs: trainings.
        sd: standard deviation of these; None: one training.
    """

    name: str
    accuracy: float
    costs: Mapping[str, float]
    runs: int
    sd: float | None
    network: NetworkSpec | None


def merge_results(results: Sequence[Result], differing: Sequence[str] = ()) -> list[Member]:
    """One member for each network, once it is sure that all are of one recipe and one set of images.

    Args:
        results: of all trainings.
        differing: settings that may differ, by their last or whole name (``lr``, ``training.lr``).

    Raises:
        UserError: an accuracy outside (0, 1), the same training twice, or trainings that do not belong in one law.
    """
    for result in results:
        if not 0 < result.accuracy < 1:
            raise UserError(
                f"{result.source}: the accuracy of {result.name} must be a fraction above 0 and below 1, got "
                f"{result.accuracy:g}"
            )
    _check_alike(results, differing)
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.digest or result.name, []).append(result)
    names = [group[0].name for group in groups.values()]
    found = []
    for group in groups.values():
        _check_seeds(group)
        one = group[0]
        name = one.name if names.count(one.name) == 1 else f"{one.name} ({Path(one.source).parent.name})"
        runs = sum(result.runs for result in group)
        mean = sum(result.accuracy * result.runs for result in group) / runs
        found.append(Member(name, mean, one.costs, runs, _spread(group, mean, runs), one.network))
    return found


def seed_noise(members: Sequence[Member]) -> float:
    """Standard deviation of one training's accuracy as a share of its error, pooled; 0: no member tells it."""
    known = [(m.sd / (1 - m.accuracy), m.runs - 1) for m in members if m.sd is not None and m.runs > 1]
    total = sum(freedom for _, freedom in known)
    return math.sqrt(sum(sd**2 * freedom for sd, freedom in known) / total) if total else 0.0


def choose_axis(members: Sequence[Member], wanted: str | None) -> str:
    """What the members' law is over: what was wanted, or else the first of :data:`AXES` that all of them have.

    Raises:
        UserError: a member's cost is not known, or all have the same one.
    """
    have = [axis for axis in AXES if all(axis in member.costs for member in members)]
    axis = wanted or next(iter(have), AXES[0])
    if axis not in have:
        lacking = ", ".join(member.name for member in members if axis not in member.costs)
        raise UserError(f"x={axis}: not known of {lacking:.200}; known of all members: {', '.join(have) or 'nothing'}")
    costs = [member.costs[axis] for member in members]
    if len(costs) > 1 and min(costs) == max(costs):
        raise UserError(
            f"all {len(costs)} members have the same {axis} ({costs[0]:,.6g}): a law over {axis} needs members of "
            "different sizes"
        )
    return axis


def _check_seeds(group: Sequence[Result]) -> None:
    """Results of one network must be of different seeds; one that tells none must be alone."""
    for i, one in enumerate(group):
        for other in group[:i]:
            if one.seed == other.seed or not one.seed or not other.seed:
                seed = f" with seed {one.seed}" if one.seed else ""
                raise UserError(
                    f"{one.source}: {one.name}{seed} is there twice, in {other.source} before: a network's trainings "
                    "are one point, and must have different seeds (a CSV file says them in a column seed)"
                )


def _spread(group: Sequence[Result], mean: float, runs: int) -> float | None:
    """The standard deviation over all trainings of a network."""
    if len(group) == 1:
        return group[0].sd
    if all(result.runs == 1 for result in group):
        return statistics.stdev(result.accuracy for result in group)
    squares = sum(result.runs * (result.accuracy - mean) ** 2 for result in group)
    squares += sum((result.runs - 1) * (result.sd or 0.0) ** 2 for result in group)
    return math.sqrt(squares / (runs - 1))


# -- one recipe, one set of images -----------------------------------------------------------------------


def _check_alike(results: Sequence[Result], differing: Sequence[str]) -> None:
    measured = {result.measured: result for result in results if result.measured}
    if len(measured) > 1:
        (a, one), (b, other), *_ = measured.items()
        raise UserError(
            f"accuracies of different images do not lie on one law: {one.name} ({one.source}) was measured on {a}, "
            f"{other.name} ({other.source}) on {b}"
        )
    for what, of in (("data", "images"), ("training", "recipe")):
        first = next((result for result in results if getattr(result, of)), None)
        for result in results:
            found = () if first is None else _differences(getattr(first, of), getattr(result, of), what)
            changes = [text for name, text in found if not {name, name.rpartition(".")[2]} & {*differing, *FREE}]
            if first is not None and changes:
                kind = "data" if what == "data" else "recipes"
                raise UserError(
                    f"runs of different {kind} do not lie on one law: {first.name} ({first.source}) and {result.name} "
                    f"({result.source}) differ in {'; '.join(changes[:4])}{'; …' * (len(changes) > 4)}. Leave some of "
                    "them out, or name with differing=[…] what may differ"
                )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Settings that both know and that differ: their dotted names, and a text."""
    for key in one.keys() & other.keys():
        a, b, name = one[key], other[key], f"{path}.{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(a, b, name)
        elif _plain(key, a) != _plain(key, b):
            yield name, f"{name}: {a!r:.60} and {b!r:.60}"


def _plain(key: str, value: Any) -> Any:
    """A class by its own name, wherever it stands; a number as one."""
    if key == "_target_":
        return str(value).rpartition(".")[2]
    if isinstance(value, list | tuple):
        return [_plain("", one) for one in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
