"""Named decisions, each among a few choices: what every space of networks begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import UserError, unknown

if TYPE_CHECKING:
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

    def _index(self, name: str, value: Any) -> int:
        is_bool = isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's too
        for i, label in enumerate(self.choices[name]):
            if label == value and isinstance(label, bool) == is_bool:
                return i
        raise unknown(f"space {self.name}: {name}", value, self.choices[name])


def check_labels(where: str, labels: Sequence[Any]) -> None:
    """Raise :class:`UserError` unless these can be the choices of one decision."""
    if not labels:
        raise UserError(f"{where}: no choices")
    for label in labels:
        if not isinstance(label, bool | int | float | str) or label != label:
            raise UserError(f"{where}: a choice must be a number, a text or true/false, got {label!r:.60}")
    if len(set(labels)) < len(labels):  # 1, 1.0 and true are one choice: Optuna compares by ==
        raise UserError(f"{where}: a choice stands there twice: {list(labels)}")


def check_name(name: object) -> None:
    """Raise :class:`UserError` unless a space can have this name."""
    if not isinstance(name, str) or len(name) > 100:
        raise UserError(f"space: name must be a text of at most 100 characters, got {name!r:.60}")
