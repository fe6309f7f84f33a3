"""The training losses and hits of an epoch, read from the device now and then."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...space.errors import UserError
from ..evaluation import EvaluationError
from .distributed import Group

#: Steps between looks at the loss: reading each would stall a GPU at every step.
CHECK_EVERY = 20


class Losses:
    """Their sums and numbers; they stay on the device a while.

    Args:
        group: whose mean loss is kept, so that all of its processes see the same and stop together.
        total, steps: of the part of the epoch that an earlier run has done.
        hits, images: of that part: how many images were classified rightly while they were trained on, and of how many.
    """

    def __init__(self, group: Group, total: float = 0.0, steps: int = 0, hits: int = 0, images: int = 0) -> None:
        self._group, self._sum, self._steps = group, total, steps
        self._hits, self._images = hits, images
        self._waiting: list[tuple[Tensor, Tensor, float]] = []
        self._where = "", ""

    def begin(self, epoch: int, steps_per_epoch: int) -> None:
        """Say which epoch it is, for messages."""
        self._where = f"epoch {epoch}", f"of {steps_per_epoch}"

    def add(self, loss: Tensor, hits: Tensor | None, images: int, lr: float) -> float | None:
        """One more step: its loss, its hits among its images (None: they are not counted), the learning rate.

        Returns:
            The last loss, where it was read.
        """
        self._waiting.append((loss, torch.zeros_like(loss) if hits is None else hits, lr))
        self._images += 0 if hits is None else images
        return self.read() if len(self._waiting) == CHECK_EVERY else None

    def read(self) -> float | None:
        """Take in what waits, and return the last of it; refuse the first loss that is not finite.

        Raises:
            EvaluationError: a loss is not finite.
        """
        if not self._waiting:
            return None
        values = (self._group.sum(torch.stack([loss for loss, *_ in self._waiting])) / self._group.size).tolist()
        self._hits += round(float(self._group.sum(torch.stack([hits for _, hits, _ in self._waiting]).sum())))
        for value, (*_, lr) in zip(values, self._waiting, strict=True):
            self._steps += 1
            if not math.isfinite(value):
                epoch, of = self._where
                raise EvaluationError(f"loss is {value} at {epoch}, step {self._steps} {of}, learning rate {lr:.4g}")
            self._sum += value
        self._waiting.clear()
        return float(values[-1])

    def mean(self) -> float:
        """Over the steps there were: a streamed set that meets unreadable images has fewer than planned.

        Raises:
            UserError: there was none.
        """
        self.read()
        if not self._steps:
            raise UserError("training: none of the training images can be read")
        return self._sum / self._steps

    def accuracy(self) -> float | None:
        """The share of the epoch's images that were classified rightly while they were trained on; None: not known."""
        self.read()
        return self._hits / self._images if self._images else None

    def state(self) -> tuple[float, int, int, int]:
        """What a checkpoint keeps: the numbers of the constructor."""
        self.read()
        return self._sum, self._steps, self._hits, self._images


def weigh_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Weights of the classes, (num_classes,): n / (k · n_c), for n images of k classes, n_c of class c.

    The mean weight of an image is 1 (scikit-learn's ``compute_class_weight("balanced")``). A class without images has
    weight 1.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    weights = len(labels) / (int((counts > 0).sum()) * counts.clamp(min=1).double())
    return torch.where(counts > 0, weights, 1.0).float()
