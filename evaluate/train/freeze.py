"""What is otherwise in a network while it trains: parts that stay as they are, and BatchNorm's momentum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ...space.errors import UserError


@contextmanager
def freeze_parts(model: nn.Module, freeze: str | int) -> Iterator[None]:
    """Some of the weights without gradients for a while.

    Args:
        model: in the parts that ours have (``stem``, ``stages``, ``head``), unless nothing is to be frozen.
        freeze: ``none``, ``features`` (all but the classifier), or n: the stem and the first n stages.

    Raises:
        UserError: there are not so many stages, or no such parts.
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
    parts = dict(model.named_children())
    stages = parts.get("stages")
    lacking = [name for name in ("stem", "stages", "head") if name not in parts]
    if lacking or not isinstance(stages, nn.Sequential):
        what = f"no {' and no '.join(lacking)}" if lacking else f"as stages a {type(stages).__name__}"
        raise UserError(
            f"training.freeze={freeze} needs a network with the parts stem, stages (an nn.Sequential) and head before "
            f"its classifier, {type(model).__name__} has {what}: set training.freeze=none"
        )
    if isinstance(freeze, str):
        return [parts["stem"], stages, parts["head"]]
    if freeze > len(stages):
        raise UserError(f"training.freeze must be at most the number of stages, {len(stages)}, got {freeze}")
    return [parts["stem"], *list(stages)[:freeze]]


@contextmanager
def bn_momentum_of(model: nn.Module, momentum: float | None) -> Iterator[None]:
    """Every BatchNorm with this momentum for a while."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] if momentum is not None else []
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.momentum = value
