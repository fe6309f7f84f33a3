"""The folder in which a search keeps where its stopped candidates stand."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...evaluate.kept_weights import name_checkpoint

#: Folder inside a search's.
CHECKPOINTS = "checkpoints"


class CandidateCheckpoints:
    """One file a candidate, named by its network and seed, which its evaluator writes when it is stopped.

    Args:
        output: folder of the search.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / CHECKPOINTS

    def file(self, key: str) -> Path:
        """Of the candidate ``DIGEST:SEED``."""
        return self.folder / _name(key)

    def has(self, key: str) -> bool:
        """Whether the candidate can go on."""
        return ":" in key and self.file(key).is_file()

    def drop(self, key: str) -> None:
        """Remove what there is of a candidate, and the folder with the last one."""
        if ":" in key:
            self.file(key).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty, or not there
            self.folder.rmdir()

    def drop_all(self, keys: Iterable[str]) -> None:
        """Remove what there is of these candidates."""
        names = self._list_names()
        for key in keys:
            if ":" in key and _name(key) in names:
                self.drop(key)

    def _list_names(self) -> set[str]:
        """Of the files that there are: many candidates have none."""
        try:
            return set(os.listdir(self.folder))
        except FileNotFoundError:
            return set()

    def drop_others(self, keys: Iterable[str]) -> None:
        """Remove what belongs to none of these candidates: a killed run left it."""
        names = {_name(key) for key in keys if ":" in key}
        for name in self._list_names() - names:
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def limit(self, keys: Sequence[str], count: int | None, megabytes: int | None) -> None:
        """Remove those beyond a limit, the last ones first.

        Args:
            keys: of the stopped candidates, the one to keep longest first; files of others are left alone.
            count: files that may stay; None: any number.
            megabytes: that these may take together, of 10⁶ bytes; None: any.
        """
        room, left = float("inf") if megabytes is None else megabytes * 1e6, count
        names = self._list_names()
        for key in keys:
            if ":" not in key or _name(key) not in names:
                continue
            size = self.file(key).stat().st_size
            if size > room or left == 0:
                self.drop(key)
                continue
            room -= size
            left = None if left is None else left - 1


def _name(key: str) -> str:
    return name_checkpoint(*key.split(":", 1))
