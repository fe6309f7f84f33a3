"""What the scripts write beside their numbers."""

from __future__ import annotations

import subprocess
from pathlib import Path


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
