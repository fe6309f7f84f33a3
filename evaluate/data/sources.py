"""Where images come from: scikit-learn's digits, or files and hub names through Hugging Face ``datasets``."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...space.errors import UserError
from .images import Encoded, ImageTable, Indices

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "target")
#: Names of folders, files and splits; "test" falls back on the validation part, for many sets have no other.
PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation", "dev")}


def digits_table(part: str) -> ImageTable:
    """scikit-learn's 1,797 digits of 8 × 8 pixels; every fifth of each class, in a fixed random order, is test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))  # RandomState: the same on every NumPy, for ever
    rank = np.zeros(len(order), dtype=np.int64)
    for label in range(10):
        members = order[bunch.target[order] == label]
        rank[members] = np.arange(len(members))
    rows = np.flatnonzero((rank % 5 == 0) == (part == "test"))
    return _Digits((bunch.images[rows] * (255 / 16)).astype(np.uint8), bunch.target[rows].astype(np.int64))


class _Digits:
    classes = tuple("0123456789")

    def __init__(self, images: npt.NDArray[np.uint8], labels: Indices) -> None:
        self.images, self.labels = images, labels

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return [(f"row {row}", self.images[row]) for row in rows]


class _Arrow:
    """An :class:`ImageTable` over a ``datasets.Dataset``."""

    def __init__(self, dataset: Any, image: str, labels: Indices, classes: tuple[str, ...]) -> None:
        self.labels, self.classes = labels, classes
        self._images, self._column = dataset.select_columns([image]).with_format("arrow"), image

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        items = self._images[rows.tolist()][self._column].to_pylist() if len(rows) else []
        return [_item(row, item) for row, item in zip(rows, items, strict=True)]


def _item(row: int, item: dict[str, Any] | None) -> tuple[str, Encoded]:
    data, path = (item["bytes"], item["path"]) if item else (None, None)
    if data is None:  # a file of its own; its path is its name
        return path or f"row {row}", path
    return f"row {row} ({path})" if path else f"row {row}", data


@lru_cache(maxsize=1)
def _datasets() -> Any:
    """The module, imported when first needed (it takes a second) and told to be quiet."""
    import datasets
    import huggingface_hub.utils

    hub: Any = huggingface_hub.utils  # not typed throughout
    for module in (datasets, hub):
        module.disable_progress_bars()
        module.logging.set_verbosity(logging.CRITICAL)  # what matters is raised, and told once
    return datasets


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
    if root.is_file():
        if root.suffix.lower() not in (".parquet", ".tar"):
            raise UserError(f"data.path: {root} must be a folder, or a .parquet or .tar file")
        return _packed([root], part, image, label, memory, classes) if part == "train" else None
    if not root.is_dir():
        raise UserError(f"data.path: no such file or folder: {root}")
    for suffix in (".parquet", ".tar"):
        packed = sorted(p for depth in ("*", "*/*") for p in root.glob(depth) if p.suffix.lower() == suffix)
        packed = [p for p in packed if p.is_file() and not p.name.startswith(".")]
        if packed:
            chosen = _of_part(packed, root, part)
            return _packed(chosen, part, image, label, memory, classes) if chosen else None
    return _folder(root, part, image, label, classes)


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
    try:
        splits = _datasets().load_dataset(name, subset)
    except Exception as error:  # network, login, unknown names, bad files: the libraries share no base class
        which = f"{name!r} (subset {subset!r})" if subset else repr(name)
        raise UserError(f"data.path: the hub's data set {which} cannot be read: {_reason(error)}") from error
    names = [n for kind in _order(part) for n in PARTS[kind] if n in splits]
    if not names and part == "train":
        raise UserError(f"data.path: the hub's data set {name!r} has no training part; it has: {', '.join(splits)}")
    return _table(splits[names[0]], part, image, label, f"hub data set {name!r}", classes) if names else None


def _order(part: str) -> tuple[str, ...]:
    return ("train",) if part == "train" else ("test", "val")


def _of_part(files: list[Path], root: Path, part: str) -> list[Path]:
    kinds: dict[str, list[Path]] = {"train": [], "test": [], "val": [], "": []}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(root).with_suffix("")).lower())
        kinds[next((kind for kind, names in PARTS.items() if set(names) & set(words)), "")].append(file)
    if part != "train":
        return kinds["test"] or kinds["val"]
    chosen = kinds["train"] or kinds[""]
    if not chosen:
        raise UserError(
            f"data.path: {root} has no training part (train*.parquet or train*.tar), only "
            f"{', '.join(file.name for file in files[:5])}; name one file to train on all of it"
        )
    return chosen


def _packed(
    files: list[Path], part: str, image: str | None, label: str | None, memory: int, classes: tuple[str, ...] | None
) -> ImageTable:
    datasets = _datasets()
    # The builders themselves: load_dataset("parquet", …) would ask a server to count the download.
    if files[0].suffix.lower() == ".parquet":
        from datasets.packaged_modules.parquet.parquet import Parquet as Builder
    else:
        from datasets.packaged_modules.webdataset.webdataset import WebDataset as Builder
    stats = [file.stat() for file in files]
    small = sum(stat.st_size for stat in stats) <= memory
    listing = datasets.data_files.DataFilesList(
        [str(file) for file in files], [(str(stat.st_mtime_ns), str(stat.st_size)) for stat in stats]
    )
    where = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
    with tempfile.TemporaryDirectory(prefix="effnas-") as scratch:
        try:
            builder = Builder(
                cache_dir=scratch if small else None, data_files=datasets.data_files.DataFilesDict({"train": listing})
            )
            builder.download_and_prepare()
            empty = not builder.info.splits["train"].num_examples
            dataset = [] if empty else builder.as_dataset(split="train", in_memory=small)
        except Exception as error:  # whatever Arrow, tarfile and the builder say of a damaged file
            raise UserError(f"data.path: {where} cannot be read: {_reason(error)}") from error
    if empty:
        raise UserError(f"{where}: no images in it")
    return _table(dataset, part, image, label, where, classes)


