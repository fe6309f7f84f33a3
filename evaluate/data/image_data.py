"""Images from files, the hub, or scikit-learn: the fields of ``conf/data/*.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from ...space.errors import UserError, check_choice
from ...space.paths import as_text
from .labelled_images import LabelledImages

SOURCES = ("digits", "files", "folder", "parquet", "webdataset", "hub")
LAYOUTS = ("splits", "classes")
#: Fields that say nothing to a source.
_USELESS = {
    "digits": ("path", "subset", "image", "label", "layout"),
    "files": ("subset",),
    "folder": ("subset",),
    "parquet": ("subset", "layout"),
    "webdataset": ("subset", "layout"),
    "hub": ("layout",),
}


@dataclass(frozen=True, repr=False)
class ImageData(LabelledImages):
    """Labelled images from a source that has a name. Equal fields give equal images, splits and batches.

    Args:
        source: ``digits`` (scikit-learn's, nothing to download), ``folder`` (of images), ``parquet``, ``webdataset``,
            ``files`` (whichever of these three is there: see :func:`effnas.evaluate.data.files.file_table`) or ``hub``
            (a Hugging Face data set).
        path: of the files, or the hub's name (``uoft-cs/cifar10``).
        subset: of a hub data set that has several.
        image, label: columns; None finds them.
        layout: of a folder of images: ``splits`` (``train/CLASS``) or ``classes`` (``CLASS``, where a class is called
            ``train``); None finds it, and refuses what can be read in both ways.
        limit, holdout, split_seed, num_classes, image_size, center_crop, interpolation, normalize, flip, crop,
        max_corrupt, memory_mb, workers: as :class:`~effnas.evaluate.data.labelled_images.LabelledImages`.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    source: str = "digits"
    path: str | None = None
    subset: str | None = None
    image: str | None = None
    label: str | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        check_choice("data.source", self.source, SOURCES)
        for name in ("path", "subset", "image", "label"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise UserError(f"data.{name} must be a string or null, got {value!r}")
        for name in _USELESS[self.source]:
            if getattr(self, name) is not None:
                raise UserError(
                    f"data.{name}={getattr(self, name)} has no meaning for data.source={self.source}: leave it out, "
                    "or choose another source (data=folder, parquet, webdataset or hub)"
                )
        if self.layout is not None:
            check_choice("data.layout", self.layout, LAYOUTS)
        if self.source != "digits" and self.path is None:
            what = {"hub": "name, like uoft-cs/cifar10", "folder": "folder"}.get(self.source, "file or folder")
            raise UserError(f"data.path: data.source={self.source} needs a path: set data.path=<{what}>")
        super().__post_init__()

    @property
    def input_files(self) -> tuple[str, ...]:
        """What is read, where it is a file: :func:`~effnas.evaluate.identity.describe_files`."""
        return () if self.path is None or self.source == "hub" else (self.path,)

    @property
    def title(self) -> str:
        """The path or name, else the source."""
        return as_text(self.path or self.source)
