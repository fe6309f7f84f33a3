"""What a supernet knows of its space: the members' largest sizes, its extremes, and who is a member."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from ...space.architecture import Architecture
from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ...space.space import SearchSpace
from ...space.stage import Stage
from ...space.weights.grow import check_growable
from ..tabular import LookupSpace

#: Random members that are looked at, beside those in which one decision is changed.
DRAWS = 256
#: Draws after which a space whose decisions describe no network is given up.
TRIES = 1000
#: What has no order of size: members that differ in it are neither larger nor smaller.
_KINDS = ("block", "skip")
_NETWORK_KINDS = ("activation", "padding")
_NETWORK_FIELDS = tuple(f.name for f in fields(Architecture) if f.name not in ("stages", "name"))
_STAGE_FIELDS = tuple(f.name for f in fields(Stage))


@dataclass(frozen=True)
class KindSizes:
    """The largest of each size among the members whose stage has blocks of one kind."""

    repeats: int
    kernel_size: int
    expand_ratio: int
    se_ratio: float


@dataclass(frozen=True)
class StageSizes:
    """The largest of each size of a stage: its channels, and those of the kinds of blocks by name."""

    channels: int
    kinds: Mapping[str, KindSizes]


@dataclass(frozen=True)
class Sizes:
    """The largest of each size in a space: what shared weights must have."""

    in_channels: int
    num_classes: int
    stem: int
    head: int
    stages: tuple[StageSizes, ...]


def name_kind(stage: Stage) -> str:
    """The kind of a stage's blocks, which share weights among themselves alone.

    Its ``block`` or, for an MBConv without expansion, ``mbconv1``: its depthwise convolution sees the stage's input and
    not expanded features, so it has weights of its own. A Fused-MBConv has the same layers at every ratio.
    """
    return "mbconv1" if stage.block == "mbconv" and stage.expand_ratio == 1 else stage.block


class Members:
    """The members of a space.

    A space may be anything with distributions and ``build``: what its members have is found by building those in which
    one decision differs from the first or the last choices, and some hundred random ones.

    Args:
        space: of networks that are made of stages.

    Attributes:
        space: itself.
        sizes: the largest of each.
        largest, smallest: members of the most and the fewest MACs.

    Raises:
        UserError: its networks are a builder's, or differ in the number of stages, of classes or of the images'
            channels.
    """

    def __init__(self, space: LookupSpace) -> None:
        self.space = space
        self._choices = {name: tuple(found.choices) for name, found in space.distributions.items()}
        groups = list(self._change_one())
        networks = [architecture for _, group in groups for architecture in group.values()]
        networks += list(self._draw_some())
        self._check_alike(networks)
        self.sizes = _find_sizes(networks)
        self._values = _find_values(networks)
        self._kinds, self._low, self._high = self._find_order(groups)
        self.largest = max(self._extremes(self._high), key=_count_macs, default=max(networks, key=_count_macs))
        self.smallest = min(self._extremes(self._low), key=_count_macs, default=min(networks, key=_count_macs))

    # -- members --------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator) -> Architecture:
        """A member by uniform decisions."""
        return self._draw(rng, {})

    def draw_largest(self, rng: np.random.Generator) -> Architecture:
        """The member of the most MACs; kinds of blocks and of skips, which have no order, are drawn."""
        return self._draw(rng, self._high) if self._kinds else self.largest

    def draw_smallest(self, rng: np.random.Generator) -> Architecture:
        """The member of the fewest MACs, kinds drawn likewise."""
        return self._draw(rng, self._low) if self._kinds else self.smallest

    def draw_fairly(self, rng: np.random.Generator) -> list[Architecture]:
        """As many members as the decision with the most choices has: every choice is in one of them, or in several.

        FairNAS (Chu et al. 2021, section 4.1): the choices of each decision are dealt without replacement.
        """
        most = max(map(len, self._choices.values()))
        hands: list[dict[str, Any]] = [{} for _ in range(most)]
        for name, choices in self._choices.items():
            dealt: list[int] = []
            while len(dealt) < most:
                dealt += rng.permutation(len(choices)).tolist()
            for hand, i in zip(hands, dealt, strict=False):
                hand[name] = choices[i]
        # a hand that describes no network is left out; a space of Architectures alone has none such
        return [found for hand in hands if (found := self._build(hand)) is not None] or [self.draw(rng)]

    def check(self, network: NetworkSpec) -> Architecture:
        """The network, where it is a member.

        Raises:
            UserError: it is not; the message says what no member has.
        """
        title = f"the network {network.name or network.digest} is not in the space {self.space.name} of the supernet"
        architecture = check_growable(network, f"{title}: it is a builder's, which has no stages")
        if len(architecture.stages) != len(self.sizes.stages):
            raise UserError(f"{title}: it has {len(architecture.stages)} stages, members have {len(self.sizes.stages)}")
        for place, name, value in _list_values(architecture):
            if value not in (known := self._values[place, name]):
                choices = ", ".join(map(str, sorted(known, key=lambda v: (str(type(v)), v))))
                where = f"stage {place}: " if place >= 0 else ""
                raise UserError(f"{title}: {where}{name} is {value}, members have {choices}")
        if isinstance(self.space, SearchSpace) and self.space.decisions_of(architecture) is None:
            raise UserError(f"{title}: no decisions give this combination of sizes")
        return architecture

    def describe(self) -> dict[str, Any]:
        """Its content as plain data, whatever the space is called: equal for spaces of equal members."""
        values: dict[str, Any] = {}
        for (place, name), known in self._values.items():
            where = values.setdefault("network" if place < 0 else f"stage {place}", {})
            where[name] = sorted(known, key=lambda v: (str(type(v)), v))
        found = {
            "decisions": {name: [str(choice) for choice in choices] for name, choices in self._choices.items()},
            "values": values,
            "sizes": asdict(self.sizes),
        }
        return dict(json.loads(json.dumps(found)))  # as it comes back from a file: lists, no tuples

    def list_defaults(self) -> dict[str, Any]:
        """Of the values in :meth:`describe`: those of members from before there was a field."""
        stage = {f.name: [f.default] for f in fields(Stage) if f.default is not MISSING}
        network = {f.name: [f.default] for f in fields(Architecture) if f.default is not MISSING}
        return {"network": network, **{f"stage {place}": stage for place in range(len(self.sizes.stages))}}

    # -- looking at the space --------------------------------------------------------------------------

    def _build(self, decisions: Mapping[str, Any]) -> Architecture | None:
        """The member; None: the decisions describe no network."""
        try:
            network = self.space.build(decisions)
        except UserError:
            return None
        return check_growable(
            network,
            f"evaluator.space: a supernet shares the weights of stages, and the space {self.space.name} is of a "
            "builder's networks, which have none; evaluator=proxy trains them",
        )

    def _draw(self, rng: np.random.Generator, given: Mapping[str, Any]) -> Architecture:
        for _ in range(TRIES):
            picks = {name: choices[int(rng.integers(len(choices)))] for name, choices in self._choices.items()}
            if (found := self._build({**picks, **given})) is not None:
                return found
        raise UserError(f"evaluator.space: none of {TRIES} random members of the space {self.space.name} is a network")

    def _change_one(self) -> Iterator[tuple[str, dict[Any, Architecture]]]:
        """Each decision, and the members by its choices, the others being at their first, second, … choice."""
        for turn in range(max(map(len, self._choices.values()))):
            base = {name: choices[min(turn, len(choices) - 1)] for name, choices in self._choices.items()}
            for name, choices in self._choices.items():
                found = {choice: self._build({**base, name: choice}) for choice in choices}
                yield name, {choice: network for choice, network in found.items() if network is not None}

    def _draw_some(self) -> Iterator[Architecture]:
        rng = np.random.default_rng(0)
        for _ in range(DRAWS):
            picks = {name: choices[int(rng.integers(len(choices)))] for name, choices in self._choices.items()}
            if (found := self._build(picks)) is not None:
                yield found

    def _extremes(self, given: Mapping[str, Any]) -> Iterator[Architecture]:
        """Members with these choices, and all decisions without an order at their first, second, … one."""
        kinds = {name: self._choices[name] for name in self._kinds}
        for turn in range(max(map(len, kinds.values()), default=1)):
            drawn = {name: choices[min(turn, len(choices) - 1)] for name, choices in kinds.items()}
            if (found := self._build({**given, **drawn})) is not None:
                yield found

    def _check_alike(self, networks: Iterable[Architecture]) -> None:
        found = {(len(a.stages), a.num_classes, a.in_channels) for a in networks}
        if not found:
            raise UserError(f"evaluator.space: no decisions of the space {self.space.name} describe a network")
        for what, values in zip(("stages", "classes", "channels of the images"), zip(*found, strict=True), strict=True):
            if len(set(values)) > 1:
                raise UserError(
                    f"evaluator.space: members of the space {self.space.name} have {min(values)} to {max(values)} "
                    f"{what}; those of a supernet have one number of them"
                )

    def _find_order(
        self, groups: Iterable[tuple[str, Mapping[Any, Architecture]]]
    ) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]:
        """Decisions without an order, and of the others the choices of the fewest and of the most MACs."""
        kinds: dict[str, None] = {}
        macs = {name: dict.fromkeys(choices, 0.0) for name, choices in self._choices.items()}
        for name, group in groups:
            if len({_list_kinds(architecture) for architecture in group.values()}) > 1:
                kinds[name] = None
            if len(group) == len(self._choices[name]):
                for choice, architecture in group.items():
                    macs[name][choice] += math.log(architecture.cost.macs)
        ordered = {name: found for name, found in macs.items() if name not in kinds}
        low = {name: min(found, key=found.__getitem__) for name, found in ordered.items()}
        high = {name: max(found, key=found.__getitem__) for name, found in ordered.items()}
        return tuple(kinds), low, high


def _count_macs(architecture: Architecture) -> int:
    return architecture.cost.macs


def _list_kinds(architecture: Architecture) -> tuple[Any, ...]:
    stages = tuple(getattr(stage, name) for stage in architecture.stages for name in _KINDS)
    return (*stages, *(getattr(architecture, name) for name in _NETWORK_KINDS))


def _list_values(architecture: Architecture) -> Iterator[tuple[int, str, Any]]:
    """``(stage, field, value)`` of all fields; stage −1 is the network."""
    for name in _NETWORK_FIELDS:
        yield -1, name, getattr(architecture, name)
    for i, stage in enumerate(architecture.stages):
        for name in _STAGE_FIELDS:
            yield i, name, getattr(stage, name)


def _find_values(networks: Iterable[Architecture]) -> dict[tuple[int, str], set[Any]]:
    found: dict[tuple[int, str], set[Any]] = {}
    for architecture in networks:
        for place, name, value in _list_values(architecture):
            found.setdefault((place, name), set()).add(value)
    return found


def _find_sizes(networks: list[Architecture]) -> Sizes:
    stages = []
    for i in range(len(networks[0].stages)):
        rows = [architecture.stages[i] for architecture in networks]
        kinds: dict[str, KindSizes] = {}
        for kind in sorted({name_kind(row) for row in rows}):
            own = [row for row in rows if name_kind(row) == kind]
            sizes = (max(getattr(row, f.name) for row in own) for f in fields(KindSizes))
            kinds[kind] = KindSizes(*sizes)
        stages.append(StageSizes(max(row.channels for row in rows), kinds))
    first = networks[0]
    return Sizes(
        first.in_channels,
        first.num_classes,
        max(a.stem for a in networks),
        max(a.head for a in networks),
        tuple(stages),
    )
