"""Arrays and tensors of any usual layout as pixels (uint8, channels last), and a table of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...space.errors import UserError
from .table import CHUNK, Encoded, Indices

#: Numbers of channels that tell an end of an array from the other one; else it is the shorter end.
_USUAL = (1, 3, 4)
_STACK = "arrays or tensors (N, H, W), (N, H, W, C) or (N, C, H, W)"
_IMAGE = "a Pillow image, an array or tensor (H, W), (H, W, C) or (C, H, W)"


@dataclass(frozen=True)
class ArrayTable:
    """An :class:`~effnas.evaluate.data.table.ImageTable` of images of one size: uint8 (N, H, W) or (N, H, W, C)."""

    images: npt.NDArray[np.uint8]
    labels: Indices
    classes: tuple[str, ...]

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        """``(name for people, pixels)`` of each row."""
        return [(f"row {row}", self.images[row]) for row in rows]


def stack_pixels(images: Any, what: str) -> npt.NDArray[np.uint8]:
    """N images as a copy (N, H, W), or (N, H, W, C) of several channels: what is done to them later changes nothing.

    Args:
        images: an array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats in 0 to 1.
        what: they are, for people.

    Raises:
        UserError: they are something else.
    """
    array = _move_channels_last(images, 1, f"{what} must be {_STACK}")
    chunks = [_to_uint8(array[start : start + CHUNK], what) for start in range(0, len(array), CHUNK)]
    return np.concatenate(chunks) if chunks else np.zeros(array.shape, np.uint8)


def image_pixels(image: Any, what: str) -> npt.NDArray[np.uint8]:
    """One image, as :func:`stack_pixels` without the first axis; not copied where it can stay as it is."""
    return _to_uint8(_move_channels_last(image, 0, f"{what} must be {_IMAGE}"), what)


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of torch, which need not be there."""
    return hasattr(value, "detach") and hasattr(value, "numpy")


def to_array(value: Any) -> npt.NDArray[Any]:
    """A tensor, number or list as an array.

    Raises:
        ValueError: lists of different lengths.
    """
    if is_tensor(value):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # NumPy has no bfloat16
    return np.asarray(value)


def _move_channels_last(images: Any, axis: int, rule: str) -> npt.NDArray[Any]:
    """(…, H, W) or (…, H, W, C), where images begin at ``axis``; where both ends may be C, as their library has it."""
    if not isinstance(images, np.ndarray) and not is_tensor(images):
        raise UserError(f"{rule}, got {type(images).__name__}")
    array = to_array(images)
    shape = array.shape[axis:]
    if len(shape) not in (2, 3) or not all(shape):
        raise UserError(f"{rule}, got the shape {array.shape}")
    if len(shape) == 3 and _channels_first(shape, is_tensor(images)):
        array = np.moveaxis(array, axis, -1)
    return array[..., 0] if len(shape) == 3 and array.shape[-1] == 1 else array


def _channels_first(shape: tuple[int, ...], tensor: bool) -> bool:
    first, last = (end in _USUAL for end in (shape[0], shape[-1]))
    if not first and not last:
        first, last = shape[0] <= shape[-1], shape[0] >= shape[-1]
    return first and (tensor or not last)


def _to_uint8(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    rule = f"{what} must be uint8, or floats in 0 to 1"
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise UserError(f"{rule}, got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"{rule}, got floats from {low:.4g} to {high:.4g}: scale them so that white is 1, and leave normalisation "
            "to data.normalize"
        )
    return (array * 255).round().astype(np.uint8)
