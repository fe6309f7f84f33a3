"""What a network is: frozen, validated, plain data, with no torch in sight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError, check_choice, check_int, check_number, unknown
from .files import PlainDumper, load_yaml, write_text

BLOCKS = ("conv", "ds", "mbconv")
SKIPS = ("none", "identity", "pool")
#: Names as in ``torch.nn.functional``; parameter-free, so that the cost does not depend on them.
ACTIVATIONS = (
    "relu",
    "relu6",
    "silu",
    "hardswish",
    "gelu",
    "elu",
    "celu",
    "selu",
    "mish",
    "leaky_relu",
    "softplus",
    "tanh",
)
PADDINGS = ("symmetric", "same")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """``repeats`` equal blocks; the first one has the stride and changes the width.

    Blocks, with BN after every convolution and the activation after every BN but the last of MBConv:

    - ``mbconv``: 1×1 expansion (none at ratio 1), k×k depthwise, SE, linear 1×1 (MobileNetV2, MnasNet)
    - ``ds``: k×k depthwise, SE, 1×1 with activation (MobileNetV1)
    - ``conv``: k×k convolution, SE

    ``skip``: ``identity`` adds a block's input where stride is 1 and widths agree (MobileNetV2); ``pool``
    always adds it, 3×3 average-pooled with the block's stride, channels cut or zero-padded; ``none`` never.
    SE squeezes to ``max(1, ⌊se_ratio × input channels of the block⌋)``; 0 means no SE.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    block: str
    channels: int
    repeats: int = 1
    kernel_size: int = 3
    stride: int = 1
    expand_ratio: int = 1
    se_ratio: float = 0.0
    skip: str = "identity"

    def __post_init__(self) -> None:
        check_choice("block", self.block, BLOCKS)
        check_choice("skip", self.skip, SKIPS)
        check_int("channels", self.channels, 1, 1_000_000)
        check_int("repeats", self.repeats, 1, 10_000)
        check_int("kernel_size", self.kernel_size, 1, 31)
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be odd, got {self.kernel_size}")
        check_int("stride", self.stride, 1, 8)
        check_int("expand_ratio", self.expand_ratio, 1, 64)
        if self.block != "mbconv" and self.expand_ratio != 1:
            raise UserError(f"expand_ratio belongs to mbconv: a {self.block} block has 1, got {self.expand_ratio}")
        check_number("se_ratio", self.se_ratio, 0, 1)
        object.__setattr__(self, "se_ratio", float(self.se_ratio))  # 0 and 0.0 are one network: one digest

    def effective_skip(self, in_channels: int) -> str:
        """``skip``, but ``none`` where ``identity`` finds no block of equal width and stride 1."""
        idle = self.skip == "identity" and self.repeats == 1 and (self.stride != 1 or in_channels != self.channels)
        return "none" if idle else self.skip


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise UserError("stages: a network needs at least one stage")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise UserError(f"stages must hold Stage, got {type(stage).__name__}")
        check_int("stem", self.stem, 1, 1_000_000)
        check_int("stem_stride", self.stem_stride, 1, 8)
        check_int("head", self.head, 0, 1_000_000)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("padding", self.padding, PADDINGS)
        check_number("dropout", self.dropout, 0, 1, open_high=True)
        check_number("drop_path", self.drop_path, 0, 1, open_high=True)
        check_number("bn_eps", self.bn_eps, 0, 1, open_low=True)
        check_number("bn_momentum", self.bn_momentum, 0, 1, open_low=True)
        check_int("resolution", self.resolution, 1, 100_000)
        check_int("in_channels", self.in_channels, 1, 100_000)
        check_int("num_classes", self.num_classes, 1, 10_000_000)
        for name in ("dropout", "drop_path", "bn_eps", "bn_momentum"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not isinstance(self.fixed_ends, bool):
            raise UserError(f"fixed_ends must be true or false, got {self.fixed_ends!r}")
        if not isinstance(self.name, str) or len(self.name) > 200:
            raise UserError(f"name must be a text of at most 200 characters, got {self.name!r:.60}")

    # -- plain data ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` turns back into an equal Architecture."""
        data: dict[str, Any] = {"effnas_architecture": FORMAT, "name": self.name}
        data.update({f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "stages")})
        data["stages"] = [asdict(stage) for stage in self.stages]
        return data

    @classmethod
    def from_dict(cls, data: object, source: str = "architecture") -> Architecture:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: not an architecture, an unknown field or a value out of range; ``source`` opens the message.
        """
        if not isinstance(data, Mapping) or "effnas_architecture" not in data:
            raise UserError(f"{source}: not an architecture (no 'effnas_architecture: {FORMAT}' in it)")
        if data["effnas_architecture"] != FORMAT:
            raise UserError(
                f"{source}: format {data['effnas_architecture']!r} is not known; this version reads {FORMAT}"
            )
        body = {key: value for key, value in data.items() if key != "effnas_architecture"}
        rows = body.pop("stages", None)
        if not isinstance(rows, list):
            raise UserError(f"{source}: 'stages' must be a list of stages, got {type(rows).__name__}")
        stages = tuple(_make(Stage, row, f"{source}: stage {i}") for i, row in enumerate(rows))
        made: Architecture = _make(cls, {**body, "stages": stages}, source)
        return made

    def to_yaml(self) -> str:
        """The file format: :meth:`to_dict` as YAML, one stage a line."""
        data = self.to_dict()
        rows = data.pop("stages")
        lines = [
            yaml.dump(row, None, PlainDumper, default_flow_style=True, sort_keys=False, width=10_000) for row in rows
        ]
        # PyYAML escapes a line break of Unicode only where it escapes everything
        head = yaml.dump(data, None, PlainDumper, sort_keys=False, allow_unicode=self.name.isprintable())
        return head + "stages:\n" + "".join(f"- {line}" for line in lines)

    @classmethod
    def from_yaml(cls, text: str, source: str = "architecture") -> Architecture:
        """Inverse of :meth:`to_yaml`; safe on any text: aliases and tags that make objects are refused.

        Raises:
            UserError: as :meth:`from_dict`, or text that is not YAML.
        """
        return cls.from_dict(load_yaml(text, source), source)

    def save(self, path: str | Path) -> Path:
        """Write the YAML file; a crash leaves the old file or the new one, never half of it."""
        return write_text(path, self.to_yaml())

    # -- identity and printing ----------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the network; the name and skips that cannot act take no part."""
        data = self.to_dict()
        del data["name"]
        if self.padding == "symmetric":  # records from before there was a choice refer to networks by this digest
            del data["padding"]
        channels = self.stem
        for stage, row in zip(self.stages, data["stages"], strict=True):
            row["skip"] = stage.effective_skip(channels)
            channels = stage.channels
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def blocks(self) -> int:
        """Number of blocks, N of the stochastic-depth schedule."""
        return sum(stage.repeats for stage in self.stages)

    @property
    def total_stride(self) -> int:
        """Product of all strides: input side over side of the last feature map."""
        stride = self.stem_stride
        for stage in self.stages:
            stride *= stage.stride
        return stride

    def with_(self, **changes: Any) -> Architecture:
        """A copy with some fields changed, validated again.

        Raises:
            UserError: a field that does not exist, or a value out of range.
        """
        names = [f.name for f in fields(self)]
        for key in changes:
            check_choice("Architecture field", key, names)
        return replace(self, **changes)

    def __str__(self) -> str:
        from .cost import cost  # a print-out shows what each stage costs; cost itself reads this module

        return cost(self).table(self)


def _make(cls: Any, data: object, source: str) -> Any:
    if not isinstance(data, Mapping):
        raise UserError(f"{source}: must be a mapping of fields, got {type(data).__name__}")
    names = [f.name for f in fields(cls)]
    for key in data:
        if key not in names:
            raise unknown(f"{source}: field", key, names)
    for f in fields(cls):
        if f.default is MISSING and f.name not in data:
            raise UserError(f"{source}: {f.name!r} must be given")
    try:
        return cls(**data)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def iter_layers(architecture: Architecture) -> Iterator[tuple[int, Stage, int, int]]:
    """``(stage index, stage, input channels, stride)`` of every block, from input to output."""
    channels = architecture.stem
    for i, stage in enumerate(architecture.stages):
        for repeat in range(stage.repeats):
            yield i, stage, channels, stage.stride if repeat == 0 else 1
            channels = stage.channels
