"""Sweeps of real searches and grids, by each launcher: a table over the jobs at the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from synthetic import four_networks, own_folder, start

pytestmark = pytest.mark.slow

LINES = {
    "search": ["search", "trials=3", "algorithm=random", "seed=1,2"],
    "grid": ["grid-alpha-beta-gamma", "baseline=base.yaml", "step=0.2", "tolerance=0.4", "seed=1,2"],
}


@pytest.mark.parametrize("launcher", ["basic", "joblib", "ray", "submitit_local"])
@pytest.mark.parametrize("command", LINES)
def test_sweeps(command: str, launcher: str, tmp_path: Path) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    own_folder(tmp_path / "mine")
    four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1}).save(tmp_path / "base.yaml")
    words = [*LINES[command], "-m", "--config-dir", str(tmp_path / "mine"), "evaluator=synthetic", "report=false"]
    process = start([*words, f"hydra/launcher={launcher}", "-o", "out", "--quiet", "--json"], tmp_path)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    documents = json.loads(printed[printed.index("[") :] if launcher == "ray" else printed)  # Ray's launcher prints
    assert [document["seed"] for document in documents] == [1, 2]
    with (tmp_path / "out" / "sweep.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row["seed"], row["error"]) for row in rows] == [("0", "1", ""), ("1", "2", "")]
    assert [int(row["complete"]) for row in rows] == [document["complete"] for document in documents]
    assert [row["folder"] for row in rows] == ["seed=1", "seed=2"]
    table = errors[errors.index("out/sweep.csv:") :].splitlines()
    assert table[1].split()[:2] == ["job", "seed"]
    assert [line.split()[:2] for line in table[2:4]] == [["0", "1"], ["1", "2"]]
