"""The fields of every data set: which images are taken, and how they are stored, normalised and read."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ...space.errors import UserError, check_choice, check_int, check_number
from ...space.weights.contents import Normalization
from .normalization import read_normalization

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True, repr=False)
class LabelledImages:
    """Labelled images for classification, wherever they come from. Equal fields give equal images, splits and batches.

    Args:
        limit: at most this many images of the training part, by class; smaller limits are within larger ones.
        holdout: fraction of the training part, of each class, that measures candidates.
        split_seed: of the choices made for ``limit`` and ``holdout``: one for all candidates, whatever their seed.
        num_classes: how many the data must have; None: any.
        image_size: side of the stored square in pixels; None takes the median shorter side, at most 256, and where a
            trained network is evaluated what its resolution needs.
        center_crop: side of the centre square that a network is measured on, as a fraction of the stored one's.
        interpolation: ``bilinear`` or ``bicubic``, always antialiased.
        normalize: ``imagenet``, or mean and standard deviation in units of 0 to 255, both one number or both
            one per channel; None: those of the weights if there are any, else those of the training images.
        flip: mirror training images left to right with probability 1/2.
        crop: shift training images by up to this many stored pixels each way.
        max_corrupt: fraction of unreadable images that is skipped; more is an error.
        memory_mb: larger sets are decoded on the fly.
        workers: processes that decode a streamed set; threads that decode one kept in memory.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    limit: int | None = None
    holdout: float = 0.2
    split_seed: int = 0
    num_classes: int | None = None
    image_size: int | None = None
    center_crop: float = 1.0
    interpolation: str = "bilinear"
    normalize: str | Normalization | None = None
    flip: bool = False
    crop: int = 0
    max_corrupt: float = 0.01
    memory_mb: int = 2048
    workers: int = 2

    def __post_init__(self) -> None:
        for name, low, high in (("limit", 4, None), ("num_classes", 2, None), ("image_size", 1, 8192)):
            if getattr(self, name) is not None:
                check_int(f"data.{name}", getattr(self, name), low, high)
        check_number("data.holdout", self.holdout, 0, 1, open_low=True, open_high=True)
        check_int("data.split_seed", self.split_seed, 0, 2**32 - 1)
        check_number("data.center_crop", self.center_crop, 0, 1, open_low=True)
        check_choice("data.interpolation", self.interpolation, INTERPOLATIONS)
        object.__setattr__(self, "normalize", read_normalization(self.normalize))  # lists cannot be hashed
        if not isinstance(self.flip, bool):
            raise UserError(f"data.flip must be true or false, got {self.flip!r}")
        check_int("data.crop", self.crop, 0)
        check_number("data.max_corrupt", self.max_corrupt, 0, 1)
        check_int("data.memory_mb", self.memory_mb, 0)
        check_int("data.workers", self.workers, 0, 256)

    def __repr__(self) -> str:
        """Every field, where the images are from first."""
        ordered = sorted(fields(self), key=lambda field: bool(field.kw_only))
        shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in ordered)
        return f"{type(self).__name__}({shown})"

    @property
    def title(self) -> str:
        """Where the images are from, for people."""
        raise NotImplementedError
