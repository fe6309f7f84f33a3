"""What every network is, however it is described: what is searched, scaled, costed, built and trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from .errors import UserError, check_choice, check_int
from .formulas import Cost
from .multipliers import DIVISOR

if TYPE_CHECKING:
    from torch import nn


class NetworkSpec(Protocol):
    """One network as frozen, validated plain data: an ``Architecture``, or a ``BuiltNetwork`` of a builder.

    A builder rounds its own widths and repeats, and alone knows its blocks and its dropout: the members below say what
    holds for it.
    """

    @property
    def name(self) -> str:
        """For people; not part of equality or digest."""

    @property
    def resolution(self) -> int:
        """Side of the square input in pixels."""

    @property
    def in_channels(self) -> int:
        """Of the images."""

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""

    @property
    def dropout(self) -> float | None:
        """Rate before the classifier; None where the builder sets it."""

    @property
    def blocks(self) -> int | None:
        """Number of blocks; None where the builder alone knows it."""

    @property
    def fixed_ends(self) -> bool:
        """Whether stem, head and the repeats of the first and last stage stay when it is scaled (EfficientNet-Lite)."""

    @property
    def divisors(self) -> tuple[int, ...]:
        """What :meth:`scaled` can make the widths multiples of, the usual divisor first."""

    @property
    def maker(self) -> str:
        """What makes its module, for messages: "the network", or a builder by its name."""

    @property
    def total_stride(self) -> int:
        """Input side over side of the last feature map."""

    @property
    def cost(self) -> Cost:
        """Parameters, MACs, activations and peak memory: exact integers.

        Raises:
            UserError: its builder cannot build it.
        """

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the network."""

    @property
    def after_rounding(self) -> Hashable:
        """Equal for networks of one base that rounding makes the same: the digest.

        What a builder rounds is unknown: its networks of equal resolution and costs count as the same.
        """

    @property
    def classifier_axes(self) -> Mapping[str, int]:
        """The entries of the module's ``state_dict`` whose shapes depend on the number of classes, and where.

        None where a builder makes the same classifier for any number.
        """

    @property
    def input_axes(self) -> Mapping[str, int]:
        """The entries of the module's ``state_dict`` whose shapes depend on the channels of the images, and where.

        None where a builder decides them itself.
        """

    def module(self) -> nn.Module:
        """The ``torch.nn.Module``, with first weights from torch's random state, on its current default device.

        It maps (n, in_channels, resolution, resolution) to logits (n, num_classes).

        Raises:
            UserError: its builder cannot build it.
        """

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
        """The network with its channels times ``width`` and its repeats times ``depth``, at ``resolution`` pixels.

        Args:
            width, depth: multipliers.
            resolution: in pixels.
            dropout: rate; None: unchanged. A builder sets its own.
            divisor: what widths become multiples of, one of :attr:`divisors`.
            depth_rounding: how repeats become whole, of :data:`~effnas.space.multipliers.ROUNDINGS`.

        Raises:
            UserError: a multiplier is not a positive number, or the result is outside what a network may be.
        """

    def check_scalable(self, depth_rounding: str = "up", divisor: int = DIVISOR) -> None:
        """Raise :class:`UserError` unless it can be scaled so; a builder must use its arguments, and rounds itself."""

    def check_classes(self, count: int) -> None:
        """Raise :class:`UserError` unless its classifier has as many outputs as the data has classes."""

    def with_settings(self, padding: str | None, bn_eps: float | None) -> Self:
        """With this padding of the convolutions and this eps of BatchNorm; None: unchanged.

        Raises:
            UserError: a value out of range, or a setting that a builder cannot be told.
        """

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again.

        Raises:
            UserError: a field that does not exist, or a value out of range.
        """

    def __hash__(self) -> int:
        """Of equal networks the same."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data that describe it."""

    def to_yaml(self) -> str:
        """The file format: :meth:`to_dict` as YAML."""

    def save(self, path: str | Path) -> Path:
        """Write the YAML file; a crash leaves the old file or the new one, never half of it."""


N = TypeVar("N", bound=NetworkSpec)


def require_network(what: str, value: object) -> None:
    """Raise :class:`UserError` unless it is a network; the message says how a name or a file becomes one."""
    if not hasattr(value, "digest") or not hasattr(value, "to_dict"):
        named = isinstance(value, str | Path)
        how = f": load_architecture({str(value)!r:.60}) makes one of a name or a file" if named else ""
        raise UserError(f"{what} must be a network, got {type(value).__name__}{how}")


def check_shared_fields(network: NetworkSpec) -> None:
    """Raise :class:`UserError` unless the fields that every network has are in their ranges."""
    check_int("resolution", network.resolution, 1, 100_000)
    check_int("in_channels", network.in_channels, 1, 100_000)
    check_int("num_classes", network.num_classes, 1, 10_000_000)
    if not isinstance(network.name, str) or len(network.name) > 200:
        raise UserError(f"name must be a string of at most 200 characters, got {network.name!r:.60}")


def copy_with(network: N, changes: Mapping[str, Any]) -> N:
    """:meth:`NetworkSpec.with_` of a dataclass."""
    data: Any = network
    names = [f.name for f in fields(data)]
    for key in changes:
        check_choice(f"{type(network).__name__} field", key, names)
    copy: N = replace(data, **changes)
    return copy


def hash_plain(data: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of plain data, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
