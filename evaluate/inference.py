"""Networks made ready for inference: BatchNorm folded into the convolutions."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..space.blocks import ConvNormAct


@torch.no_grad()
def folded(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose BatchNorms are part of the convolutions before them: the same function.

    ``w' = w · γ / √(σ² + ε)`` and ``b' = β − μ · γ / √(σ² + ε)``. Device and memory format stay; a module that is not
    made of :class:`~effnas.space.blocks.ConvNormAct` is only copied.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in fast.modules():
        if isinstance(layer, ConvNormAct) and isinstance(layer.bn, nn.modules.batchnorm._BatchNorm):
            conv, bn = layer.conv, layer.bn
            assert bn.running_var is not None
            assert bn.running_mean is not None
            scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
            conv.weight.mul_(scale.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter(bn.bias - bn.running_mean * scale, requires_grad=False)
            layer.bn = nn.Identity()  # type: ignore[assignment]
    return fast
