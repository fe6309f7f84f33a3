"""A larger member of a family that starts from a smaller one's weights (Net2Net: Chen, Goodfellow & Shlens 2016).

Wider: a channel is copied, and what reads the copies divides its weights among them (Net2WiderNet, section 2.1). The
shares differ, so that copies learn different things although the function stays the same (LEMON: Wang et al. 2024).
Deeper: new blocks at a stage's end start as the identity: with a shortcut, their branch as zero; without one, where
the activation allows it, their kernels as identities (Net2DeeperNet, section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from ..blocks import Block, ConvNormAct, SqueezeExcite
from ..builders.module import make_on_meta
from ..errors import UserError, check_int, check_number
from ..network import Network, build
from ..network_spec import NetworkSpec
from ..stage import Stage

#: What may differ within a family; all else decides what the weights mean.
_FREE = ("stages", "stem", "head", "dropout", "drop_path", "bn_momentum", "resolution", "fixed_ends", "name")
_FREE_IN_STAGE = ("channels", "repeats")
#: Activations that leave what they gave as it is, as a block without a shortcut needs to be the identity.
_IDEMPOTENT = ("relu", "relu6")
#: BatchNorm weight of a new branch that ends in an activation. Beside the input it is nothing in float32, but from
#: exactly 0 before a ReLU no gradient would come back, ever.
_NEARLY_ZERO = 1e-8


@dataclass(frozen=True)
class Growth:
    """What :func:`grow` made.

    Attributes:
        network: the larger network, on the smaller one's device.
        exact: in evaluation, at one resolution, both compute the same logits but for rounding in floating point.
        notes: what could not be kept and why, stage by stage, and what else is to be known.
    """

    network: Network
    exact: bool
    notes: tuple[str, ...]


def grow(
    small: Network, architecture: Architecture, larger: Architecture, *, noise: float = 0.5, seed: int = 0
) -> Growth:
    """The network ``larger`` with the weights of ``small``, which is of ``architecture`` and stays as it is.

    Args:
        small: the network with the weights.
        architecture: what it was built from.
        larger: a member of the same family: other widths, more repeats, another resolution, other dropout.
        noise: how unequally the copies of a channel share a weight: the standard deviation of a share, relative to an
            equal one. Their sum stays, so the function does. 0: equally; then nothing but dropout tells copies apart.
        seed: of the shares, and of the first weights of blocks that cannot start as the identity.

    Raises:
        UserError: the networks are not members of one family, a stage of ``larger`` has fewer blocks, or ``small`` is
            not of ``architecture``; the message names what differs.
    """
    check_number("noise", noise, 0)
    check_int("seed", seed, 0, 2**32 - 1)
    _check_family(architecture, larger)
    _check_weights(small, architecture)
    network = build(larger, seed)
    like = next(small.parameters())
    network.to(like.device, like.dtype)
    copier = _Copier(noise, seed)
    with torch.no_grad():
        copier.network(small, network, architecture, larger)
    if larger.resolution != architecture.resolution:
        copier.notes.append(
            f"the resolution is {larger.resolution} instead of {architecture.resolution}: "
            "the weights do not depend on it, the logits do"
        )
    return Growth(network, copier.exact, tuple(copier.notes))


def check_growable(network: NetworkSpec, refusal: str) -> Architecture:
    """The network, where it is of a kind that can be grown: a builder's module tells nothing of its stages.

    Raises:
        UserError: it is not; ``refusal`` is the message.
    """
    if not isinstance(network, Architecture):
        raise UserError(refusal)
    return network


def _check_family(small: Architecture, larger: Architecture) -> None:
    found = _differences("", small, larger, _FREE)
    if bool(small.head) != bool(larger.head):
        found.append(f"head is {small.head} in the smaller and {larger.head} in the larger")
    if len(small.stages) != len(larger.stages):
        found.append(f"the smaller has {len(small.stages)} stages and the larger {len(larger.stages)}")
    else:
        for i, (old, new) in enumerate(zip(small.stages, larger.stages, strict=True)):
            found += _differences(f"stage {i}: ", old, new, _FREE_IN_STAGE)
            if new.repeats < old.repeats:
                found.append(f"stage {i}: the smaller has {old.repeats} blocks and the larger only {new.repeats}")
    if found:
        raise UserError(
            f"the networks are not a smaller and a larger member of one family: {'; '.join(found)}. Only widths, "
            "repeats (upwards), resolution, dropout, drop_path and bn_momentum may differ"
        )


def _differences(where: str, small: Any, larger: Any, free: Sequence[str]) -> list[str]:
    names = [f.name for f in fields(small) if f.name not in free]
    return [
        f"{where}{name} is {getattr(small, name)!r} in the smaller and {getattr(larger, name)!r} in the larger"
        for name in names
        if getattr(small, name) != getattr(larger, name)
    ]


def _check_weights(small: Network, architecture: Architecture) -> None:
    wanted = {key: tuple(value.shape) for key, value in make_on_meta(architecture.module).state_dict().items()}
    found = {key: tuple(value.shape) for key, value in small.state_dict().items()}
    for key in [*wanted, *found]:
        if wanted.get(key) != found.get(key):
            has, needs = (f"of shape {side[key]}" if key in side else "missing" for side in (found, wanted))
            raise UserError(f"the smaller network is not of the architecture given: its {key} is {has}, not {needs}")


class _Channels(NamedTuple):
    """How the channels of a tensor of the larger network come from the smaller one's."""

    #: Element j is the channel that channel j of the larger network copies.
    source: Tensor
    #: Channels of the smaller network.
    small: int


