"""Proxies of the first gradients of the cross-entropy: its norm, SNIP, ZiCo. Over convolutions' and linear weights.

- ``grad_norm`` (Abdelfattah et al. 2021): Σ over the layers of ‖∂L/∂W‖₂;
- ``snip`` (Lee et al. 2019, summed as by Abdelfattah et al.): Σ |w · ∂L/∂w|;
- ``zico`` (Li et al. 2023, equation 15): Σ over the layers of log Σ_w mean |∂L/∂w| / σ(∂L/∂w), mean and σ (of the
  population) over two batches; weights whose gradients do not differ are left out, as in the authors' code.

Images are noise and the labels random; ``grad_norm`` and ``snip`` see the first batch. More is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ...space.network_spec import NetworkSpec
from ..evaluation import EvaluationError
from ..machine.fast_layers import fast_layers
from .conditions import CPU, check_gradients, draw_images, draw_labels, list_layers, prepare_network
from .synflow import weight_of

#: Of ZiCo, as in the authors' code.
BATCHES = 2


def score_gradients(architecture: NetworkSpec, batches: int = BATCHES) -> dict[str, float]:
    """``grad_norm``, ``snip`` and, where there are two batches, ``zico``.

    Raises:
        EvaluationError: a gradient is not finite, no weight has any, a stage has no parameters.
    """
    module = prepare_network(architecture)
    layers = list_layers(module)
    gradients: list[dict[str, Tensor]] = []
    for images, labels in zip(draw_images(architecture, batches), draw_labels(architecture, batches), strict=True):
        module.zero_grad()
        with fast_layers(module, CPU):
            cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: gradient.clone() for name, gradient in check_gradients(layers).items()})
    first = gradients[0]
    scores = {
        "grad_norm": sum(float(gradient.norm()) for gradient in first.values()),
        "snip": sum(float((weight_of(layers[name]) * gradient).abs().sum()) for name, gradient in first.items()),
    }
    if batches > 1:
        scores["zico"] = sum_ratios(gradients)
    return scores


def score_first_batch(architecture: NetworkSpec) -> dict[str, float]:
    """``grad_norm`` and ``snip``, in half the time.

    Raises:
        EvaluationError: as :func:`score_gradients`.
    """
    return score_gradients(architecture, batches=1)


def sum_ratios(gradients: list[dict[str, Tensor]]) -> float:
    """ZiCo's score of the gradients of each batch, by layer.

    Raises:
        EvaluationError: no gradient differs between the batches.
    """
    total, counted = 0.0, 0
    for name in gradients[0]:
        stack = torch.stack([batch[name].flatten() for batch in gradients])
        deviation = stack.std(dim=0, correction=0)
        differs = deviation > 0
        ratio = float((stack.abs().mean(dim=0)[differs].double() / deviation[differs].double()).sum())
        if ratio > 0:
            total, counted = total + math.log(ratio), counted + 1
    if not counted:
        raise EvaluationError("no gradient differs between the batches")
    return total
