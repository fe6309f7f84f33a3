"""Which parts of a network stay as they are while the rest is fine-tuned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from ..space.errors import UserError
from ..space.network import Network


@contextlib.contextmanager
def frozen(model: nn.Module, freeze: str | int) -> Iterator[None]:
    """Some of the weights without gradients for a while.

    Args:
        model: a :class:`~effnas.space.network.Network`, unless nothing is to be frozen.
        freeze: ``none``, ``features`` (all but the classifier), or n: the stem and the first n stages.

    Raises:
        UserError: there are not so many stages.
    """
    weights = [p for part in _parts(model, freeze) for p in part.parameters() if p.requires_grad]
    for p in weights:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in weights:
            p.requires_grad_(True)


def _parts(model: nn.Module, freeze: str | int) -> list[nn.Module]:
    if freeze == "none":
        return []
    if not isinstance(model, Network):
        raise UserError(f"freeze={freeze} needs a network of effnas, got {type(model).__name__}")
    if isinstance(freeze, str):
        return [model.stem, model.stages, model.head]
    stages = list(model.stages)
    if freeze > len(stages):
        raise UserError(f"freeze must be at most the number of stages, {len(stages)}, got {freeze}")
    return [model.stem, *stages[:freeze]]
