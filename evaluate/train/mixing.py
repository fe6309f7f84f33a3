"""Mixing the images of a batch and their labels: mixup and CutMix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Mix:
    """Every image with another one of its batch, which is taken in reverse order for that; by one share λ a batch.

    Everything is drawn from the CPU's default generator, and nothing read back from a GPU.

    Args:
        mixup: alpha of Beta(α, α), which λ is drawn from; the images are averaged (Zhang et al. 2018); 0: off.
        cutmix: the same for CutMix, which pastes a rectangle of area 1 − λ (Yun et al. 2019); 0: off. With both on, a
            batch takes one of the two, at even odds.
        num_classes: of the targets.
    """

    mixup: float
    cutmix: float
    num_classes: int

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, h, w) and labels (B,) to images and targets: (B, K) shares, or the labels where all is off."""
        if not (self.mixup or self.cutmix):
            return images, labels
        cut = self.cutmix > 0 and (not self.mixup or bool(torch.rand(()) < 0.5))
        alpha = self.cutmix if cut else self.mixup
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        if cut:
            images, share = _paste(images, share)
        else:
            images = torch.lerp(images.flip(0), images, share)
        targets = functional.one_hot(labels, self.num_classes).float()
        return images, torch.lerp(targets.flip(0), targets, share)


def _paste(images: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of each image's partner; with the share of the area that stays, which the border may raise."""
    height, width = images.shape[-2:]
    side = (1 - share) ** 0.5
    y, x = (int(torch.randint(n, ())) for n in (height, width))
    half = round(side * height / 2), round(side * width / 2)
    top, bottom = max(0, y - half[0]), min(height, y + half[0])
    left, right = max(0, x - half[1]), min(width, x + half[1])
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right].flip(0)
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
