"""Several processes that train one network together, started by ``torchrun``: who they are, and what they share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
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
        """What :meth:`~effnas.evaluate.data.images.ImageSet.batches` takes."""
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
