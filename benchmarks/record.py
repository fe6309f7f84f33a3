"""What the scripts write beside their numbers."""

from __future__ import annotations

import subprocess
from pathlib import Path


def find_commit() -> str:
    """The short hash of the commit that is checked out; empty where there is no repository."""
    line = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(line, capture_output=True, text=True).stdout.strip()
