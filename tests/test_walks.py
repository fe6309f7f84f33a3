"""CONTRIBUTING and docs/architecture.md lead to files, folders and names that exist."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)")
WALKS = re.findall(r"^\| (Where [^|]+\?) \| ([^|]+) \| ([^|]+) \|$", ARCHITECTURE, re.M)


def names(path: Path) -> set[str]:
    """Functions, classes and ``Class.method`` that a file defines."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def test_there_are_six_walks() -> None:
    assert len(WALKS) == 6


@pytest.mark.parametrize(("question", "first", "then"), WALKS)
def test_a_walk(question: str, first: str, then: str) -> None:
    steps = [STEP.fullmatch(step) for step in (first, then)]
    for step in steps:
        assert step is not None, (question, first, then)
        file, wanted = step[1], re.findall(r"`([\w.]+)`", step[2])
        assert set(wanted) <= names(ROOT / file), (file, wanted)


def test_names_beside_files_exist() -> None:
    """In the remarks: `name` in `file`."""
    remarks = re.findall(r"`([\w.]+)`\s+in\s+`([\w/]+\.py)`", ARCHITECTURE)
    assert len(remarks) >= 3
    for name, file in remarks:
        assert name in names(ROOT / file), (name, file)


@pytest.mark.parametrize("page", [ARCHITECTURE, CONTRIBUTING], ids=["architecture", "contributing"])
def test_files_exist(page: str) -> None:
    for file in re.findall(r"`((?:[\w.]+/)+(?:[\w.]+)?)`", page):
        if not file.startswith("..") and "/x." not in file:
            assert (ROOT / file).exists(), file


def test_the_picture_shows_every_folder_of_a_room() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = config["options"]["packages"].split()
    picture = CONTRIBUTING.partition("```\n")[2].partition("```")[0]
    shown, room = {"effnas"}, ""
    for line in picture.splitlines():
        folders = re.findall(r"\b(\w+)/", line)
        if not line.startswith(" "):
            room = folders[0] if folders else ""
        shown |= {f"effnas.{name}" if name == room else f"effnas.{room}.{name}" for name in folders if name != "tests"}
    assert shown == {package for package in packages if package.count(".") < 3}
