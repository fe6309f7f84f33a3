"""The Zen-score (Lin et al. 2021, algorithm 1): how much the last feature map moves when the image does.

``log E‖f(x) − f(x + ε)‖₁ + Σ log σ̄``, f the feature map before pooling, x and ε standard normal (the authors' mixup
with γ = 1), σ̄² the mean over the channels of a BatchNorm's batch variance, which puts back the scale that BatchNorm
removes. Weights are standard normal, biases 0, BatchNorm 1 and 0. As in the paper the network is scored without its
shortcuts and without squeeze-and-excitation; a builder's network, whose parts are not known, with all it has. One
repeat of 16 images. More is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...space.blocks import Block, SqueezeExcite
from ...space.network_spec import NetworkSpec
from ...space.torch_private import is_batch_norm
from ..evaluation import EvaluationError
from .conditions import draw_images, prepare_network


@torch.no_grad()
def score_zen(architecture: NetworkSpec) -> dict[str, float]:
    """``zen_score``.

    Raises:
        EvaluationError: the network does not say its last feature map, or the map does not move, or is not finite.
    """
    module = strip(prepare_network(architecture, start_normal))
    features = getattr(module, "forward_features", None)
    if not callable(features):
        raise EvaluationError(
            f"the module of {architecture.maker} must have forward_features (images to the last feature map)"
        )
    images, moves = draw_images(architecture, 2)
    norms: list[nn.Module] = [part for part in module.modules() if is_batch_norm(part)]
    for part in norms:
        part.momentum = 1.0  # type: ignore[assignment]  # the running variance is then the last batch's
    moved: Tensor = features(images + moves)
    still: Tensor = features(images)
    distance = float((still - moved).abs().sum(dim=tuple(range(1, still.dim()))).double().mean())
    if not 0 < distance < math.inf:
        raise EvaluationError(f"the distance of two feature maps must be above 0 and finite, got {distance!r}")
    scales = [float(part.running_var.double().mean()) for part in norms if isinstance(part.running_var, Tensor)]
    if not all(0 < scale < math.inf for scale in scales):
        raise EvaluationError("a batch's variance is 0 or not finite")
    return {"zen_score": math.log(distance) + sum(math.log(scale) / 2 for scale in scales)}


def start_normal(module: nn.Module) -> None:
    """Standard normal weights, biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        module.weight.normal_()
        if module.bias is not None:
            module.bias.zero_()


def strip(module: nn.Module) -> nn.Module:
    """Without the shortcuts and gates of our blocks; the module itself is changed."""
    for part in module.modules():
        if isinstance(part, Block):
            part.shortcut = "none"
            for name, child in list(part.named_children()):
                if isinstance(child, SqueezeExcite):
                    setattr(part, name, nn.Identity())
    return module
