"""SynFlow (Tanaka et al. 2020, equation 2), as a score of networks (Abdelfattah et al. 2021): log Σ |w · ∂R/∂w|.

All weights are made positive, an image of ones goes in, and R is the sum of the logits, so that the score counts the
weighted paths from the pixels to the logits. As in the authors' code BatchNorm does nothing; activations do nothing
either, as ReLU does to positive values. The gate of squeeze-and-excitation keeps its sigmoid. The sum is over the
weights of convolutions and linear layers. float64, one image of the network's resolution, more is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...space.network_spec import NetworkSpec
from ...space.torch_private import is_batch_norm
from ..evaluation import EvaluationError
from .conditions import check_gradients, list_layers, prepare_network
from .naswot import is_activation


def score_synflow(architecture: NetworkSpec) -> dict[str, float]:
    """``synflow``.

    Raises:
        EvaluationError: the sum is 0 or too large for float64, a gradient is not finite, a stage has no parameters.
    """
    module = linearise(prepare_network(architecture))
    layers = list_layers(module)
    side = architecture.resolution
    output: Tensor = module(torch.ones(1, architecture.in_channels, side, side, dtype=torch.float64))
    output.sum().backward()  # type: ignore[no-untyped-call]
    gradients = check_gradients(layers)
    flow = sum(float((weight_of(layers[name]) * gradient).abs().sum()) for name, gradient in gradients.items())
    if not 0 < flow < math.inf:
        raise EvaluationError(f"the sum over the weights must be above 0 and finite, got {flow!r}")
    return {"synflow": math.log(flow)}


def linearise(module: nn.Module) -> nn.Module:
    """In float64 with absolute weights, without BatchNorm and activations; the module itself is changed."""
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if is_batch_norm(child) or is_activation(child):
                setattr(part, name, nn.Identity())
    module.to(memory_format=torch.contiguous_format).double().eval()  # type: ignore[call-overload]  # faster in float64
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    return module


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a convolution or linear layer, apart from the graph."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()
