"""The image files under a folder, and account of what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ....space.errors import UserError
from ....space.paths import as_text
from ..pictures.opening import is_image

#: Folders that systems and programs keep beside a user's own, in lower case; those that begin with a dot are hidden.
SYSTEM_FOLDERS = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "@sharebin"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "__pycache__"),
        *("network trash folder", "temporary items", "thevolumesettingsfolder", "node_modules", "@__thumb"),
    )
)

NOT_IMAGES, IN_HIDDEN, HIDDEN = "not images", "in hidden folders", "hidden"
LOOPS, OUTSIDE = "links to folders read already", "beside the folders of the classes"
AGAIN = "links to files read already"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not the user's own: hidden, or a system's."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def user_folders(top: Path) -> list[Path]:
    """The folders in a folder, in order, those behind links too, without hidden ones and links back to where they are.

    Raises:
        UserError: it cannot be read.
    """
    here = Path(os.path.realpath(top))
    back = {_identity(parent) for parent in (here, *here.parents)}
    return [
        Path(entry.path)
        for entry in _entries(str(top))
        if _is_folder(entry)
        and not is_hidden(entry.name)
        and not (entry.is_symlink() and _identity(entry.path) in back)
    ]


def images_in(
    folder: Path, left_out: Counter[str] | None = None, seen: set[tuple[int, int]] | None = None
) -> Iterator[str]:
    """The images directly in a folder, in order; other files are counted in ``left_out``, hidden folders' with them.

    Of a file with several names (links, hard ones too) the first counts; ``seen`` has the files of other folders.
    """
    counts: Counter[str] = Counter() if left_out is None else left_out
    seen = set() if seen is None else seen
    device = _identity(folder)[0]
    for entry in _entries(str(folder)):
        if _is_folder(entry):
            if is_hidden(entry.name):
                counts[IN_HIDDEN] += _count_files(entry.path) if left_out is not None else 0
        elif is_hidden(entry.name):
            counts[HIDDEN] += 1
        elif _is_file(entry) and is_image(entry.path):
            file = _file_identity(entry, device)
            if file in seen:
                counts[AGAIN] += 1
                continue
            seen.add(file)
            yield entry.path
        else:
            counts[NOT_IMAGES] += 1


def images_under(folder: Path, left_out: Counter[str] | None = None) -> Iterator[str]:
    """The images in a folder and all folders in it, behind links too; no folder is read twice."""
    here = Path(os.path.realpath(folder))
    seen = {_identity(parent) for parent in here.parents}  # a link to one of these leads back
    waiting, links, files = [str(folder)], list[str](), set[tuple[int, int]]()
    while waiting or links:  # links last: what lies under its own name goes by it
        top = waiting.pop() if waiting else links.pop()
        identity = _identity(top)
        if identity in seen:
            if left_out is not None:
                left_out[LOOPS] += 1
            continue
        seen.add(identity)
        yield from images_in(Path(top), left_out, files)
        for entry in reversed(_entries(top)):
            if _is_folder(entry) and not is_hidden(entry.name):
                (links if entry.is_symlink() else waiting).append(entry.path)


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder or in the folders in it."""
    return next(images_under(folder), None) is not None


def describe_left_out(left_out: Counter[str]) -> str:
    """As ``12 files left out (8 not images, 4 in hidden folders)``; empty where there are none."""
    counts = {reason: count for reason, count in left_out.items() if count}
    if not counts:
        return ""
    reasons = ", ".join(
        f"{count:,} {reason.replace('links', 'link', 1) if count == 1 else reason}" for reason, count in counts.items()
    )
    total = sum(counts.values())
    return f"{total:,} file{'s' * (total != 1)} left out ({reasons})"


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"data.path: the folder {as_text(folder)} cannot be read: {error.strerror}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no permission
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A file, or a link that leads nowhere; opening a pipe or a device would wait for ever."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return entry.is_symlink()


def _file_identity(entry: os.DirEntry[str], device: int) -> tuple[int, int]:
    """Of what the name leads to; costs nothing for a file that is no link. A link that leads nowhere is its own."""
    if entry.is_symlink():
        try:
            return _identity(entry.path)
        except OSError:
            pass
    return device, entry.inode()


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _count_files(folder: str) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
