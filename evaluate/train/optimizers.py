"""The optimizers of the recipes, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from ...space.torch_private import (
    foreach_add,
    foreach_addcdiv_,
    foreach_addcmul_,
    foreach_lerp_,
    foreach_mul_,
    foreach_sqrt_,
    foreach_sub_,
)
from .recipe import Training

#: By the name of an optimizer's class: what it keeps of each weight.
STATES = {
    "SGD": {"momentum_buffer"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "RMSpropTF": {"mean_square", "momentum"},
}


class RMSpropTF(Optimizer):
    """RMSProp as TensorFlow computes it, which the EfficientNet and MnasNet recipes are written for.

    It differs from ``torch.optim.RMSprop`` in three places: epsilon is inside the square root, the mean square
    starts at one instead of zero, and the learning rate is inside the momentum buffer, so that a change of the rate
    does not rescale the steps already collected::

        s = decay · s + (1 - decay) · g²
        m = momentum · m + lr · g / √(s + eps)
        w = w - m

    Args:
        params: tensors or parameter groups.
        lr: learning rate.
        decay: of the mean square.
        momentum: of the steps.
        eps: inside the square root.
        weight_decay: L2, added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; parameters without a gradient are left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights]
            for p in weights:
                if not self.state[p]:
                    self.state[p].update(mean_square=torch.ones_like(p), momentum=torch.zeros_like(p))
            squares = [self.state[p]["mean_square"] for p in weights]
            steps = [self.state[p]["momentum"] for p in weights]
            if group["weight_decay"]:
                gradients = list(foreach_add(gradients, weights, alpha=group["weight_decay"]))
            foreach_mul_(squares, group["decay"])
            foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = foreach_add(squares, group["eps"])
            foreach_sqrt_(roots)
            foreach_mul_(steps, group["momentum"])
            foreach_addcdiv_(steps, gradients, roots, group["lr"])
            foreach_sub_(weights, steps)
        return loss


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Groups of the parameters that train, each with its ``weight_decay`` and ``lr_scale``.

    Kernels and matrices decay; biases and BatchNorm (vectors) do not. The learning rate of a stage is ``layer_decay``
    times that of the next one towards the classifier (Howard & Ruder 2018, section 3.2: discriminative fine-tuning).
    """
    found: dict[tuple[float, bool], list[Tensor]] = {}
    depths = {name: _depth(name) for name, _ in model.named_parameters()}
    top = max((depth for depth in depths.values() if depth < math.inf), default=-1) + 1
    for name, p in model.named_parameters():
        if p.requires_grad:
            scale = layer_decay ** (top - min(depths[name], top))
            found.setdefault((scale, p.ndim > 1), []).append(p)
    return [
        {"params": params, "weight_decay": weight_decay if decays else 0.0, "lr_scale": scale}
        for (scale, decays), params in sorted(found.items(), key=lambda item: item[0], reverse=True)
    ]


def _depth(name: str) -> float:
    """0 for the stem, i + 1 for stage i; head and classifier, or whatever else a model has, are on top."""
    parts = name.split(".")
    if parts[0] == "stem":
        return 0
    return int(parts[1]) + 1 if parts[0] == "stages" and parts[1].isdecimal() else math.inf


def make_optimizer(recipe: Training, model: nn.Module) -> Optimizer:
    """The recipe's optimizer over the parameters of ``model`` that train.

    ``momentum`` is Nesterov's for sgd, the step's for rmsprop and beta1 for adamw; the decay of adamw is decoupled.
    """
    groups = parameter_groups(model, recipe.weight_decay, recipe.layer_decay)
    if recipe.optimizer == "rmsprop":
        return RMSpropTF(groups, lr=recipe.lr, momentum=recipe.momentum)
    fused = {p.device.type for group in groups for p in group["params"]} <= {"cpu", "cuda"}  # one pass over the weights
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
    return AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)


class MovingAverage:
    """Exponential moving average of a model's weights and BatchNorm statistics.

    The decay warms up as TensorFlow's does, ``min(decay, (1 + t) / (10 + t))`` after t updates, so that a short
    training is not measured on its random start.

    Args:
        model: the one in training; it must be on its device already.
        decay: the largest decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        #: A copy of the model that holds the average; in evaluation mode.
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        self._averaged = [a for a, _ in pairs if a.is_floating_point()]
        self._live = [b for _, b in pairs if b.is_floating_point()]
        self._counters = [(a, b) for a, b in pairs if not a.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights in; call it after each optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        foreach_lerp_(self._averaged, self._live, 1 - decay)
        for averaged, live in self._counters:
            averaged.copy_(live)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "weights": self.model.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state`."""
        self.updates = state["updates"]
        self.model.load_state_dict(state["weights"])
