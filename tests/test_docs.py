"""The pages in docs/ tell the truth: what they print is written to files and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILDERS = (ROOT / "docs" / "builders.md").read_text(encoding="utf-8")
EVALUATORS = (ROOT / "docs" / "evaluators.md").read_text(encoding="utf-8")


def section(title: str) -> dict[str, str]:
    """The fenced blocks under a heading, by language; each language stands there once."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", EVALUATORS, re.M | re.S)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) == len(dict(blocks))
    return dict(blocks)


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell's command in a folder, with this interpreter's effnas, which does not look into that folder (``-P``)."""
    (folder / "bin").mkdir()
    script = folder / "bin" / "effnas"
    code = shlex.quote("from effnas.cli import main; raise SystemExit(main())")
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c {code} "$@"\n')
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=environment, text=True, capture_output=True)


def summary(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "outputs" / "search" / "summary.json").read_text(encoding="utf-8"))
    return found


pytestmark = pytest.mark.skipif(os.name != "posix", reason="the printed commands are a POSIX shell's")


def test_an_evaluator_of_ones_own(tmp_path: Path) -> None:
    blocks = section("Your own")
    (tmp_path / "evaluator").mkdir()
    (tmp_path / "evaluator" / "mine.yaml").write_text(blocks["yaml"], encoding="utf-8")
    (tmp_path / "my_evaluator.py").write_text(blocks["python"], encoding="utf-8")
    done = run(blocks["sh"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiny: 5 trials (5 complete)" in done.stdout
    assert summary(tmp_path)["evaluator"] == "DryRun"


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    blocks = section("tabular")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "four.yaml").write_text(blocks["yaml"], encoding="utf-8")
    (tmp_path / "measured.csv").write_text(blocks["csv"], encoding="utf-8")
    done = run(blocks["sh"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "four: 10 trials (10 complete" in done.stdout
    assert summary(tmp_path)["evaluator"] == "Tabular"


def test_every_evaluator_of_the_table_is_there() -> None:
    names = re.findall(r"^\| `(\w+)` \|", EVALUATORS, re.M)
    assert {"proxy", "tabular"} <= set(names)
    assert {path.stem for path in (ROOT / "conf" / "evaluator").glob("*.yaml")} <= set(names)


def test_a_sampler_in_a_study_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    found: dict[str, object] = {}
    exec(compile(code, "search.md", "exec"), found)
    assert len(found["study"].trials) == 12  # type: ignore[attr-defined]


def test_the_page_names_every_algorithm() -> None:
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    table = text.partition("| `algorithm=` |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([a-z0-9_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    assert named == {path.stem for path in (ROOT / "conf" / "algorithm").glob("*.yaml")}


def builders(folder: Path) -> tuple[list[str], str]:
    """Writes the files of the page on builders; returns its commands and its Python, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", BUILDERS, re.M | re.S)
    blocks = {language: [text for name, text in found if name == language] for language in ("python", "yaml", "sh")}
    (folder / "mynets.py").write_text(blocks["python"][0], encoding="utf-8")
    for text in blocks["yaml"]:
        path = folder / text.removeprefix("# ").partition(":")[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return blocks["sh"], blocks["python"][1]


@pytest.mark.slow
def test_a_network_of_ones_own_from_search_to_evaluation(tmp_path: Path) -> None:
    commands, _ = builders(tmp_path)
    done = run("set -e\n" + "".join(commands), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "convnext: 8 trials (8 complete)" in done.stdout
    assert re.search(r"convnext_\w+_phi2: 5 epochs in", done.stdout)
    evaluated = json.loads((tmp_path / "outputs" / "evaluate" / "summary.json").read_text(encoding="utf-8"))
    assert evaluated["top1"] > 0.5


def test_a_network_of_ones_own_in_python(tmp_path: Path) -> None:
    _, code = builders(tmp_path)
    code += """
import warnings

warnings.simplefilter("ignore")
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

for network in (base, larger):
    module, side = effnas.build(network).eval(), network.resolution
    for p in module.parameters():
        p.requires_grad_(False)
    image = torch.zeros(1, 3, side, side)
    flops, activations = FlopCountAnalysis(module, image), ActivationCountAnalysis(module, image)
    for analysis in (flops, activations):
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    counted = flops.by_operator()
    found = effnas.cost(network)
    assert found.macs == counted["conv"] + counted["linear"], (found, counted)
    assert found.activations == activations.total()
    assert found.params == sum(p.numel() for p in module.parameters())
images = torch.randn(1, 3, larger.resolution, larger.resolution)
torch.testing.assert_close(program.module()(images), model(images))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "."},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert 5 < float(done.stdout) < 9  # of a nominal 1.92³ = 7.1
