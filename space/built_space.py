"""A space of one builder's networks: depth, width, resolution and options of the builder are decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .built import BuiltNetwork, check_network
from .choices import Choices, Decisions, check_labels, check_name, read_named_choices
from .errors import UserError

if TYPE_CHECKING:
    import numpy as np

_SIZES = ("depth", "width", "resolution")


class BuilderSpace(Choices):
    """Networks of one builder.

    A list is a decision, a single value holds for all, and the rest comes from the network. Choices of an option that
    are neither numbers nor strings have names, as in a :class:`~effnas.space.space.SearchSpace`:
    ``{repeats: {choices: {even: [2, 2], late: [1, 3]}}}``; an option that is a list for all is bound in the network.

    Args:
        name: of the space.
        network: its builder, and all that is not decided.
        depth, width: multipliers, those that the builder is called with.
        resolution: in pixels.
        options: of the builder, by name.

    Raises:
        UserError: nothing to decide, a value that a network cannot have, or a builder that ignores what is decided.
    """

    def __init__(
        self,
        name: str,
        network: BuiltNetwork,
        depth: float | Sequence[float] | None = None,
        width: float | Sequence[float] | None = None,
        resolution: int | Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        check_name(name)
        super().__init__(name)
        where = f"space {name}"
        check_network(network, optional=False)
        options = {} if options is None else options
        if not isinstance(options, Mapping):
            raise UserError(f"{where}: options must be a mapping of the builder's options, got {options!r:.60}")
        self._values: dict[str, tuple[Any, ...]] = {}
        given = {"depth": depth, "width": width, "resolution": resolution}
        for key in options:
            if key in given:
                raise UserError(f"{where}: {key} is not an option of the builder: put it beside options")
        sizes = {key: self._read_field(key, spec) for key, spec in given.items() if spec is not None}
        fixed = {key: self._read_field(key, spec) for key, spec in options.items()}
        self.network = network.with_(**{key: values[0] for key, values in sizes.items()}).with_options(
            **{key: values[0] for key, values in fixed.items()}
        )
        if not self.choices:
            raise UserError(f"{where}: nothing to decide; give depth, width, resolution or an option several values")
        for decision, values in self._values.items():
            for value in values:
                try:
                    self._with({decision: value})
                except UserError as error:
                    raise UserError(f"{where}: {decision}={value!r}: {error}") from None
        from .builders.module import check_builder

        check_builder(self.network, [key for key in _SIZES if key in self.choices])

    def _read_field(self, key: str, spec: Any) -> tuple[Any, ...]:
        """Its values; several are registered as choices."""
        named = read_named_choices(spec)
        if named is not None:
            labels, values = named
        elif isinstance(spec, list | tuple):
            labels = values = list(spec)
        else:
            return (spec,)
        check_labels(f"space {self.name}: {key}", labels)
        self.choices[key], self._values[key] = tuple(labels), tuple(values)
        return tuple(values)

    def _with(self, values: Mapping[str, Any]) -> BuiltNetwork:
        sizes = {key: value for key, value in values.items() if key in _SIZES}
        options = {key: value for key, value in values.items() if key not in _SIZES}
        return self.network.with_(**sizes).with_options(**options)

    def build(self, decisions: Mapping[str, Any]) -> BuiltNetwork:
        """The network that the decisions describe, named after the space and its digest.

        Raises:
            UserError: a decision is missing, unknown or not among its choices.
        """
        labels = self.check(decisions)
        network = self._with({key: self._values[key][self._index(key, label)] for key, label in labels.items()})
        return network.with_(name=f"{self.name}_{network.digest[:8]}")

    @cached_property
    def size(self) -> int:
        """Number of decision vectors; two of them may round to networks that compute the same."""
        return math.prod(len(labels) for labels in self.choices.values())

    def mutate(self, decisions: Mapping[str, Any], rng: np.random.Generator) -> Decisions:
        """A neighbour: one decision changed.

        Raises:
            UserError: as :meth:`build`, or the space has no second network.
        """
        start = self.check(decisions)
        names = [name for name, labels in self.choices.items() if len(labels) > 1]
        if not names:
            raise UserError(f"space {self.name}: no neighbour of {start}")
        name = names[int(rng.integers(len(names)))]
        others = [label for i, label in enumerate(self.choices[name]) if i != self._index(name, start[name])]
        return {**start, name: others[int(rng.integers(len(others)))]}
