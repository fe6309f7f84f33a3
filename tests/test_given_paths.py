"""What is no path, where a public function takes one: one message, and nothing is begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic import Synthetic

import effnas
from effnas import Architecture, Coefficients, Stage, UserError
from effnas.evaluate.data import ImageData
from effnas.evaluate.train.recipe import Training
from effnas.scaling.compound import base_network

NET = Architecture(
    (Stage("mbconv", 8, stride=2),), stem=8, head=16, resolution=8, in_channels=1, num_classes=10, name="net"
)
RUNS: dict[str, Callable[[Any], object]] = {
    "search": lambda place: effnas.run_search("tiny", Synthetic(), trials=1, output=place),
    "grid": lambda place: effnas.run_grid_search(NET, Synthetic(), output=place, step=0.2, tolerance=0.4),
    "ablation": lambda place: effnas.run_ablation(NET, Synthetic(), output=place),
    "train": lambda place: effnas.run_train(NET, ImageData(), Training(epochs=1), output=place),
    "evaluate": lambda place: effnas.run_evaluate(NET, None, ImageData(), output=place),
    "scale": lambda place: effnas.run_scale(phi=1, output=place),
    "profile": lambda place: effnas.run_profile(NET, output=place),
    "compare": lambda place: effnas.run_compare("imagenet", output=place),
    "reproduce": lambda place: effnas.run_reproduce("table3", output=place),
    "latency": lambda place: effnas.run_latency("measure", space="tiny", members=1, output=place),
    "report": lambda place: effnas.run_report("runs", output=place),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("place", [None, 5, b"folder", "a\0b"], ids=["none", "number", "bytes", "zero"])
def test_an_output_that_is_no_path(run: str, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^output must be a path, (got|and no name of a file has a zero byte, got) "):
        RUNS[run](place)
    assert not list(tmp_path.iterdir())


def test_nothing_makes_a_path_of_an_output_by_itself() -> None:
    root = Path(effnas.__file__).parent
    jobs = [file for room in ("report", "search", "evaluate", "scaling") for file in (root / room).rglob("job.py")]
    assert len(jobs) > 15
    assert not [file for file in jobs if " Path(output)" in file.read_text()]


@pytest.mark.parametrize("save", [NET.save, Coefficients(1.2, 1.1, 1.15).save], ids=["architecture", "coefficients"])
def test_a_file_that_cannot_be_saved(save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("")
    for place in (".", "", "folder", Path("folder")):
        with pytest.raises(UserError, match=r"^path: '.*' is a folder; name a file in it, like .*NAME\.yaml$"):
            save(place)
    for wrong in (None, 5, b"x"):
        with pytest.raises(UserError, match=r"^path must be a path, got "):
            save(wrong)
    with pytest.raises(UserError, match=r"EEXIST|ENOTDIR"):
        save("file/x.yaml")
    with pytest.raises(UserError, match=r"ENAMETOOLONG"):
        save("x" * 300)
    assert save("new/x.yaml") == Path("new/x.yaml")


def test_a_folder_or_file_to_load_that_is_no_path() -> None:
    for wrong in (None, 5, b"x"):
        with pytest.raises(UserError, match=r"^name_or_file must be a path, got "):
            effnas.load_latency(wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^runs: must be folders, one or a list of them, got <object"):
        effnas.run_report(object())  # type: ignore[arg-type]


def test_an_export_that_is_no_path() -> None:
    pytest.importorskip("huggingface_hub")
    for wrong in (None, 5, b"x"):
        with pytest.raises(UserError, match=r"^folder must be a path, got "):
            effnas.load_pretrained(wrong)  # type: ignore[arg-type]


def test_a_baseline_that_is_no_network(tmp_path: Path) -> None:
    file = NET.save(tmp_path / "base.yaml")
    assert base_network(file, None) == base_network(str(file), None)
    for wrong in (5, b"x", object()):
        with pytest.raises(UserError, match=r"^baseline"):
            base_network(wrong, None)  # type: ignore[arg-type]
