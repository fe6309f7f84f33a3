"""BatchNorm's statistics of one member, computed for it alone.

Those that a supernet gathers in training are of all members at once, and updates with a momentum on top of them leak
from one member to the next. So they are reset, and are then the exact averages over some training images, in whose
forward passes each batch is normalised by its own statistics (Yu & Huang 2019, section 3.2; Cai et al. 2020).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ...space.torch_private import is_batch_norm
from ..data.sets import ImageSet


@torch.no_grad()
def recalibrate(
    network: nn.Module,
    images: ImageSet,
    count: int,
    *,
    batch_size: int,
    resolution: int,
    device: torch.device,
    seed: int,
) -> int:
    """Give ``network`` the statistics of some of ``images``, as they are measured: without augmentation.

    Args:
        network: on ``device``; in evaluation mode before and after.
        images: training images.
        count: how many, drawn by ``seed``; 0: the statistics stay as they are.
        batch_size: at most; the batches are of one size, so that each counts the same.
        resolution: side of the square input in pixels.
        device: where the network is.
        seed: of the draw.

    Returns:
        How many were used: ``count``, less what would not have filled a batch, or as many as there are.
    """
    norms = [module for module in network.modules() if is_batch_norm(module)]
    count = min(count, len(images))
    if not count or not norms:
        return 0
    batches = math.ceil(count / batch_size)
    size = count // batches
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]  # a cumulative average
        norm.train()
    used = 0
    for stored, _ in images.batches(size, device=device, shuffle=seed):
        if used == batches * size:
            break
        network(images.pixels.prepare(stored, resolution).contiguous(memory_format=torch.channels_last))
        used += len(stored)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return used
