"""Sweeps of real searches, grids and families, by each launcher: a table over the jobs at the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from synthetic import four_networks, own_folder, start

pytestmark = pytest.mark.slow

OWN = ["--config-dir", "mine", "evaluator=synthetic", "report=false"]
#: The command with its options, and what differs between the jobs.
LINES = {
    "search": (["search", "trials=3", "algorithm=random", *OWN], "seed"),
    "grid": (["grid-alpha-beta-gamma", "baseline=base.yaml", "step=0.2", "tolerance=0.4", *OWN], "seed"),
    "scale": (["scale", "baseline=base.yaml"], "phi"),
}


@pytest.mark.parametrize("launcher", ["basic", "joblib", "ray", "submitit_local"])
@pytest.mark.parametrize("command", LINES)
def test_sweeps(command: str, launcher: str, tmp_path: Path) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    own_folder(tmp_path / "mine")
    four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1}).save(tmp_path / "base.yaml")
    words, name = LINES[command]
    words = [*words, "-m", f"{name}=1,2", f"hydra/launcher={launcher}", "-o", "out", "--quiet", "--json"]
    process = start(words, tmp_path)
    printed, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    documents = json.loads(printed[printed.index("[") :] if launcher == "ray" else printed)  # Ray's launcher prints
    assert [document[name] for document in documents] == [1, 2]
    with (tmp_path / "out" / "sweep.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], float(row[name]), row["error"]) for row in rows] == [("0", 1, ""), ("1", 2, "")]
    if command != "scale":
        assert [int(row["complete"]) for row in rows] == [document["complete"] for document in documents]
    assert [row["folder"] for row in rows] == [f"{name}=1", f"{name}=2"]
    table = errors[errors.index("out/sweep.csv:") :].splitlines()
    assert table[1].split()[:2] == ["job", name]
    assert [line.split()[:2] for line in table[2:4]] == [["0", "1"], ["1", "2"]]
