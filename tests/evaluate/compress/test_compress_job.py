"""``effnas compress``: what is cut, what is left of the network, and every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from effnas import build, cost, load_architecture, run_compress, run_train
from effnas.cli import main
from effnas.evaluate.compress.pruning import cut_network, list_cuts
from effnas.evaluate.data import ImageData
from effnas.evaluate.export.subject import find_weights
from effnas.evaluate.supernet.importance import sort_channels
from effnas.evaluate.train.recipe import Training
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import Network
from effnas.space.stage import Stage
from effnas.space.weights.weights import read_weights, save_weights

NETWORK = Architecture(
    (
        Stage("ds", 16, 1),
        Stage("mbconv", 24, 2, stride=2, expand_ratio=3, se_ratio=0.25),
        Stage("mbconv", 24, 1, expand_ratio=4),
        Stage("mbconv", 32, 2, stride=2, expand_ratio=6),
        Stage("fused_mbconv", 32, 1, expand_ratio=2),
    ),
    name="small",
    stem=16,
    stem_stride=1,
    head=64,
    resolution=16,
    in_channels=1,
    num_classes=10,
    activation="relu",
    dropout=0.0,
    drop_path=0.0,
    bn_momentum=0.1,
)
DATA = ImageData("digits", limit=800)
RECIPE = Training(epochs=4, eval_every=4, compile=False, precision="fp32", memory_format="channels_last")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    run_train(NETWORK, DATA, RECIPE, test=False, tensorboard=False, output=folder, threads=1, quiet=True)
    return str(folder / "weights.safetensors")


def compress(weights: str | None, folder: Path, **options: Any) -> dict[str, Any]:
    options = {"target_macs": 0.6, "calibration": 64, "threads": 1, "quiet": True, **options}
    return run_compress(weights, DATA, RECIPE, output=folder, **options)


def shortcuts(network: Architecture) -> list[bool]:
    module = network.module()
    assert isinstance(module, Network)
    return [block.shortcut == "identity" for stage in module.stages for block in stage]  # type: ignore[union-attr]


@pytest.mark.parametrize("divisor", [4, 8, 16])
def test_cuts_save_what_they_must_and_leave_the_shortcuts(divisor: int) -> None:
    total = cost(NETWORK).macs
    cuts = dict(list_cuts(NETWORK, round(0.9 * total), divisor))
    assert any("channels" in what for what in cuts)
    assert {"stage 2: expand ratio 4 to 2", "stage 4: expand ratio 2 to 1"} <= set(cuts)  # a fused one may go to 1
    for what, left in cuts.items():
        assert cost(left).macs < total, what
        assert shortcuts(left) == shortcuts(NETWORK), what
        before, after = ((a.stem, *(s.channels for s in a.stages)) for a in (NETWORK, left))
        pairs = zip(before, after, strict=True)
        assert all(new == old or new % divisor == 0 for old, new in pairs), what
    tied = next(left for what, left in cuts.items() if what.startswith("stage 1 and stage 2: "))
    assert tied.stages[1].channels == tied.stages[2].channels < 24
    if divisor < 16:
        tied = next(left for what, left in cuts.items() if what.startswith("stem and stage 0: "))
        assert tied.stem == tied.stages[0].channels < 16


def test_what_nobody_reads_is_cut_without_a_change() -> None:
    network = build(NETWORK, 0)
    assert isinstance(network, Network)
    sort_channels(network, NETWORK)
    network.eval()
    left = NETWORK.with_(head=32)
    with torch.no_grad():
        network.classifier.weight[:, 32:] = 0
        images = torch.randn(4, 1, 16, 16)
        torch.testing.assert_close(cut_network(network, left)(images), network(images))
        changed = Stage("mbconv", 32, 2, stride=2, expand_ratio=4), Stage("fused_mbconv", 32, 1, expand_ratio=1)
        narrower = NETWORK.with_(stages=(*NETWORK.stages[:3], *changed))
        for block in network.stages[3]:  # type: ignore[union-attr]
            weight = block.project.conv.weight
            weight[:, 4 * weight.shape[1] // 6 :] = 0
        weight = network.stages[4][0].project.conv.weight  # type: ignore[index, union-attr]
        weight[:, weight.shape[1] // 2 :] = 0
        torch.testing.assert_close(cut_network(network, narrower)(images), network(images))


@pytest.mark.slow
def test_a_network_is_pruned_and_trained_on(trained: str, tmp_path: Path) -> None:
    found = compress(trained, tmp_path)
    left = load_architecture(str(tmp_path / "architecture.yaml"))
    assert cost(left).macs == found["pruned"]["macs"] <= 0.6 * cost(NETWORK).macs
    assert found["cuts"][-1]["macs"] == found["pruned"]["macs"]
    assert found["pruned"]["macs"] > 0.45 * cost(NETWORK).macs
    assert left.name == "small_pruned"
    assert {"compress.png", "compress.svg"} <= {path.name for path in tmp_path.iterdir()}
    pruned = read_weights(tmp_path / "pruned.safetensors")
    assert pruned.architecture is not None
    assert pruned.architecture.digest == left.digest
    summary = json.loads((tmp_path / "trained" / "summary.json").read_text())
    assert summary["digest"] == left.digest
    assert found["trained"]["accuracy"] == summary["accuracy"] > 0.4
    again = compress(trained, tmp_path)  # nothing is done again
    assert {**again, "versions": 0} == {**found, "versions": 0}
    with pytest.raises(UserError, match=r"holds another compression .*target"):
        compress(trained, tmp_path, target_macs=0.5)
    assert find_weights(str(tmp_path)) == tmp_path / "trained" / "weights.safetensors"  # what is exported
    (tmp_path / "trained").rename(tmp_path / "moved")
    assert find_weights(str(tmp_path)) == tmp_path / "pruned.safetensors"
    for key in ("architecture", "cuts", "pruned"):  # of another version, or edited
        record = json.loads((tmp_path / "compress.json").read_text())
        (tmp_path / "compress.json").write_text(json.dumps({name: record[name] for name in record if name != key}))
        with pytest.raises(UserError, match=r"compress\.json: no record of effnas compress \(KeyError\): remove the f"):
            compress(trained, tmp_path)
        (tmp_path / "compress.json").write_text(json.dumps(record))


def test_the_command_line(trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["compress", "--weights", trained, "--target-macs", "0.7", "--finetune", "false", "--calibration", "64"]
    line += ["data.limit=300", "-o", str(tmp_path), "--quiet"]
    assert main(line) == 0
    text = capsys.readouterr().out
    assert "pruned" in text
    assert "next: effnas train --weights" in text
    assert main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pruned"]["macs"] <= 0.7 * cost(NETWORK).macs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_macs": None}, "target_macs: none given; say how many are left, such as 20M, or 0.5 for half"),
        (
            {"target_macs": "50%"},
            "target_macs must be a number above 0, .* got '50%'; at most 1 is a share .* 0.5 is",
        ),
        ({"target_macs": -1}, "target_macs must be a number above 0"),
        ({"target_macs": "1G"}, r"target_macs 1,000,000,000: the network has [0-9,]+ already; give fewer"),
        ({"target_macs": 1000}, "target_macs 1,000: out of reach; the smallest that channels in multiples of 8 leave"),
        ({"divisor": 3}, r"divisor: unknown .3.*Choose one of: 4, 8, 16, 32"),
        ({"step": 0}, r"step must be in \(0, 1\), got 0"),
        ({"calibration": 0}, "calibration must be at least 1, got 0"),
        ({"weights": None}, "weights: none given; name a trained network's file"),
    ],
)
def test_mistakes(options: dict[str, Any], words: str, trained: str, tmp_path: Path) -> None:
    options = {"weights": trained, "finetune": False, **options}
    with pytest.raises(UserError, match=words):
        compress(folder=tmp_path / "out", **options)


def test_weights_of_other_networks(tmp_path: Path) -> None:
    other = NETWORK.with_(num_classes=3)
    save_weights(tmp_path / "three.safetensors", build(other, 0), architecture=other, classes=("a", "b", "c"))
    with pytest.raises(UserError, match=r"three\.safetensors was trained on other classes than the data has"):
        compress(str(tmp_path / "three.safetensors"), tmp_path / "out")
    built = load_architecture("resnet18").with_(num_classes=10, in_channels=1, resolution=32)
    save_weights(tmp_path / "built.safetensors", build(built, 0), architecture=built)
    with pytest.raises(UserError, match=r"built.safetensors is of a builder's network, whose layers are not known"):
        compress(str(tmp_path / "built.safetensors"), tmp_path / "out")
