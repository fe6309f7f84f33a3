"""``effnas transfer``: its table, what it goes on with, how data sets are named, and every mistake."""

from __future__ import annotations

import csv
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effnas.cli import main
from effnas.evaluate import pretrained
from effnas.evaluate.data import ImageData
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.transfer import job as transfer_job
from effnas.evaluate.transfer.datasets import make_named_data
from effnas.evaluate.transfer.job import run_transfer
from effnas.evaluate.transfer.report import Run, summary_text, write_transfer
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network import build
from effnas.space.stage import Stage
from effnas.space.weights.weights import read_weights, save_weights

SMALL = Architecture(
    (Stage("mbconv", 8, stride=2, expand_ratio=2),), stem=8, head=16, resolution=8, in_channels=1, name="small"
).with_(num_classes=5)
LARGE = SMALL.with_(stem=16, name="large")
DIGITS = ImageData(limit=300)
QUICK = Training(epochs=1, batch_size=64, precision="fp32", memory_format="channels_last", compile=False)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Weights of both, that name their networks."""
    found = []
    for network in (SMALL, LARGE):
        path = tmp_path / f"{network.name}.safetensors"
        save_weights(path, build(network, 0), architecture=network, normalization=((60.0,), (90.0,)), classes=None)
        found.append(str(path))
    return found


def transfer(folder: Path, weights: Any = (), **options: Any) -> dict[str, Any]:
    options = {"architecture": (), "datasets": {"digits": DIGITS}, "training": QUICK, **options}
    return run_transfer(
        options.pop("architecture"),
        weights,
        options.pop("datasets"),
        options.pop("training"),
        output=folder / "out",
        threads=1,
        quiet=True,
        **options,
    )


def run(dataset: str, network: str, seed: int, accuracy: float, params: int, **more: Any) -> Run:
    facts: dict[str, Any] = {"part": "test", "macs": 10**9, "resolution": 224, "classes": 10, "train_images": 800}
    facts |= {"measured_images": 1000, "epochs": 1, "seconds": 2.0, "weights": "", "output": "o", **more}
    return Run(dataset, network, seed, accuracy, params=params, **facts)


# -- the table -------------------------------------------------------------------------------------------


def test_the_table(tmp_path: Path) -> None:
    found = write_transfer(
        [
            run("birds", "old", 0, 0.80, 41_000_000),
            run("birds", "old", 1, 0.84, 41_000_000),
            run("birds", "new", 0, 0.90, 10_000_000),
            run("birds", "new", 1, 0.92, 10_000_000),
            run("cars", "old", 0, 0.70, 40_000_000, classes=196),
            run("cars", "new", 0, 0.71, 5_000_000, classes=196, part="heldout", measured_images=99),
        ],
        tmp_path,
        "typed",
    )
    with (tmp_path / "transfer.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["network"], row["seeds"]) for row in rows] == [
        ("birds", "old", "2"),
        ("birds", "new", "2"),
        ("cars", "old", "1"),
        ("cars", "new", "1"),
    ]
    assert float(rows[0]["accuracy"]) == pytest.approx(0.82)
    assert float(rows[0]["standard_error"]) == pytest.approx(0.02)  # half the difference of two
    assert rows[2]["standard_error"] == ""
    assert [float(row["params_ratio"]) for row in rows] == pytest.approx([1, 4.1, 1, 8])
    assert found["geometric_mean_ratio"] == {"old": pytest.approx(1), "new": pytest.approx(math.sqrt(4.1 * 8))}
    assert json.loads((tmp_path / "transfer.json").read_text(encoding="utf-8")) == found
    text = summary_text(found).splitlines()
    assert text[2].split() == [
        "birds",
        "old",
        "82.00%",
        "2.00%",
        "41.000",
        "1.00×",
        "1,000.0",
        "224²",
        "10",
        "800",
        "1,000",
    ]
    assert text[3].split() == ["new", "91.00%", "1.00%", "10.000", "4.10×", "1,000.0", "224²"]
    assert text[5].split() == ["new", "71.00%", "–", "5.000", "8.00×", "1,000.0", "224²"]
    assert text[7].split() == ["new", "5.73×"]
    assert "6 trainings, 12 s in all" in text[-2]


def test_networks_are_trained_on_every_data_set(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(pretrained, "read_weights", lambda file, own: read.append(file) or read_weights(file, own))
    few = replace(DIGITS, limit=100)
    found = transfer(tmp_path, files, datasets={"digits": DIGITS, "few": few}, seeds=2, seed=5)
    assert [(r["dataset"], r["network"], r["seed"]) for r in found["runs"]] == [
        (dataset, network, seed) for dataset in ("digits", "few") for network in ("small", "large") for seed in (5, 6)
    ]
    row = found["rows"][1]
    assert row["params"] == cost(LARGE.with_(num_classes=10)).params  # the data's classes, not the weights' five
    assert read == files  # once each, for all their trainings
    assert row["params_ratio"] == cost(SMALL.with_(num_classes=10)).params / row["params"]
    assert (row["classes"], row["train_images"], row["measured_images"], row["part"]) == (10, 240, 364, "test")
    assert found["rows"][2]["train_images"] == 80
    mine = [r["accuracy"] for r in found["runs"][2:4]]
    assert row["accuracy"] == statistics.fmean(mine)
    summary = json.loads((tmp_path / "out/runs/digits/large/seed6/summary.json").read_text(encoding="utf-8"))
    assert summary["test_accuracy"] == mine[1]
    assert files[1] in summary["weights"]


# -- going on --------------------------------------------------------------------------------------------


def test_finished_trainings_are_not_made_again(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    real = transfer_job.run_train

    def counted(architecture: Architecture, *arguments: Any, **options: Any) -> dict[str, Any]:
        made.append((architecture.name, options["seed"]))
        return real(architecture, *arguments, **options)

    monkeypatch.setattr(transfer_job, "run_train", counted)
    first = transfer(tmp_path, files[:1])
    more = transfer(tmp_path, files, seeds=2)
    assert made == [("small", 0), ("small", 1), ("large", 0), ("large", 1)]
    assert more["runs"][0] == first["runs"][0]
    record = tmp_path / "out/runs/digits/large/seed1/run.json"
    record.write_text("{")  # cut short: the training itself knows that it has finished
    assert transfer(tmp_path, files, seeds=2)["rows"] == more["rows"]
    assert made[4:] == [("large", 1)]


def test_other_settings_are_not_mixed_with_what_is_there(tmp_path: Path, files: list[str]) -> None:
    transfer(tmp_path, files[0])
    rule = r"^small on digits, seed 0: .*another training is in this folder \(training\.lr: .* → 0\.5\)"
    with pytest.raises(UserError, match=rule):
        transfer(tmp_path, files[0], training=replace(QUICK, lr=0.5))


def test_another_training_in_a_folder_is_found_out_before_the_first_one(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer(tmp_path, files[1])
    monkeypatch.setattr(transfer_job, "run_train", lambda *arguments, **options: pytest.fail("trains"))
    with pytest.raises(UserError, match=r"^large on digits, seed 0: .*another training .*training\.lr: .* → 0\.5"):
        transfer(tmp_path, files, training=replace(QUICK, lr=0.5))


# -- the networks ----------------------------------------------------------------------------------------


def test_networks_of_one_name(tmp_path: Path, files: list[str]) -> None:
    SMALL.save(tmp_path / "small.yaml")
    found = transfer(tmp_path, [None, files[0], files[0]], architecture=[str(tmp_path / "small.yaml"), None, None])
    names = [row["network"] for row in found["rows"]]
    assert names == ["small (from scratch)", "small (small) 1", "small (small) 2"]
    assert found["rows"][1]["accuracy"] == found["rows"][2]["accuracy"]
    assert sorted(path.name for path in (tmp_path / "out/runs/digits").iterdir()) == [
        "small_from_scratch",
        "small_small_1",
        "small_small_2",
    ]


def test_mistakes(tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^weights: none given; use weights=\[FILE"):
        transfer(tmp_path)
    with pytest.raises(UserError, match=r"^architecture and weights pair up, .*: got 1 and 2; null stands for"):
        transfer(tmp_path, files, architecture=["efficientnet_lite0"])
    with pytest.raises(UserError, match="seeds must be between 1 and 1000, got 0"):
        transfer(tmp_path, files, seeds=0)
    with pytest.raises(UserError, match="no such file or folder: /nowhere"):  # before anything is trained
        transfer(tmp_path, files, datasets={"digits": DIGITS, "mine": ImageData("files", "/nowhere")})
    assert not (tmp_path / "out/runs").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="runs in one process; with torchrun use effnas train"):
        transfer(tmp_path, files)


# -- the command, and how it names data ------------------------------------------------------------------


def command(folder: Path, files: list[str], *more: str) -> list[str]:
    words = ["transfer", "--weights", ",".join(files), "--threads", "1", "--training", "proxy", "training.epochs=1"]
    return [*words, "training.precision=fp32", f"hydra.run.dir={folder / 'out'}", *more]


def test_the_command(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [digits, _self_]\nlimit: 50\n")
    words = command(tmp_path, files[:1], "--config-dir", str(tmp_path / "conf"), "--datasets", "digits,mine,own")
    words += ["+data.digits.limit=100", "+data@data.own=digits", "data.own.limit=200", "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [(row["dataset"], row["train_images"]) for row in found["rows"]] == [
        ("digits", 80),
        ("mine", 40),
        ("own", 160),
    ]
    assert found["command"].startswith("effnas transfer --weights ")
    assert "training 3 of 3: small on own, seed 0\n" in captured.err
    assert main(words[:-1]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # nothing was trained
    assert "one seed each: the variation between trainings is unknown" in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--datasets digits,cifar",
            r"datasets: unknown 'cifar'. Did you mean 'cifar10'? Choose one of: cifar10, digits",
        ),
        (
            "--datasets digits,digits",
            "datasets: 'digits' appears twice; give one of them another name: +data@data.NAME=",
        ),
        ("datasets=[]", "datasets: none given; choose one or more of: cifar10, digits"),
        (
            "+data.digits.limt=5",
            "data.digits: unknown 'limt'. Did you mean 'limit'? Choose one of: source, path, limit",
        ),
        ("+data.digit.limit=5", "data: unknown 'digit'. Did you mean 'digits'? Choose one of: digits"),
        ("+data.digits=5", "data.digits must map settings to values, like data.digits.limit=2000, got 5"),
        ("+data.digits.limit=1", "data set digits: data.limit must be at least 4, got 1"),
        ("--datasets cifar10", "data set cifar10: data.path: data.source=parquet needs a path"),
        ("+data.digits._target_=builtins.dict", "data set digits: builtins.dict does not make an ImageData"),
    ],
)
def test_mistakes_in_naming_data(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main(command(tmp_path, files, *words.split())) == 2
    assert capsys.readouterr().err.startswith(f"effnas transfer: error: {message}")


def test_data_sets_by_name_from_python() -> None:
    settings = {"digits": {"limit": 60}, "small": {"_target_": "effnas.evaluate.data.ImageData", "limit": 30}}
    found = make_named_data(["small", "digits"], settings)
    assert [*found.items()] == [
        ("small", ImageData(limit=30)),
        ("digits", replace(found["digits"], limit=60)),
    ]
    with pytest.raises(UserError, match=r"datasets: unknown 'digit'\. Did you mean 'digits'"):
        make_named_data(["digit"], {})
