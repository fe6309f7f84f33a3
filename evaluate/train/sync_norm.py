"""BatchNorm over the batches of several processes, also on CPUs, where PyTorch has none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.nn import functional as collective


class SyncNorm(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance in training are those of all processes' images.

    Two sums are exchanged a layer, first for the mean, then for the variance around it: E[x²] − E[x]² would lose
    digits.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same shape."""
        if not self.training:
            return super().forward(x)
        sums = torch.cat([x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])])
        sums = collective.all_reduce(sums)  # type: ignore[no-untyped-call]
        count = sums[-1]
        mean = sums[:-1] / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = collective.all_reduce(centred.square().sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            momentum = cast(float, self.momentum)
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias.view(1, -1, 1, 1), centred, scale.view(1, -1, 1, 1))


@contextlib.contextmanager
def synchronised(model: nn.Module, device: torch.device, *, on: bool = True) -> Iterator[None]:
    """Every BatchNorm of ``model`` over all processes for a while; parameters and statistics stay its own."""
    before: list[tuple[nn.Module, str, nn.BatchNorm2d]] = []
    for module in list(model.modules()) if on else ():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                before.append((module, name, child))
                kind = nn.SyncBatchNorm if device.type == "cuda" else SyncNorm
                setattr(module, name, _like(child, kind(child.num_features, child.eps, child.momentum)))
    try:
        yield
    finally:
        for module, name, child in before:
            setattr(module, name, child)


def _like(norm: nn.BatchNorm2d, new: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
    new.weight, new.bias = norm.weight, norm.bias
    new.running_mean, new.running_var = norm.running_mean, norm.running_var
    new.num_batches_tracked = norm.num_batches_tracked
    return new.train(norm.training)
