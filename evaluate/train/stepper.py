"""One step of the optimizer: forward, loss, backward, clip, update; in parts where the batch does not fit."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..machine.device import autocast, free_memory, is_out_of_memory
from ..machine.settings import Settings
from .distributed import Group
from .recipe import Training

log = logging.getLogger(__name__)


class Stepper:
    """Takes steps.

    Args:
        model: on its device, in its memory format.
        optimizer: over its parameters.
        training: the recipe.
        settings: precision and compilation.
        device: where the batches are.
        group: the processes whose gradients are averaged.
        class_weights: (classes,), of the loss; None: all the same.
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
    ) -> None:
        self._model, self._optimizer, self._training, self._settings = model, optimizer, training, settings
        self._device, self._group = device, group
        self._class_weights = None if class_weights is None else class_weights.to(device)
        self._parallel = group.parallel(model, device)
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(self._parallel) if settings.compile else self._parallel
        )
        self._parts = training.accumulate

    def train_mode(self) -> None:
        """The model in training mode, but for the parts that are frozen: their statistics stay too."""
        self._model.train()
        for module in self._model.modules():
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.eval()

    def __call__(self, images: Tensor, targets: Tensor, lr: float) -> Tensor:
        """One update at learning rate ``lr``; the loss, still on the device.

        Args:
            images: (B, C, h, w).
            targets: (B,) classes or (B, K) probabilities.

        Raises:
            RuntimeError, MemoryError: out of memory, with one image at a time or in one of several processes.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        while True:
            try:
                return self.update(images, targets)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._parts >= len(images) or self._group.size > 1:
                    raise
            # outside of the handler: the exception's frames hold the tensors that are to go
            self._parts = min(len(images), 2 * self._parts)
            self._optimizer.zero_grad(set_to_none=True)
            free_memory(self._device)
            log.warning("out of memory: batches of %d go through the network in %d parts", len(images), self._parts)

    def update(self, images: Tensor, targets: Tensor) -> Tensor:
        """One update at the optimizer's learning rate, in as many parts as before; arguments and result as of a call.

        Raises:
            RuntimeError, MemoryError: out of memory.
        """
        training, weights = self._training, self._class_weights
        count = len(images) if weights is None else self._sum_weights(targets, weights)
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=images.device)
        parts = list(zip(images.chunk(self._parts), targets.chunk(self._parts), strict=True))
        for i, (x, y) in enumerate(parts):
            with self._local(last=i == len(parts) - 1):
                with autocast(self._settings.precision, self._device):
                    logits = self._forward(x)
                loss = functional.cross_entropy(
                    logits.float(),
                    y,
                    weight=weights,
                    label_smoothing=training.label_smoothing,
                    reduction="mean" if weights is None else "sum",
                )
                if weights is not None:
                    loss = loss / count
                elif len(parts) > 1:
                    loss = loss * (len(x) / count)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), training.clip_norm)
        self._optimizer.step()
        return total

    def _sum_weights(self, targets: Tensor, weights: Tensor) -> Tensor:
        """What the weighted losses are divided by, so that the mean over all processes is that of the whole batch.

        As torch does: the sum of the weights of classes, and the number of images where the labels are mixed.
        """
        total = weights[targets].sum() if targets.ndim == 1 else weights.new_tensor(len(targets))
        return self._group.sum(total) / self._group.size

    def _local(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are exchanged with the last part alone."""
        model = self._parallel
        return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else contextlib.nullcontext()
