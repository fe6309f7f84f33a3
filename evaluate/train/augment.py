"""Augmentation of whole batches on the device they are trained on: what is done to images, and mixup and CutMix.

Everything random comes from torch's default generators. It is drawn on the CPU, whatever the device: the same seed
gives the same augmentation everywhere, and nothing has to be read back from a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..data.pixels import Pixels, resize
from .policies import policy
from .recipe import Training

#: Width over height of random resized crops (Szegedy et al. 2015).
CROP_ASPECT = 3 / 4, 4 / 3
#: Share of the area of an erased rectangle and its aspect (Zhong et al. 2020, section 4).
ERASE_AREA, ERASE_ASPECT = (0.02, 0.33), (0.3, 3.3)
#: Draws of a box before it is given up (Szegedy et al. 2015, as their code has it).
TRIES = 10


@dataclass(frozen=True)
class Augment:
    """What a batch goes through in training: crop, flip, resize, policy, normalisation, erasing.

    Args:
        pixels: what the images are; its ``flip``, ``crop`` and ``interpolation`` are used.
        policy: one of :data:`~effnas.evaluate.train.policies.POLICIES`; every image draws its own operations. They see
            it at the resolution of the training, in 256 levels.
        magnitude, layers: of ``randaugment``: strength 0 to 30, operations per image.
        crop_scale: random resized crops: least and largest share of the area, of an aspect between 3/4 and 4/3; None:
            shifts by ``pixels.crop`` instead. They lie within the square that is stored, not in the whole of an oblong
            photograph.
        erase: rate at which a rectangle of an image is replaced by the mean colour.
    """

    pixels: Pixels
    policy: str = "none"
    magnitude: int = 9
    layers: int = 2
    crop_scale: tuple[float, float] | None = None
    erase: float = 0.0

    @classmethod
    def of(cls, recipe: Training, pixels: Pixels) -> Augment:
        """A recipe's, for images of this kind."""
        scale = recipe.crop_scale
        return cls(
            pixels,
            recipe.augment,
            recipe.augment_magnitude,
            recipe.augment_layers,
            None if scale is None else (scale[0], scale[1]),
            recipe.erase,
        )

    def __call__(self, images: Tensor, resolution: int) -> Tensor:
        """Uint8 (B, C, size, size) to float32 (B, C, resolution, resolution), normalised."""
        if self.crop_scale is None and self.pixels.crop:
            images = shift_images(images, self.pixels.crop)
        if self.pixels.flip:  # before a crop, which is as likely as its mirror image: bytes are faster to flip
            images = flip_images(images)
        if self.crop_scale is None:
            images = resize(images, resolution, self.pixels.interpolation)
        else:
            images = random_resized_crops(images, resolution, self.crop_scale, self.pixels.interpolation)
        if self.policy != "none":
            images = policy(self.policy, self.magnitude, self.layers, resolution)(images.round() / 255) * 255
        images = self.pixels.normalize(images)
        return erase_rectangles(images, self.erase) if self.erase else images


def shift_images(images: Tensor, most: int) -> Tensor:
    """Each of (B, C, side, side) moved by up to this many pixels each way, zeros coming in."""
    count, side = len(images), images.shape[-1]
    by = torch.randint(2 * most + 1, (2, count)).to(images.device, non_blocking=True)
    windows = functional.pad(images, [most] * 4).unfold(2, side, 1).unfold(3, side, 1)
    return windows[torch.arange(count, device=images.device), :, by[0], by[1]]


def flip_images(images: Tensor) -> Tensor:
    """Each of (B, C, h, w) mirrored with probability 1/2."""
    chosen = (torch.rand(len(images)) < 0.5).to(images.device, non_blocking=True)
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def random_resized_crops(
    images: Tensor, resolution: int, scale: tuple[float, float], interpolation: str = "bilinear"
) -> Tensor:
    """Inception's crops of (B, C, side, side): float (B, C, resolution, resolution), antialiased.

    Ten tries for a box that lies within, then the whole image, as in torchvision and timm; but boxes are not rounded to
    pixels.

    Args:
        images: in units of 0 to 255.
        resolution: of the result.
        scale: least and largest share of the area.
        interpolation: ``bilinear`` or ``bicubic``.
    """
    boxes, _ = random_boxes(len(images), scale, CROP_ASPECT)
    return resized_crops(images, boxes.to(images.device, non_blocking=True), resolution, interpolation)


