"""What a network is: frozen, validated, plain data, with no torch in sight."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import yaml

from .errors import UserError, check_choice, check_int, check_number
from .files import PlainDumper, load_yaml, make_from_mapping, save_text
from .formulas import Cost, compute_cost, format_cost
from .multipliers import DIVISOR, DIVISORS, ROUNDINGS, check_divisor, check_multiplier, round_filters, round_repeats
from .network_spec import check_shared_fields, copy_with, hash_plain
from .quantity import keep_plain
from .stage import ACTIVATIONS, PADDINGS, Stage

if TYPE_CHECKING:
    from .network import Network

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """A whole network: stem convolution, stages, head convolution, pooling, dropout, classifier.

    Args:
        stages: from input to output.
        stem: channels of the first convolution (3×3).
        stem_stride: its stride; 1 suits 32-pixel images.
        head: channels of the last 1×1 convolution; 0 for none (MobileNetV1).
        activation: one of ``ACTIVATIONS``, everywhere but in the SE gate (a sigmoid).
        padding: of the convolutions: ``symmetric``, k//2 on all sides, or ``same``, TensorFlow's, with the odd pixel at
            the bottom and right; checkpoints ported from there need it. Sizes and costs are equal, and the average pool
            of ``skip: pool`` is symmetric in both.
        dropout: rate before the classifier.
        drop_path: stochastic depth; block i of N is dropped at rate ``drop_path · i / N``.
        bn_eps, bn_momentum: of every BatchNorm, in PyTorch's sense of momentum.
        resolution: side of the square input in pixels.
        in_channels, num_classes: of images and labels.
        fixed_ends: stem, head and the repeats of the first and last stage stay as they are when the network is
            scaled (EfficientNet-Lite).
        name: for people; not part of equality or digest.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    stages: tuple[Stage, ...]
    stem: int = 32
    stem_stride: int = 2
    head: int = 1280
    activation: str = "silu"
    padding: str = "symmetric"
    dropout: float = 0.2
    drop_path: float = 0.2
    bn_eps: float = 1e-3
    bn_momentum: float = 0.01
    resolution: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    fixed_ends: bool = False
    name: str = field(default="", compare=False)

    #: Of every Architecture, as :class:`~effnas.space.network_spec.NetworkSpec` states them.
    maker: ClassVar[str] = "the network"
    divisors: ClassVar[tuple[int, ...]] = DIVISORS
    classifier_axes: ClassVar[Mapping[str, int]] = MappingProxyType({"classifier.weight": 0, "classifier.bias": 0})
    input_axes: ClassVar[Mapping[str, int]] = MappingProxyType({"stem.conv.weight": 1})

    def __post_init__(self) -> None:
        if not isinstance(self.stages, Iterable):
            raise UserError(f"stages must be Stage objects, got {type(self.stages).__name__}")
        object.__setattr__(self, "stages", tuple(self.stages))
        keep_plain(self, self.__slots__)
        if not self.stages:
            raise UserError("stages: a network needs at least one stage")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise UserError(f"stages must be Stage objects, got {type(stage).__name__}")
        check_int("stem", self.stem, 1, 1_000_000)
        check_int("stem_stride", self.stem_stride, 1, 8)
        check_int("head", self.head, 0, 1_000_000)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("padding", self.padding, PADDINGS)
        check_number("dropout", self.dropout, 0, 1, open_high=True)
        check_number("drop_path", self.drop_path, 0, 1, open_high=True)
        check_number("bn_eps", self.bn_eps, 0, 1, open_low=True)
        check_number("bn_momentum", self.bn_momentum, 0, 1, open_low=True)
        for name in ("dropout", "drop_path", "bn_eps", "bn_momentum"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not isinstance(self.fixed_ends, bool):
            raise UserError(f"fixed_ends must be true or false, got {self.fixed_ends!r}")
        check_shared_fields(self)

    # -- plain data ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` turns back into an equal Architecture."""
        data: dict[str, Any] = {"effnas_architecture": FORMAT, "name": self.name}
        data.update({f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "stages")})
        data["stages"] = [asdict(stage) for stage in self.stages]
        return data

    @classmethod
    def from_dict(cls, data: object, source: str = "architecture") -> Self:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: not an architecture, an unknown field or a value out of range; ``source`` opens the message.
        """
        if not isinstance(data, Mapping) or "effnas_architecture" not in data:
            raise UserError(f"{source}: not an architecture (no 'effnas_architecture: {FORMAT}' in it)")
        if data["effnas_architecture"] != FORMAT:
            raise UserError(f"{source}: format {data['effnas_architecture']!r} is unknown; this version reads {FORMAT}")
        body = {key: value for key, value in data.items() if key != "effnas_architecture"}
        rows = body.pop("stages", None)
        if not isinstance(rows, list):
            raise UserError(f"{source}: 'stages' must be a list of stages, got {type(rows).__name__}")
        stages = tuple(make_from_mapping(Stage, row, f"{source}: stage {i}") for i, row in enumerate(rows))
        return make_from_mapping(cls, {**body, "stages": stages}, source)

    def to_yaml(self) -> str:
        """The file format: :meth:`to_dict` as YAML, one stage per line."""
        data = self.to_dict()
        rows = data.pop("stages")
        lines = [
            yaml.dump(row, None, PlainDumper, default_flow_style=True, sort_keys=False, width=10_000) for row in rows
        ]
        # PyYAML escapes a line break of Unicode only where it escapes everything
        head = yaml.dump(data, None, PlainDumper, sort_keys=False, allow_unicode=self.name.isprintable())
        return head + "stages:\n" + "".join(f"- {line}" for line in lines)

    @classmethod
    def from_yaml(cls, text: str, source: str = "architecture") -> Self:
        """Inverse of :meth:`to_yaml`; safe on any text: aliases and tags that make objects are refused.

        Raises:
            UserError: as :meth:`from_dict`, or text that is not YAML.
        """
        return cls.from_dict(load_yaml(text, source), source)

    def save(self, path: str | Path) -> Path:
        """Write the YAML file; a crash leaves the old file or the new one, never half of it."""
        return save_text(path, self.to_yaml())

    # -- identity -----------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the network; the name and skips without effect do not count."""
        data = self.to_dict()
        del data["name"]
        if self.padding == "symmetric":  # records from before there was a choice refer to networks by this digest
            del data["padding"]
        channels = self.stem
        for stage, row in zip(self.stages, data["stages"], strict=True):
            row["skip"] = stage.effective_skip(channels)
            channels = stage.channels
        return hash_plain(data)

    @property
    def after_rounding(self) -> Hashable:
        """The digest: a network that is already rounded is known by it."""
        return self.digest

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again.

        Raises:
            UserError: a field that does not exist, or a value out of range.
        """
        return copy_with(self, changes)

    def with_settings(self, padding: str | None, bn_eps: float | None) -> Self:
        """A copy with this padding and this BatchNorm eps; None: unchanged.

        Raises:
            UserError: a value out of range.
        """
        given = {"padding": padding, "bn_eps": bn_eps}
        return self.with_(**{key: value for key, value in given.items() if value is not None})

    # -- what follows from the fields ---------------------------------------------------------------

    @property
    def blocks(self) -> int:
        """Number of blocks, N of the stochastic-depth schedule."""
        return sum(stage.repeats for stage in self.stages)

    def iter_blocks(self) -> Iterator[tuple[int, Stage, int, int]]:
        """``(stage index, stage, input channels, stride)`` of every block, from input to output."""
        channels = self.stem
        for i, stage in enumerate(self.stages):
            for repeat in range(stage.repeats):
                yield i, stage, channels, stage.stride if repeat == 0 else 1
                channels = stage.channels

    @property
    def total_stride(self) -> int:
        """Product of all strides: input side over side of the last feature map."""
        stride = self.stem_stride
        for stage in self.stages:
            stride *= stage.stride
        return stride

    @property
    def cost(self) -> Cost:
        """Parameters, MACs, activations and peak memory, per stage and in total: exact integers, without torch.

        Equals ``sum(p.numel())`` and fvcore's ``conv + linear`` of the built module, odd resolutions included.
        """
        return compute_cost(
            self.stages,
            stem=self.stem,
            stem_stride=self.stem_stride,
            head=self.head,
            resolution=self.resolution,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
        )

    def module(self) -> Network:
        """The module, initialised as the official code does, with torch's current random state."""
        from .network import Network  # torch

        return Network(self)

    def check_classes(self, count: int) -> None:
        """Raise :class:`UserError` unless the classifier has as many outputs as the data has classes."""
        if count != self.num_classes:
            raise UserError(
                f"the data has {count} classes, the architecture {self.num_classes}: set space.num_classes={count}"
            )

    # -- scaling ------------------------------------------------------------------------------------

    def check_scalable(self, depth_rounding: str = "up", divisor: int = DIVISOR) -> None:
        """Raise :class:`UserError` unless ``depth_rounding`` is a known one."""
        check_choice("depth_rounding", depth_rounding, ROUNDINGS)
        check_divisor(divisor)

    def scaled(
        self,
        width: float,
        depth: float,
        resolution: int,
        dropout: float | None = None,
        *,
        divisor: int = DIVISOR,
        depth_rounding: str = "up",
        tilt: Sequence[tuple[float, float]] = (),
    ) -> Self:
        """The network with its channels times ``width`` and its repeats times ``depth``, at ``resolution`` pixels.

        Stem and head scale with the width, a head of 0 stays none. With ``fixed_ends`` (EfficientNet-Lite) stem, head
        and the repeats of the first and last stage stay as they are; the channels of those two stages do scale.
        ``dropout`` None leaves the rate as it is; ``divisor`` is what widths become multiples of, and
        ``depth_rounding`` how repeats become whole. ``tilt``: of each stage, what width and depth get besides.

        Raises:
            UserError: a multiplier is not a positive number, or the result is outside what an Architecture may be.
        """
        check_multiplier("width", width)
        check_multiplier("depth", depth)
        last = len(self.stages) - 1

        def scale_stage(i: int, stage: Stage) -> Stage:
            keep = self.fixed_ends and i in (0, last)
            wider, deeper = tilt[i] if tilt else (1.0, 1.0)
            repeats = stage.repeats if keep else round_repeats(stage.repeats, depth * deeper, depth_rounding)
            return replace(stage, channels=round_filters(stage.channels, width * wider, divisor), repeats=repeats)

        ends = {}
        if not self.fixed_ends:
            ends["stem"] = round_filters(self.stem, width, divisor)
            ends["head"] = round_filters(self.head, width, divisor) if self.head else 0
        return self.with_(
            stages=tuple(scale_stage(i, stage) for i, stage in enumerate(self.stages)),
            resolution=resolution,
            dropout=self.dropout if dropout is None else dropout,
            **ends,
        )

    # -- printing -----------------------------------------------------------------------------------

    def __str__(self) -> str:
        """The network and what each stage of it costs, as an aligned text table."""
        a = self
        title = f"{a.name or 'architecture'} {a.digest}: {a.resolution}² × {a.in_channels} → {a.num_classes} classes, "
        title += f"{a.activation}, dropout {a.dropout:g}, drop path {a.drop_path:g}, BN eps {a.bn_eps:g}"
        return f"{title}\n{format_cost(a.cost, a.stages, a.stem_stride)}"