def _folder(
    root: Path, part: str, image: str | None, label: str | None, classes: tuple[str, ...] | None
) -> ImageTable | None:
    parts = {folder.name.lower(): folder for folder in _folders(root)}
    train = next((parts[name] for name in PARTS["train"] if name in parts), None)
    top: Path | None = root
    if train is not None or (part != "train" and set(parts) <= {name for names in PARTS.values() for name in names}):
        top = next((parts[name] for kind in _order(part) for name in PARTS[kind] if name in parts), None)
    elif part != "train":
        top = None
    if top is None:
        return None
    folders = _folders(top)
    names = classes or tuple(folder.name for folder in (_folders(train) if train else folders))
    strange = [folder.name for folder in folders if folder.name not in names]
    if strange:
        raise UserError(f"{top}: classes that the training part does not have: {', '.join(strange[:5])}")
    found = {folder.name: _images_under(folder) for folder in folders}
    if not any(found.values()):
        flat = any(_is_image(child.name) for child in top.iterdir())
        hint = "; images must lie in one folder a class (CLASS/a.jpg)" if flat else ""
        raise UserError(f"data.path: no images in the folders of {top}{hint}. Read are {' '.join(IMAGE_SUFFIXES)}")
    datasets = _datasets()
    features = {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=list(names))}
    columns = {
        "image": [file for name in names for file in found.get(name, [])],
        "label": [i for i, name in enumerate(names) for _ in found.get(name, [])],
    }
    dataset = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return _table(dataset, part, image, label, str(top), classes)


def _folders(top: Path) -> list[Path]:
    return sorted(child for child in top.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images_under(folder: Path) -> list[str]:
    return sorted(os.path.join(top, name) for top, _, names in os.walk(folder) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _table(
    dataset: Any, part: str, image: str | None, label: str | None, where: str, classes: tuple[str, ...] | None
) -> ImageTable:
    datasets = _datasets()
    kinds = dataset.features
    images = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    image = _column("image", image, images if len(images) == 1 else IMAGE_COLUMNS, kinds, where)
    class_columns = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    label = _column("label", label, class_columns if len(class_columns) == 1 else LABEL_COLUMNS, kinds, where)
    if image == label:
        raise UserError(f"data.image and data.label are one and the same column of {where}: {image!r}")
    if len(dataset) == 0:
        raise UserError(f"{where}: no images in it")
    try:
        dataset = dataset.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    except Exception as error:  # Arrow's casts raise several kinds
        raise UserError(f"data.image: column {image!r} of {where} holds no images: {_reason(error)}") from error
    labels, names = _labels(dataset, part, label, where, classes)
    return _Arrow(dataset, image, labels, names)


def _column(field: str, name: str | None, candidates: Sequence[str], kinds: Any, where: str) -> str:
    if name is None:
        name = next((candidate for candidate in candidates if candidate in kinds), None)
        if name is None:
            raise UserError(
                f"{where} has no {field} column that can be told; set data.{field} to one of: {', '.join(kinds)}"
            )
    elif name not in kinds:
        raise UserError(f"data.{field}: {where} has no column {name!r}; it has: {', '.join(kinds)}")
    return name


def _labels(
    dataset: Any, part: str, column: str, where: str, classes: tuple[str, ...] | None
) -> tuple[Indices, tuple[str, ...]]:
    """The labels and the names of the classes; no names where a part other than the training one only has numbers."""
    rule = f"{where}: column {column!r} must hold a ClassLabel or whole numbers from 0 to classes − 1"
    kind = dataset.features[column]
    if not isinstance(kind, _datasets().ClassLabel) and not str(getattr(kind, "dtype", "")).startswith(("int", "uint")):
        raise UserError(f"{rule}, it holds {getattr(kind, 'dtype', type(kind).__name__)}")
    values = dataset.with_format("arrow")[:][column]
    if values.null_count:
        raise UserError(f"{rule}; {values.null_count} of {len(values)} rows have none")
    labels = values.to_numpy().astype(np.int64)
    names = tuple(kind.names) if hasattr(kind, "names") else classes
    if classes is not None and names != classes:
        raise UserError(f"{where}: its classes are not those of the training part")
    if names is None:
        found = np.unique(labels)
        if part != "train":
            if found[0] < 0:
                raise UserError(f"{rule}; it holds {found[0]} to {found[-1]}")
            return labels, ()
        if found[0] != 0 or found[-1] != len(found) - 1:
            raise UserError(f"{rule} without gaps; it holds {len(found)} values from {found[0]} to {found[-1]}")
        names = tuple(str(value) for value in found)
    elif labels.min() < 0 or labels.max() >= len(names):
        raise UserError(f"{rule}; it holds {labels.min()} to {labels.max()}, and there are {len(names)} classes")
    return labels, names


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # the libraries wrap what happened in "an error occurred"
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
