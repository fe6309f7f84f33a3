"""The table of a data set's part, wherever it comes from."""

from __future__ import annotations

from ...space.errors import UserError
from .dataset_images import DatasetImages
from .digits import digits_table
from .files import file_table, hub_table
from .image_data import ImageData
from .labelled_images import LabelledImages
from .table import ImageTable


def check_data(data: object) -> None:
    """Raise :class:`UserError` unless it is a data set as the commands take it."""
    if not isinstance(data, LabelledImages):
        raise UserError(
            "data must be of type ImageData (`_target_: effnas.evaluate.data.ImageData` in a config), or DatasetImages("
            f"train, test) around arrays or a data set in Python, got {type(data).__name__}"
        )


def find_table(data: LabelledImages, part: str, classes: tuple[str, ...] | None = None) -> ImageTable | None:
    """The images of one part, not yet decoded.

    Args:
        data: where they are.
        part: ``train`` or ``test``.
        classes: of the training part, where another part is read.

    Returns:
        None where there is no such part.

    Raises:
        UserError: the data is not there, not readable, or not what the fields say; or there is no training part.
    """
    if isinstance(data, DatasetImages):
        if part == "train" and data.train is None:
            raise UserError("data.train: there is no training part; give one: DatasetImages(train=…)")
        table: ImageTable | None = data.train if part == "train" else data.test
        return table
    assert isinstance(data, ImageData)  # there are no others
    if data.source == "digits":
        return digits_table(part)
    assert data.path is not None  # checked when made
    if data.source == "hub":
        return hub_table(data.path, data.subset, part, data.image, data.label, classes)
    return file_table(
        data.path,
        part,
        data.image,
        data.label,
        data.memory_mb << 20,
        classes,
        source=data.source,
        layout=data.layout,
    )
