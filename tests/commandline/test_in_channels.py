"""``--in-channels`` of every command that is given networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from effnas import Architecture, cost, run_train
from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.train.recipe import Training
from effnas.space.stage import Stage

NET = Architecture((Stage("mbconv", 8),), stem=8, head=16, in_channels=1, resolution=8, num_classes=10, name="tiny")
COLOUR = cost(NET.with_(in_channels=3)).params


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    NET.save(tmp_path / "net.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result(capsys: pytest.CaptureFixture[str], line: str) -> Any:
    capsys.readouterr()
    assert main([*line.split(), "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_of_networks_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiled = result(capsys, "profile net.yaml --in-channels 3 fvcore=false repeats=2")["networks"][0]
    assert (profiled["in_channels"], profiled["params"]) == (3, COLOUR)
    assert result(capsys, "scale --baseline net.yaml --phi 0 --in-channels 3")["params"] == COLOUR
    preset = result(capsys, "scale --preset b1 --in-channels 1")
    assert preset["architecture"]["in_channels"] == 1
    assert preset["params"] == 7_794_184 - 2 * 9 * 32
    assert main(["scale", "--phi", "1", "--in-channels", "0"]) == 2
    assert "in_channels must be between 1 and 100000, got 0" in capsys.readouterr().err


def test_of_a_grid_and_an_ablation(here: Path) -> None:
    few = "--baseline net.yaml --in-channels 3 data.limit=100 --quiet training.epochs=1 training.warmup_epochs=0"
    assert main(f"grid-alpha-beta-gamma {few} alpha=[1.2,1.2] beta=[1.1,1.1] gamma=[1.2,1.2]".split()) == 0
    assert yaml.safe_load((here / "outputs/grid/baseline.yaml").read_text())["in_channels"] == 3
    assert main(f"ablate {few} rules=[width,depth] factors=[2] latency=false tolerance=0.4 seeds=1".split()) == 0
    networks = [yaml.safe_load(file.read_text()) for file in (here / "outputs/ablate/networks").glob("*.yaml")]
    assert {network["in_channels"] for network in networks} == {3}


def test_of_trained_networks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Training(epochs=1, batch_size=32, warmup_epochs=0, precision="fp32", compile=False)
    run_train(NET, ImageData(limit=100), recipe, test=False, tensorboard=False, threads=1, output="w", quiet=True)
    seen = result(capsys, "cam --weights w/weights.safetensors --images 0 --in-channels 3")["networks"][0]
    assert seen["params"] == COLOUR
    assert "channel" in seen["weights_note"]
    small = "training.epochs=1 training.warmup_epochs=0 +data.digits.limit=100"
    table = result(capsys, f"transfer --weights w/weights.safetensors --in-channels 3 {small}")
    assert [run["params"] for run in table["runs"]] == [COLOUR]


def test_a_search_says_that_it_is_the_spaces(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--in-channels", "3"]) == 2
    assert "Did you mean '--space.in-channels'?" in capsys.readouterr().err
