"""A network that is not an Architecture: made by a *builder*, a callable ``(depth, width, resolution) -> nn.Module``.

Torch-free: the builder is called by :mod:`~effnas.space.builders.module`, when the network is built or costed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from .architecture import Architecture
from .errors import UserError, check_choice, check_int, check_number, unknown
from .files import PlainDumper, write_text

FORMAT = 1
_SIZES = ("depth", "width", "resolution", "in_channels", "num_classes")


@dataclass(frozen=True, eq=False)
class BuiltNetwork:
    """One network of a builder: its depth and width relative to the base network, and its resolution.

    The builder is called as ``builder(depth, width, resolution)``, two floats and the side of the square input in
    pixels, and returns an ``nn.Module`` that maps (n, in_channels, resolution, resolution) to logits (n, num_classes).
    Where its signature has ``num_classes`` or ``in_channels``, they are passed by name; otherwise it decides them, and
    the fields must agree with it. Options of its own are bound by name with ``functools.partial`` (in YAML beside
    ``_partial_: true``), and must be plain data.

    Args:
        builder: a function or class, a partial of one, or a network of the zoo by name ("resnet50").
        depth, width: multipliers of the base network's.
        resolution: in pixels.
        in_channels, num_classes: of images and labels.
        name: for people; not part of equality or digest.

    Raises:
        UserError: a field is out of its range, or the builder is not what it must be; the message names it.
    """

    builder: str | Callable[..., Any]
    depth: float = 1.0
    width: float = 1.0
    resolution: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    name: str = field(default="")

    def __post_init__(self) -> None:
        if isinstance(self.builder, str):
            from .zoo import BUILT  # which makes BuiltNetworks of its names

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
        check_int("resolution", self.resolution, 1, 100_000)
        check_int("in_channels", self.in_channels, 1, 100_000)
        check_int("num_classes", self.num_classes, 1, 10_000_000)
        if not isinstance(self.name, str) or len(self.name) > 200:
            raise UserError(f"name must be a text of at most 200 characters, got {self.name!r:.60}")
        if not self.name:
            object.__setattr__(self, "name", self.code.rpartition(".")[2][:200])

    def _check_function(self) -> None:
        """What the builder does must follow from its name and its options: they are all that a file keeps of it."""
        function: Any = self.function
        bound = getattr(function, "__self__", None)
        if not hasattr(function, "__qualname__") or not (bound is None or isinstance(bound, type | ModuleType)):
            raise UserError(
                f"builder must be a function or a class, got an object of {type(bound or function).__name__}, whose "
                "state its name does not tell: give what makes the module, and bind options with functools.partial"
            )
        if isinstance(self.builder, functools.partial) and self.builder.args:
            raise UserError(
                f"builder {self.code}: bind its options by name, not by place ({list(self.builder.args)!r:.100}): "
                "depth, width and resolution come first"
            )
        rule = f"builder {self.code}: its options must be plain data (numbers, texts, lists, mappings of texts)"
        try:
            plain = json.loads(json.dumps(self.options))
        except (TypeError, ValueError) as error:
            raise UserError(f"{rule}: {error}") from None
        if plain != _listed(self.options):
            raise UserError(f"{rule}, got {self.options!r:.200}")

    # -- what it is of ------------------------------------------------------------------------------

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

    def with_options(self, **options: Any) -> BuiltNetwork:
        """A copy whose builder has these options; others that it has stay bound.

        Raises:
            UserError: they are no plain data, or the builder is of the zoo, whose networks are fixed by their names.
        """
        if not options:
            return self
        if self.function is None:
            raise UserError(f"builder {self.code}: a network of the zoo takes no options, got {', '.join(options)}")
        return self.with_(builder=functools.partial(self.function, **{**self.options, **options}))

    @property
    def total_stride(self) -> int:
        """Input side over side of the smallest feature map of a convolution (costs building the network once)."""
        from .builders.module import measured

        return measured(self).total_stride

    # -- plain data ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data; :meth:`from_dict` needs the builder beside it unless it is of the zoo."""
        head = {"effnas_network": FORMAT, "name": self.name, "builder": self.code, "options": _listed(self.options)}
        return head | {name: getattr(self, name) for name in _SIZES}

    @classmethod
    def from_dict(cls, data: object, source: str = "network", network: BuiltNetwork | None = None) -> BuiltNetwork:
        """Inverse of :meth:`to_dict`. No text in ``data`` is ever imported: it is only compared.

        Args:
            data: of :meth:`to_dict`.
            source: opens the messages.
            network: one of the same builder, whose options may be others; not needed for those of the zoo.

        Raises:
            UserError: not such data, a value out of range, or another builder than ``network``'s.
        """
        from .zoo import BUILT

        if not isinstance(data, Mapping) or data.get("effnas_network") != FORMAT:
            raise UserError(f"{source}: not a builder's network (no 'effnas_network: {FORMAT}' in it)")
        body = {key: value for key, value in data.items() if key != "effnas_network"}
        names = ("name", "builder", "options", *_SIZES)
        for key in body:
            if key not in names:
                raise unknown(f"{source}: field", key, names)
        code, options = body.pop("builder", None), body.pop("options", {})
        if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
            raise UserError(f"{source}: options must be a mapping of names to values, got {options!r:.100}")
        builder: str | Callable[..., Any]
        if isinstance(code, str) and code in BUILT:
            if options:
                raise UserError(f"{source}: a network of the zoo, {code}, takes no options, got {', '.join(options)}")
            builder = code
        elif network is None or network.function is None:
            raise UserError(
                f"{source}: made by the builder {code!r:.200}, and a file never names code to run: give network=NAME, "
                "a YAML file in the folder network/ of your --config-dir whose builder is that"
            )
        elif network.code != code:
            raise UserError(f"{source}: made by the builder {code!r:.200}, but network's is {network.code!r}")
        else:
            builder = functools.partial(network.function, **options) if options else network.function
        try:
            return cls(builder, **body)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def to_yaml(self) -> str:
        """The file format: :meth:`to_dict` as YAML."""
        return yaml.dump(self.to_dict(), None, PlainDumper, sort_keys=False)

    def save(self, path: str | Path) -> Path:
        """Write the YAML file, whole or not at all."""
        return write_text(path, self.to_yaml())

    # -- identity -----------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the network; the name takes no part."""
        data = self.to_dict()
        del data["name"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, BuiltNetwork) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def with_(self, **changes: Any) -> BuiltNetwork:
        """A copy with some fields changed, validated again.

        Raises:
            UserError: a field that does not exist, or a value out of range.
        """
        names = [f.name for f in fields(self)]
        for key in changes:
            check_choice("BuiltNetwork field", key, names)
        return replace(self, **changes)

    def __str__(self) -> str:
        return (
            f"{self.name} {self.digest}: {self.code} at depth {self.depth:g}, width {self.width:g}, "
            f"{self.resolution}² × {self.in_channels} → {self.num_classes} classes"
        )


def check_network(network: object) -> BuiltNetwork | None:
    """What a job's ``network`` is, or nothing.

    Raises:
        UserError: it is something else.
    """
    if network is None or isinstance(network, BuiltNetwork):
        return network
    raise UserError(
        "network must be a BuiltNetwork (`_target_: effnas.space.built.BuiltNetwork` in its YAML), got "
        f"{type(network).__name__}"
    )


def _listed(value: Any) -> Any:
    """With lists for tuples, as a file has them."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


#: What is searched, gridded, scaled, costed, trained.
AnyArchitecture = Architecture | BuiltNetwork


def configured_network(config: Any) -> BuiltNetwork | None:
    """What the group ``network`` of a job's configuration describes, made; None where it names none.

    Raises:
        UserError: it describes no BuiltNetwork, or the group has no such file.
    """
    if isinstance(config, str):
        raise UserError(
            f"network: there is no network/{config:.100}.yaml in your --config-dir (give --config-dir DIR, and in it "
            "network/NAME.yaml with `_target_: effnas.space.built.BuiltNetwork`)"
        )
    from hydra.utils import instantiate

    return check_network(instantiate(config, _convert_="all"))
