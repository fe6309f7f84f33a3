"""Augmentation policies: AutoAugment, RandAugment and TrivialAugment on whole batches, drawn for each image.

Kornia's own policies draw one operation for a whole batch, and their magnitudes are not the published ones (shears of
up to 54°, brightness that is added, contrast that is multiplied, no random directions in AutoAugment). So the tables of
AutoAugment and the operations on pixel values are Kornia's, the latter those that agree with Pillow's within rounding;
the drawing, the magnitudes and the five affine operations are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

#: Names of the policies; those of AutoAugment were found on ImageNet, CIFAR-10 and SVHN.
POLICIES = ("none", "autoaugment", "autoaugment_cifar10", "autoaugment_svhn", "randaugment", "trivialaugment")

#: Strongest shear, translation (share of the side: 150 of 331 pixels), rotation (degrees), change of a factor and loss
#: of bits; of AutoAugment, of RandAugment, and of the "wide" space of TrivialAugment.
_STRONGEST = {"shear": 0.3, "translate": 150 / 331, "rotate": 30.0, "factor": 0.9, "bits": 4}
_WIDEST = {"shear": 0.99, "rotate": 135.0, "factor": 0.99, "bits": 6}
#: TrivialAugment translates by up to this many pixels, whatever the size; and it has 31 levels, as RandAugment has.
_WIDEST_TRANSLATION, _LEVELS = 32, 31

_MIRRORED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_FACTORS = ("brightness", "color", "contrast", "sharpness")
_PLAIN = ("identity", "auto_contrast", "equalize")


@dataclass(frozen=True)
class Step:
    """One operation of a policy.

    Args:
        name: ``identity``, ``shear_x``, ``shear_y``, ``translate_x``, ``translate_y``, ``rotate``, ``brightness``,
            ``color``, ``contrast``, ``sharpness``, ``posterize``, ``solarize``, ``auto_contrast`` or ``equalize``.
        values: two magnitudes at even odds: shear and translation (share of the side; content moves left and up),
            degrees (anticlockwise), factor (1: nothing changes), bits that are kept (0 to 8), or threshold (0 to 256).
        chance: rate at which it is done.
    """

    name: str
    values: tuple[float, float] = (0.0, 0.0)
    chance: float = 1.0


@dataclass(frozen=True)
class Policy:
    """What is done to an image: the steps of a row, which is drawn for it; rows are of one length.

    Args:
        rows: equally likely.
        draws: rows an image goes through, drawn independently.
    """

    rows: tuple[tuple[Step, ...], ...]
    draws: int = 1

    def __call__(self, images: Tensor) -> Tensor:
        """Float (B, C, side, side) in [0, 1] to the same; side at least 3; the argument may change.

        Only images of 3 channels have a colour to change; all else acts on any number of them. Affine operations are
        bilinear, and black comes in. Everything is drawn on the CPU; a GPU is sent what it has to know, and nothing is
        read back.
        """
        kinds, chances, values = self._tables
        for _ in range(self.draws):
            row = torch.randint(len(self.rows), (len(images),))
            for step in range(kinds.shape[1]):
                done = torch.rand(len(images)) < chances[row, step]
                side = torch.randint(2, (len(images),))
                images = _apply(images, kinds[row, step].where(done, 0), values[row, step, side])
        return images

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Kinds of operation (R, S), chances (R, S), arguments (R, S, 2, 6)."""
        known = list(_operations())
        kinds = [[known.index("warp" if s.name in _MIRRORED else s.name) for s in row] for row in self.rows]
        chances = [[s.chance for s in row] for row in self.rows]
        values = [[[_arguments(s.name, value) for value in s.values] for s in row] for row in self.rows]
        return torch.tensor(kinds), torch.tensor(chances), torch.tensor(values)


@lru_cache(maxsize=64)
def policy(name: str, magnitude: int, layers: int, side: int) -> Policy:
    """One of :data:`POLICIES` but ``none``.

    ``autoaugment`` (Cubuk et al. 2019): the 25 pairs of the appendix; magnitudes in tenths of the paper's ranges, which
    grow weaker with it for ``posterize`` and ``solarize``; shears, translations and rotations in both directions, as in
    the authors' code. ``randaugment`` (Cubuk et al. 2020): the paper's 14 operations, all at one strength, which grows
    with ``magnitude``, as in torchvision. ``trivialaugment`` (Müller & Hutter 2021): one of the same 14 at a random
    strength, the "wide" space.

    Args:
        name: of the policy.
        magnitude, layers: of ``randaugment``: strength 0 to 30, and operations per image, which may repeat.
        side: of the images in pixels.
    """
    if name == "randaugment":
        return Policy(tuple((step,) for step in _space(_STRONGEST, magnitude / (_LEVELS - 1))), layers)
    if name == "trivialaugment":
        widest = {**_WIDEST, "translate": min(1.0, _WIDEST_TRANSLATION / side)}
        return Policy(tuple((s,) for level in range(_LEVELS) for s in _space(widest, level / (_LEVELS - 1))))
    from kornia.augmentation.auto.autoaugment import autoaugment as tables  # a quarter of a second

    pairs = {
        "autoaugment": tables.imagenet_policy,
        "autoaugment_cifar10": tables.cifar10_policy,
        "autoaugment_svhn": tables.svhn_policy,
    }[name]
    return Policy(tuple(tuple(_autoaugment_step(*entry) for entry in pair) for pair in pairs))


