"""A folder of images as a table."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....space.errors import UserError
from ....space.paths import as_text
from ..columns import find_columns
from ..table import Encoded, ImageTable, Indices, tell_once
from .files import IN_HIDDEN, OUTSIDE, describe_left_out, images_in, images_under, is_hidden
from .layout import ClassFolders, Layout, find_layout

log = logging.getLogger(__name__)


class FolderTable:
    """An :class:`~effnas.evaluate.data.table.ImageTable` of image files."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], classes: tuple[str, ...]) -> None:
        self.labels, self.classes = np.array(labels, dtype=np.int64), classes
        self._files = np.array([os.fsencode(file) for file in files])  # one block, which forked workers share

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        """``(the path as text, the path)`` of each row."""
        return [(as_text(name), name) for name in map(os.fsdecode, self._files[rows])]


def folder_table(
    root: Path,
    part: str,
    layout: str | None,
    columns: tuple[str | None, str | None],
    classes: tuple[str, ...] | None,
) -> ImageTable | None:
    """One part of an image folder, ``train/CLASS/…`` and ``test/CLASS/…`` or ``CLASS/…`` alone.

    Hidden folders and those of systems are left out, links to folders are followed, and what is an image is decided by
    content. A class has all images below its folder. Names are compared in Unicode's composed form.

    Args:
        root: the folder.
        part: ``train`` or ``test``; a test part without labels is left out for a validation part.
        layout: ``splits`` or ``classes``; None: found.
        columns: those that the user names; there are none but ``image`` and ``label``.
        classes: of the training part, where another part is read; None: those of its folders, if it is there.

    Returns:
        None where there is no such part, or none with labels; a warning says why.

    Raises:
        UserError: no images, or not in folders of classes; or the folder can be read in two ways.
    """
    found = find_layout(root, layout)
    find_columns(columns, (("image",), ("label",)), ("image", "label"), as_text(root))
    if part == "train":
        return _training_table(root, found)
    for name in found.empty:
        tell_once(f"{as_text(found.root / name)} holds no images: it is not measured")
    for top in found.tests:
        if (table := _test_table(found, top, classes)) is not None:
            return table
    return None


def _training_table(root: Path, layout: Layout) -> FolderTable:
    top = layout.train
    if top is None:
        tests = ", ".join(as_text(part.path.name) for part in layout.tests)
        raise UserError(f"data.path: {as_text(root)} has no training part (train/CLASS/a.jpg), only {tests}")
    where = as_text(top.path)
    if not top.classes:
        hint = "; images must be in one folder per class (CLASS/a.jpg)" if top.is_flat else ""
        raise UserError(f"data.path: no images in the folders of {where}{hint}")
    if len(top.folders) == 1 and (below := ClassFolders(top.folders[top.classes[0]][0])).classes:
        raise UserError(
            f"{where} has one class, {top.classes[0]!r}; a classifier needs at least 2. If the folders in it are the "
            f"classes ({', '.join(below.classes[:5])}), set data.path={as_text(below.path)}"
        )
    left_out: Counter[str] = Counter()
    if top.path != root:
        for entry in os.scandir(root):
            if entry.is_dir() and is_hidden(entry.name):
                left_out[IN_HIDDEN] += sum(len(names) for _, _, names in os.walk(entry.path))
    table = _read_classes(top, tuple(top.folders), left_out)
    text = f"{where}: {len(table.labels):,} images in {len(table.classes)} classes"
    if layout.ignored:
        left_out["in folders that are no part: " + ", ".join(layout.ignored[:5])] = sum(
            1 for name in layout.ignored for file in images_under(layout.root / name)
        )
    if left_out := +left_out:
        tell_once(f"{text}; {describe_left_out(left_out)}")
    else:
        log.info("%s", text)
    return table


def _test_table(layout: Layout, top: ClassFolders, classes: tuple[str, ...] | None) -> FolderTable | None:
    """Of one test part; None where it has no labels."""
    where = as_text(top.path)
    names = classes or (tuple(layout.train.folders) if layout.train is not None else tuple(top.folders))
    known = {as_text(name) for name in names}
    strange = [name for name in top.classes if name not in known]
    if not top.classes or (len(top.classes) == 1 and strange):  # test/a.jpg, or test/unknown/a.jpg
        tell_once(f"{where} has no labels (its images are in no folders of classes): it is not measured")
        return None
    if strange:
        raise UserError(f"{where} has classes that the training part lacks: {', '.join(strange[:5])}")
    if layout.train is not None:
        _check_apart(layout.train, top)
    left_out: Counter[str] = Counter()
    table = _read_classes(top, names, left_out)
    if left_out := +left_out:
        tell_once(f"{where}: {len(table.labels):,} images; {describe_left_out(left_out)}")
    return table


def _check_apart(train: ClassFolders, test: ClassFolders) -> None:
    """No folder of a test part is one of the training part under another name."""
    trained = {os.path.realpath(folder): folder for folders in train.folders.values() for folder in folders}
    for folders in test.folders.values():
        for folder in folders:
            if (same := trained.get(os.path.realpath(folder))) is not None:
                raise UserError(
                    f"{as_text(folder)} and {as_text(same)} are one folder: images that are trained on cannot test"
                )


def _read_classes(top: ClassFolders, names: tuple[str, ...], left_out: Counter[str]) -> FolderTable:
    """The images of the classes of these names, in their order."""
    left_out[OUTSIDE] += sum(1 for _ in images_in(top.path, left_out))
    places: dict[str, Path] = {}
    for folder in (folder for name in names for folder in top.folders.get(as_text(name), ())):
        if (other := places.setdefault(os.path.realpath(folder), folder)) != folder:
            raise UserError(
                f"data.path: {as_text(other)} and {as_text(folder)} are one folder: two classes must not have the same "
                "images"
            )
    files: list[str] = []
    labels: list[int] = []
    for number, name in enumerate(names):
        of_class = sorted(
            file for folder in top.folders.get(as_text(name), ()) for file in images_under(folder, left_out)
        )
        files += of_class
        labels += [number] * len(of_class)
    return FolderTable(files, labels, names)
