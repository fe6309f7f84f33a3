"""What the jobs of a sweep gave reaches the first process, wherever a launcher runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from effnas.cli import main
from effnas.commandline.sweep import FOLDER, Outcome, Sweep
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


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
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
