"""A network that is not an Architecture: made by a *builder*, a callable ``(depth, width, resolution) -> nn.Module``.

Torch-free: the builder is called by :mod:`~effnas.space.builders.module`, when the network is built or costed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import yaml

from .builders.builder import BuilderCall
from .builders.table import BUILT
from .errors import UserError, check_choice, unknown
from .files import PlainDumper, write_text
from .formulas import Cost
from .multipliers import DIVISOR, ROUNDINGS, check_divisor, check_multiplier
from .network_spec import check_shared_fields, copy_with, hash_plain

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
_SIZES = ("depth", "width", "resolution", "in_channels", "num_classes")


@dataclass(frozen=True, eq=False)
class BuiltNetwork(BuilderCall):
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

    name: str = field(default="")

    #: The builder alone knows these, and rounds its widths itself.
    dropout: ClassVar[None] = None
    blocks: ClassVar[None] = None
    fixed_ends: ClassVar[bool] = False
    divisors: ClassVar[tuple[int, ...]] = (DIVISOR,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shared_fields(self)
        if not self.name:
            object.__setattr__(self, "name", self.code.rpartition(".")[2][:200])

    # -- the builder --------------------------------------------------------------------------------

    def with_options(self, **options: Any) -> Self:
        """A copy whose builder has these options; others that it has stay bound.

        Raises:
            UserError: they are not plain data, or the builder is of the zoo, whose networks are fixed by their names.
        """
        if not options:
            return self
        if self.function is None:
            raise UserError(f"builder {self.code}: a network of the zoo takes no options, got {', '.join(options)}")
        return self.with_(builder=functools.partial(self.function, **{**self.options, **options}))

    def module(self) -> nn.Module:
        """Call the builder, with torch's current random state.

        Raises:
            UserError: it cannot be called so, fails, or returns something other than a module with its weights.
        """
        from .builders.module import make_module  # torch

        return make_module(self)

    @property
    def total_stride(self) -> int:
        """Input side over side of the smallest feature map of a convolution (costs building the network once)."""
        from .builders.module import measure_network  # torch

        return measure_network(self).total_stride

    @property
    def cost(self) -> Cost:
        """Measured on the module, without stages (:func:`~effnas.space.builders.module.measure_network`)."""
        from .builders.module import measure_network  # torch

        return measure_network(self).cost

    @property
    def classifier_axes(self) -> Mapping[str, int]:
        """The entries of the module's ``state_dict`` whose shapes depend on the number of classes, and where.

        None where the builder makes the same classifier for any number.
        """
        from .builders.module import find_axes  # torch

        return find_axes(self, "num_classes")

    @property
    def input_axes(self) -> Mapping[str, int]:
        """The entries of the module's ``state_dict`` whose shapes depend on the channels of the images, and where."""
        from .builders.module import find_axes  # torch

        return find_axes(self, "in_channels")

    @property
    def maker(self) -> str:
        """What makes its module, for messages."""
        return f"builder {self.code}"

    def check_classes(self, count: int) -> None:
        """Raise :class:`UserError` unless the classifier has as many outputs as the data has classes."""
        if count != self.num_classes:
            raise UserError(
                f"the data has {count} classes, the architecture {self.num_classes}: set num_classes of the "
                f"builder's network to {count}"
            )

    def with_settings(self, padding: str | None, bn_eps: float | None) -> Self:
        """The network, where neither is given.

        Raises:
            UserError: one is.
        """
        for name, value in (("padding", padding), ("bn_eps", bn_eps)):
            if value is not None:
                raise UserError(
                    f"{name}={value} is for networks that are Architectures; {self.name} is what its builder, "
                    f"{self.code}, makes it"
                )
        return self

    # -- scaling ------------------------------------------------------------------------------------

    def check_scalable(self, depth_rounding: str = "up", divisor: int = DIVISOR) -> None:
        """Raise :class:`UserError` unless the builder uses its arguments, and how to round is left alone."""
        check_divisor(divisor)
        if divisor != DIVISOR:
            raise UserError(f"divisor={divisor} is for Architectures: the builder {self.code} rounds its own widths")
        check_choice("depth_rounding", depth_rounding, ROUNDINGS)
        if depth_rounding != "up":
            raise UserError(
                f"depth_rounding={depth_rounding} is for Architectures: the builder {self.code} rounds its own repeats"
            )
        from .builders.module import check_builder  # torch

        check_builder(self)

    def scaled(
        self,
        width: float,
        depth: float,
        resolution: int,
        dropout: float | None = None,
        *,
        divisor: int = DIVISOR,
        depth_rounding: str = "up",
    ) -> Self:
        """With its multipliers multiplied, at ``resolution`` pixels; the builder rounds, and sets the dropout.

        Raises:
            UserError: a multiplier is not a positive number, or the result is out of its range.
        """
        check_multiplier("width", width)
        check_multiplier("depth", depth)
        return self.with_(depth=self.depth * depth, width=self.width * width, resolution=resolution)

    @property
    def after_rounding(self) -> Hashable:
        """Resolution and costs: what the builder rounds is unknown, and equal ones count as one network."""
        cost = self.cost
        return self.resolution, cost.params, cost.macs, cost.activations

    # -- plain data ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data; :meth:`from_dict` needs the builder beside it unless it is of the zoo."""
        head = {"effnas_network": FORMAT, "name": self.name, "builder": self.code, "options": self.plain_options}
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
            raise UserError(
                f"{source}: made by the builder {code!r:.200}, but the builder of network is {network.code!r}"
            )
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
        """16 hexadecimal digits that identify the network; the name does not count."""
        data = self.to_dict()
        del data["name"]
        return hash_plain(data)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, BuiltNetwork) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again.

        Raises:
            UserError: a field that does not exist, or a value out of range.
        """
        return copy_with(self, changes)

    def __str__(self) -> str:
        return (
            f"{self.name} {self.digest}: {self.code} at depth {self.depth:g}, width {self.width:g}, "
            f"{self.resolution}² × {self.in_channels} → {self.num_classes} classes"
        )


def check_network(network: object, *, optional: bool = True) -> BuiltNetwork | None:
    """What a job's or a space's ``network`` is, or, where it is optional, nothing.

    Raises:
        UserError: it is something else.
    """
    if (network is None and optional) or isinstance(network, BuiltNetwork):
        return network
    raise UserError(
        "network must be a BuiltNetwork (`_target_: effnas.space.built.BuiltNetwork` in its YAML), got "
        f"{type(network).__name__}"
    )


def find_built(*networks: object) -> BuiltNetwork | None:
    """The first of them that is a builder's; None where none is."""
    return next((network for network in networks if isinstance(network, BuiltNetwork)), None)
