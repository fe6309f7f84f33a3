"""What the output folders of all commands have in common."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from effnas import __version__
from effnas.evaluate.drawing.style import save_figure
from effnas.evaluate.folder import folder_lock, versions, write_csv, write_json
from effnas.space.errors import UserError
from effnas.space.files import remove_leftovers


def test_versions_are_of_all_that_a_result_depends_on() -> None:
    found = versions()
    assert {"python", "machine", "effnas", "torch", "optuna", "hydra-core", "numpy", "datasets"} <= found.keys()
    assert found["effnas"] == __version__


def test_a_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("a", "b"), [{"a": 1, "b": "x,y", "other": 2}, {"a": None}])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "x,y"], ["", ""]]


def test_a_summary(tmp_path: Path) -> None:
    write_json(tmp_path / "s.json", {"a": [1, None]})
    assert (tmp_path / "s.json").read_text(encoding="utf-8") == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'


@pytest.mark.pictures
def test_a_figure_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_figure(Figure(), tmp_path / "new" / "v1.5")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["v1.5.png", "v1.5.svg"]
    before = (tmp_path / "new" / "v1.5.png").read_bytes()
    assert before.startswith(b"\x89PNG")
    assert b"<dc:date>" not in (tmp_path / "new" / "v1.5.svg").read_bytes()

    def full(self: Figure, file: Any, **options: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        save_figure(Figure(), tmp_path / "new" / "v1.5")
    assert (tmp_path / "new" / "v1.5.png").read_bytes() == before
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_a_link_in_the_place_of_an_output_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    for name in ("v.json", "v.png", "v.svg", "v.csv"):
        (tmp_path / name).symlink_to(precious)
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    write_json(tmp_path / "v.json", {})
    write_csv(tmp_path / "v.csv", ("a",), [])
    save_figure(Figure(), tmp_path / "v")
    write_json(tmp_path / "dangling.json", {})
    assert precious.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert not any(file.is_symlink() for file in tmp_path.iterdir())


def test_nothing_is_written_through_a_link_in_the_place_of_a_temporary_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / f".s.json.{os.getpid()}.tmp").symlink_to(precious)
    write_json(tmp_path / "s.json", {})
    assert precious.read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["precious.txt", "s.json"]


def test_who_holds_a_folder_removes_what_killed_runs_left(tmp_path: Path) -> None:
    left = (".checkpoint.pt.26308.tmp", ".a.b.json.1.tmp", "networks/.b0.yaml.77.tmp")
    kept = (".mine.tmp", "a.26308.tmp", ".hidden", "deeper/.a.json.1.tmp")
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.5.tmp").mkdir()
    with folder_lock(tmp_path, "train"):
        assert not [name for name in left if (tmp_path / name).exists()]
        assert all((tmp_path / name).exists() for name in (*kept, ".folder.5.tmp"))


def test_without_a_lock_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for process in (gone.pid, os.getppid(), os.getpid()):
        (tmp_path / f".a.json.{process}.tmp").write_text("half")
    remove_leftovers(tmp_path, held=False)
    assert [file.name for file in tmp_path.iterdir()] == [f".a.json.{os.getppid()}.tmp"]
    remove_leftovers(tmp_path / "nowhere", held=False)


def test_a_folder_that_cannot_be_held_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    for folder, reason in (("file", "File exists"), ("file/run", "Not a directory"), ("run", "Is a directory")):
        with (
            pytest.raises(UserError, match=rf"cannot be used \({reason}\).*{folder}; choose another folder"),
            folder_lock(tmp_path / folder, "train"),
        ):
            pass
