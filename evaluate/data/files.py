"""Images that lie in files: folders of them, parquet files, WebDataset tars; and the hub's splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...space.errors import UserError
from ...space.paths import as_text, expand_path, is_file, is_folder
from .columns import columns_table
from .folder.files import is_hidden
from .folder.layout import find_layout
from .folder.table import folder_table
from .hugging_face import read_files, read_hub
from .table import PART_NAMES, ImageTable, Unlabelled, find_splits, tell_once

#: Suffixes of packed files by the source that reads them; ``files`` takes whatever is there.
_PACKED = {"files": (".parquet", ".tar"), "folder": (), "parquet": (".parquet",), "webdataset": (".tar",)}


def file_table(
    path: str,
    part: str,
    image: str | None,
    label: str | None,
    memory: int,
    classes: tuple[str, ...] | None = None,
    *,
    source: str = "files",
    layout: str | None = None,
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
        source: ``folder``, ``parquet`` or ``webdataset``; ``files``: whichever is there, a folder of images before
            packed files.
        layout: of a folder of images: ``splits`` or ``classes``; None: found.

    Returns:
        None where the part does not exist, or has no labels; a warning says so.

    Raises:
        UserError: nothing there, nothing readable there, or columns and labels that do not fit.
    """
    root = expand_path(path).absolute()
    packed = _packed_files(root, source, layout)
    if not packed:
        return folder_table(root, part, layout, (image, label), classes)
    for chosen in _files_of_part(packed, root, part):
        where = as_text(chosen[0] if len(chosen) == 1 else f"{chosen[0].parent} ({len(chosen)} files)")
        try:
            return columns_table(read_files(chosen, where, memory), part, image, label, where, classes)
        except Unlabelled as error:
            if part == "train":
                raise
            tell_once(f"{error}: it is not measured")
    return None


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
    where = f"hub data set {name!r}"
    for split in find_splits(splits, part):
        try:
            return columns_table(splits[split], part, image, label, where, classes)
        except Unlabelled as error:
            if part == "train":
                raise
            tell_once(f"{error}, split {split}: it is not measured")
    if part == "train":
        raise UserError(f"data.path: the hub's data set {name!r} has no training part; it has: {', '.join(splits)}")
    return None


def _packed_files(root: Path, source: str, layout: str | None) -> list[Path]:
    """Parquet files, or else tars; none where the images themselves must be there."""
    suffixes, where = _PACKED[source], as_text(root)
    if is_file(root):
        if root.suffix.lower() not in suffixes:
            kinds = f", or a {' or '.join(suffixes)} file" if suffixes else " of images"
            raise UserError(f"data.path: {where} must be a folder{kinds}")
        return [root]
    if not is_folder(root):
        raise UserError(f"data.path: no such file or folder: {where}")
    if not suffixes:
        return []
    files = sorted(
        file
        for depth in ("*", "*/*")
        for file in root.glob(depth)
        if file.suffix.lower() in suffixes and not any(map(is_hidden, file.relative_to(root).parts)) and is_file(file)
    )
    found = next((kind for end in suffixes if (kind := [file for file in files if file.suffix.lower() == end])), [])
    if source != "files" and not found:
        raise UserError(f"data.path: no {suffixes[0]} files in {where}: choose data=folder for a folder of images")
    if found and source == "files" and _is_image_folder(root, layout):
        tell_once(f"{where} is read as a folder of images; {len(found)} {found[0].suffix} files are left out")
        return []
    return found


def _is_image_folder(root: Path, layout: str | None) -> bool:
    train = find_layout(root, layout).train
    return train is not None and len(train.classes) > 1


def _files_of_part(files: list[Path], root: Path, part: str) -> Sequence[list[Path]]:
    """Those of the part; of the test part those that may be it, the best first."""
    if files == [root]:  # one file is all training part
        return [files] if part == "train" else []
    kinds: dict[str, list[Path]] = {"train": [], "test": [], "val": [], "": []}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(root).with_suffix("")).lower())
        kinds[next((kind for kind, names in PART_NAMES.items() if set(names) & set(words)), "")].append(file)
    if part != "train":
        return [found for found in (kinds["test"], kinds["val"]) if found]
    chosen = kinds["train"] or kinds[""]
    if not chosen:
        raise UserError(
            f"data.path: {as_text(root)} has no training part (train*.parquet or train*.tar), only "
            f"{', '.join(as_text(file.name) for file in files[:5])}; give a single file to train on all of it"
        )
    return [chosen]
