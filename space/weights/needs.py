"""What a network needs so that weights from elsewhere compute in it what they did where they were trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..architecture import Architecture
from ..built import BuiltNetwork
from ..errors import UserError
from ..network_spec import N, NetworkSpec
from ..zoo import find_family, published_activation, zoo
from .contents import Normalization, Weights

#: What most checkpoints were trained with: 255 × (0.485, 0.456, 0.406) and 255 × (0.229, 0.224, 0.225).
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: EfficientNet-Lite's TensorFlow code has (x − 127) / 128.
_LITE = (127.0,) * 3, (128.0,) * 3
#: What TensorFlow's Inception has: for AdvProp, timm's ports of EfficientNet-Lite, its MobileNetV1 and others.
_HALF = (127.5,) * 3, (127.5,) * 3
#: timm's names of weights that need it, as its configurations say (1.0.31).
_HALF_NAMES = re.compile(
    r"[._-](ap|advprop|ra4)(?:[._-]|$)|eff(?:icient)?net_?b\d_pruned|mobilenetv1_|(?:^|[^a-z0-9])tf_mobilenetv3"
    r"|(?:^|[^a-z0-9])tf_efficientnet_(lite|e[sml](?![a-z])|cc_)"
    r"|(?:^|[^a-z0-9])tf_efficientnetv2_([sml]|xl)(?![a-z0-9])|tf_efficientnetv2_b3.*in21k"
)
#: lukemelas' of his AdvProp files.
_ADVERSARIAL = re.compile(r"(?:^|[^a-z])adv(?:prop)?(?:[^a-z]|$)")
#: timm's of its ports from TensorFlow.
_PORTED = re.compile(r"(?:^|[^a-z0-9])tf_")
#: timm's with the names and shapes of plain networks, which blur or average before they step.
_ANTIALIASED = re.compile(r"(?:^|[^a-z])(?:(?:se|eca)?resnet(?:aa|blur)|efficientnet_blur|antialias)", re.IGNORECASE)
#: timm's and torchvision's names of those that the zoo has.
_PLAIN_RESNET = re.compile(r"(?:^|[^a-z])(?:wide_|se|se_)?resnet\d+(?![a-z\d])", re.IGNORECASE)
#: timm's MobileNetV3 has PyTorch's eps, its ports from TensorFlow and the zoo's the paper's.
_TIMMS_EPS, _OUR_EPS = 1e-5, 1e-3
#: torchvision gives these eps 1e-3, and all others PyTorch's default.
_TORCHVISION_1E3 = (
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7"),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
)


def adapt_network(
    architecture: N, weights: Weights, *, padding: str | None = None, bn_eps: float | None = None
) -> tuple[N, Weights, str]:
    """The architecture as the weights need it, and what was assumed.

    - effnas: padding and BatchNorm eps that the file says.
    - lukemelas: ported from TensorFlow: padding ``same``, eps 1e-3.
    - torchvision: padding ``symmetric``, eps 1e-5, but 1e-3 in EfficientNet-B5, B6 and B7 and in EfficientNetV2.
    - timm: ``symmetric`` and 1e-5, but ``same`` and 1e-3 where the checkpoint, timm's ``config.json`` beside it or the
      file's name says that it is a ``tf_…`` model, or where the architecture or ``padding`` says ``same``: these models
      have the same names of tensors.
    - activation: the architecture's, but ReLU6 in timm's MobileNetV1, where the paper and the zoo have ReLU.
    - normalisation: what the file (or ``config.json``) says, else ImageNet's mean and standard deviation, but
      (x − 127) / 128 for EfficientNet-Lite from lukemelas, and (x − 127.5) / 127.5 for AdvProp (lukemelas' ``adv-…``,
      and B8, which exists only so; timm's ``…ap``), for what timm's configurations say it of (MobileNetV1, ``ra4``,
      ``tf_efficientnet_lite…``, ``…_pruned``), for torchvision's EfficientNetV2-L, and for its GoogLeNet, which does
      it inside.
    - a builder's network is as its builder makes it: weights that need another one are refused where the file or its
      name says so, else the note tells; timm's other eps of MobileNetV3 is carried over into the running variances.

    Args:
        architecture: of the network.
        weights: what was read.
        padding, bn_eps: settings that go before these.

    Returns:
        The architecture; the weights with a normalisation, where one is known; and a line for people.

    Raises:
        UserError: a setting is out of range, or one for a builder's network; or the weights are of one that is
            anti-aliased, or padded as TensorFlow does where the builder cannot.
    """
    if weights.format in ("timm", "torchvision") and _ANTIALIASED.search(weights.model):
        raise UserError(
            f"weights: {weights.path} is of {weights.model}, which is anti-aliased: its tensors have the names and "
            f"shapes of {architecture.name}, which would answer otherwise"
        )
    if not isinstance(architecture, Architecture):
        weights, facts = _adapt_to_builder(architecture, weights)
        normalization = weights.normalization or _find_built_normalization(architecture, weights)
        note = _write_note(weights, normalization, facts)
        return architecture.with_settings(padding, bn_eps), replace(weights, normalization=normalization), note
    said = weights.architecture if isinstance(weights.architecture, Architecture) else None
    needs = _find_needs(architecture, weights, said, padding)
    adapted = architecture.with_(**needs).with_settings(padding, bn_eps)
    normalization = weights.normalization or _find_normalization(adapted, weights)
    facts = [f"padding {adapted.padding}, BatchNorm eps {adapted.bn_eps:g}", *_describe_activation(adapted, weights)]
    if weights.format == "timm" and adapted.padding == "symmetric" and padding is None:
        facts.append("if it is a tf_ model of timm's, set padding=same")
    if weights.format == "lukemelas" and normalization == IMAGENET and "efficientnet-b" not in weights.model:
        facts.append("if it is an AdvProp file (adv-efficientnet-…), set data.normalize=[127.5,127.5]")
    unlike = ""
    if said is not None and (differences := _find_differences(said, adapted)):
        unlike = f"trained in a network with other {differences}"
    note = _write_note(weights, normalization, facts, unlike)
    return adapted, replace(weights, normalization=normalization), note


def _adapt_to_builder(network: NetworkSpec, weights: Weights) -> tuple[Weights, list[str]]:
    """The weights as a network of the zoo's builders computes the same with them, and what was done or assumed."""
    if not (isinstance(network, BuiltNetwork) and network.function is None):
        return weights, []
    if weights.format in ("timm", "torchvision") and "resnet" in network.maker:
        hint = "if it is one of timm's anti-aliased networks (resnetaa…, resnetblur…), it answers otherwise"
        return weights, [] if _PLAIN_RESNET.search(weights.model) else [hint]
    if weights.format != "timm" or "mobilenet_v3" not in network.maker:
        return weights, []
    if _PORTED.search(weights.model):
        raise UserError(
            f"weights: {weights.path} is of {weights.model}, which is padded as TensorFlow does: {network.name} is "
            "not, and would answer otherwise; take those of mobilenetv3_large_100 or mobilenetv3_small_100"
        )
    facts = [f"BatchNorm eps {_TIMMS_EPS:g}, carried over into the running variances"]
    if "mobilenetv3" not in weights.model:
        facts.append("if it is a tf_ model of timm's, it answers otherwise")
    return weights if weights.eps_carried else _carry_eps(weights), facts


def _carry_eps(weights: Weights) -> Weights:
    """timm's MobileNetV3 with our eps; its last convolution, of one pixel, is our linear layer."""
    tensors = {
        name: tensor + (_TIMMS_EPS - _OUR_EPS)
        if name.endswith("running_var")
        else tensor.flatten(1)
        if name.endswith("conv_head.weight")
        else tensor
        for name, tensor in weights.tensors.items()
    }
    return replace(weights, tensors=tensors, eps_carried=True)


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
    ported = weights.format == "lukemelas" or _PORTED.search(weights.model) or architecture.padding == "same"
    same = ported if padding is None or weights.format == "lukemelas" else padding == "same"
    needs = {"padding": "same", "bn_eps": 1e-3} if same else {"padding": "symmetric", "bn_eps": 1e-5}
    if architecture.activation != _find_activation(architecture, weights) == "relu6" and _has_papers(architecture):
        needs["activation"] = "relu6"
    return needs


def _find_activation(architecture: Architecture, weights: Weights) -> str | None:
    """What other implementations have in networks of these blocks; None: unknown."""
    family = find_family(architecture)
    if family is None:
        return None
    return "relu6" if (weights.format, family) == ("timm", "mobilenet_v1") else published_activation(family)


def _has_papers(architecture: Architecture) -> bool:
    """Whether nobody has chosen the activation."""
    family = find_family(architecture)
    return family is not None and architecture.activation == published_activation(family)


def _describe_activation(architecture: Architecture, weights: Weights) -> list[str]:
    """What is to be said of the one thing that no foreign file tells."""
    if weights.format == "effnas":
        return []
    theirs, ours = _find_activation(architecture, weights), architecture.activation
    if theirs is None:
        return [f"activation {ours}, strides and shortcuts are the architecture's: the file does not tell them"]
    if theirs != ours:
        return [f"activation {ours}, where {weights.format}'s network of these blocks has {theirs}"]
    return [] if _has_papers(architecture) else [f"activation {ours}, as in {weights.format}"]


def _find_normalization(architecture: Architecture, weights: Weights) -> Normalization | None:
    if weights.format == "effnas" or architecture.in_channels != 3:
        return None
    family = find_family(architecture)
    if weights.format == "lukemelas":
        if architecture.activation == "relu6" and architecture.fixed_ends:
            return _LITE
        adversarial = _ADVERSARIAL.search(weights.model) or architecture.stages == zoo("efficientnet_b8").stages
        return _HALF if adversarial else IMAGENET
    if weights.format != "timm":
        return _HALF if architecture.stages == zoo("efficientnet_v2_l").stages else IMAGENET
    lite = architecture.activation == "relu6" and architecture.fixed_ends and architecture.padding == "same"
    return _HALF if lite or family == "mobilenet_v1" or _HALF_NAMES.search(weights.model) else IMAGENET


def _find_built_normalization(network: NetworkSpec, weights: Weights) -> Normalization | None:
    """Of torchvision's and timm's weights for networks of the zoo; nothing is known of a user's own."""
    of_zoo = isinstance(network, BuiltNetwork) and network.function is None
    if not of_zoo or network.in_channels != 3 or weights.format not in ("torchvision", "timm"):
        return None
    return _HALF if network.maker == "builder googlenet" or _HALF_NAMES.search(weights.model) else IMAGENET


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
