"""The images of ``effnas cam``: files, folders of them, or rows of a data set; each decoded as a network takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from ...space.errors import UserError, check_choice
from ...space.paths import as_text, expand_path, is_file, is_folder
from ...space.weights.contents import Normalization
from ..arguments import as_list
from ..data.decode import decode_image, shorter_side
from ..data.folder.files import images_under
from ..data.image_data import ImageData
from ..data.labelled_images import LabelledImages
from ..data.pixels import Pixels
from ..data.sources import find_table
from ..data.table import Encoded

#: What of a data set is stored; the held-out images are of the training part.
STORED_PARTS = ("test", "train")
#: More rows make a figure that nobody looks at.
MOST = 32
_RULE = "images must be files, folders, or rows of the data (whole numbers)"


@dataclass(frozen=True)
class Picture:
    """One image, not yet decoded.

    Args:
        name: its file, or its row in the data.
        encoded: what is decoded.
        label: its class by name, where that is known.
    """

    name: str
    encoded: Encoded
    label: str | None = None


def find_pictures(images: Any, data: LabelledImages, part: str) -> tuple[list[Picture], tuple[str, ...]]:
    """The requested images, and the names of the data's classes, where it names them.

    Args:
        images: a file, a folder (all images in it and below, by name), a row of ``data``, or a list of these.
        data: where rows come from. For files it only names the classes, and need not be read at all.
        part: of the data: ``test`` or ``train``; rows are counted from 0, as in ``effnas evaluate``'s
            ``predictions.csv``.

    Raises:
        UserError: nothing of that kind there, or more than 32 images.
    """
    check_choice("part", part, STORED_PARTS)
    wanted = as_list(images)
    rows = [item for item in wanted if isinstance(item, int) and not isinstance(item, bool)]
    files = [str(item) for item in wanted if isinstance(item, str | Path)]
    if not wanted or len(rows) + len(files) != len(wanted):
        raise UserError(f"{_RULE}, got {images!r}")
    if rows and files:
        raise UserError(f"{_RULE}, but not both at once, got {images!r}")
    _check_number(len(wanted))
    return _of_data(rows, data, part) if rows else (_of_files(files), _classes(data, part))


def _of_data(rows: list[int], data: LabelledImages, part: str) -> tuple[list[Picture], tuple[str, ...]]:
    table, where = find_table(data, part), data.title
    if table is None:
        raise UserError(f"{where} has no {part} part: part=train takes the images of the training part")
    last = len(table.labels) - 1
    for row in rows:
        if not 0 <= row <= last:
            raise UserError(f"images: the rows of {where}, {part} part, run from 0 to {last}, got {row}")
    found = table.fetch(np.array(rows))
    labels = [int(table.labels[row]) for row in rows]
    names = table.classes or None
    return [
        Picture(name, encoded, names[label] if names else str(label))
        for (name, encoded), label in zip(found, labels, strict=True)
    ], table.classes


def _of_files(names: list[str]) -> list[Picture]:
    files: list[Path] = []
    for name in names:
        path = expand_path(name)
        if is_folder(path):
            inside = sorted(map(Path, images_under(path)))
            if not inside:
                raise UserError(f"images: no images in the folder {as_text(path)}")
            files += inside
        elif is_file(path):
            files.append(path)
        else:
            raise UserError(f"images: no such file or folder: {as_text(path)}")
    _check_number(len(files))
    return [Picture(as_text(file), str(file)) for file in files]


def _classes(data: LabelledImages, part: str) -> tuple[str, ...]:
    """The digits are there when nobody has chosen data, and are not what the files are of."""
    digits = isinstance(data, ImageData) and data.source == "digits"
    table = None if digits else find_table(data, part)
    return () if table is None else table.classes


def _check_number(images: int) -> None:
    if images > MOST:
        raise UserError(f"images: at most {MOST} fit into one figure, got {images}: choose fewer")


def prepare_pictures(
    pictures: Sequence[Picture], data: LabelledImages, channels: int, resolution: int, normalization: Normalization
) -> tuple[Tensor, Tensor]:
    """The images as a network takes them, and as people see them.

    Decoded, cropped and resized as for ``effnas evaluate``: to ``data.image_size``, or else so large that the centre
    crop has the resolution; smaller images of which all is seen are enlarged afterwards.

    Args:
        pictures: n of them.
        data: ``center_crop``, ``interpolation`` and ``image_size`` of it.
        channels: 1 or 3.
        resolution: of the network's input in pixels.
        normalization: mean and standard deviation of each channel, in units of 0 to 255.

    Returns:
        Two tensors (n, channels, resolution, resolution): float32 normalised, and uint8.

    Raises:
        UserError: an image cannot be read; or there are neither 1 nor 3 channels.
    """
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels; the network takes {channels}")
    mean, std = normalization
    batch = []
    for picture in pictures:
        try:
            side = data.image_size or round(resolution / data.center_crop)
            if data.image_size is None and data.center_crop == 1:
                side = min(side, shorter_side(picture.encoded))
            stored = decode_image(picture.encoded, channels, side, data.interpolation)
        except Exception as error:  # Pillow's readers raise anything on a broken file
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
            raise UserError(f"images: {picture.name} cannot be read: {reason or type(error).__name__}") from error
        pixels = Pixels(channels, side, mean, std, center_crop=data.center_crop, interpolation=data.interpolation)
        batch.append(pixels.prepare(torch.tensor(stored)[None], resolution))
    normalised = torch.cat(batch)
    scale, shift = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (std, mean))
    return normalised, (normalised * scale + shift).round().clamp(0, 255).to(torch.uint8)
