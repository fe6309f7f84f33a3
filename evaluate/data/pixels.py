"""How stored images become a network's input: a centre crop, a resize, a normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Pixels:
    """What the images of a data set are: stored as ``channels`` × ``size`` × ``size`` uint8, read through a crop.

    Args:
        mean, std: of the training images, per channel, in units of 0 to 255.
        flip, crop: augmentation that suits them: horizontal flip with probability 1/2; shift by up to ``crop`` stored
            pixels each way, zeros in.
        center_crop: side of the centre square that is measured, as a fraction of the stored side.
        interpolation: ``bilinear`` or ``bicubic``, always antialiased.
        white: its value in images of more than 8 bits.
    """

    channels: int
    size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    flip: bool = False
    crop: int = 0
    center_crop: float = 1.0
    interpolation: str = "bilinear"
    white: float = 65535

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """Uint8 (B, C, size, size) as a model is measured on it: float32 (B, C, resolution, resolution), normalised."""
        return self.normalize(self.prepare_unnormalized(images, resolution))

    def prepare_unnormalized(self, images: Tensor, resolution: int) -> Tensor:
        """As :meth:`prepare`, in units of 0 to 255: cropped and resized, and no more."""
        side = images.shape[-1]
        inner = max(1, round(self.center_crop * side))
        if inner < side:
            at = (side - inner) // 2
            images = images[..., at : at + inner, at : at + inner]
        return resize(images, resolution, self.interpolation)

    def normalize(self, images: Tensor) -> Tensor:
        """(B, C, h, w) in units of 0 to 255 to float32 of mean 0 and standard deviation 1."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return images.float().sub(mean).div_(std)


def resize(images: Tensor, resolution: int, interpolation: str = "bilinear") -> Tensor:
    """(B, C, h, w) in units of 0 to 255 to (B, C, resolution, resolution), antialiased; uint8 stays so on a CPU."""
    if images.device.type != "cpu":
        images = images.float()  # on a CPU uint8 resizes three times as fast, elsewhere not at all
    if tuple(images.shape[-2:]) == (resolution, resolution):
        return images
    resized = functional.interpolate(images, size=(resolution, resolution), mode=interpolation, antialias=True)
    return resized.clamp_(0, 255) if interpolation == "bicubic" and resized.is_floating_point() else resized
