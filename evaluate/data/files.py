"""Where images come from that lie in files: folders of them, parquet files, WebDataset tars; and the hub's splits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...space.errors import UserError
from .columns import columns_table, find_columns
from .hugging_face import read_files, read_hub
from .table import Encoded, ImageTable, Indices

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
#: Names of folders, files and splits; "test" falls back on the validation part, for many sets have no other.
PART_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}


def file_table(
    path: str, part: str, image: str | None, label: str | None, memory: int, classes: tuple[str, ...] | None = None
) -> ImageTable | None:
    """One part of an image folder, parquet files or WebDataset tars; nothing is fetched from anywhere.

    Args:
        path: a ``.parquet`` or ``.tar`` file (all of it is the training part), or a folder of such files, named after
            their parts (``train-0.parquet``, ``test.tar``, ``val/0.parquet``) or not (then all are the training part),
            or a folder of images: ``train/CLASS/…`` and ``test/CLASS/…``, or ``CLASS/…`` alone.
        part: ``train`` or ``test``; a test part may be alone (``val/CLASS/…``, ``validation.parquet``).
        image, label: columns; None finds them.
        memory: bytes; larger files are converted once into the cache of ``datasets`` and read from there.
        classes: of the training part, where another part is read. Without them that part's own: of folders the
            training part's where it is there, and none at all where labels are only numbers.

    Returns:
        None where the part does not exist.

    Raises:
        UserError: nothing there, nothing readable there, or columns and labels that do not fit.
    """
    root = Path(path).expanduser().absolute()
    packed = _packed_files(root)
    if not packed:
        return _folder_table(root, part, image, label, classes)
    chosen = _files_of_part(packed, root, part)
    if not chosen:
        return None
    where = str(chosen[0]) if len(chosen) == 1 else f"{chosen[0].parent} ({len(chosen)} files)"
    return columns_table(read_files(chosen, where, memory), part, image, label, where, classes)


def hub_table(
    name: str,
    subset: str | None,
    part: str,
    image: str | None,
    label: str | None,
    classes: tuple[str, ...] | None = None,
) -> ImageTable | None:
    """One part of a data set of the Hugging Face hub, fetched once into its cache; arguments as :func:`file_table`.

    Raises:
        UserError: it cannot be reached or read, or columns and labels do not fit.
    """
    splits = read_hub(name, subset)
    split = find_split(splits, part)
    if split is not None:
        return columns_table(splits[split], part, image, label, f"hub data set {name!r}", classes)
    if part == "train":
        raise UserError(f"data.path: the hub's data set {name!r} has no training part; it has: {', '.join(splits)}")
    return None


def find_split(names: Iterable[str], part: str) -> str | None:
    """Which of the names is that of the part ``train`` or ``test``; None: none of them."""
    there = set(names)
    kinds = ("train",) if part == "train" else ("test", "val")
    return next((name for kind in kinds for name in PART_NAMES[kind] if name in there), None)


def _packed_files(root: Path) -> list[Path]:
    """Parquet files, or else tars; none where the images themselves must be there."""
    if root.is_file():
        if root.suffix.lower() not in (".parquet", ".tar"):
            raise UserError(f"data.path: {root} must be a folder, or a .parquet or .tar file")
        return [root]
    if not root.is_dir():
        raise UserError(f"data.path: no such file or folder: {root}")
    files = sorted(file for depth in ("*", "*/*") for file in root.glob(depth) if not file.name.startswith("."))
    kinds = ([file for file in files if file.suffix.lower() == suffix] for suffix in (".parquet", ".tar"))
    return next((found for kind in kinds if (found := [file for file in kind if file.is_file()])), [])


def _files_of_part(files: list[Path], root: Path, part: str) -> list[Path]:
    if files == [root]:  # one file is all training part
        return files if part == "train" else []
    kinds: dict[str, list[Path]] = {"train": [], "test": [], "val": [], "": []}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(root).with_suffix("")).lower())
        kinds[next((kind for kind, names in PART_NAMES.items() if set(names) & set(words)), "")].append(file)
    if part != "train":
        return kinds["test"] or kinds["val"]
    chosen = kinds["train"] or kinds[""]
    if not chosen:
        raise UserError(
            f"data.path: {root} has no training part (train*.parquet or train*.tar), only "
            f"{', '.join(file.name for file in files[:5])}; give a single file to train on all of it"
        )
    return chosen


# -- folders of images -----------------------------------------------------------------------------------


class _Folder:
    """An :class:`~effnas.evaluate.data.table.ImageTable` of image files."""

    def __init__(self, files: list[str], labels: list[int], classes: tuple[str, ...]) -> None:
        self.labels, self.classes = np.array(labels, dtype=np.int64), classes
        self._files = np.array([os.fsencode(file) for file in files])  # one block, which forked workers share

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return [(name, name) for name in map(os.fsdecode, self._files[rows])]


def _folder_table(
    root: Path, part: str, image: str | None, label: str | None, classes: tuple[str, ...] | None
) -> ImageTable | None:
    parts = {folder.name.lower(): folder for folder in _folders(root)}
    train, named = find_split(parts, "train"), find_split(parts, part)
    only_parts = set(parts) <= {name for names in PART_NAMES.values() for name in names}
    if train is None and (part == "train" or not only_parts):  # then all of it is the training part
        top = root if part == "train" else None
    else:
        top = None if named is None else parts[named]
    if top is None:
        return None
    folders = _folders(top)
    names = classes or tuple(folder.name for folder in (folders if train is None else _folders(parts[train])))
    strange = [folder.name for folder in folders if folder.name not in names]
    if strange:
        raise UserError(f"{top} has classes that the training part lacks: {', '.join(strange[:5])}")
    found = {folder.name: _images_under(folder) for folder in folders}
    if not any(found.values()):
        flat = any(_is_image(child.name) for child in top.iterdir())
        hint = "; images must be in one folder per class (CLASS/a.jpg)" if flat else ""
        raise UserError(f"data.path: no images in the folders of {top}{hint}; accepted are {' '.join(IMAGE_SUFFIXES)}")
    find_columns((image, label), (("image",), ("label",)), ("image", "label"), str(top))
    labels = [i for i, name in enumerate(names) for _ in found.get(name, [])]
    return _Folder([file for name in names for file in found.get(name, [])], labels, names)


def _folders(top: Path) -> list[Path]:
    return sorted(child for child in top.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images_under(folder: Path) -> list[str]:
    return sorted(os.path.join(top, name) for top, _, names in os.walk(folder) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
