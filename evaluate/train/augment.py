"""Augmentation of whole batches on the device they are trained on.

Everything random comes from torch's default generators. It is drawn on the CPU, whatever the device: the same seed
gives the same augmentation everywhere, and nothing has to be read back from a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ..data.images import Pixels, resize
from .crops import random_boxes, resized_crops
from .policies import POLICIES as POLICIES
from .policies import policy

if TYPE_CHECKING:
    from .recipe import Training

#: Width over height of random resized crops (Szegedy et al. 2015).
CROP_ASPECT = 3 / 4, 4 / 3
#: Share of the area of an erased rectangle and its aspect (Zhong et al. 2020, section 4).
ERASE_AREA, ERASE_ASPECT = (0.02, 0.33), (0.3, 3.3)


@dataclass(frozen=True)
class Augment:
    """What a batch goes through in training: crop, flip, resize, policy, normalisation, erasing.

    Args:
        pixels: what the images are; its ``flip``, ``crop`` and ``interpolation`` are used.
        policy: one of :data:`POLICIES`; every image draws its own operations. They see it at the resolution of the
            training, in 256 levels.
        magnitude, layers: of ``randaugment``: strength 0 to 30, operations an image.
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
            images = shifted(images, self.pixels.crop)
        if self.pixels.flip:  # before a crop, which is as likely as its mirror image: bytes are faster to flip
            images = flipped(images)
        if self.crop_scale is None:
            images = resize(images, resolution, self.pixels.interpolation)
        else:
            images = random_resized_crops(images, resolution, self.crop_scale, self.pixels.interpolation)
        if self.policy != "none":
            images = policy(self.policy, self.magnitude, self.layers, resolution)(images.round() / 255) * 255
        images = self.pixels.normalize(images)
        return erased(images, self.erase) if self.erase else images


def shifted(images: Tensor, most: int) -> Tensor:
    """Each of (B, C, side, side) moved by up to so many pixels each way, zeros coming in."""
    count, side = len(images), images.shape[-1]
    by = torch.randint(2 * most + 1, (2, count)).to(images.device, non_blocking=True)
    windows = functional.pad(images, [most] * 4).unfold(2, side, 1).unfold(3, side, 1)
    return windows[torch.arange(count, device=images.device), :, by[0], by[1]]


def flipped(images: Tensor) -> Tensor:
    """Each of (B, C, h, w) mirrored at rate 1/2."""
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


def erased(images: Tensor, rate: float) -> Tensor:
    """Normalised (B, C, h, w) with a rectangle of some of them at zero, the mean colour (Zhong et al. 2020)."""
    boxes, found = random_boxes(len(images), ERASE_AREA, ERASE_ASPECT)
    chosen = found & (torch.rand(len(images)) < rate)
    boxes = torch.where(chosen[:, None], boxes, 0.0).to(images.device, non_blocking=True)
    left, top, width, height = boxes[:, :, None].unbind(1)
    x, y = ((torch.arange(n, device=images.device) + 0.5) / n for n in (images.shape[-1], images.shape[-2]))
    columns, rows = (x >= left) & (x < left + width), (y >= top) & (y < top + height)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
