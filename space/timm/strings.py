"""timm's strings for the blocks of its EfficientNets: ``ir_r2_k3_s2_e6_c24_se0.25``; torch-free.

The leading letters are the block, each part after them a letter with a number: ``r`` repeats, ``k`` kernel size, ``s``
stride, ``e`` expansion, ``c`` channels, ``se`` squeeze-and-excitation; ``noskip`` and ``skip``; ``nre``, ``nr6``, … the
activation. The meaning is that of ``decode_arch_def`` in timm's ``_efficientnet_builder.py``:

- ``ir``: an ``mbconv`` block;
- ``ds``: an ``mbconv`` block of ratio 1 (timm's has no activation after its pointwise convolution);
- ``dsa``: a ``ds`` block, which never has a shortcut there;
- ``cn``: a ``conv`` block, whose shortcut must be asked for with ``skip``;
- ``er``: a ``fused_mbconv`` block; ``fc`` is the width that timm expands from instead of the input's;
- ``uir``: MobileNetV4's block, which is an ``ir`` block where it has no depthwise convolution but the middle one (``a``
  and ``p`` are 0, the default) and a ratio above 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..architecture import Architecture
from ..errors import UserError, check_int, unknown
from ..files import load_yaml, make_from_mapping
from ..multipliers import round_filters
from ..stage import Stage

#: timm's letters for activations.
ACTIVATIONS = {"re": "relu", "r6": "relu6", "hs": "hardswish", "sw": "silu", "mi": "mish"}
#: Blocks that networks of this package have.
BLOCKS = ("ir", "ds", "dsa", "cn", "er", "uir")
#: What they are here.
_HERE = {"ir": "mbconv", "ds": "mbconv", "dsa": "ds", "cn": "conv", "er": "fused_mbconv"}
#: Blocks that timm has beside them, and what comes nearest.
_OTHERS = {
    "mha": ("attention", "leave its stages out"),
    "mqa": ("attention", "leave its stages out"),
}
#: Parts that say nothing where they have this value, and what they are for.
_USELESS = {
    "a": ("1", "kernel of its own for the expansion"),
    "p": ("1", "kernel of its own for the projection"),
    "cc": ("0", "conditional convolutions"),
    "gs": ("1", "groups of channels"),  # 0 in blocks whose k×k convolution is dense
    "d": ("0", "space to depth"),
}
_PART = re.compile(r"([a-z]+?)(\d+(?:\.\d+)*)")
_NEEDED = {"ir": "rksec", "ds": "rksc", "dsa": "rksc", "cn": "rksc", "er": "rksec", "uir": "rksec"}

Strings = Sequence[str] | Sequence[Sequence[str]]


def architecture_from_timm(strings: Strings, **settings: Any) -> Architecture:
    """The network of timm's architecture strings.

    What the strings leave open is as in timm's EfficientNets: stem 32, head 1280, and no activation named means
    ``activation``, by default ``silu``. timm squeezes to ``round(ratio × channels)``, this package to the whole number
    below: the two differ only where the product is not whole. timm makes all widths multiples of 8, those that a string
    says too; here they are what the string says.

    Args:
        strings: one a stage, or a list of lists, whose strings become a stage each: a stage of timm with two strings
            makes two stages here, and the stride is the first one's.
        settings: other fields of :class:`~effnas.space.architecture.Architecture`: ``stem``, ``head``, ``activation``,
            ``resolution``, ``num_classes``, ``name``, …

    Raises:
        UserError: a string is not of this form, or has what networks of this package have not; the message names it.
    """
    rows = list(_flatten(strings))
    if not rows:
        raise UserError("timm: no architecture strings given; one is like ir_r2_k3_s2_e6_c24_se0.25")
    stages, found = [], set()
    channels = settings.get("stem", next(f.default for f in fields(Architecture) if f.name == "stem"))
    for text, first in rows:
        stage, activation = _read(text, channels)
        channels = stage.channels
        stage = stage if first else replace(stage, stride=1)  # as timm: one stride a list
        stages.append(stage)
        found.add(activation)
    given = settings.get("activation")
    named = sorted(name for name in found if name and name != given)
    if len(named) > 1 or (named and given):
        told = ", ".join([*named, *([str(given)] if given else [])])
        raise UserError(f"timm: the strings and settings name several activations ({told}); a network has one")
    if None in found and named and len(stages) > 1:
        raise UserError(
            f"timm: some strings name the activation {named[0]} and others none: name it in all, or give "
            f"activation={named[0]}"
        )
    if named:
        settings["activation"] = named[0]
    return make_from_mapping(Architecture, {"stages": tuple(stages), **settings}, "timm")


def architecture_to_timm(architecture: Architecture) -> list[list[str]]:
    """timm's architecture strings, a list a stage, for ``decode_arch_def``.

    They hold the stages alone: stem, head, activation and resolution are arguments of timm's networks.

    Raises:
        UserError: a stage that timm has no string for; the message names it.
    """
    return [[_write(stage, i)] for i, stage in enumerate(architecture.stages)]


def read_timm_text(text: str, source: str) -> Architecture:
    """The network of a file of strings: one a line, or YAML, a list as in timm's code or :func:`parse_timm`'s form.

    Raises:
        UserError: it is none of these; ``source`` opens the message.
    """
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    plain = bool(lines) and all(re.fullmatch(r"[a-z]+_[\w.]+", line) for line in lines)
    data = lines if plain else load_yaml(text, source)
    return parse_timm(data if isinstance(data, Mapping) else {"arch_def": data}, source)


def parse_timm(data: Mapping[str, Any], source: str) -> Architecture:
    """The network of a file that has ``arch_def``, timm's strings, beside other fields of an Architecture.

    Raises:
        UserError: as :func:`architecture_from_timm`; ``source`` opens the message.
    """
    if "arch_def" not in data:
        raise UserError(f"{source}: has no arch_def, the list of timm's architecture strings")
    rest = {key: value for key, value in data.items() if key != "arch_def"}
    known = [field.name for field in fields(Architecture) if field.name != "stages"]
    for key in rest:
        if key not in known:
            raise unknown(f"{source}: field", key, ["arch_def", *known])
    try:
        return architecture_from_timm(data["arch_def"], **rest)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _flatten(strings: Any) -> Iterator[tuple[str, bool]]:
    """Each string, and whether it is the first of its list: a stage of timm."""
    for entry in strings if isinstance(strings, list | tuple) else [strings]:
        inner = entry if isinstance(entry, list | tuple) else [entry]
        for i, text in enumerate(inner):
            if not isinstance(text, str):
                raise UserError(f"timm: architecture strings are a list, or a list of lists; got {text!r:.100}")
            yield text.strip(), i == 0


def _read(text: str, channels: Any) -> tuple[Stage, str | None]:
    """The stage of a string, and the activation that it names; ``channels`` is what comes in."""
    block, *parts = text.split("_")
    if block in _OTHERS:
        what, nearest = _OTHERS[block]
        have = f"they have {', '.join(BLOCKS)}: {nearest}"
        raise UserError(f"timm: {text!r:.100}: networks of effnas have no {what} ({block}); {have}")
    if block not in BLOCKS:
        raise unknown(f"timm: {text!r:.100}: block", block, BLOCKS)
    numbers: dict[str, str] = {}
    skip, activation = None, None
    for part in parts:
        if part in ("skip", "noskip"):
            skip = part == "skip"
        elif part.startswith("n") and part[1:] in ACTIVATIONS:
            activation = ACTIVATIONS[part[1:]]
        elif match := _PART.fullmatch(part):
            if match[1] in numbers:
                raise UserError(f"timm: {text!r:.100}: {match[1]} is given twice")
            numbers[match[1]] = match[2]
        else:
            raise UserError(f"timm: {text!r:.100}: {part!r:.40} is no part of an architecture string")
    for name in _NEEDED[block]:
        if name not in numbers:
            raise UserError(f"timm: {text!r:.100}: {name} is missing; a string is like ir_r2_k3_s2_e6_c24_se0.25")
    if block == "uir":
        _check_universal(text, numbers)
        block = "ir"
    expand = _whole(text, "e", numbers["e"]) if block in ("ir", "er") else 1
    if block == "er" and (forced := numbers.pop("fc", "0")) != "0":
        expand = _force_width(text, numbers, _whole(text, "fc", forced), channels)
    for name, value in numbers.items():
        useless, what = _USELESS.get(name, (None, ""))
        if name == "gs" and block in ("cn", "er"):
            useless = "0"
        if name not in "rksec" and name != "se" and value != useless:
            raise UserError(f"timm: {text!r:.100}: networks of effnas have no {what or f'{name}{value}'}")
    row = {
        "block": _HERE[block],
        "repeats": _whole(text, "r", numbers["r"]),
        "kernel_size": _whole(text, "k", numbers["k"]),
        "stride": _whole(text, "s", numbers["s"]),
        "channels": _whole(text, "c", numbers["c"]),
        "se_ratio": float(numbers.get("se", 0)) if block != "cn" else 0.0,
        "expand_ratio": expand,
        "skip": "identity" if (skip is True or (block in ("ir", "ds", "er") and skip is None)) else "none",
    }
    if block == "dsa":
        row["skip"] = "none"
    return make_from_mapping(Stage, row, f"timm: {text!r:.100}"), activation


def _check_universal(text: str, numbers: dict[str, str]) -> None:
    """Refuse a universal inverted bottleneck that is no inverted bottleneck; else forget what is not there."""
    rule = f"timm: {text!r:.100}: networks of effnas have universal inverted bottlenecks (uir) only where these are ir:"
    for name, where in (("a", "before the expansion"), ("p", "after the projection")):
        if numbers.pop(name, "0") != "0":
            raise UserError(f"{rule} {name}0, without a depthwise convolution {where}")
    if numbers["k"] == "0":
        raise UserError(f"{rule} k above 0, with a depthwise convolution in the middle")
    if _whole(text, "e", numbers["e"]) == 1:
        raise UserError(f"{rule} e above 1, as theirs expand at 1, too")
    if float(numbers.get("se", 0)):
        raise UserError(f"{rule} without squeeze-and-excitation, which theirs compute from the expanded width")


def _force_width(text: str, numbers: Mapping[str, str], forced: int, channels: Any) -> int:
    """The ratio of a fused block that expands to so many times ``forced``, whatever comes in (EfficientNet-EdgeTPU)."""
    check_int("stem", channels, 1, 1_000_000)
    check_int(f"timm: {text!r:.100}: fc", forced, 1, 1_000_000)
    rule = f"timm: {text!r:.100}: networks of effnas expand by a whole number and have no fc{forced}"
    wide = round_filters(forced, _whole(text, "e", numbers["e"]))
    if wide % channels:
        raise UserError(f"{rule}: {wide} is no multiple of the {channels} channels that come in")
    ratio: int = wide // channels
    width = _whole(text, "c", numbers["c"])
    if _whole(text, "r", numbers["r"]) > 1 and ratio * width != wide:
        raise UserError(f"{rule}: the first block would expand by {ratio}, the others {width} channels to {wide}, too")
    if float(numbers.get("se", 0)) and forced != channels:
        raise UserError(f"{rule} with se, which timm computes from {forced} channels, not {channels}")
    return ratio


def _whole(text: str, name: str, value: str) -> int:
    if not re.fullmatch(r"\d+(\.0*)?", value):
        raise UserError(f"timm: {text!r:.100}: {name} must be a whole number in networks of effnas, got {value}")
    return int(float(value))


def _write(stage: Stage, index: int) -> str:
    if stage.skip == "pool":
        raise UserError(f"stage {index}: timm has no string for skip=pool")
    if stage.block == "conv" and stage.se_ratio:
        raise UserError(f"stage {index}: timm has no squeeze-and-excitation in its cn blocks")
    if stage.block == "ds" and stage.skip == "identity" and stage.repeats > 1:
        raise UserError(f"stage {index}: timm's dsa blocks have no shortcut, the network's ds blocks have")
    known = {"conv": "cn", "ds": "dsa", "fused_mbconv": "er"}
    kind = known.get(stage.block, "ds" if stage.expand_ratio == 1 else "ir")
    text = f"{kind}_r{stage.repeats}_k{stage.kernel_size}_s{stage.stride}_e{stage.expand_ratio}_c{stage.channels}"
    if stage.se_ratio:
        text += f"_se{stage.se_ratio:g}"
    if kind == "cn":
        return text + ("_skip" if stage.skip == "identity" else "")
    return text + ("_noskip" if stage.skip == "none" and kind != "dsa" else "")
