"""One step of the optimizer: forward, loss, backward, clip, update; in parts where the batch does not fit."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

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
        self._parallel = self._make_parallel()
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(self._parallel) if settings.compile else self._parallel
        )
        self._parts = training.accumulate
        #: Images of the last step that were classified rightly, () of float32 on the device; of mixed labels the
        #: likeliest counts. None: they are not counted.
        self.hits: Tensor | None = None

    def _make_parallel(self) -> nn.Module:
        """What to call instead of the model, where several processes train it."""
        return self._group.parallel(self._model, self._device)

    def train_mode(self) -> None:
        """The model in training mode, but for the parts that are frozen: their statistics stay too."""
        self._model.train()
        for module in self._model.modules():
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.eval()

    def __call__(self, images: Tensor, targets: Tensor, lr: float, step: int = 0) -> Tensor:
        """One update at learning rate ``lr``; the loss, still on the device.

        Args:
            images: (B, C, h, w).
            targets: (B,) classes or (B, K) probabilities.
            lr: of this step.
            step: its number, from 0 over the whole training.

        Raises:
            RuntimeError, MemoryError: out of memory, with one image at a time or in one of several processes.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        while True:
            try:
                return self.update(images, targets, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._parts >= len(images) or self._group.size > 1:
                    raise
            # outside of the handler: the exception's frames hold the tensors that are to go
            self._parts = min(len(images), 2 * self._parts)
            self._optimizer.zero_grad(set_to_none=True)
            free_memory(self._device)
            log.warning("out of memory: batches of %d go through the network in %d parts", len(images), self._parts)

    def update(self, images: Tensor, targets: Tensor, step: int = 0) -> Tensor:
        """One update at the optimizer's learning rate, in as many parts as before; arguments and result as of a call.

        Raises:
            RuntimeError, MemoryError: out of memory.
        """
        self._optimizer.zero_grad(set_to_none=True)
        total, hits = torch.zeros((), device=images.device), torch.zeros((), device=images.device)
        parts = list(self._split(images, targets))
        for i, (x, y, loss_of) in enumerate(parts):
            with self._local(last=i == len(parts) - 1):
                with autocast(self._settings.precision, self._device):
                    logits = self._forward(x)
                loss = loss_of(logits.float())
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            hits += (logits.detach().argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum()
        self._apply()
        self.hits = hits
        return total

    def _split(self, images: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]:
        """The images and targets of each part, and its share of the batch's loss, of its logits in fp32."""
        weights = self._class_weights
        count = len(images) if weights is None else self._sum_weights(targets, weights)
        for x, y in zip(images.chunk(self._parts), targets.chunk(self._parts), strict=True):

            def loss_of(logits: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
                loss = functional.cross_entropy(
                    logits,
                    y,
                    weight=weights,
                    label_smoothing=self._training.label_smoothing,
                    reduction="mean" if weights is None else "sum",
                )
                return self._weigh(loss, x, images) if weights is None else loss / count

            yield x, y, loss_of

    def _weigh(self, loss: Tensor, part: Tensor, images: Tensor) -> Tensor:
        """The share of a part's mean loss in the batch's."""
        return loss if len(part) == len(images) else loss * (len(part) / len(images))

    def _apply(self) -> None:
        """Clip the gradients, and update the weights."""
        if self._training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._training.clip_norm)
        self._optimizer.step()

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
