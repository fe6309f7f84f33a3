"""How a folder of images is to be read: as parts that hold classes, or as classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ....space.errors import UserError
from ....space.paths import as_text
from ..table import PART_NAMES
from .files import holds_images, images_in, user_folders

LAYOUTS = ("splits", "classes")
_DECIDE = "set data.layout=splits or data.layout=classes"


@dataclass(frozen=True)
class ClassFolders:
    """A folder that may hold folders of images, which are classes if it is a part."""

    path: Path

    @property
    def name(self) -> str:
        """Of the folder, as text."""
        return as_text(self.path.name)

    @cached_property
    def folders(self) -> dict[str, list[Path]]:
        """The folders in it by their names as text: two that only differ in their Unicode form are one."""
        found: dict[str, list[Path]] = {}
        for folder in user_folders(self.path):
            found.setdefault(as_text(folder.name), []).append(folder)
        return dict(sorted(found.items()))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of those that hold images."""
        return tuple(name for name, folders in self.folders.items() if any(map(holds_images, folders)))

    @cached_property
    def is_flat(self) -> bool:
        """Whether images lie directly in it."""
        return next(images_in(self.path), None) is not None

    def inner(self) -> ClassFolders:
        """Itself, or the only folder in it where that has the same name (``train/train/CLASS``)."""
        if self.is_flat or len(self.classes) != 1 or self.classes[0].lower() != self.name.lower():
            return self
        below = ClassFolders(self.folders[self.classes[0]][0])
        return below.inner() if below.classes or self.name.lower() in PART_NAMES["test"] else self


@dataclass(frozen=True)
class Layout:
    """Which folders hold the classes of each part.

    Args:
        root: where the parts or classes are.
        train: None: there is no training part.
        tests: test parts, those that are preferred first; none of them need have labels.
        ignored: names of folders with images that belong to no part.
    """

    root: Path
    train: ClassFolders | None
    tests: Sequence[ClassFolders] = ()
    ignored: Sequence[str] = ()

    @property
    def empty(self) -> list[str]:
        """Names of folders that are called test parts and hold no images."""
        top, names = ClassFolders(self.root), PART_NAMES["test"]
        return [name for name in top.folders if name.lower() in names and name not in top.classes]


def find_layout(root: Path, layout: str | None) -> Layout:
    """The parts of an image folder, at ``root`` or in the only folder in it.

    A folder is read as splits where a training part's folders are classes and every other folder is a part, or where
    another part has the same classes; as classes where no two folders go by the names of parts.

    Args:
        root: a folder.
        layout: ``splits`` or ``classes``; None: found.

    Raises:
        UserError: both readings are possible, or the one that is asked for is not.
    """
    top = ClassFolders(root)
    if layout != "classes":
        top = _descend(top)
    parts = {kind: part for kind in PART_NAMES if (part := _find_part(top, PART_NAMES[kind])) is not None}
    others = [name for name in top.classes if name not in (part.name for part in parts.values())]
    tests = [parts[kind].inner() for kind in ("test", "val") if kind in parts]
    train = parts["train"].inner() if "train" in parts else None
    splits = Layout(top.path, train, tests, others)
    classes = Layout(top.path, top)
    if layout == "classes":
        return classes
    if layout == "splits":
        if train is None or not train.classes:
            raise UserError(f"data.layout=splits: {as_text(root)} has no folder train/CLASS with images{_there(top)}")
        return splits
    if not parts:
        return classes
    rivals = [part for part in (train, *tests) if part is not None]
    if not others:
        if (train is not None or any(part.classes for part in tests)) and any(part.classes for part in rivals):
            return splits
        if train is not None or len(parts) > 1:
            raise UserError(
                f"data.path: no images in the folders of {as_text(rivals[0].path)}; images must be in one folder per "
                f"class ({rivals[0].name}/CLASS/a.jpg); if {_names(top.classes)} are the classes, set "
                "data.layout=classes"
            )
        return classes
    if train is not None and train.classes:
        below = {name for other in others for folder in top.folders[other] for name in ClassFolders(folder).classes}
        shared = [part for part in tests if set(part.classes) & set(train.classes)]
        if not shared or set(train.classes) & (below | set(others)):
            raise _ambiguous(top, train, tests)
        return splits
    if len(parts) > 1 or any(set(part.classes) & set(others) for part in tests):
        raise _ambiguous(top, train, tests)
    return classes


def _find_part(top: ClassFolders, names: Iterable[str]) -> ClassFolders | None:
    """The folder with images that has one of the names, the first of them that is there."""
    found = {name.lower(): name for name in reversed(top.classes)}
    return next((ClassFolders(top.folders[found[name]][0]) for name in names if name in found), None)


def _descend(top: ClassFolders) -> ClassFolders:
    """Down to a training part, through folders that hold nothing else: a zip unpacked into a folder of its name."""
    below = top
    while not below.is_flat and len(below.classes) == 1 and below.classes[0].lower() not in _part_names():
        below = ClassFolders(below.folders[below.classes[0]][0])
    train = _find_part(below, PART_NAMES["train"])
    return top if train is None or not train.classes or below.is_flat else below


def _part_names() -> set[str]:
    return {name for names in PART_NAMES.values() for name in names}


def _ambiguous(top: ClassFolders, train: ClassFolders | None, tests: Sequence[ClassFolders]) -> UserError:
    parts = ", ".join(part.path.name for part in (train, *tests) if part is not None)
    of = f" with the classes {_names(train.classes)}" if train is not None and train.classes else ""
    return UserError(
        f"data.path: {as_text(top.path)} can be read in two ways: as splits ({parts}{of}), or as the "
        f"{len(top.classes)} classes {_names(top.classes)}: {_DECIDE}"
    )


def _there(top: ClassFolders) -> str:
    return f"; its folders with images are {_names(top.classes)}" if top.classes else ""


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
