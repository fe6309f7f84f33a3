"""The README and pages of docs/ tell the truth: Python runs, YAML loads, commands are understood."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest

from effnas import load_space
from effnas.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = [
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("training", "scaling", "ablation", "coefficients", "export")
]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands() -> list[str]:
    lines = (
        "\n".join([block for text in (README, *PAGES) for block in blocks("sh", text)])
        .replace("\\\n", " ")
        .splitlines()
    )
    found = [line.split("   #")[0].strip() for line in lines if line.startswith("effnas ")]
    assert len(found) >= 10
    return found


def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "385,814,752" in capsys.readouterr().out


def test_the_space_of_ones_own_loads(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    space = load_space(str(path))
    assert space.name == "mine"
    assert space.size > 100


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra composes the configuration of each, every option included, and stops before the work."""
    (tmp_path / "mine" / "space").mkdir(parents=True)
    (tmp_path / "mine" / "space" / "mine.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = [word for word in shlex.split(command)[1:] if word != "-m"]
    words = [word.partition(",")[0] if "=" in word and "coefficients" not in word else word for word in words]
    assert main([*words, "--cfg", "job"]) == 0


def test_it_opens_with_the_two_commands_that_ci_runs() -> None:
    first, second = blocks("sh")[:2]
    assert ".venv/bin/effnas search" in first
    assert "pytest" in second
    assert all("-c constraints.txt" in block and block.count("\n") == 1 for block in (first, second))


def test_its_files_exist() -> None:
    for text, folder in ((README, ROOT), *((page, ROOT / "docs") for page in PAGES)):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (folder / target).is_file(), target


def test_extras() -> None:
    """Each that a page, a message or a script names is there; pip before 24 finds none whose name has an underscore."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    assert not [name for name in extras if not re.fullmatch(r"[a-z0-9-]+", name)]
    files = [ROOT / ".ci" / "run", *(path for kind in ("md", "py", "cfg", "yaml") for path in ROOT.rglob(f"*.{kind}"))]
    named = {
        name.strip()
        for path in files
        if not {".venv", "build", "outputs"} & set(path.relative_to(ROOT).parts)
        for words in re.findall(r"(?:\beffnas|'\.)\[([a-z][a-z0-9_,-]*)\]", path.read_text(encoding="utf-8"))
        for name in words.split(",")
    }
    assert {"ray", "ray-launcher", "test", "test-slow", "postgresql"} <= named
    assert named <= extras