def erase_rectangles(images: Tensor, rate: float) -> Tensor:
    """Normalised (B, C, h, w) with a rectangle of some of them at zero, the mean colour (Zhong et al. 2020)."""
    boxes, found = random_boxes(len(images), ERASE_AREA, ERASE_ASPECT)
    chosen = found & (torch.rand(len(images)) < rate)
    boxes = torch.where(chosen[:, None], boxes, 0.0).to(images.device, non_blocking=True)
    left, top, width, height = boxes[:, :, None].unbind(1)
    x, y = ((torch.arange(n, device=images.device) + 0.5) / n for n in (images.shape[-1], images.shape[-2]))
    columns, rows = (x >= left) & (x < left + width), (y >= top) & (y < top + height)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


# -- boxes -----------------------------------------------------------------------------------------------


def random_boxes(count: int, area: tuple[float, float], aspect: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Draw boxes within a square of side 1, on the CPU.

    Args:
        count: of boxes.
        area: least and largest; uniform between.
        aspect: least and largest width over height; its logarithm is uniform between.

    Returns:
        (count, 4): left, top, width, height; and (count,): whether a box was found in ten tries; else it is the square.
    """
    areas = torch.empty(count, TRIES).uniform_(*area)
    aspects = torch.empty(count, TRIES).uniform_(math.log(aspect[0]), math.log(aspect[1])).exp()
    sides = torch.stack([areas * aspects, areas / aspects], -1).sqrt()
    fits = (sides <= 1).all(-1)
    found = fits.any(1)
    first = sides[torch.arange(count), fits.int().argmax(1)]
    size = torch.where(found[:, None], first, 1.0)
    return torch.cat([torch.rand(count, 2) * (1 - size), size], 1), found


def resized_crops(images: Tensor, boxes: Tensor, resolution: int, interpolation: str = "bilinear") -> Tensor:
    """Cut a box out of each image and resize it, antialiased: what Pillow's ``resize(…, box=…)`` does, unrounded.

    Resizing is separable and linear: a matrix for the rows of an image and one for its columns, which two batched
    products apply. (Kornia's crops and ``grid_sample`` are not antialiased; this costs no more.)

    Args:
        images: (B, C, side, side) in units of 0 to 255, any dtype.
        boxes: (B, 4): left, top, width, height as shares of the side, on the device of the images.
        resolution: of the result.
        interpolation: ``bilinear`` or ``bicubic``.

    Returns:
        Float (B, C, resolution, resolution) in units of 0 to 255.
    """
    count, channels, side, _ = images.shape
    start, size = (boxes * side).view(count, 2, 2).unbind(1)
    columns, rows = _weights(start, size, side, resolution, interpolation).unbind(1)
    wide = torch.bmm(images.float().view(count, channels * side, side), columns.transpose(1, 2))
    crops = torch.matmul(rows[:, None], wide.view(count, channels, side, resolution))
    return crops.clamp_(0, 255) if interpolation == "bicubic" else crops


def _weights(start: Tensor, size: Tensor, side: int, resolution: int, interpolation: str) -> Tensor:
    """(…) starts and sizes in pixels to (…, resolution, side): the share of each old pixel in each new one."""
    step = (size / resolution)[..., None, None]
    new = torch.arange(resolution, device=start.device)[:, None] + 0.5
    old = torch.arange(side, device=start.device) + 0.5
    distance = ((old - (start[..., None, None] + new * step)) / step.clamp(min=1)).abs_()
    if interpolation == "bicubic":  # Keys (1981) with a = -1/2, as Pillow and PyTorch's antialiased resizing have it
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, far).where(distance < 2, 0.0)
    else:
        weights = (1 - distance).clamp_(min=0)
    return weights / weights.sum(-1, keepdim=True)


# -- mixing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mix:
    """Every image with another one of its batch, which is taken in reverse order for that; by one share λ a batch.

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
