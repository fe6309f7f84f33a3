"""``effnas train``: what it leaves, what it goes on with, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from effnas import build, load_architecture
from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split, load_test
from effnas.evaluate.folder import folder_lock
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.report import summary_text
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.stage import Stage
from effnas.space.weights.weights import load_into, read_weights, save_weights

NET = Architecture(
    (Stage("mbconv", 8, 2, expand_ratio=2, se_ratio=0.25), Stage("mbconv", 16, stride=2, expand_ratio=2)),
    stem=8,
    stem_stride=1,
    head=32,
    resolution=8,
    in_channels=1,
    num_classes=10,
    name="net",
)
DIGITS = ImageData(limit=400)
SHORT = Training(epochs=2, batch_size=64, memory_format="channels_last", precision="fp32", compile=False)


def trained(output: Path, training: Training = SHORT, **more: Any) -> dict[str, Any]:
    architecture = more.pop("architecture", NET)
    return run_train(architecture, more.pop("data", DIGITS), training, output=output, threads=1, quiet=True, **more)


def tensors(output: Path) -> dict[str, torch.Tensor]:
    return dict(read_weights(output / "weights.safetensors").tensors)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("done")
    trained(output, tensorboard=True)
    return output


# -- what it leaves ----------------------------------------------------------------------------------------


def test_the_folder_holds_weights_curves_log_and_summary(done: Path) -> None:
    names = {path.name for path in done.iterdir()}
    assert names >= {
        *("weights.safetensors", "architecture.yaml", "checkpoint.pt", "log.csv"),
        *("curves.png", "curves.svg", "summary.json", "tensorboard"),
    }
    summary = json.loads((done / "summary.json").read_text())
    with open(done / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["accuracy"]) == summary["accuracy"]
    assert (summary["epochs"], summary["steps"], summary["processes"]) == (2, 10, 1)
    assert summary["accuracy"] != summary["test_accuracy"]
    assert list((done / "tensorboard").glob("events*"))
    assert load_architecture(done / "architecture.yaml") == NET


def test_the_weights_say_what_they_are_and_give_the_accuracy(done: Path) -> None:
    weights = read_weights(done / "weights.safetensors")
    split = load_split(DIGITS, 1)
    assert weights.architecture == NET
    assert weights.classes == tuple("0123456789")
    assert weights.normalization == (split.heldout.pixels.mean, split.heldout.pixels.std)
    network = build(NET).eval()
    load_into(network, weights)
    hits = 0
    for stored, labels in split.heldout.batches(64, device="cpu"):
        with torch.no_grad():
            hits += int((network(split.heldout.pixels.prepare(stored, 8)).argmax(1) == labels).sum())
    summary = json.loads((done / "summary.json").read_text())
    assert hits / len(split.heldout) == summary["accuracy"]
    assert (summary["train_images"], summary["heldout_images"]) == (len(split.train), len(split.heldout))
    assert summary["test_images"] == len(load_test(DIGITS, 1))  # type: ignore[arg-type]


def test_the_same_command_again_changes_nothing(done: Path) -> None:
    before = tensors(done), json.loads((done / "summary.json").read_text())
    summary = trained(done)
    assert all(torch.equal(value, before[0][name]) for name, value in tensors(done).items())
    assert summary["accuracy"] == before[1]["accuracy"]
    assert summary["test_accuracy"] == before[1]["test_accuracy"]


def test_data_without_a_test_part_has_no_test_accuracy(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((8, 8), 20 * i + (7 if name == "a" else 0), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    summary = trained(tmp_path / "out", data=ImageData("files", str(tmp_path / "data")))
    assert summary["test_accuracy"] is None
    assert summary["classes"] == 2  # num_classes=auto
    assert load_architecture(tmp_path / "out" / "architecture.yaml").num_classes == 2


# -- weights -----------------------------------------------------------------------------------------------


def test_weights_of_the_same_classes_keep_the_classifier(done: Path, tmp_path: Path) -> None:
    still = Training(epochs=1, batch_size=64, lr=1e-12, warmup_epochs=0, weight_decay=0.0, freeze="features")
    summary = trained(tmp_path, still, architecture=None, weights=done / "weights.safetensors")
    assert summary["accuracy"] == json.loads((done / "summary.json").read_text())["accuracy"]
    assert "fresh classifier" not in summary["weights"]


def test_weights_of_other_classes_get_a_fresh_classifier_and_keep_the_rest(tmp_path: Path) -> None:
    other = NET.with_(num_classes=7)
    norm = ((100.0,), (50.0,))
    file = save_weights(tmp_path / "w.safetensors", build(other), architecture=other, normalization=norm)
    still = Training(epochs=1, batch_size=64, freeze="features")
    summary = trained(tmp_path / "out", still, architecture=None, weights=file)
    assert "its 7 classes are not the data's 10: a fresh classifier" in summary["weights"]
    before, after = read_weights(file), read_weights(tmp_path / "out" / "weights.safetensors")
    kept = [name for name in before.tensors if not name.startswith("classifier") and "tracked" not in name]
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in kept)
    assert after.tensors["classifier.weight"].shape[0] == 10
    assert after.normalization == norm  # of the weights, for the images too


def test_weights_by_other_names_of_as_many_classes_are_other_classes(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(10)]
    file = save_weights(tmp_path / "w.safetensors", build(NET), architecture=NET, classes=names)
    summary = trained(tmp_path / "out", weights=file)
    assert "fresh classifier" in summary["weights"]


# -- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, r"architecture: none given; use architecture=FILE .*weights=FILE"),
        ({"architecture": "efficientnet_b9"}, "'efficientnet_b9' is not a network of the zoo"),
        ({"num_classes": 3}, "num_classes must be the number of classes of the data, 10, or auto; got 3"),
        ({"num_classes": "all"}, "num_classes must be auto or a whole number, got 'all'"),
        ({"weights": "none.pth"}, "weights: no such file: none.pth"),
        ({"padding": "valid"}, "padding: unknown 'valid'.*symmetric, same"),
        ({"resolution": 0}, "resolution must be between 1 and"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"checkpoint_every": 0}, r"checkpoint_every \(epochs\) must be in \(0"),
        ({"device": "cuda:77"}, r"device \(of this machine\): unknown 'cuda:77'"),
        ({"training": Training(freeze=9)}, "freeze must be at most the number of stages, 2, got 9"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        trained(tmp_path, **changes)


def test_a_loss_that_is_not_finite_says_where_and_what_may_help(tmp_path: Path) -> None:
    wild = Training(epochs=1, batch_size=64, lr=1e25, warmup_epochs=0, clip_norm=None)
    with pytest.raises(
        UserError, match=r"the training failed: loss is nan at epoch 1, step \d of 5.*a lower training.lr"
    ):
        trained(tmp_path, wild)


def test_two_runs_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        folder_lock(tmp_path, "train"),
        pytest.raises(UserError, match="another effnas process is running in this folder"),
    ):
        trained(tmp_path)


def test_another_training_in_the_folder_is_refused_and_nothing_is_lost(done: Path) -> None:
    before = (done / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match=r"another training is in this folder \(seed: 0 → 1\)"):
        trained(done, seed=1)
    with pytest.raises(UserError, match=r"training.lr: 0.8 → 0.1"):
        trained(done, Training(**{**SHORT.to_dict(), "lr": 0.1}))
    assert (done / "checkpoint.pt").read_bytes() == before
    assert load_architecture(done / "architecture.yaml") == NET


def test_a_refused_training_writes_nothing(done: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in done.rglob("*") if file.is_file()}

    before = content()
    for changes in ({"architecture": NET.with_(head=16, name="other")}, {"seed": 1}, {"resolution": 16}):
        with pytest.raises(UserError, match="another training is in this folder"):
            trained(done, **changes)  # type: ignore[arg-type]
    assert content() == before


def test_links_in_the_folder_are_replaced_and_what_a_kill_left_goes(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    output = tmp_path / "out"
    output.mkdir()
    for name in ("weights.safetensors", "architecture.yaml", "log.csv", "curves.png", "summary.json"):
        (output / name).symlink_to(precious)
    (output / ".checkpoint.pt.26308.tmp").write_bytes(b"half")
    trained(output, replace(SHORT, epochs=1))
    assert precious.read_text() == "precious"
    assert not any(file.is_symlink() for file in output.iterdir())
    assert not list(output.glob(".*.tmp"))


# -- what goes wrong after the training --------------------------------------------------------------------


def folder_data(folder: Path, **parts: tuple[str, ...]) -> ImageData:
    """Eight images in each of the folders of each part."""
    for part, names in parts.items():
        for name in names:
            (folder / part / name).mkdir(parents=True)
            for i in range(8):
                pixels = np.full((8, 8), 20 * i + len(name), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    return ImageData("files", str(folder))


def test_a_test_part_without_labels_is_left_out_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = folder_data(tmp_path / "data", train=("cat", "dog"), test=("",))
    summary = trained(tmp_path / "out", replace(SHORT, epochs=1), data=data)
    assert summary["test_accuracy"] is None
    assert caplog.text.count("has no labels (its images are in no folders of classes): it is not measured") == 1
    assert read_weights(tmp_path / "out" / "weights.safetensors").classes == ("cat", "dog")


@pytest.mark.parametrize("names", [("cat", "dog", "unknown"), ("Katze", "Hund")])
def test_a_test_part_that_cannot_be_used_is_left_out(names: tuple[str, ...], tmp_path: Path) -> None:
    data = folder_data(tmp_path / "data", train=("cat", "dog"), test=names)
    summary = trained(tmp_path / "out", replace(SHORT, epochs=1), data=data)
    assert summary["test_accuracy"] is None
    assert summary["test_note"].startswith("the test part is left out: ")
    assert summary["test_note"] in summary_text(summary)
    assert load_architecture(tmp_path / "out" / "architecture.yaml").num_classes == 2
    assert read_weights(tmp_path / "out" / "weights.safetensors").classes == ("cat", "dog")


def test_it_is_said_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_data(tmp_path / "data", train=("cat", "dog"), test=("cat", "cow"))
    run_train(NET, data, replace(SHORT, epochs=1), output=tmp_path / "out", threads=1, tensorboard=False)
    told = capsys.readouterr().err
    assert told.index("the test part is left out: ") < told.index("[1/1]")


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("effnas.evaluate.train.job.load_test", UserError("3 of 4 images of the test part cannot be read")),
        ("effnas.evaluate.train.job.measure_accuracy", RuntimeError("out of memory")),
        ("effnas.evaluate.train.report.draw_curves", ValueError("no such font")),
    ],
)
def test_what_fails_after_the_training_costs_no_weights(
    broken: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        assert (tmp_path / "weights.safetensors").is_file()
        raise error

    monkeypatch.setattr(broken, fail)
    summary = trained(tmp_path, replace(SHORT, epochs=1))
    assert str(error) in caplog.text
    assert (summary["test_note"] is None) == (summary["test_accuracy"] is not None)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_a_full_disk_at_the_end_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("effnas.evaluate.train.report.save_weights", full)
    with pytest.raises(
        UserError, match=r"results cannot be written \(No space left on device\); checkpoint.pt is kept"
    ):
        trained(tmp_path)
    (tmp_path / "checkpoint.pt").rename(tmp_path / "kept.pt")  # as if it had not found room either
    monkeypatch.setattr("effnas.evaluate.train.checkpoint.Checkpoint.save", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"No space left on device\); there is no checkpoint.pt either: run the same"):
        trained(tmp_path)
    (tmp_path / "kept.pt").rename(tmp_path / "checkpoint.pt")
    monkeypatch.undo()
    assert trained(tmp_path)["steps"] == 10


# -- the command -------------------------------------------------------------------------------------------

WORDS = ("data.limit=400", "training=proxy", "training.epochs=3", "threads=1", "tensorboard=false")


def test_the_command_prints_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NET.save(tmp_path / "net.yaml")
    words = ["train", "--architecture", str(tmp_path / "net.yaml"), *WORDS, f"hydra.run.dir={tmp_path / 'out'}"]
    assert main([*words, "json=true"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["epochs"] == 3
    assert "held-out accuracy" in captured.err
    assert main(words) == 0
    assert f"test accuracy {summary['test_accuracy']:.2%}" in capsys.readouterr().out
    before = {str(file): file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert (tmp_path / "out" / ".hydra" / "config.yaml").is_file()
    assert main([*words, "seed=3"]) == 2
    assert "another training is in this folder (seed: 0 → 3)" in capsys.readouterr().err
    assert {str(file): file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    NET.save(tmp_path / "net.yaml")
    common = ["--architecture", "net.yaml", *WORDS, "checkpoint_every=0.5", "training.epochs=12", "data.limit=1000"]
    command = [sys.executable, "-m", "effnas", "train", *common]
    subprocess.run([*command, "hydra.run.dir=whole"], cwd=tmp_path, check=True, capture_output=True, timeout=240)
    draw, kills = random.Random(0), 0
    for attempt in range(12):
        process = subprocess.Popen([*command, "hydra.run.dir=parts"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        if attempt < 4:
            log = tmp_path / "parts" / "log.csv"
            began, until = time.monotonic(), len(log.read_text()) if log.exists() else 0
            while process.poll() is None and not (log.exists() and len(log.read_text()) > until):
                assert time.monotonic() - began < 120
                time.sleep(0.02)
            time.sleep(draw.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        elif process.wait(timeout=240) == 0:
            break
    assert kills >= 2
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    with open(tmp_path / "parts" / "log.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(i) for i in range(1, 13)]


@pytest.mark.slow
def test_under_torchrun_one_process_writes_and_speaks(tmp_path: Path) -> None:
    NET.save(tmp_path / "net.yaml")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "effnas"]
    words = ["train", "--architecture", "net.yaml", *WORDS, "training.sync_bn=true", "json=true", "hydra.run.dir=out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *words], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["processes"] == 2
    assert done.stderr.count("[3/3]") == 1
    assert (tmp_path / "out" / "weights.safetensors").is_file()
    odd = subprocess.run(
        [*launcher, *words, "training.batch_size=63", "hydra.run.dir=odd"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert odd.returncode != 0
    assert "batch_size must be a multiple of the number of processes (2), got 63" in odd.stderr


def test_a_fresh_classifier_begins_at_zero(tmp_path: Path) -> None:
    """What large random logits send back would undo the features first."""
    other = NET.with_(num_classes=7)
    file = save_weights(tmp_path / "w.safetensors", build(other), architecture=other)
    still = Training(epochs=1, batch_size=64, lr=1e-12, warmup_epochs=0, weight_decay=0.0, freeze="features")
    trained(tmp_path / "out", still, architecture=None, weights=file)
    assert read_weights(tmp_path / "out" / "weights.safetensors").tensors["classifier.weight"].abs().max() < 1e-6


def test_a_larger_member_grows_from_a_smaller_ones_weights(done: Path, tmp_path: Path) -> None:
    larger = NET.with_(stages=(replace(NET.stages[0], repeats=3), replace(NET.stages[1], channels=24)), name="larger")
    still = Training(
        epochs=1, batch_size=64, lr=1e-12, warmup_epochs=0, weight_decay=0.0, bn_momentum=1e-9, precision="fp32"
    )
    weights = done / "weights.safetensors"
    summary = trained(tmp_path / "out", still, architecture=larger, weights=weights, grow=True)
    assert summary["accuracy"] == json.loads((done / "summary.json").read_text())["accuracy"]
    assert load_architecture(tmp_path / "out" / "architecture.yaml") == larger
    with pytest.raises(UserError, match="belongs to another network"):
        trained(tmp_path / "no", still, architecture=larger, weights=weights)
    with pytest.raises(UserError, match="grow needs architecture=FILE"):
        trained(tmp_path / "no", still, architecture=None, weights=weights, grow=True)
    with pytest.raises(UserError, match="grow needs weights=FILE of effnas train"):
        trained(tmp_path / "no", still, architecture=larger, grow=True)
