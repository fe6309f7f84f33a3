"""Boxes in images, drawn and cut out for a whole batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Draws of a box before it is given up (Szegedy et al. 2015, as their code has it).
TRIES = 10


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
