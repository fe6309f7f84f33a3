"""Hydra's own settings, and settings that have no effect where they are given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from effnas.cli import main
from effnas.commandline.options import CONF


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


TABLE = "search --evaluator tabular --evaluator.path lost.csv"


@pytest.mark.parametrize(
    ("typed", "note"),
    [
        ("scale hydra/launcher=joblib phi=1", "hydra/launcher has no effect without -m: one job runs in this process"),
        ("scale hydra.sweep.dir=x phi=1", "hydra.sweep.dir has no effect without -m: one job runs in this process"),
        ("scale -m hydra.run.dir=x phi=1", "hydra.run.dir has no effect with -m: the folder of the jobs' folders is "),
        (f"{TABLE} data=cifar10", "data has no effect: evaluator=tabular does not use data"),
        (f"{TABLE} training.epochs=5", "training.epochs has no effect: evaluator=tabular does not use training"),
        ("scale -m hydra.sweep.dir=x phi=1", ""),
        ("scale hydra.run.dir=x phi=1", ""),
        ("search training.epochs=5 data.path=x", ""),
    ],
)
def test_what_has_no_effect_is_said(typed: str, note: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(typed.split())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(lines) == bool(note)
    assert "".join(lines).startswith(f"note: {note}" if note else "")


def test_a_sweep_by_its_mode(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "hydra.mode=MULTIRUN", "phi=1,2", "-o", "swept"]) == 0
    assert (here / "swept" / "sweep.csv").is_file()
    capsys.readouterr()
    assert main(["scale", "-m", "hydra.sweep.dir=bare"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("job 0 -> bare/0\n")
    assert "effnas scale: error: job 0: nothing to make" in told


def test_folders_of_configurations_are_looked_for_where_the_user_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = here / "mine"
    mine.mkdir()
    shipped = (CONF / "scale.yaml").read_text()
    (mine / "scale.yaml").write_text(shipped.replace("phi: null", "phi: 1"))
    (mine / "two.yaml").write_text("defaults: [scale, _self_]\nphi: 2\n")
    (mine / "other.yaml").write_text("defaults: [train_job, _self_]\n")
    assert main(["scale", "--config-path", "mine", "--json"]) == 0
    assert '"phi": 1' in capsys.readouterr().out
    for words in (["--config-path", "./mine"], ["--config-dir=mine"]):
        assert main(["scale", *words, "--config-name", "two", "--json"]) == 0
        assert '"phi": 2' in capsys.readouterr().out
    assert main(["scale", "--config-path", "mine", "--config-name", "other"]) == 2
    assert "this configuration is of another command, effnas train, or extends that of one" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--hydra-help", "--cfg job", "--info"])
def test_a_reader_that_goes_is_no_mistake(words: str, tmp_path: Path) -> None:
    program = "import os, sys; os.close(0); from effnas.cli import main; sys.exit(main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", program, "scale", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # Hydra logs what --info shows, and a log has no reader to miss
