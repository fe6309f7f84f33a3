"""Fewer channels for a trained network: which, and what is left of the weights.

Channels are in the order of their importance (:mod:`~effnas.evaluate.supernet.importance`), and the last ones go. Which
layers lose them is found as NetAdapt does (Yang et al. 2018, algorithm 1, without its short fine-tunings): each step
must save some MACs; every layer is tried alone, and the one that costs the least loss on training images is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from ...space.architecture import Architecture
from ...space.cost import cost
from ...space.errors import UserError
from ...space.network import Network
from ..data.sets import ImageSet
from ..supernet.recalibrate import recalibrate
from ..supernet.shared import take_part


@dataclass(frozen=True)
class Cut:
    """One step: what was cut, and what is left.

    Args:
        what: for people.
        architecture: what is left.
        loss: of it on the images of the calibration, without fine-tuning.
    """

    what: str
    architecture: Architecture
    loss: float


@dataclass(frozen=True)
class Calibration:
    """What cuts are judged by.

    Args:
        images: of the training part.
        count: how many: BatchNorm's statistics are computed on them, then the loss.
        batch_size: of both.
        device: where.
        seed: which.
    """

    images: ImageSet
    count: int
    batch_size: int
    device: torch.device
    seed: int

    @torch.no_grad()
    def measure(self, network: nn.Module, resolution: int) -> float:
        """Mean cross-entropy; the network is given new statistics."""
        how = {"batch_size": self.batch_size, "resolution": resolution, "device": self.device, "seed": self.seed}
        used = recalibrate(network, self.images, self.count, **how)  # type: ignore[arg-type]
        size = min(self.batch_size, len(self.images))
        total, seen = 0.0, 0
        for stored, labels in self.images.batches(size, device=self.device, shuffle=self.seed):
            if seen >= max(used, size):
                break
            pixels = self.images.pixels.prepare(stored, resolution).contiguous(memory_format=torch.channels_last)
            total += float(functional.cross_entropy(network(pixels), labels, reduction="sum"))
            seen += len(stored)
        return total / seen


def cut_network(network: Network, architecture: Architecture) -> Network:
    """The first channels of ``network``, on its device, in evaluation mode: a network of ``architecture``."""
    with torch.device("meta"):
        small = architecture.module()
    source = network.state_dict()
    small.to_empty(device=next(network.parameters()).device)
    with torch.no_grad():
        for name, tensor in small.state_dict().items():
            tensor.copy_(take_part(source[name], tensor.shape))
    return small.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def prune(
    network: Network, architecture: Architecture, target: int, divisor: int, step: float, by: Calibration
) -> Iterator[Cut]:
    """Cut until the MACs are within ``target``; the steps, one after the other.

    Args:
        network: trained, its channels in the order of importance.
        architecture: of it.
        target: most MACs.
        divisor: what the widths stay multiples of.
        step: share of all MACs that a step saves at least.
        by: judges.

    Raises:
        UserError: the target is out of reach.
    """
    total = cost(architecture).macs
    smallest = architecture
    while cost(smallest).macs > target:
        cuts = [left for _, left in list_cuts(smallest, target, divisor)]
        if not cuts:
            raise UserError(
                f"target_macs {target:,}: out of reach; the smallest that channels in multiples of {divisor} leave "
                f"has {cost(smallest).macs:,}"
            )
        smallest = min(cuts, key=lambda left: cost(left).macs)
    while (now := cost(architecture).macs) > target:
        wanted = max(now - max(int(step * total), 1), min(target, now - 1))
        best: Cut | None = None
        for what, smaller in list_cuts(architecture, wanted, divisor):
            loss = by.measure(cut_network(network, smaller), smaller.resolution)
            if best is None or loss < best.loss:
                best = Cut(what, smaller, loss)
        assert best is not None  # or it is the smallest
        architecture = best.architecture
        yield best


def list_cuts(architecture: Architecture, most: int, divisor: int) -> Iterator[tuple[str, Architecture]]:
    """The networks of at most so many MACs that one layer's cut makes; no shortcut comes or goes by it.

    Stages whose shortcuts tie them to each other are cut together. A layer that cannot save enough is cut as far as it
    can be, where that saves anything.
    """
    now = cost(architecture).macs
    for tied in _tied_stages(architecture):
        width = architecture.stem if tied[0] < 0 else architecture.stages[tied[0]].channels
        yield from _shrink(architecture, _name(tied, architecture), width, divisor, most, now, tied)
    if architecture.head:
        yield from _shrink(architecture, "head", architecture.head, divisor, most, now, ())
    for i, stage in enumerate(architecture.stages):
        least = 2 if stage.block == "mbconv" else 1  # at ratio 1 an MBConv would be another kind of block
        if stage.expand_ratio <= least:
            continue
        made = architecture
        for ratio in range(stage.expand_ratio - 1, least - 1, -1):
            made = _with_stage(architecture, i, expand_ratio=ratio)
            if cost(made).macs <= most:
                break
        if cost(made).macs < now:
            yield f"stage {i}: expand ratio {stage.expand_ratio} to {made.stages[i].expand_ratio}", made


def _shrink(
    architecture: Architecture, name: str, width: int, divisor: int, most: int, now: int, tied: tuple[int, ...]
) -> Iterator[tuple[str, Architecture]]:
    made: Architecture | None = None
    kept = width
    for kept in range((width - 1) // divisor * divisor, 0, -divisor):
        other = _with_width(architecture, tied, kept)
        if _shortcuts(other) != _shortcuts(architecture):
            continue
        made = other
        if cost(made).macs <= most:
            break
    if made is not None and cost(made).macs < now:
        yield f"{name}: {width} to {kept} channels", made


def _with_width(architecture: Architecture, tied: tuple[int, ...], width: int) -> Architecture:
    if not tied:
        return architecture.with_(head=width)
    stages = tuple(replace(s, channels=width) if i in tied else s for i, s in enumerate(architecture.stages))
    return architecture.with_(stages=stages, **({"stem": width} if -1 in tied else {}))


def _with_stage(architecture: Architecture, index: int, **changes: int) -> Architecture:
    stages = tuple(replace(s, **changes) if i == index else s for i, s in enumerate(architecture.stages))  # type: ignore[arg-type]
    return architecture.with_(stages=stages)


def _shortcuts(architecture: Architecture) -> list[bool]:
    """Of each stage, whether its first block adds its input."""
    inputs = [architecture.stem, *(stage.channels for stage in architecture.stages)]
    return [
        stage.skip == "identity" and stage.stride == 1 and stage.channels == channels
        for stage, channels in zip(architecture.stages, inputs, strict=False)
    ]


def _tied_stages(architecture: Architecture) -> list[tuple[int, ...]]:
    """Stages that have one width for their shortcuts' sake; -1 is the stem."""
    found: list[list[int]] = [[-1]]
    for i, tied in enumerate(_shortcuts(architecture)):
        if tied:
            found[-1].append(i)
        else:
            found.append([i])
    return [tuple(group) for group in found]


def _name(tied: tuple[int, ...], architecture: Architecture) -> str:
    names = ["stem" if i < 0 else f"stage {i}" for i in tied]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
