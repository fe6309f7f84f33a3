"""What a data set is: its fields (``conf/data/*.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass

from ...space.errors import UserError, check_choice, check_int, check_number
from . import loading
from .images import ImageSet, ImageTable
from .normalization import Normalization, read_normalization
from .parts import Part, Split
from .sources import digits_table, file_table, hub_table

__all__ = ["ImageData", "ImageSet", "Part", "Split"]

SOURCES = ("digits", "files", "hub")
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class ImageData:
    """Labelled images for classification. Equal fields give equal images, splits and batches.

    Args:
        source: ``digits`` (scikit-learn's, nothing to download), ``files`` (an image folder, parquet files or
            WebDataset tars: see :func:`effnas.evaluate.data.sources.file_table`) or ``hub`` (a Hugging Face data set).
        path: of the files, or the hub's name (``uoft-cs/cifar10``).
        subset: of a hub data set that has several.
        image, label: columns; None finds them.
        limit: at most so many images of the training part, by class; smaller limits are within larger ones.
        holdout: fraction of the training part, of each class, that measures candidates.
        split_seed: of the choices made for ``limit`` and ``holdout``: one for all candidates, whatever their seed.
        num_classes: how many there should be; None takes what there are.
        image_size: side of the stored square in pixels; None takes the median shorter side, at most 256, and where a
            trained network is evaluated what its resolution needs.
        center_crop: side of the centre square that a network is measured on, as a fraction of the stored one's.
        interpolation: ``bilinear`` or ``bicubic``, always antialiased.
        normalize: ``imagenet``, or mean and standard deviation in units of 0 to 255, each a number or one a channel;
            None takes those of the weights where there are some, else those of the training images.
        flip: mirror training images left to right at rate 1/2.
        crop: shift training images by up to so many stored pixels each way.
        max_corrupt: fraction of unreadable images that is skipped; more is an error.
        memory_mb: larger sets are decoded on the fly.
        workers: processes that decode a streamed set; threads that decode one kept in memory.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    source: str = "digits"
    path: str | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
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
        check_choice("data.source", self.source, SOURCES)
        for name in ("path", "subset", "image", "label"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise UserError(f"data.{name} must be a text or null, got {value!r}")
        useless = {"digits": ("path", "subset", "image", "label"), "files": ("subset",), "hub": ()}[self.source]
        for name in useless:
            if getattr(self, name) is not None:
                raise UserError(
                    f"data.{name}={getattr(self, name)} says nothing to data.source={self.source}: leave it out, "
                    "or choose another source (data=folder, parquet, webdataset or hub)"
                )
        if self.source != "digits" and self.path is None:
            what = "file or folder" if self.source == "files" else "name, like uoft-cs/cifar10"
            raise UserError(f"data.path: data.source={self.source} needs one: set data.path=<{what}>")
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

    def load(self, channels: int, normalization: Normalization | None = None) -> Split:
        """Training and held-out images, both of the training part; decoded once a process for all candidates.

        Args:
            channels: 1 or 3.
            normalization: of the weights that a training starts from; ``normalize`` goes before it, and where there is
                neither the training images are measured.

        Raises:
            UserError: the data is not there, not readable, or not what the fields say.
        """
        return loading.load_split(self, channels, normalization)

    def load_test(self, channels: int, normalization: Normalization | None = None) -> ImageSet | None:
        """The test part, stored and normalised as by :meth:`load`; None where there is none.

        For the last measurement: a search never calls it.

        Raises:
            UserError: as :meth:`load`.
        """
        return loading.load_test(self, channels, normalization)

    def load_part(
        self,
        part: str,
        channels: int,
        *,
        resolution: int,
        num_classes: int,
        classes: tuple[str, ...] | None = None,
        normalization: Normalization | None = None,
    ) -> Part:
        """One part, to measure a trained network on; the others need not be there.

        Args:
            part: ``test``, ``heldout`` (of the training part), ``train`` (the rest of it) or ``all`` (of it).
            channels: 1 or 3.
            resolution: of the network's input in pixels. Where ``image_size`` is None, images are stored so large that
                the centre crop has it.
            num_classes: of the network. A part that only numbers its classes has as many, or those its labels need.
            classes: of the network, by name, where that is known: labels are numbered as its outputs.
            normalization: of the weights; ``normalize`` goes before it, and where there is neither the training images
                are measured.

        Returns:
            Its ``classes`` may be others in number than the network's.

        Raises:
            UserError: the part is not there, not readable, not what the fields say, or has classes by other names.
        """
        return loading.load_part(
            self,
            part,
            channels,
            resolution=resolution,
            num_classes=num_classes,
            classes=classes,
            normalization=normalization,
        )

    def table(self, part: str, classes: tuple[str, ...] | None = None) -> ImageTable | None:
        """The images of ``train`` or ``test``, not yet decoded; None where there is no such part."""
        if self.source == "digits":
            return digits_table(part)
        assert self.path is not None  # checked when made
        if self.source == "hub":
            return hub_table(self.path, self.subset, part, self.image, self.label, classes)
        return file_table(self.path, part, self.image, self.label, self.memory_mb << 20, classes)
