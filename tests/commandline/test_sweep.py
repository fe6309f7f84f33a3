"""What the jobs of a sweep gave reaches the first process, wherever a launcher runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from effnas.cli import main
from effnas.commandline.errors import explain_error
from effnas.commandline.sweep import FOLDER, TABLE, Outcome, Sweep, list_facts
from effnas.space.errors import UserError


def elsewhere(sweep: Sweep) -> Sweep:
    """The sweep as a process of another machine holds it."""
    return Sweep(folder=sweep.folder, home=("another", 1))


def test_documents_of_other_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "7.json").write_text("of a killed sweep")
    with pytest.raises(UserError, match=r"^phi=500: too \udcff large$"), sweep.told():  # noqa: PT012
        sweep.begin(tmp_path)
        for number, outcome in (
            (11, Outcome(11, "phi=1", {"phi": 1, "name": "é\udcff"})),
            (2, Outcome(2, "phi=500", error="too \udcff large")),
            (0, Outcome(0, "phi=0", {"phi": 0})),
        ):
            elsewhere(sweep).add(Outcome(number, outcome.name), as_json=True)
            elsewhere(sweep).add(outcome, as_json=True)
        assert sweep.began
        assert capsys.readouterr().out == ""
    assert json.loads(capsys.readouterr().out) == [{"phi": 0}, None, {"phi": 1, "name": "é\udcff"}]
    assert not (tmp_path / FOLDER).exists()


def test_a_table_over_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "-m", "phi=0,500,1", "depth_rounding=up", "-o", "out"]) == 2
    with (tmp_path / "out" / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["phi"] for row in rows] == ["0", "500", "1"]
    assert [row["folder"] for row in rows] == ["phi=0", "", "phi=1"]
    assert "phi must be in [-100, 100]" in rows[1]["error"]
    assert [row["macs"] != "" for row in rows] == [True, False, True]
    assert int(rows[0]["macs"]) == 385_814_752
    assert "depth_rounding" not in rows[0]
    capsys.readouterr()
    assert main(["report", "out", "-o", "sweep.html"]) == 0


@pytest.mark.parametrize(
    ("result", "facts"),
    [
        (None, {}),
        ([{"macs": 1}], {}),
        ({"accuracy": 0.5, "seconds": 3, "name": "x"}, {"accuracy": 0.5, "seconds": 3}),
        (
            {"best": {"accuracy": 0.5, "macs": 7}, "confirmed_on": {"accuracy": 0.4}, "trials": 9, "failed": 0},
            {"confirmed_accuracy": 0.4, "accuracy": 0.5, "macs": 7, "trials": 9, "failed": 0},
        ),
        ({"best": None, "confirmed_on": None, "trials": 9}, {"trials": 9}),
    ],
)
def test_numbers_of_a_result(result: Any, facts: dict[str, float]) -> None:
    assert list_facts(result) == facts
    assert list(list_facts(result)) == list(facts)


def test_texts_of_other_processes_come_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep()
    with sweep.told():
        sweep.begin(tmp_path)
        for number in (10, 9):
            elsewhere(sweep).add(Outcome(number, "", text=f"text {number}"), as_json=False)
    assert capsys.readouterr().out == "text 9\ntext 10\n"


def test_what_began_is_told_of_a_sweep_that_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep()
    with pytest.raises(KeyboardInterrupt), sweep.told():  # noqa: PT012
        sweep.begin(tmp_path)
        elsewhere(sweep).add(Outcome(0, "", {"a": 1}), as_json=True)
        elsewhere(sweep).add(Outcome(1, ""), as_json=True)
        raise KeyboardInterrupt
    assert json.loads(capsys.readouterr().out) == [{"a": 1}, None]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            "Job not requeued because: timed-out too many times.",
            "its time is over, and it was not put back into the queue (timed-out too many times); run the same command "
            "again to continue, or let it go on by itself: hydra.launcher.max_num_timeout=100",
        ),
        (
            "Job 7_0 (task: 0) with path /out/7_0_0_result.pkl\nhas not produced any output (state: CANCELLED)\nmore",
            "a job of the sweep was lost, and the others run on: Job 7_0 (task: 0) with path /out/7_0_0_result.pkl has "
            "not produced any output (state: CANCELLED); run the same command again when they have ended",
        ),
    ],
)
def test_jobs_that_slurm_has_ended(told: str, message: str) -> None:
    errors = pytest.importorskip("submitit.core.utils")
    assert explain_error(errors.UncompletedJobError(told), in_job=True) == message


@pytest.mark.parametrize(
    "launcher", ["basic", *(pytest.param(name, marks=pytest.mark.slow) for name in ("joblib", "submitit_local"))]
)
def test_launchers(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    monkeypatch.chdir(tmp_path)
    words = ["scale", "-m", "phi=0,500,1", f"hydra/launcher={launcher}", "-o", "out"]
    for more in (["--json"], []):
        assert main([*words, *more]) == 2
        told = capsys.readouterr()
        assert [line for line in told.err.splitlines() if "error" in line.lower()] == [
            "effnas scale: error: phi=500: phi must be in [-100, 100], got 500.0"
        ]
        if more:
            documents = json.loads(told.out)
            assert [row and row["phi"] for row in documents] == [0.0, None, 1.0]
        else:
            assert told.out.index("efficientnet_b0_phi0") < told.out.index("efficientnet_b0_phi1")
    assert not (tmp_path / "out" / FOLDER).exists()
