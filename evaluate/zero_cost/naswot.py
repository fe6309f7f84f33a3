"""NASWOT (Mellor et al. 2021, equation 2): the log-determinant of how alike the activations' signs are for 16 images.

K is the sum over the activation layers of the number of units in which two images have the same sign (the input of the
activation above 0 or not), a 16 × 16 matrix, and the score log |det K|. The authors look at ReLU; here it is the sign
of what enters any activation of ``torch.nn`` but the sigmoid gates. More is better.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...space.network_spec import NetworkSpec
from ..evaluation import EvaluationError
from .conditions import draw_images, prepare_network

_GATES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.LogSoftmax, nn.MultiheadAttention)


def is_activation(module: nn.Module) -> bool:
    """Whether it is one of PyTorch's activations, gates excepted."""
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, _GATES)


def score_naswot(architecture: NetworkSpec) -> dict[str, float]:
    """``naswot``.

    Raises:
        EvaluationError: the network has no activation layers, or two images have the same signs everywhere.
    """
    kernel = sum_agreements(prepare_network(architecture), draw_images(architecture)[0])
    sign, value = torch.linalg.slogdet(kernel)
    score = float(value)
    if float(sign) == 0 or not math.isfinite(score):
        raise EvaluationError("the kernel is singular: the network gives different images the same signs")
    return {"naswot": score}


@torch.no_grad()
def sum_agreements(module: nn.Module, images: Tensor) -> Tensor:
    """K, shape (n, n), float64, of n images.

    Raises:
        EvaluationError: no activation layer saw the images, or one got values that are not finite.
    """
    count = len(images)
    kernel = torch.zeros(count, count, dtype=torch.float64)
    seen = 0

    def look(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal seen
        if not torch.isfinite(inputs[0]).all():
            raise EvaluationError("what enters an activation is not finite")
        seen += 1
        above = (inputs[0].reshape(count, -1) > 0).float()  # sums of ones are exact in fp32 up to 2^24 units
        kernel.add_((above @ above.T + (1 - above) @ (1 - above).T).double())

    handles = [part.register_forward_pre_hook(look) for part in module.modules() if is_activation(part)]
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise EvaluationError("the network has no activation layers of torch.nn")
    return kernel
