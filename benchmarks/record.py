"""What the scripts write beside their numbers."""

from __future__ import annotations

import contextlib
import csv
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any


def find_commit(*watched: str) -> str:
    """The short hash of the commit that is checked out; empty where there is no repository.

    ``watched``: files and folders of the repository; a plus follows where one of them differs from the commit.
    """
    git = ["git", "-C", str(Path(__file__).resolve().parents[1])]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    if not commit or not watched:
        return commit
    changed = subprocess.run([*git, "status", "--porcelain", "--", *watched], capture_output=True, text=True).stdout
    return commit + "+" * bool(changed.strip())


def read_other_rows(path: Path, column: str, remade: Collection[int]) -> list[dict[str, Any]]:
    """The rows of a results file that are not made again, with numbers where they are any; none without the file.

    ``remade``: in ``column``, of those that are.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row[column]) not in remade]
    return [{name: text if name == "commit" else _parse(text) for name, text in row.items()} for row in rows]


def _parse(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