def _autoaugment_step(name: str, chance: float, magnitude: float | None) -> Step:
    level = (magnitude or 0) / 10
    if name == "invert":
        return Step("solarize", (0, 0), chance)
    if name in _MIRRORED:
        most = _STRONGEST[name.removesuffix("_x").removesuffix("_y")]
        return Step(name, (level * most, -level * most), chance)
    if name in _FACTORS:
        value = 0.1 + 1.8 * level
    else:  # the higher, the weaker
        value = {"posterize": 4 + int(4 * level), "solarize": int(256 * level)}.get(name, 0)
    return Step(name, (value, value), chance)


def _space(most: Mapping[str, float], strength: float) -> tuple[Step, ...]:
    """The 14 operations of RandAugment and TrivialAugment at a strength of 0 to 1."""
    mirrored = {name: strength * most[name.removesuffix("_x").removesuffix("_y")] for name in _MIRRORED}
    bits, threshold = 8 - round(strength * most["bits"]), 256 * (1 - strength)
    return (
        *(Step(name) for name in _PLAIN),
        *(Step(name, (value, -value)) for name, value in mirrored.items()),
        *(Step(name, (1 + strength * most["factor"], 1 - strength * most["factor"])) for name in _FACTORS),
        Step("posterize", (bits, bits)),
        Step("solarize", (threshold, threshold)),
    )


def _arguments(name: str, value: float) -> list[float]:
    """What the operation is given: a 2 × 3 matrix on coordinates of [−1, 1], or the value and five zeros."""
    cos, sin = math.cos(math.radians(value)), math.sin(math.radians(value))
    return {
        # shears leave the left or upper border where it is, as the published ones do
        "shear_x": [1.0, value, value, 0.0, 1.0, 0.0],
        "shear_y": [1.0, 0.0, 0.0, value, 1.0, value],
        "translate_x": [1.0, 0.0, 2 * value, 0.0, 1.0, 0.0],
        "translate_y": [1.0, 0.0, 0.0, 0.0, 1.0, 2 * value],
        "rotate": [cos, -sin, 0.0, sin, cos, 0.0],
    }.get(name, [float(value)] + 5 * [0.0])


def _apply(images: Tensor, kinds: Tensor, values: Tensor) -> Tensor:
    """To each image the operation of its kind, in place; those of one kind go through it together."""
    operations = list(_operations().values())
    order = kinds.argsort(stable=True)
    counts = kinds.bincount(minlength=len(operations)).tolist()
    rows = torch.split(order.to(images.device, non_blocking=True), counts)
    arguments = torch.split(values[order].to(images.device, non_blocking=True), counts)
    for kind in range(1, len(operations)):
        if counts[kind]:
            result = operations[kind](images.index_select(0, rows[kind]), arguments[kind])
            images.index_copy_(0, rows[kind], result)
    return images


_Operation = Callable[[Tensor, Tensor], Tensor]


@lru_cache(maxsize=1)
def _operations() -> Mapping[str, _Operation]:
    """Kinds of operation, nothing first: (n, C, h, w) in [0, 1] and (n, 6) arguments to (n, C, h, w) in [0, 1]."""
    from kornia import enhance

    return {
        "identity": lambda x, v: x,
        "warp": _warp,
        "brightness": lambda x, v: enhance.adjust_brightness_accumulative(x, v[:, 0]),
        "color": lambda x, v: enhance.adjust_saturation_with_gray_subtraction(x, v[:, 0]) if x.shape[1] == 3 else x,
        "contrast": lambda x, v: enhance.adjust_contrast_with_mean_subtraction(x, v[:, 0]),
        "sharpness": lambda x, v: enhance.sharpness(x, v[:, 0]),
        "posterize": lambda x, v: enhance.posterize(x, v[:, 0].long()),
        "solarize": lambda x, v: enhance.solarize(x, v[:, 0] / 255),
        "auto_contrast": _auto_contrast,
        "equalize": lambda x, v: enhance.equalize(x),
    }


def _warp(images: Tensor, matrices: Tensor) -> Tensor:
    grid = functional.affine_grid(matrices.view(-1, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched to [0, 1]; one of a single value stays (Kornia's ``normalize_min_max`` blackens it)."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-6), images)
