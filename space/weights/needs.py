"""What a network needs so that weights from elsewhere compute in it what they did where they were trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..architecture import Architecture
from ..network_spec import N
from ..zoo import zoo
from .contents import Normalization, Weights

#: What most checkpoints were trained with: 255 × (0.485, 0.456, 0.406) and 255 × (0.229, 0.224, 0.225).
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: EfficientNet-Lite's TensorFlow code has (x − 127) / 128.
_LITE = (127.0,) * 3, (128.0,) * 3
#: timm's for its ports of EfficientNet-Lite, and for the weights with these marks in their names.
_HALF = (127.5,) * 3, (127.5,) * 3
_HALF_MARKS = (".ap_", "_ap-", ".ra4_")
#: torchvision gives these eps 1e-3, and all others PyTorch's default.
_TORCHVISION_1E3 = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")


def adapt_network(
    architecture: N, weights: Weights, *, padding: str | None = None, bn_eps: float | None = None
) -> tuple[N, Weights, str]:
    """The architecture as the weights need it, and what was assumed.

    - effnas: padding and BatchNorm eps that the file says.
    - lukemelas: ported from TensorFlow: padding ``same``, eps 1e-3.
    - torchvision: padding ``symmetric``, eps 1e-5, but 1e-3 in EfficientNet-B5, B6 and B7.
    - timm: ``symmetric`` and 1e-5, but ``same`` and 1e-3 where the checkpoint, timm's ``config.json`` beside it or the
      file's name says that it is a ``tf_…`` model, or where the architecture or ``padding`` says ``same``: these models
      have the same names of tensors.
    - normalisation: the file's, else ImageNet's mean and standard deviation, but (x − 127) / 128 for EfficientNet-Lite
      from lukemelas, and (x − 127.5) / 127.5 for the ``tf_efficientnet_lite…`` of timm, and its AdvProp and ``ra4``
      weights.
    - a builder's network is as its builder makes it; images are normalised as the file says.

    Args:
        architecture: of the network.
        weights: what was read.
        padding, bn_eps: settings that go before these.

    Returns:
        The architecture; the weights with a normalisation, where one is known; and a line for people.

    Raises:
        UserError: a setting is out of range, or one for a builder's network.
    """
    if not isinstance(architecture, Architecture):
        return architecture.with_settings(padding, bn_eps), weights, _write_note(weights, weights.normalization, [])
    said = weights.architecture if isinstance(weights.architecture, Architecture) else None
    needs = _find_needs(architecture, weights, said, padding)
    adapted = architecture.with_(**needs).with_settings(padding, bn_eps)
    normalization = weights.normalization or _find_normalization(adapted, weights)
    facts = [f"padding {adapted.padding}, BatchNorm eps {adapted.bn_eps:g}"]
    if weights.format == "timm" and adapted.padding == "symmetric" and padding is None:
        facts.append("if it is a tf_ model of timm's, set padding=same")
    unlike = ""
    if said is not None and (differences := _find_differences(said, adapted)):
        unlike = f"trained in a network with other {differences}"
    note = _write_note(weights, normalization, facts, unlike)
    return adapted, replace(weights, normalization=normalization), note


def _write_note(weights: Weights, normalization: Normalization | None, facts: Sequence[str], unlike: str = "") -> str:
    if normalization is None:
        normalized = "it does not say how images are normalised"
    else:
        mean, std = (", ".join(f"{value:g}" for value in dict.fromkeys(part)) for part in normalization)
        normalized = f"images normalised with mean {mean} and std {std}"
    entry = [f"entry {weights.entry}"] if weights.entry else []
    parts = [f"{weights.format} format", *entry, *facts, normalized, *([unlike] if unlike else [])]
    return f"weights: {weights.path} ({'; '.join(parts)})"


def _find_needs(
    architecture: Architecture, weights: Weights, said: Architecture | None, padding: str | None
) -> dict[str, Any]:
    if weights.format == "effnas":
        return {} if said is None else {"padding": said.padding, "bn_eps": said.bn_eps}
    if weights.format == "torchvision":
        late = any(architecture.stages == zoo(name).stages for name in _TORCHVISION_1E3)
        return {"padding": "symmetric", "bn_eps": 1e-3 if late else 1e-5}
    ported = weights.format == "lukemelas" or weights.model.startswith("tf_") or architecture.padding == "same"
    same = ported if padding is None or weights.format == "lukemelas" else padding == "same"
    return {"padding": "same", "bn_eps": 1e-3} if same else {"padding": "symmetric", "bn_eps": 1e-5}


def _find_normalization(architecture: Architecture, weights: Weights) -> Normalization | None:
    if weights.format == "effnas" or architecture.in_channels != 3:
        return None
    lite = architecture.activation == "relu6" and architecture.fixed_ends
    if weights.format == "lukemelas" and lite:
        return _LITE
    ported_lite = lite and architecture.padding == "same"
    if weights.format == "timm" and (ported_lite or any(mark in weights.model for mark in _HALF_MARKS)):
        return _HALF
    return IMAGENET


def _find_differences(said: Architecture, other: Architecture) -> str:
    """What no shape of a tensor tells: activation, strides, shortcuts, blocks."""
    found = [] if said.activation == other.activation else ["activation"]
    layers = [
        [(stage.block, stage.effective_skip(width), stride) for _, stage, width, stride in network.iter_blocks()]
        for network in (said, other)
    ]
    if said.stem_stride != other.stem_stride or layers[0] != layers[1]:
        found.append("strides, shortcuts or kinds of blocks")
    return " and ".join(found)