def _cycle(small: int, larger: int) -> _Channels:
    """The first channels are the smaller network's; further ones copy them in turn."""
    return _Channels(torch.arange(larger) % small, small)


class _Copier:
    """Copies one network into another and keeps account of what it could not keep."""

    def __init__(self, noise: float, seed: int) -> None:
        self.noise = noise
        self.generator = torch.Generator().manual_seed(seed)
        self.exact = True
        self.notes: list[str] = []

    def lose(self, note: str) -> None:
        self.exact = False
        self.notes.append(note)

    def network(self, old: Network, new: Network, small: Architecture, larger: Architecture) -> None:
        stream = self.copies("the stem", small.stem, larger.stem)
        self.layer(old.stem, new.stem, stream, _cycle(small.in_channels, small.in_channels))
        for i, (stage, wider) in enumerate(zip(small.stages, larger.stages, strict=True)):
            olds: Any = old.stages[i]
            news: Any = new.stages[i]
            outward = self.outward(f"stage {i}", olds[0], news[0], stream, stage, wider)
            for a, b in zip(olds, news, strict=False):
                self.block(a, b, stream, outward)
                stream = outward
            self.deepen(f"stage {i}", list(news)[len(olds) :], news[len(olds) - 1], larger.activation)
        if small.head:
            features = self.copies("the head", small.head, larger.head)
            self.layer(old.head, new.head, features, stream)
            stream = features
        self.dense(old.classifier, new.classifier, _cycle(small.num_classes, small.num_classes), stream)

    # -- which channel copies which -------------------------------------------------------------------

    def copies(self, what: str, small: int, larger: int) -> _Channels:
        if larger < small:
            self.lose(f"{what} has {larger} channels instead of {small}: the first {larger} are kept")
        return _cycle(small, larger)

    def outward(self, where: str, old: Block, new: Block, stream: _Channels, small: Stage, larger: Stage) -> _Channels:
        """The channels of a stage, such that the shortcut of its first block agrees with them where it can."""
        if old.shortcut != new.shortcut:
            which = "only in the larger network" if new.shortcut == "identity" else "only in the smaller network"
            self.lose(f"{where}: the first block has a shortcut {which}: only there its widths are equal")
        elif old.shortcut == "identity":
            return stream
        elif old.shortcut == "pool":
            # channel j is handed on as channel j; those that lack a partner get nothing
            kept = min(len(stream.source), larger.channels)
            more = stream.small + torch.arange(larger.channels - kept) % max(1, small.channels - stream.small)
            source = torch.cat([stream.source[:kept], more])
            if sorted(set(source.tolist())) == list(range(small.channels)):
                return _Channels(source, small.channels)
            self.lose(f"{where}: the pooled shortcut of the first block adds other channels to the copies")
        return self.copies(where, small.channels, larger.channels)

    # -- copying ---------------------------------------------------------------------------------------

    def block(self, old: Block, new: Block, inward: _Channels, outward: _Channels) -> None:
        middle = inward
        for name, layer in old.named_children():
            target: Any = getattr(new, name, None)
            if isinstance(layer, SqueezeExcite):
                hidden = _cycle(layer.reduce.out_channels, target.reduce.out_channels)
                self.dense(layer.reduce, target.reduce, hidden, middle)
                self.dense(layer.expand, target.expand, middle, hidden)
            elif isinstance(layer, ConvNormAct):
                if name == "depthwise":
                    target.conv.weight.copy_(layer.conv.weight[middle.source])
                    self.norm(layer.bn, target.bn, middle)
                    continue
                expands = name == "expand"
                rows = _cycle(layer.conv.out_channels, target.conv.out_channels) if expands else outward
                self.layer(layer, target, rows, middle)
                middle = rows

    def layer(self, old: Any, new: Any, rows: _Channels, columns: _Channels) -> None:
        self.dense(old.conv, new.conv, rows, columns)
        self.norm(old.bn, new.bn, rows)

    def dense(self, old: Any, new: Any, rows: _Channels, columns: _Channels) -> None:
        """A convolution or linear layer: its rows copied, its columns shared out among the copies of what they read."""
        weight = old.weight[rows.source][:, columns.source]
        share = self.shares(len(rows.source), columns).to(weight)
        new.weight.copy_(weight * share.reshape(*share.shape, *[1] * (weight.ndim - 2)))
        if old.bias is not None:
            new.bias.copy_(old.bias[rows.source])

    def shares(self, rows: int, columns: _Channels) -> Tensor:
        """(rows, columns): what each copy gets of the weight of the channel it copies; 1 in all."""
        copies = torch.bincount(columns.source, minlength=columns.small).double()
        relative = torch.randn(rows, len(columns.source), generator=self.generator, dtype=torch.float64) * self.noise
        sums = relative.new_zeros(rows, columns.small).index_add_(1, columns.source, relative)
        relative -= (sums / copies)[:, columns.source]
        return (1 + relative) / copies[columns.source]

    def norm(self, old: Any, new: Any, channels: _Channels) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(new, name).copy_(getattr(old, name)[channels.source])
        new.num_batches_tracked.copy_(old.num_batches_tracked)

    # -- new blocks ------------------------------------------------------------------------------------

    def deepen(self, where: str, blocks: Sequence[Block], before: Block, activation: str) -> None:
        """Make new blocks the identity, or what comes nearest; ``before`` is the block that they follow."""
        if not blocks:
            return
        layers = [[m for m in block if isinstance(m, ConvNormAct)] for block in blocks]
        active = hasattr(layers[0][-1], "act")
        if blocks[0].shortcut == "none":
            if active and activation in _IDEMPOTENT and not hasattr(blocks[0], "se"):
                norm = [m for m in before if isinstance(m, ConvNormAct)][-1].bn
                for layer in [layer for row in layers for layer in row]:
                    _make_identity(layer, norm)
                self.notes.append(
                    f"{where}: new blocks have no shortcut and start with identity kernels; "
                    "in training, where BatchNorm uses the batch's statistics, they are only roughly the identity"
                )
            else:
                self.lose(f"{where}: new blocks have no shortcut and start from random weights")
            return
        for row in layers:
            nn.init.constant_(row[-1].bn.weight, _NEARLY_ZERO if active else 0.0)
        if blocks[0].shortcut == "pool":
            self.lose(f"{where}: new blocks pass their input on through average pooling, which blurs it")
        elif active and activation == "softplus":
            self.lose(f"{where}: new blocks add softplus(0), not 0, to their input")


def _make_identity(layer: ConvNormAct, norm: nn.BatchNorm2d) -> None:
    """Give back the input, which is the ReLU of what ``norm`` normalised.

    The statistics are those of a rectified normal variable, so that the BatchNorm changes little in training too.
    """
    nn.init.dirac_(layer.conv.weight, layer.conv.groups)
    std, mean = norm.weight.double().abs().clamp(min=1e-12), norm.bias.double()
    density = (-((mean / std) ** 2) / 2).exp() / math.sqrt(2 * math.pi)
    above = torch.special.ndtr(mean / std)
    first = mean * above + std * density
    variance = ((mean**2 + std**2) * above + mean * std * density - first**2).clamp(min=0)
    layer.bn.running_mean.copy_(first)  # type: ignore[union-attr]
    layer.bn.running_var.copy_(variance)  # type: ignore[union-attr]
    layer.bn.weight.copy_((variance + layer.bn.eps).sqrt())
    layer.bn.bias.copy_(first)
