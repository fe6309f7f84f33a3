"""The mean and standard deviation that images are normalised with: given, ImageNet's, or measured."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...space.errors import UserError, check_number
from ...space.weights.contents import Normalization
from ...space.weights.needs import IMAGENET

if TYPE_CHECKING:  # a data set's fields are read without torch
    from torch import Tensor

    from .sets import ImageSet

_RULE = "data.normalize must be null, imagenet, or [mean, std] in units of 0 to 255, both one number or one per channel"


def read_normalization(value: Any) -> str | Normalization | None:
    """What the field ``normalize`` holds, hashable: None, ``imagenet``, or the two tuples.

    Raises:
        UserError: it is anything else.
    """
    if value is None or value == "imagenet":
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise UserError(f"{_RULE}; got {value!r}")
    mean, std = (_numbers(part, value) for part in value)
    if len(mean) != len(std):
        raise UserError(f"{_RULE}; got {value!r}")
    for number in mean:
        check_number("data.normalize: mean", number, 0, 255)
    for number in std:
        check_number("data.normalize: std", number, 0, open_low=True)
    return mean, std


def _numbers(part: Any, value: Any) -> tuple[float, ...]:
    if isinstance(part, int | float) and not isinstance(part, bool):
        return (float(part),)
    if isinstance(part, Sequence) and not isinstance(part, str) and len(part) > 0:
        return tuple(part)
    raise UserError(f"{_RULE}; got {value!r}")


def expand_to_channels(value: str | Normalization | None, channels: int) -> Normalization | None:
    """What was read, for images of so many channels.

    Raises:
        UserError: it is of another number of channels.
    """
    if value is None:
        return None
    mean, std = IMAGENET if isinstance(value, str) else value
    for numbers in (mean, std):
        if len(numbers) not in (1, channels):
            raise UserError(
                f"data.normalize has {len(numbers)} channels, the architecture takes images of {channels}: "
                "give [mean, std] as two numbers"
            )
    return tuple(mean) * (channels // len(mean)), tuple(std) * (channels // len(std))


def measure_normalization(images: Iterable[Tensor], channels: int, where: str) -> Normalization:
    """Mean and standard deviation of uint8 batches (B, C, h, w), exact: from counts of the 256 values.

    Images of one colour get the standard deviation 1.

    Raises:
        UserError: there are no images.
    """
    counts = np.zeros((channels, 256))
    for batch in images:
        for start in range(0, len(batch), 1024):
            pixels = batch[start : start + 1024].numpy()
            counts += [np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(channels)]
    if not counts.any():
        raise UserError(f"{where}: none of the sampled training images can be read")
    share, values = counts / counts.sum(1, keepdims=True), np.arange(256)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    std = np.maximum(np.sqrt(variance), 1.0)  # images of one colour: no division by zero
    return tuple(mean.tolist()), tuple(std.tolist())


def normalize_set(images: ImageSet, normalization: Normalization) -> ImageSet:
    """The same images, held once, read with another normalisation."""
    mean, std = normalization
    other = copy.copy(images)  # shallow: the pixels themselves are shared
    other.pixels = replace(images.pixels, mean=mean, std=std)
    return other
