"""The three measured parts of AZ-NAS (Lee and Ham 2024, section 3.2); the fourth is complexity, ``log_macs``.

Of the feature maps after the stem and after each block, at Kaiming-normal weights (fan-in), 16 images of noise:

- ``az_expressivity`` (equation 2): Σ over the maps of the entropy of their principal components' shares of the
  variance, pixels and images being samples and channels variables;
- ``az_progressivity`` (equation 3): the smallest gain in that entropy from one map to the next;
- ``az_trainability`` (equation 6): the mean over the blocks of ``−σ − 1/σ + 2``, σ the largest singular value of the
  block's Jacobian, estimated with one draw of random signs; 0 at σ = 1, where gradients neither grow nor vanish. Where
  a block halves the resolution its pixels are unshuffled into channels.

More is better for each. ``az_nas`` combines them by their ranks among other networks (:mod:`.reference`).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_unshuffle

from ...space.network_spec import NetworkSpec
from ..evaluation import EvaluationError
from .conditions import SEED, draw_images, list_layers, prepare_network


def score_az_nas(architecture: NetworkSpec) -> dict[str, float]:
    """The three parts that need the network.

    Raises:
        EvaluationError: the network does not say its blocks, has fewer than one, a stage has no parameters, or a number
            is not finite.
    """
    module = prepare_network(architecture, start_kaiming)
    list_layers(module)
    maps = run_blocks(module, draw_images(architecture)[0], architecture.maker)
    entropies = [measure_entropy(found.detach()) for found in maps]
    gains = [after - before for before, after in pairwise(entropies)]
    generator = torch.Generator().manual_seed(SEED)
    trainable = []
    for before, after in reversed(list(pairwise(maps))):  # from the end: each part of the graph once
        trainable.append(measure_gain(before, after, generator))
    return {
        "az_expressivity": sum(entropies),
        "az_progressivity": min(gains),
        "az_trainability": sum(-gain - 1 / (gain + 1e-6) + 2 for gain in trainable) / len(trainable),
    }


def start_kaiming(module: nn.Module) -> None:
    """Normal with variance 2 / fan-in, biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            module.bias.zero_()


def run_blocks(module: nn.Module, images: Tensor, maker: str) -> list[Tensor]:
    """The maps after the stem and each block, each (n, c, h, w), with their graph.

    Raises:
        EvaluationError: the module has no ``stem`` and ``stages`` of blocks.
    """
    stem, stages = getattr(module, "stem", None), getattr(module, "stages", None)
    if not isinstance(stem, nn.Module) or not isinstance(stages, nn.Sequential | nn.ModuleList):
        raise EvaluationError(f"only {maker} knows its blocks: choose another proxy")
    blocks = [block for stage in stages if isinstance(stage, nn.Sequential) for block in stage]
    maps: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        maps.append(output)

    handles = [part.register_forward_hook(keep) for part in (stem, *blocks)]
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
    if len(maps) < 2:
        raise EvaluationError("the network has no blocks")
    return maps


def measure_entropy(features: Tensor) -> float:
    """Of the principal components' shares of the variance of a map (n, c, h, w), in nats: 0 to log c.

    Raises:
        EvaluationError: the map does not vary, or is not finite.
    """
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    rows = rows - rows.mean(dim=0)
    covariance = (rows.T @ rows / len(rows)).double()
    total = float(covariance.trace())
    if not 0 < total < math.inf:
        raise EvaluationError(f"a feature map must vary and be finite, its variance is {total!r}")
    shares = torch.linalg.eigvalsh(covariance).clamp_min(0) / total
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def measure_gain(before: Tensor, after: Tensor, generator: torch.Generator) -> float:
    """The largest singular value of the Jacobian from one map to the next, estimated with random signs.

    Raises:
        EvaluationError: the gradient is not finite, or the block passes its input through unchanged.
    """
    signs = torch.randint(0, 2, after.shape, generator=generator).to(after.dtype) * 2 - 1
    (back,) = torch.autograd.grad(after, before, signs)
    if not torch.isfinite(back).all():
        raise EvaluationError("the gradient between two blocks is not finite")
    if back.shape == signs.shape and torch.equal(back, signs):
        raise EvaluationError("a block passes its input through unchanged")
    stride = -(-back.shape[2] // signs.shape[2])
    if stride > 1:
        rows, columns = (stride * signs.shape[i] - back.shape[i] for i in (2, 3))
        back = pixel_unshuffle(pad(back, (0, columns, 0, rows)), stride)
    outward = signs.permute(0, 2, 3, 1).flatten(0, 2)
    inward = back.permute(0, 2, 3, 1).flatten(0, 2)
    return float(torch.linalg.matrix_norm((inward.T @ outward / len(outward)).double(), 2))
