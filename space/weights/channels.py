"""Weights of a network for colour images in one for images of other channels, as timm adapts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .contents import Normalization, Weights
from .fit import Fit

#: Channels of images that weights are adapted from: grey and colour.
_ADAPTED = (1, 3)


def count_channels(fit: Fit, axes: Mapping[str, int], weights: Weights) -> int | None:
    """Channels of the images that a file's network takes; None: the file does not tell.

    Args:
        fit: of the file.
        axes: our names of the tensors whose shapes depend on them, and where.
        weights: what was read.
    """
    tensors = weights.tensors
    if any(fit.names.get(own) not in tensors for own in axes):
        return None
    found = {tensors[fit.names[own]].shape[axis:][:1] for own, axis in axes.items()}
    return next(iter(found))[0] if len(found) == 1 and all(found) else None


def adapt_channels(fit: Fit, axes: Mapping[str, int], weights: Weights, channels: int) -> tuple[Weights, str]:
    """The same weights for images of so many channels: summed for 1, else repeated in turn and scaled to the old sum.

    So a grey image gets the answer of its copy in colour. The normalisation follows: its mean for 1 channel, else
    repeated in turn.

    Args:
        fit, axes, weights: as for :func:`count_channels`.
        channels: of the images.

    Returns:
        The weights, as they are where they fit or are of neither grey nor colour images; and what was done, for people.
    """
    had = count_channels(fit, axes, weights)
    if had == channels or had not in _ADAPTED:
        return weights, ""
    places = {fit.names[own]: axis for own, axis in axes.items()}
    tensors = {
        name: _spread(tensor, places[name], channels) if name in places else tensor
        for name, tensor in weights.tensors.items()
    }
    done = "summed" if channels == 1 else "repeated and rescaled"
    adapted = replace(weights, tensors=tensors, normalization=_spread_normalization(weights.normalization, channels))
    return adapted, f"first layer {done} from {had} channel{'s' * (had > 1)} to {channels}"


def _spread(tensor: Tensor, axis: int, channels: int) -> Tensor:
    had = tensor.shape[axis]
    if channels == 1:
        return tensor.sum(axis, keepdim=True)
    taken = [i % had for i in range(channels)]
    return tensor.index_select(axis, tensor.new_tensor(taken).long()) * (had / channels)


def _spread_normalization(given: Normalization | None, channels: int) -> Normalization | None:
    if given is None:
        return None
    mean, std = (
        (sum(part) / len(part),) if channels == 1 else tuple(part[i % len(part)] for i in range(channels))
        for part in given
    )
    return mean, std
