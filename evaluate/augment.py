"""Augmentation of whole batches on the device they are trained on.

Everything random comes from torch's default generators. What is drawn to choose between operations is drawn on the
CPU, so that nothing has to be read back from a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from .images import Pixels, resize

if TYPE_CHECKING:
    from .recipe import Training

#: Names of the policies; the AutoAugment ones are those that Cubuk et al. (2019) found on the three data sets.
POLICIES = ("none", "autoaugment", "autoaugment_cifar10", "autoaugment_svhn", "randaugment", "trivialaugment")
#: Width over height of random resized crops (Szegedy et al. 2015), and the tries before the whole image is taken.
ASPECT, TRIES = (3 / 4, 4 / 3), 10
#: Area of an erased rectangle and its aspect (Zhong et al. 2020, section 3.2).
ERASE_AREA, ERASE_ASPECT = (0.02, 0.33), (0.3, 3.3)

Operation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Augment:
    """What a batch goes through in training: crop, flip, resize, policy, normalisation, erasing.

    Args:
        pixels: what the images are; its ``flip`` and ``crop`` are used.
        policy: one of :data:`POLICIES`; every image draws its own operations, which are Kornia's.
        magnitude, layers: of ``randaugment``: strength 0 to 30, operations an image.
        crop_scale: random resized crops: least and largest share of the area; None: shifts by ``pixels.crop`` instead.
            They lie within the square that is stored, not in the whole of an oblong photograph.
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
        if self.crop_scale is not None:
            images = random_resized_crop(images, resolution, self.crop_scale)
        elif self.pixels.crop:
            images = shift(images, self.pixels.crop)
        if self.pixels.flip:
            chosen = torch.rand(len(images), device=images.device) < 0.5
            images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)
        images = resize(images, resolution, self.pixels.interpolation)
        if self.policy != "none":
            images = self._policy(images.float() / 255) * 255
        images = self.pixels.normalize(images)
        return erased(images, self.erase) if self.erase else images

    def _policy(self, images: Tensor) -> Tensor:
        operations = _operations(self.policy, self.magnitude)
        images = images.expand(-1, 3, -1, -1) if (grey := images.shape[1] == 1) else images
        for _ in range(self.layers if self.policy == "randaugment" else 1):
            images = _each_its_own(images, operations)
        return images.mean(1, keepdim=True) if grey else images


def shift(images: Tensor, most: int) -> Tensor:
    """Each image moved by up to so many pixels each way, zeros coming in; (B, C, h, w) to the same shape."""
    count, side, where = len(images), images.shape[-1], images.device
    by = torch.randint(2 * most + 1, (2, count), device=where)
    windows = functional.pad(images, [most] * 4).unfold(2, side, 1).unfold(3, side, 1)
    return windows[torch.arange(count, device=where), :, by[0], by[1]]


def random_resized_crop(images: Tensor, resolution: int, scale: tuple[float, float]) -> Tensor:
    """Inception's crops: (B, C, s, s) in units of 0 to 255 to float (B, C, resolution, resolution).

    A crop is sampled bilinearly at as many points as a pixel of the result covers in each direction, and averaged: the
    antialiasing of the others.
    """
    left, top, width, height = crop_boxes(len(images), scale).to(images.device).unbind(1)
    side = images.shape[-1]
    over = max(1, math.ceil(side * math.sqrt(scale[1]) / resolution))  # of the largest crop
    steps = (torch.arange(resolution * over, device=images.device) + 0.5) / (resolution * over)
    x = (left[:, None] + width[:, None] * steps) * 2 - 1
    y = (top[:, None] + height[:, None] * steps) * 2 - 1
    n = resolution * over
    grid = torch.stack([x[:, None, :].expand(-1, n, n), y[:, :, None].expand(-1, n, n)], -1)
    crops = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(crops, over) if over > 1 else crops


def crop_boxes(count: int, scale: tuple[float, float]) -> Tensor:
    """(count, 4): left, top, width, height of random crops as shares of the side of a square; drawn on the CPU.

    Ten tries for a box that lies within, then the whole square, as in torchvision and timm.
    """
    area = torch.empty(count, TRIES).uniform_(*scale)
    aspect = torch.empty(count, TRIES).uniform_(math.log(ASPECT[0]), math.log(ASPECT[1])).exp()
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(1, keepdim=True)
    found = fits.any(1)
    width = torch.where(found, width.gather(1, first)[:, 0], 1.0)
    height = torch.where(found, height.gather(1, first)[:, 0], 1.0)
    return torch.stack([torch.rand(count) * (1 - width), torch.rand(count) * (1 - height), width, height], 1)


def erased(images: Tensor, rate: float) -> Tensor:
    """Normalised (B, C, h, w) with a rectangle of some of them at zero, the mean colour (Zhong et al. 2020)."""
    count, (height, width) = len(images), images.shape[-2:]
    area = torch.empty(count).uniform_(*ERASE_AREA)
    aspect = torch.empty(count).uniform_(math.log(ERASE_ASPECT[0]), math.log(ERASE_ASPECT[1])).exp()
    w, h = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    left, top = torch.rand(count) * (1 - w), torch.rand(count) * (1 - h)
    w = torch.where(torch.rand(count) < rate, w, 0.0)
    left, top, w, h = (v.to(images.device)[:, None] for v in (left, top, w, h))
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside = ((y >= top) & (y < top + h))[:, :, None] & ((x >= left) & (x < left + w))[:, None, :]
    return images.masked_fill(inside[:, None], 0.0)


def _each_its_own(images: Tensor, operations: tuple[Operation, ...]) -> Tensor:
    """One operation for each image, drawn for it; those that drew the same go through it together."""
    draws = torch.randint(len(operations), (len(images),))
    result = images.clone()
    for i in sorted(set(draws.tolist())):
        rows = (draws == i).nonzero()[:, 0].to(images.device)
        result[rows] = operations[i](images[rows]).clamp(0, 1)
    return result


@lru_cache(maxsize=8)
def _operations(policy: str, magnitude: int) -> tuple[Operation, ...]:
    """What an image may draw, on float (B, 3, h, w) in [0, 1]: Kornia's sub-policies or operations."""
    from kornia.augmentation.auto import AutoAugment, RandAugment, TrivialAugment  # takes a second

    if policy == "trivialaugment":
        return tuple(TrivialAugment().children())
    if policy == "randaugment":
        return tuple(_at_magnitude(child[0], magnitude / 30) for child in RandAugment(n=1, m=15).children())  # type: ignore[index]
    return tuple(AutoAugment({"autoaugment": "imagenet"}.get(policy, policy.removeprefix("autoaugment_"))).children())


def _at_magnitude(operation: Any, share: float) -> Operation:
    """An operation of RandAugment at a share of its range, as Kornia's ``RandAugment`` sets it, 0 and 1 included."""

    def apply(images: Tensor) -> Tensor:
        magnitude = None
        if operation.magnitude_range is not None:
            low, high = operation.magnitude_range
            down = operation._factor_name == "bits_factor"
            value = low + (high - low) * (1 - share if down else share)
            if operation._factor_name in ("translate_x", "translate_y"):
                value *= images.shape[-1 if operation._factor_name == "translate_x" else -2]
            magnitude = torch.full((len(images),), value)
        return operation(images, params=operation.forward_parameters(images.shape, mag=magnitude))  # type: ignore[no-any-return]

    return apply
