"""Named decisions, each among a few choices: what every space of networks begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import UserError, check_int, unknown
from .multipliers import DIVISOR, round_filters
from .stage import EXPANDING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from optuna.distributions import CategoricalDistribution

Choice = bool | int | float | str
Decisions = dict[str, Choice]


class Choices:
    """Decisions by name.

    Args:
        name: of the space.

    Attributes:
        choices: decision names to their choices.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.choices: dict[str, tuple[Choice, ...]] = {}

    @cached_property
    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Decision names to Optuna distributions, as ``study.ask`` takes them."""
        from optuna.distributions import CategoricalDistribution

        return {name: CategoricalDistribution(labels) for name, labels in self.choices.items()}

    def check(self, decisions: Mapping[str, Any]) -> Decisions:
        """The decisions as plain Python values, in the space's order.

        Raises:
            UserError: a decision is missing, unknown or not among its choices.
        """
        for name in decisions:
            if name not in self.choices:
                raise unknown(f"space {self.name}: decision", name, self.choices)
        result: Decisions = {}
        for name, labels in self.choices.items():
            if name not in decisions:
                raise UserError(f"space {self.name}: decision {name!r} is missing; its choices are {list(labels)}")
            result[name] = labels[self._index(name, decisions[name])]
        return result

    def contains(self, decisions: Mapping[str, Any]) -> bool:
        """Whether the decisions are complete and legal."""
        try:
            self.check(decisions)
        except UserError:
            return False
        return True

    def canonical(self, decisions: Mapping[str, Any]) -> Decisions:
        """The decision vector that stands for all those known to build the same network: itself.

        Raises:
            UserError: as :meth:`check`.
        """
        return self.check(decisions)

    def sample(self, rng: np.random.Generator) -> Decisions:
        """Every decision uniform and independent, canonicalised."""
        picks = {name: labels[int(rng.integers(len(labels)))] for name, labels in self.choices.items()}
        return self.canonical(picks)

    def crossover(self, a: Mapping[str, Any], b: Mapping[str, Any], rng: np.random.Generator) -> Decisions:
        """A child with each decision from one parent or the other, evenly (uniform crossover), canonicalised."""
        first, second = self.check(a), self.check(b)
        return self.canonical({name: (first if rng.random() < 0.5 else second)[name] for name in self.choices})

    def indices(self, decisions: list[Mapping[str, Any]]) -> NDArray[np.int64]:
        """Decision vectors as choice indices, shape (n, number of decisions), columns in the order of ``choices``."""
        import numpy as np

        rows = [[self._index(n, d[n]) for n in self.choices] for d in decisions]
        return np.array(rows, np.int64).reshape(-1, len(self.choices))

    def sample_indices(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``n`` uniform decision vectors as choice indices, not canonicalised: shape (n, number of decisions)."""
        import numpy as np

        return np.stack([rng.integers(len(labels), size=n) for labels in self.choices.values()], axis=1)

    def decisions(self, row: NDArray[np.int64]) -> Decisions:
        """One row of choice indices as (canonical) decisions."""
        return self.canonical(
            {name: labels[int(i)] for (name, labels), i in zip(self.choices.items(), row, strict=True)}
        )

    def _index(self, name: str, value: Any) -> int:
        is_bool = isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's too
        for i, label in enumerate(self.choices[name]):
            if label == value and isinstance(label, bool) == is_bool:
                return i
        raise unknown(f"space {self.name}: {name}", value, self.choices[name])


def drop_idle(stage: Mapping[str, Any], in_channels: int) -> dict[str, Any]:
    """The stage with everything that has no effect set to its neutral value (see ``Stage.effective_skip``)."""
    data = dict(stage)
    if data.get("block") not in EXPANDING:
        data["expand_ratio"] = 1
    skip, single = data.get("skip", "identity"), data.get("repeats", 1) == 1
    if skip == "identity" and single and (data.get("stride", 1) != 1 or in_channels != data.get("channels")):
        data["skip"] = "none"
    return data


def read_choices(spec: Any, where: str, divisor: int = DIVISOR) -> tuple[list[Any], list[Any]]:
    """The labels and values of one decision, in any of the forms of :class:`~effnas.space.space.SearchSpace`.

    ``divisor``: of the widths that are multiples of a base.

    Raises:
        UserError: another form, or what :func:`check_labels` refuses; ``where`` opens the message.
    """
    if not isinstance(spec, Mapping):
        labels, values = list(spec), list(spec)
    elif (named := read_named_choices(spec)) is not None:
        labels, values = named
    elif set(spec) == {"base", "times"} and isinstance(spec["times"], list | tuple):
        labels = list(spec["times"])
        try:
            values = [round_filters(spec["base"], ratio, divisor) for ratio in labels]
        except UserError as error:
            raise UserError(f"{where}: base and times: {error}") from None
    elif set(spec) == {"base", "plus"} and isinstance(spec["plus"], list | tuple):
        labels = list(spec["plus"])
        for number in (spec["base"], *labels):
            check_int(f"{where}: base and plus", number, -1_000_000, 1_000_000)
        values = [max(1, spec["base"] + step) for step in labels]
    else:
        forms = "[a, b], {base: b, times: [...]}, {base: b, plus: [...]} or {choices: {name: value}}"
        raise UserError(f"{where}: choices must be written {forms}, got {dict(spec)!r:.100}")
    check_labels(where, labels)
    return labels, values


def read_named_choices(spec: Any) -> tuple[list[Any], list[Any]] | None:
    """The labels and values of ``{choices: {name: value}}``; None: it is not written so."""
    if isinstance(spec, Mapping) and set(spec) == {"choices"} and isinstance(spec["choices"], Mapping):
        return list(spec["choices"]), list(spec["choices"].values())
    return None


def check_labels(where: str, labels: Sequence[Any]) -> None:
    """Raise :class:`UserError` unless these can be the choices of one decision."""
    if not labels:
        raise UserError(f"{where}: no choices")
    for label in labels:
        if not isinstance(label, bool | int | float | str) or label != label:
            raise UserError(f"{where}: a choice must be a number, a string or true/false, got {label!r:.60}")
    if len(set(labels)) < len(labels):  # 1, 1.0 and true are one choice: Optuna compares by ==
        raise UserError(f"{where}: a choice appears twice: {list(labels)}")


def check_name(name: object) -> None:
    """Raise :class:`UserError` unless a space can have this name."""
    if not isinstance(name, str) or len(name) > 100:
        raise UserError(f"space: name must be a string of at most 100 characters, got {name!r:.60}")
