"""The scripts in benchmarks/ start: what they import is there, and they explain themselves.

Those without options of their own are the other side of a comparison, or run in a peer's environment: they are read.
"""

from __future__ import annotations

import ast
import importlib
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))
TYPED = [script for script in SCRIPTS if "ArgumentParser(" in script.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", TYPED, ids=lambda script: script.stem)
def test_a_benchmark_explains_itself(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    with pytest.raises(SystemExit, match=r"^(0|None)$"):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s not in TYPED], ids=lambda script: script.stem)
def test_what_the_other_side_of_a_comparison_imports_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("effnas"):
            module = importlib.import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
