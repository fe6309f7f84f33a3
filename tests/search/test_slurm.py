"""A real Slurm on this machine: the job array of the documentation, and a sweep, with tasks that are taken away."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import Slurm, Unwilling, find_obstacle
from synthetic import TESTS, calls, own_folder, read_csv, start, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if (obstacle := find_obstacle()) is not None:
        pytest.skip(obstacle)
    try:
        cluster = Slurm().__enter__()
    except Unwilling as error:
        pytest.skip(f"Slurm does not run here: {error}")
    yield cluster
    cluster.__exit__()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: Slurm) -> Path:
    """The user's folder of evaluators, with the environment that jobs inherit: ``effnas`` and this Slurm."""
    folder = own_folder(tmp_path / "mine")
    (folder / "evaluator" / "synthetic.yaml").write_text(
        f"_target_: synthetic.Synthetic\nlog: {tmp_path}/calls\ndelay: 0.5\n"
    )
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "effnas"
    program.write_text(f"#!{sys.executable}\nfrom effnas.cli import main\nraise SystemExit(main())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return folder


def read_script(**replaced: str) -> str:
    """The job array of the documentation, with other values in the places of some of its own."""
    text = (TESTS.parent / "docs" / "scale.md").read_text()
    found = re.search(r"\n## Slurm\n.*?```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    script = found[1]
    for old, new in replaced.items():
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    return script


def test_the_job_array_of_the_documentation(tmp_path: Path, slurm: Slurm, mine: Path) -> None:
    """One task gives its place to an urgent job and is warned, another one is put back into the queue by hand."""
    trials, words = 24, f"algorithm=random report=false --config-dir {mine} evaluator=synthetic"
    replaced = {
        "space=mnasnet trials=1000": f"space=tiny trials={trials} {words}",
        "postgresql+psycopg://user@host/data": f"sqlite:///{tmp_path}/study.db",
    }
    (tmp_path / "job.sh").write_text(read_script(**replaced))
    name = slurm.call("sbatch", "--parsable", "--array=0-2", "job.sh", cwd=tmp_path).strip()
    wait_for(lambda: len(calls(tmp_path / "calls")) >= 4, 60)
    # 4 GPUs, of which the tasks have 3
    slurm.call("sbatch", "--partition=urgent", "--gpus=2", "--output=/dev/null", "--wrap=sleep 1", cwd=tmp_path)
    wait_for(lambda: slurm.count(name, "Restarts=1") == 1)
    requeued = next(task for task in "012" if slurm.count(f"{name}_{task}", "Restarts=1"))
    other = next(task for task in "012" if task != requeued)
    slurm.call("scontrol", "requeue", f"{name}_{other}")
    wait_for(lambda: slurm.count(name, "JobState=COMPLETED") == 3, 60)
    assert slurm.count(name, "Restarts=1") == 2

    tables = [read_csv(tmp_path / "outputs" / task / "trials.csv") for task in "012"]
    assert tables[0] == tables[1] == tables[2]
    assert [row["state"] for row in tables[0]] == ["complete"] * trials
    logged = calls(tmp_path / "calls")
    assert len(logged) - len(set(logged)) <= 2
    log = (tmp_path / f"slurm-{name}_{requeued}.out").read_text()
    assert re.search(r"interrupted; run the same command again to continue.*resuming: \d+ of 24 trials", log, re.DOTALL)


def test_a_sweep_with_a_job_whose_time_is_over(tmp_path: Path, slurm: Slurm, mine: Path) -> None:
    """It goes on after the signal that Slurm sends then; another job has an error."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = {"timeout_min": "8", "max_num_timeout": "5", "gpus_per_node": "1", "partition": "work"}
    words = ["search", "-m", "space=tiny", "trials=12,0", "evaluator=synthetic", "algorithm=random", "report=false"]
    words += ["--config-dir", str(mine), "hydra/launcher=submitit_slurm", "-o", "out", "--json"]
    process = start([*words, *(f"hydra.launcher.{key}={value}" for key, value in launcher.items())], tmp_path)
    wait_for(lambda: len(calls(tmp_path / "calls")) >= 3, 60)
    name = slurm.call("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()[0]
    slurm.call("scancel", "--signal=USR2", name)
    wait_for(lambda: slurm.count(name, "Restarts=1") == 1)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert [document and document["complete"] for document in json.loads(printed)] == [12, None]
    with (tmp_path / "out" / "sweep.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["trials"], row["complete"]) for row in rows] == [("12", "12"), ("0", "")]
    assert rows[1]["error"].startswith("trials must be")
    assert len(calls(tmp_path / "calls")) <= 13
