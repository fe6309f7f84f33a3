"""Networks made ready for inference: BatchNorm folded into the convolutions, weights in the precision that is run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ...space.blocks import ConvNormAct
from ...space.torch_private import is_batch_norm
from .device import keep_memory
from .fast_layers import exchange_for_inference
from .settings import Settings


@torch.no_grad()
def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose BatchNorms are part of the convolutions before them: the same function.

    ``w' = w · γ / √(σ² + ε)`` and ``b' = β − μ · γ / √(σ² + ε)``. Device and memory format stay; a module that is not
    made of :class:`~effnas.space.blocks.ConvNormAct` is only copied.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in fast.modules():
        if isinstance(layer, ConvNormAct) and is_batch_norm(layer.bn):
            conv, bn = layer.conv, layer.bn
            assert bn.running_var is not None
            assert bn.running_mean is not None
            scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
            conv.weight.mul_(scale.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter(bn.bias - bn.running_mean * scale, requires_grad=False)
            layer.bn = nn.Identity().eval()  # type: ignore[assignment]
    return fast


class Prepared(nn.Module):
    """Takes images in fp32 in any memory format, and gives logits in fp32, whatever is computed in between."""

    def __init__(self, model: nn.Module, layout: torch.memory_format, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.layout = layout
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        logits: Tensor = self.model(images.to(self.dtype, memory_format=self.layout))
        return logits.float()


def prepare_for_inference(model: nn.Module, settings: Settings) -> Prepared:
    """A copy of ``model`` that runs with ``settings``, folded and in evaluation mode; call it in inference mode.

    In ``bf16`` its weights are converted once, where autocast would convert them at every call.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if device.type == "cpu":
        keep_memory()
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    fast = fold_batch_norms(model).to(dtype=dtype, memory_format=settings.layout)  # type: ignore[call-overload]
    exchange_for_inference(fast, device)
    return Prepared(fast, settings.layout, dtype)
