"""What the output folders of all commands have in common."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from effnas import __version__
from effnas.evaluate.folder import save_figure, versions, write_csv, write_json


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
