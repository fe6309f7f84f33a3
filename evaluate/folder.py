"""A run's output folder: one process's at a time, with files of the same form."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..space.errors import UserError, explain_os_error
from ..space.files import remove_leftovers, write_bytes, write_text
from ..space.paths import is_file

#: What a result depends on; those that are not installed are left out.
PACKAGES = ("effnas", "torch", "optuna", "hydra-core", "numpy", "datasets", "scikit-learn")

#: Folders inside a run's that its files are written to; others have a lock of their own.
WEIGHTS_FOLDER = "weights"
SUBFOLDERS = ("networks", WEIGHTS_FOLDER)


#: Names the command that a folder's results are of, where it is held while they are made.
MARK = ".effnas"
_RECORDED = ("scale", "reproduce", "compare", "profile", "cam", "transfer", "export")
#: What only one command writes, which a folder without a mark is therefore of.
RECORDS = tuple(f"{command}.json" for command in _RECORDED)


@contextlib.contextmanager
def folder_lock(folder: Path, command: str) -> Iterator[None]:
    """Hold a run's output folder, and tidy up after a killed one; free again when the process ends, however it ends.

    Args:
        folder: made if there is none.
        command: whose results are to be written there.

    Raises:
        UserError: another process holds it, it holds the results of another command, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # effnas scale holds no folder, and starts without it

    lock = FileLock(str(folder / ".lock"))
    make_folder(folder)
    try:
        lock.acquire(timeout=5)  # a run killed a moment ago may still be going
    except Timeout:
        raise UserError(
            f"{folder}: another effnas process is running in this folder; wait for it, or choose another with -o DIR"
        ) from None
    except OSError as error:
        raise _unusable(folder, error) from None
    marked, before = (folder / MARK).exists(), list_visible(folder)
    try:
        check_owner(folder, command)
        _write_mark(folder, command)
        for place in (folder, *(folder / name for name in SUBFOLDERS)):
            remove_leftovers(place, held=True)
        yield
    finally:
        if not marked and list_visible(folder) == before:  # nothing was written: whichever command comes next
            with contextlib.suppress(OSError):
                (folder / MARK).unlink(missing_ok=True)
        lock.release()


def make_folder(folder: Path) -> None:
    """Make the folder that results are to be written to, where there is none.

    Raises:
        UserError: it cannot be made: a file is there, its name is too long, its disk takes no folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{error.filename or folder}: cannot be used ({error.strerror or error}), but results are to be written to "
        f"{folder}; choose another folder with -o DIR"
    )


def check_owner(folder: Path, command: str) -> None:
    """Refuse a folder that has the results of another command.

    Args:
        folder: where results are to be written.
        command: whose, as typed after ``effnas``.

    Raises:
        UserError: it is another command's.
    """
    owner = _read_owner(folder)
    if owner not in (None, command):
        raise UserError(
            f"{folder}: holds the results of effnas {owner}, which those of effnas {command} would replace or be mixed "
            f"with; choose another folder for effnas {command} with -o DIR"
        )


def _read_owner(folder: Path) -> str | None:
    """The command that a folder is of; None: of none, as far as is known."""
    with contextlib.suppress(OSError, ValueError):
        if name := (folder / MARK).read_text(encoding="utf-8").strip()[:80]:
            return name
    for file in RECORDS:
        if is_file(folder / file):
            return file.removesuffix(".json")
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        words = json.loads((folder / "summary.json").read_bytes())["command"].split()
        return str(words[1]) if words[0] == "effnas" else None
    return None


def _write_mark(folder: Path, command: str) -> None:
    try:
        if not (folder / MARK).exists():
            write_text(folder / MARK, f"{command}\n")
    except OSError as error:
        raise UserError(explain_os_error(error)) from error


def list_visible(folder: Path) -> set[str]:
    """The names in a folder but those of hidden files; none where there is no folder."""
    try:
        return {name for name in os.listdir(folder) if not name.startswith(".")}
    except OSError:
        return set()


def set_aside(folder: Path, names: Iterable[str]) -> list[Path]:
    """Rename what an earlier run has left, all with the same number, the first that is free: ``trials.1.csv``.

    Args:
        folder: held by this process.
        names: of files and folders in it that may be there.

    Returns:
        The new paths.
    """
    found = [path for name in names if os.path.lexists(path := folder / name)]

    def numbered(path: Path, number: int) -> Path:
        return path.with_name(f"{path.stem}.{number}{path.suffix}")

    number = next(n for n in itertools.count(1) if not any(os.path.lexists(numbered(p, n)) for p in found))
    for path in found:
        path.rename(numbered(path, number))
    return [numbered(path, number) for path in found]


def versions() -> dict[str, str]:
    """Of Python, of the machine, and of the packages that a result depends on: for every summary."""
    from importlib import metadata  # of summaries alone

    found = {"python": platform.python_version(), "machine": platform.platform()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write_json(path: Path, document: Any) -> None:
    """A summary, as a JSON document that people can read too.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, json.dumps(document, indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table under a header; what a row lacks, or has as None, is an empty cell, and what no column has is left out.

    What UTF-8 cannot hold is written as an escape.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode(errors="backslashreplace"))
