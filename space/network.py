"""From an Architecture to a module that trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor, nn

from .blocks import ConvNormAct, init_weights, make_block
from .builders.features import FeatureNetwork, build_features
from .errors import UserError, check_int
from .network_spec import NetworkSpec, require_network

if TYPE_CHECKING:
    from .architecture import Architecture


class Network(nn.Module):
    """The module of an :class:`~effnas.space.architecture.Architecture`: stem, stages, head, classifier.

    Input (n, in_channels, h, w), any side: the resolution is the architecture's, the weights do not depend on it.
    Plain eager PyTorch, scriptable and exportable, equally at home in ``channels_last``.

    Attributes:
        num_features: channels of the last feature map.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        norm = {
            "activation": a.activation,
            "padding": a.padding,
            "bn_eps": a.bn_eps,
            "bn_momentum": a.bn_momentum,
        }
        self.stem = ConvNormAct(a.in_channels, a.stem, 3, a.stem_stride, **norm)  # type: ignore[arg-type]
        stages: list[list[nn.Module]] = [[] for _ in a.stages]
        for index, (i, stage, in_channels, stride) in enumerate(a.iter_blocks()):
            block = make_block(
                stage.block,
                in_channels,
                stage.channels,
                kernel_size=stage.kernel_size,
                stride=stride,
                expand_ratio=stage.expand_ratio,
                reduced=max(1, int(in_channels * stage.se_ratio)) if stage.se_ratio else 0,
                skip=stage.skip,
                drop_path=a.drop_path * index / a.blocks,
                **norm,  # type: ignore[arg-type]
            )
            stages[i].append(block)
        self.stages = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
        last = a.stages[-1].channels
        self.head = ConvNormAct(last, a.head, 1, **norm) if a.head else nn.Identity()  # type: ignore[arg-type]
        self.num_features = a.head or last
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(a.dropout)
        self.classifier: nn.Module = nn.Linear(self.num_features, a.num_classes)
        init_weights(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to the last feature map, (n, num_features, ⌈h/stride⌉, ⌈w/stride⌉)."""
        return self.head(self.stages(self.stem(x)))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature map to logits (n, num_classes), or with ``pre_logits`` to pooled features (n, num_features)."""
        x = self.dropout(self.pool(x).flatten(1))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to logits (n, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier for another number of classes; 0 leaves pooled features as the output."""
        weight = next(self.parameters())
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        init_weights(self.classifier)
        self.classifier.to(weight.device, weight.dtype)


@overload
def build(architecture: Architecture, seed: int | None = None, *, features_only: Literal[False] = False) -> Network: ...


@overload
def build(
    architecture: NetworkSpec, seed: int | None = None, *, features_only: Literal[False] = False
) -> nn.Module: ...


@overload
def build(
    architecture: NetworkSpec,
    seed: int | None = None,
    *,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
    module: nn.Module | None = None,
) -> FeatureNetwork: ...


def build(
    architecture: NetworkSpec,
    seed: int | None = None,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    module: nn.Module | None = None,
) -> nn.Module:
    """The module of ``architecture``, initialised as the official code does, or as its builder does.

    Args:
        architecture: of the network.
        seed: of its first weights, torch's random state being left alone; None: drawn from torch's current generator.
        features_only: return feature maps of several sizes instead of logits, as timm does: the last map of each size
            (EfficientNet-B0: strides 2, 4, 8, 16, 32), with ``feature_info`` of their channels and strides.
        out_indices: of ``features_only``: which of the maps, from fine (0) to coarse; negative ones from the end; None:
            all.
        module: of ``features_only``: a module of this network, with weights, whose parts are used; None: a fresh one.

    Raises:
        UserError: it is no network, or a user's builder cannot build it; or, with ``features_only``, its module has no
            parts ``stem`` and ``stages``, or there is no such map.
    """
    require_network("build: architecture", architecture)
    if seed is not None:
        check_int("build: seed", seed, 0, 2**32 - 1)
    if not features_only:
        if out_indices is not None or module is not None:
            raise UserError(f"{'module' if out_indices is None else 'out_indices'} belongs to features_only=True")
        return _make(architecture, seed)
    return build_features(
        architecture, _make(architecture, seed) if module is None else module, out_indices=out_indices
    )


def _make(architecture: NetworkSpec, seed: int | None) -> nn.Module:
    if seed is None:
        return architecture.module()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would change the GPUs' too
        return architecture.module()
