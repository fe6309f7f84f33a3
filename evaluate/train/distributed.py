"""Several processes that train one network together, started by ``torchrun``: who they are, and what they share.

That is gradients, sums, and the statistics of BatchNorm, also on CPUs, where PyTorch has none that are shared.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as collective
from torch.nn.parallel import DistributedDataParallel

from ...space.errors import UserError

#: What ``torchrun`` sets in every process that it starts.
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Group:
    """One process's place among those that train together; alone, everything here does nothing.

    Args:
        rank: of this process, from 0.
        local_rank: among those of its machine.
        size: number of processes.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """The one process that writes files and speaks to people."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """What :meth:`~effnas.evaluate.data.sets.ImageSet.batches` takes."""
        return self.rank, self.size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def parallel(self, model: nn.Module, device: torch.device) -> nn.Module:
        """What to call instead of ``model``: its backward pass averages the gradients of all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


@contextlib.contextmanager
def torchrun_group() -> Iterator[Group]:
    """This process's group, where ``torchrun`` has started it; :data:`ALONE` otherwise.

    Raises:
        UserError: some of torchrun's variables are set, and some are not.
    """
    present = [name for name in VARIABLES if name in os.environ]
    if "RANK" not in present and "WORLD_SIZE" not in present:
        yield ALONE
        return
    missing = [name for name in VARIABLES if name not in present]
    if missing:
        raise UserError(
            f"{' '.join(present)} set, {' '.join(missing)} not: start several processes with "
            "torchrun --nproc-per-node N -m effnas train …"
        )
    local = int(os.environ["LOCAL_RANK"])
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local % torch.cuda.device_count())
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Group(dist.get_rank(), local, dist.get_world_size())
    finally:
        dist.destroy_process_group()


# -- BatchNorm -------------------------------------------------------------------------------------------


class SyncNorm(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance in training are those of all processes' images.

    Two sums are exchanged per layer, first for the mean, then for the variance around it: E[x²] − E[x]² would lose
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
def synchronise_batch_norms(model: nn.Module, device: torch.device, *, on: bool = True) -> Iterator[None]:
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
