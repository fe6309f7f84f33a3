"""``effnas profile``: our counts beside fvcore's, latency and memory here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import effnas
from effnas.cli import main
from effnas.evaluate.profile.report import explain_difference, summary_text
from effnas.space.zoo import zoo

TINY = zoo("mobilenet_v2").scaled(0.25, 0.25, 32).with_(name="tiny")
FAST = ["--repeats", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def b0(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return effnas.run_profile("efficientnet_b0", repeats=2, output=tmp_path_factory.mktemp("b0"), quiet=True)


def test_published_numbers_of_b0(b0: dict[str, Any]) -> None:
    (row,) = b0["networks"]
    assert (row["params"], row["macs"]) == (5_288_548, 385_814_752)
    assert {row["fvcore"][key] - row[key] for key in ("params", "macs", "activations")} == {0}
    assert row["fvcore"]["total"] == 399_352_864
    assert row["fvcore"]["note"] == (
        "fvcore's total is 399,352,864: it also counts batch_norm 13,475,392, adaptive_avg_pool2d 62,720; "
        "the counts of convolutions and matrix products agree"
    )
    assert len(row["stages"]) == 9
    assert all(stage["macs"] == stage["fvcore_macs"] for stage in row["stages"])
    assert 0 < row["latency_q1"] <= row["latency"] <= row["latency_q3"]
    assert row["measured_memory"] >= row["peak_memory"]  # which has BatchNorm folded
    text = summary_text(b0)
    assert text.count("385,814,752") == 2
    assert "cpu" in text


def test_several_networks_as_words_and_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "seed=1,lr=2"  # a sweep's
    folder.mkdir()
    file = TINY.save(folder / "my net.yaml")
    words = ["profile", str(file), "squeezenet1_1", "--resolution", "64", "--batch-size", "3", "--precision", "bf16"]
    assert main([*words, *FAST, "--json", f"hydra.run.dir={tmp_path / 'out'}"]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = printed["networks"]
    assert [(row["name"], row["resolution"], row["batch_size"], row["precision"]) for row in rows] == [
        ("tiny", 64, 3, "bf16"),
        ("squeezenet1_1", 64, 3, "bf16"),
    ]
    assert rows[0]["macs"] == effnas.cost(TINY.with_(resolution=64)).macs
    assert rows[1]["stages"][0]["macs"] is None  # a builder's: fvcore alone counts its parts
    assert sum(stage["params"] for stage in rows[1]["stages"]) == rows[1]["params"] == 1_235_496
    assert sum(stage["fvcore_macs"] for stage in rows[1]["stages"]) == rows[1]["macs"]
    assert json.loads((tmp_path / "out" / "profile.json").read_text()) == printed
    with (tmp_path / "out" / "profile.csv").open(newline="") as table:
        lines = list(csv.DictReader(table))
    assert [(line["name"], line["fvcore_macs"]) for line in lines] == [(r["name"], f"{r['macs']}") for r in rows]


def test_without_fvcore(tmp_path: Path) -> None:
    found = effnas.run_profile(TINY, fvcore=False, repeats=2, output=tmp_path, quiet=True)
    assert found["networks"][0]["fvcore"] is None
    assert "fvcore" not in summary_text({**found, "output": ""})


def test_a_difference_is_explained() -> None:
    counts = {"params": 10, "macs": 100, "activations": 5}
    other = {**counts, "macs": 80, "total": 80, "others": {}, "uncounted": {"aten::bilinear": 2, "aten::add": 9}}
    row = {**counts, "fvcore": {**other, "unknown_products": ["aten::bilinear"]}}
    assert explain_difference(row) == "fvcore differs in MACs by -20: fvcore does not count aten::bilinear (2 times)"
    row["fvcore"] = {**other, "unknown_products": []}
    assert "no operator that fvcore leaves out explains it" in explain_difference(row)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "networks: name one or several, each a YAML file or one of: efficientnet_b0"),
        (["efficientnet_bo"], "there is no such file. Did you mean 'efficientnet_b"),
        (["networks=resnet18", "resnet34"], "networks is given more than once: resnet18 and resnet34"),
        (["resnet18", "json"], "'json' has no value: write --json VALUE or json=VALUE"),
        (["resnet18", "batch_size=0"], "batch_size must be between 1 and 1000000, got 0"),
        (["resnet18", "repeats=1"], "repeats must be between 2 and 1000000, got 1"),
        (["resnet18", "precision=fp64"], "precision: unknown 'fp64'"),
        (["resnet18", "precision=fp16"], "precision=fp16 needs a GPU; on a CPU choose fp32 or bf16"),
        (["resnet18", "device=cuda:99"], "device (of this machine): unknown 'cuda:99'"),
        (["networks=7"], "networks: each must be a name of the zoo, a YAML file or a network, got 7"),
        (["mobilenet_v1", "resolution=100000"], "out of memory at batch size 1, resolution 100000; set a smaller"),
    ],
)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *words, "fvcore=false", f"hydra.run.dir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err


def test_help_and_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--help"]) == 0
    assert "usage: effnas profile NETWORK ... [--flag VALUE ...]" in capsys.readouterr().out
    monkeypatch.setenv("COMP_LINE", "effnas profile resnet18 resnet1")
    monkeypatch.delenv("COMP_POINT", raising=False)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == ["resnet18", "resnet101", "resnet152"]
