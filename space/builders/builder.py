"""A builder, a callable ``(depth, width, resolution) -> nn.Module``, and what it is called with."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..errors import UserError, check_choice, check_number
from .table import BUILT


@dataclass(frozen=True, eq=False)
class BuilderCall:
    """A builder and its arguments; :mod:`~effnas.space.builders.module` calls it.

    Fields and errors are those of :class:`~effnas.space.built.BuiltNetwork`, which is one with a name and a digest.
    """

    builder: str | Callable[..., Any]
    depth: float = 1.0
    width: float = 1.0
    resolution: int = 224
    in_channels: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        if isinstance(self.builder, str):
            check_choice("builder", self.builder, BUILT)
        elif not callable(self.builder):
            raise UserError(
                "builder must be a callable (depth, width, resolution) -> nn.Module, in YAML `_target_: "
                "package.function` with `_partial_: true`, or the name of a network of the zoo; got "
                f"{type(self.builder).__name__}"
            )
        else:
            self._check_function()
        for name in ("depth", "width"):
            check_number(f"{name} multiplier", getattr(self, name), 0, 1e4, open_low=True)
            object.__setattr__(self, name, float(getattr(self, name)))

    def _check_function(self) -> None:
        """What the builder does must follow from its name and its options: they are all that a file keeps of it."""
        function: Any = self.function
        bound = getattr(function, "__self__", None)
        if not hasattr(function, "__qualname__") or not (bound is None or isinstance(bound, type | ModuleType)):
            raise UserError(
                f"builder must be a function or a class, got an object of {type(bound or function).__name__}, whose "
                "state no file can record: give the function that makes the module, and bind options with "
                "functools.partial"
            )
        if isinstance(self.builder, functools.partial) and self.builder.args:
            raise UserError(
                f"builder {self.code}: bind its options by name, not by position ({list(self.builder.args)!r:.100}): "
                "depth, width and resolution come first"
            )
        rule = (
            f"builder {self.code}: its options must be plain data "
            "(numbers, strings, lists, mappings with strings as keys)"
        )
        try:
            plain = json.loads(json.dumps(self.options))
        except (TypeError, ValueError) as error:
            raise UserError(f"{rule}: {error}") from None
        if plain != self.plain_options:
            raise UserError(f"{rule}, got {self.options!r:.200}")

    @property
    def code(self) -> str:
        """The builder as text: ``package.function``, or its name in the zoo."""
        if isinstance(self.builder, str):
            return self.builder
        function: Any = self.function
        return f"{function.__module__}.{function.__qualname__}"

    @property
    def function(self) -> Callable[..., Any] | None:
        """The builder without its options; None where it is of the zoo."""
        if isinstance(self.builder, str):
            return None
        return self.builder.func if isinstance(self.builder, functools.partial) else self.builder

    @property
    def options(self) -> dict[str, Any]:
        """The builder's own options, those bound by ``functools.partial``."""
        return dict(self.builder.keywords) if isinstance(self.builder, functools.partial) else {}

    @property
    def plain_options(self) -> dict[str, Any]:
        """The options with lists for tuples, as a file has them."""
        plain: dict[str, Any] = _with_lists(self.options)
        return plain

    @property
    def sizes(self) -> str:
        """Depth, width and resolution, for messages."""
        return f"depth {self.depth:g}, width {self.width:g}, resolution {self.resolution}"


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value
