"""Published networks by name: as Architectures where that form fits them, else as a builder's.

The latter are in :data:`~effnas.space.builders.table.BUILT`.

Stages, BatchNorm and dropout are those of the authors' TensorFlow code (tensorflow/tpu: models/official/efficientnet
and mnasnet; google/automl: efficientnetv2; tensorflow/models: slim), with TF's BatchNorm momentum m written as
PyTorch's 1 − m. torchvision's B0–B4 and MobileNetV2 keep PyTorch's BatchNorm defaults instead.
"""

from __future__ import annotations

import difflib
import os.path
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .architecture import Architecture
from .builders.table import BUILT
from .built import BuiltNetwork
from .errors import UserError, unknown
from .files import load_yaml, read_text
from .network_spec import NetworkSpec
from .stage import Stage
from .timm.strings import parse_timm, read_timm_text

#: Begins the name of a file of timm's architecture strings.
TIMM = "timm:"


class Published(NamedTuple):
    """One row of the published scaling table; resolution in pixels."""

    width: float
    depth: float
    resolution: int
    dropout: float


#: efficientnet_builder.py and efficientnet_lite_builder.py. These rows are *not* α^φ, β^φ, γ^φ of any one φ.
PUBLISHED: dict[str, Published] = {
    "efficientnet_b0": Published(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Published(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": Published(1.1, 1.2, 260, 0.3),
    "efficientnet_b3": Published(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": Published(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": Published(1.6, 2.2, 456, 0.4),
    "efficientnet_b6": Published(1.8, 2.6, 528, 0.5),
    "efficientnet_b7": Published(2.0, 3.1, 600, 0.5),
    "efficientnet_b8": Published(2.2, 3.6, 672, 0.5),
    "efficientnet_l2": Published(4.3, 5.3, 800, 0.5),
    "efficientnet_lite0": Published(1.0, 1.0, 224, 0.2),
    "efficientnet_lite1": Published(1.0, 1.1, 240, 0.2),
    "efficientnet_lite2": Published(1.1, 1.2, 260, 0.3),
    "efficientnet_lite3": Published(1.2, 1.4, 280, 0.3),
    "efficientnet_lite4": Published(1.4, 1.8, 300, 0.3),
}

#: Channels, repeats, kernel size, stride and expansion of each stage (Tan & Le 2019, table 1).
_EFFICIENTNET = (
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
    (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)

#: Block, stride, expansion and SE of each stage, all of 3×3 kernels (Tan & Le 2021, table 4, whose Fused-MBConv1 is one
#: convolution); the last one in M, L and XL alone.
_EFFICIENTNET_V2 = (
    ("conv", 1, 1, 0.0),
    ("fused_mbconv", 2, 4, 0.0),
    ("fused_mbconv", 2, 4, 0.0),
    ("mbconv", 2, 4, 0.25),
    ("mbconv", 1, 6, 0.25),
    ("mbconv", 2, 6, 0.25),
    ("mbconv", 1, 6, 0.25),
)


def _efficientnet_v2(
    resolution: int, dropout: float, stem: int, head: int, channels: Sequence[int], repeats: Sequence[int]
) -> Architecture:
    rows = zip(_EFFICIENTNET_V2, channels, repeats, strict=False)
    return Architecture(
        tuple(Stage(kind, wide, deep, 3, stride, ratio, se) for (kind, stride, ratio, se), wide, deep in rows),
        stem=stem,
        head=head,
        dropout=dropout,
        bn_momentum=0.1,
        resolution=resolution,
    )


_BASES: dict[str, Architecture] = {
    "efficientnet": Architecture(tuple(Stage("mbconv", *row, se_ratio=0.25) for row in _EFFICIENTNET)),
    "efficientnet_lite": Architecture(
        tuple(Stage("mbconv", *row) for row in _EFFICIENTNET), activation="relu6", fixed_ends=True
    ),
    # Tan et al. 2019, figure 7; its SepConv is an MBConv of ratio 1, without activation after the pointwise.
    "mnasnet_a1": Architecture(
        (
            Stage("mbconv", 16, 1, 3, 1, 1, skip="none"),
            Stage("mbconv", 24, 2, 3, 2, 6),
            Stage("mbconv", 40, 3, 5, 2, 3, 0.25),
            Stage("mbconv", 80, 4, 3, 2, 6),
            Stage("mbconv", 112, 2, 3, 1, 6, 0.25),
            Stage("mbconv", 160, 3, 5, 2, 6, 0.25),
            Stage("mbconv", 320, 1, 3, 1, 6),
        ),
        activation="relu",
        drop_path=0.0,
    ),
    "mnasnet_b1": Architecture(
        (
            Stage("mbconv", 16, 1, 3, 1, 1, skip="none"),
            Stage("mbconv", 24, 3, 3, 2, 3),
            Stage("mbconv", 40, 3, 5, 2, 3),
            Stage("mbconv", 80, 3, 5, 2, 6),
            Stage("mbconv", 96, 2, 3, 1, 6),
            Stage("mbconv", 192, 4, 5, 2, 6),
            Stage("mbconv", 320, 1, 3, 1, 6, skip="none"),
        ),
        activation="relu",
        drop_path=0.0,
    ),
    # Howard et al. 2017, table 1
    "mobilenet_v1": Architecture(
        tuple(
            Stage("ds", channels, repeats, stride=stride, skip="none")
            for channels, repeats, stride in ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
        ),
        head=0,
        activation="relu",
        dropout=0.001,
        drop_path=0.0,
        bn_momentum=0.0003,
    ),
    # Sandler et al. 2018, table 2
    "mobilenet_v2": Architecture(
        (
            Stage("mbconv", 16, 1, 3, 1, 1),
            Stage("mbconv", 24, 2, 3, 2, 6),
            Stage("mbconv", 32, 3, 3, 2, 6),
            Stage("mbconv", 64, 4, 3, 2, 6),
            Stage("mbconv", 96, 3, 3, 1, 6),
            Stage("mbconv", 160, 3, 3, 2, 6),
            Stage("mbconv", 320, 1, 3, 1, 6),
        ),
        activation="relu6",
        drop_path=0.0,
        bn_momentum=0.003,
    ),
    # effnetv2_configs.py, at the resolutions of evaluation. B1 to B3 are B0 times (width, depth) of the first
    # EfficientNets, but their widths may be rounded down by more than 10 %: B3's first stage has 16 channels, not 24.
    "efficientnet_v2_b0": _efficientnet_v2(224, 0.2, 32, 1280, (16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8)),
    "efficientnet_v2_b1": _efficientnet_v2(240, 0.2, 32, 1280, (16, 32, 48, 96, 112, 192), (2, 3, 3, 4, 6, 9)),
    "efficientnet_v2_b2": _efficientnet_v2(260, 0.3, 32, 1408, (16, 32, 56, 104, 120, 208), (2, 3, 3, 4, 6, 10)),
    "efficientnet_v2_b3": _efficientnet_v2(300, 0.3, 40, 1536, (16, 40, 56, 112, 136, 232), (2, 3, 3, 5, 7, 12)),
    "efficientnet_v2_s": _efficientnet_v2(384, 0.2, 24, 1280, (24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15)),
    "efficientnet_v2_m": _efficientnet_v2(
        480, 0.3, 24, 1280, (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5)
    ),
    "efficientnet_v2_l": _efficientnet_v2(
        480, 0.4, 32, 1280, (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7)
    ),
    "efficientnet_v2_xl": _efficientnet_v2(
        512, 0.4, 32, 1280, (32, 64, 96, 192, 256, 512, 640), (4, 8, 8, 16, 24, 32, 8)
    ),
    # EfficientNet-EdgeTPU-S. Its first block expands 24 channels by 4, though 32 come in: by 3 what comes in. M, whose
    # second block then expands by 4, and L, by 3.2, are not made of equal blocks.
    "efficientnet_es": Architecture(
        (
            Stage("fused_mbconv", 24, 1, 3, 1, 3, skip="none"),
            Stage("fused_mbconv", 32, 2, 3, 2, 8),
            Stage("fused_mbconv", 48, 4, 3, 2, 8),
            Stage("mbconv", 96, 5, 5, 2, 8),
            Stage("mbconv", 144, 4, 5, 1, 8),
            Stage("mbconv", 192, 2, 5, 2, 8),
        ),
        activation="relu",
    ),
}

#: Bases that go by the names of PUBLISHED.
_SCALED = ("efficientnet", "efficientnet_lite")
#: Those that are Architectures.
ARCHITECTURES: tuple[str, ...] = (*PUBLISHED, *(name for name in _BASES if name not in _SCALED))


#: Every name that :func:`load_architecture` knows.
ZOO: tuple[str, ...] = (*ARCHITECTURES, *BUILT)


def zoo(name: str) -> Architecture:
    """The published Architecture of that name, at its published resolution and 1,000 classes.

    Raises:
        UserError: no such name; the message lists them.
    """
    if name not in ARCHITECTURES:
        raise unknown("network", name, ARCHITECTURES)
    if name not in PUBLISHED:
        return _BASES[name].with_(name=name)
    width, depth, resolution, dropout = PUBLISHED[name]
    base = _BASES["efficientnet_lite" if "lite" in name else "efficientnet"]
    return base.scaled(width, depth, resolution, dropout).with_(name=name)


def find_family(architecture: Architecture) -> str | None:
    """The published network that an Architecture is a larger, smaller or other-headed member of, by its blocks.

    Returns:
        A name of the zoo, or ``efficientnet`` or ``efficientnet_lite``; None: its blocks are nobody's.
    """
    return next((name for name, base in _BASES.items() if _kinds(base) == _kinds(architecture)), None)


def published_activation(family: str) -> str:
    """That of a family of :func:`find_family`, as its paper has it."""
    return _BASES[family].activation


def _kinds(architecture: Architecture) -> list[tuple[object, ...]]:
    return [(s.block, s.kernel_size, s.stride, s.expand_ratio, s.se_ratio) for s in architecture.stages]


def load_architecture(name_or_file: str | Path | None, network: BuiltNetwork | None = None) -> NetworkSpec:
    """A network of the zoo by its name, or the one in a YAML file; a file's own name stands in for a missing one.

    Args:
        name_or_file: None for ``network`` itself; ``timm:FILE`` is a file of timm's architecture strings
            (:func:`~effnas.space.timm.strings.read_timm_text`).
        network: a network of the user's own builder; files of its networks need it.

    Raises:
        UserError: neither a name nor a file, or a file that holds no architecture.
    """
    if name_or_file is None:
        if network is None:
            raise UserError(f"architecture: name a YAML file or one of: {', '.join(ZOO)}")
        return network
    text = str(name_or_file)
    if text in BUILT:
        return BuiltNetwork(text, resolution=BUILT[text].resolution, num_classes=BUILT[text].num_classes, name=text)
    if text in ARCHITECTURES:
        return zoo(text)
    if text.startswith(TIMM):
        path = text.removeprefix(TIMM)
        timms = read_timm_text(read_text(path, "architecture"), path)
        return timms if timms.name else timms.with_(name=Path(path).stem)
    if not os.path.isfile(text):  # not Path.is_file, which raises on names that no file system allows
        near = difflib.get_close_matches(text, ZOO, n=3)
        hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
        raise UserError(
            f"architecture: {text!r:.100} is not a network of the zoo, and there is no such file.{hint} "
            f"Name a YAML file or one of: {', '.join(ZOO)}"
        )
    found = parse_network(load_yaml(read_text(text, "architecture"), text), text, network)
    return found if found.name else found.with_(name=Path(text).stem)


def parse_network(data: object, source: str = "architecture", network: BuiltNetwork | None = None) -> NetworkSpec:
    """The network that plain data (``to_dict``) describe; ``network`` as for :func:`load_architecture`.

    Raises:
        UserError: it is not a network; ``source`` opens the message.
    """
    if isinstance(data, Mapping) and "arch_def" in data and "effnas_architecture" not in data:
        return parse_timm(data, source)
    if isinstance(data, Mapping) and "effnas_network" in data:
        return BuiltNetwork.from_dict(data, source, network)
    if not isinstance(data, Mapping) and re.match(r"\W*[a-z]+_r\d", str(data)):
        raise UserError(f"{source}: not an architecture, but timm's architecture strings: name it {TIMM}{source}")
    return Architecture.from_dict(data, source)
