"""A step of a supernet's training: the gradients of several members, summed, and one update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from ...space.architecture import Architecture
from ..machine.device import autocast
from ..machine.settings import Settings
from ..train.distributed import Group
from ..train.recipe import Training
from ..train.stepper import Stepper
from .rules import Sampler
from .shared import SharedNetwork


class SupernetStepper(Stepper):
    """Takes steps of shared weights; arguments as of :class:`~effnas.evaluate.train.stepper.Stepper`, and ``sampler``.

    The processes of a group train the same members on their parts of the batch, and add up their gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        training: Training,
        settings: Settings,
        device: torch.device,
        group: Group,
        class_weights: Tensor | None = None,
        *,
        sampler: Sampler,
    ) -> None:
        super().__init__(model, optimizer, training, settings, device, group, class_weights)
        assert isinstance(model, SharedNetwork)
        self._shared, self._sampler = model, sampler
        for weights in optimizer.param_groups:
            weights["fused"] = None  # torch's fused SGD wants that all weights have their first gradient at once

    def _make_parallel(self) -> nn.Module:
        """Itself: a member has no gradients for the others' weights, which DistributedDataParallel would wait for."""
        return self._model

    def update(self, images: Tensor, targets: Tensor, step: int = 0) -> Tensor:
        """One update at the optimizer's learning rate; the loss is the first member's.

        Args:
            images: (B, C, h, w), at the resolution of the largest member.
            targets: (B,) classes or (B, K) probabilities.
            step: of the whole training, from 0: which members are trained.

        Raises:
            RuntimeError, MemoryError: out of memory.
        """
        picks = self._sampler.pick(step)
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=images.device)
        for x, y, loss_of in self._split(images, targets):
            lesson = y
            for i, pick in enumerate(picks):
                logits = self._run(pick.architecture, x, pick.regularise)
                taught = pick.taught and i > 0
                # of soft labels, the cross-entropy is the divergence of Kullback and Leibler but for a constant
                loss = self._weigh(functional.cross_entropy(logits, lesson), x, images) if taught else loss_of(logits)
                loss.backward()  # type: ignore[no-untyped-call]
                if i == 0:
                    total += loss.detach()
                    lesson = logits.detach().softmax(1)
        self._share_gradients()
        self._apply()
        return total

    def _run(self, architecture: Architecture, images: Tensor, regularise: bool) -> Tensor:
        side = images.shape[-1] * architecture.resolution / self._shared.largest.resolution
        if (side := max(1, round(side))) != images.shape[-1]:
            images = functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        with autocast(self._settings.precision, self._device):
            return self._shared.run(architecture, images, regularise=regularise).float()

    def _share_gradients(self) -> None:
        """Their mean over the processes, which all have trained the same members."""
        if self._group.size == 1:
            return
        gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
        flat = self._group.sum(torch.cat([gradient.reshape(-1) for gradient in gradients])) / self._group.size
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(part.view_as(gradient))


def make_stepper(sampler: Sampler) -> Callable[..., Stepper]:
    """What the engine makes its steps with."""
    return partial[Any](SupernetStepper, sampler=sampler)
