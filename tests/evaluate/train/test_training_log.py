"""What a training writes and shows while it runs, and its learning curves."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from synthetic import read_csv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.train import log as training_log
from effnas.evaluate.train.checkpoint import Checkpoint
from effnas.evaluate.train.figure import draw_curves
from effnas.evaluate.train.history import EpochRow, Plan, TrainingResult
from effnas.evaluate.train.log import TrainingLog
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.train import train
from effnas.space.architecture import Architecture
from effnas.space.network import build
from effnas.space.stage import Stage

DIGITS = ImageData(source="digits", limit=120)
NET = Architecture(
    stages=(Stage("mbconv", 8),), stem=8, stem_stride=2, head=8, resolution=8, in_channels=1, num_classes=10
)
#: 100 images to train on: 25 steps an epoch, five more than between two looks at the loss.
RECIPE = Training(epochs=3, batch_size=4, lr=0.01, eval_every=2)
ROW = EpochRow(
    epoch=1,
    step=40,
    lr=0.1,
    resolution=32,
    train_loss=2.25,
    loss=1.9,
    accuracy=0.25,
    images_per_second=1234.5,
    seconds=10.0,
)


class Killed(BaseException):
    """As a kill: nothing is tidied up but what the test has to."""


class Dies(TrainingLog):
    """Is killed after a step, or after the row of an epoch and before the checkpoint of its end."""

    def __init__(self, output: Path, *, at: int, row: bool = False, error: type[BaseException] = Killed) -> None:
        super().__init__(output, quiet=True)
        self.at, self.row, self.error = at, row, error

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        super().step(step, images, lr, loss)
        if step == self.at and not self.row:
            raise self.error(f"at step {self.at}")

    def epoch(self, row: EpochRow) -> None:
        super().epoch(row)
        if row.step == self.at and self.row:
            raise self.error(f"at step {self.at}")


def run(watcher: TrainingLog, every: float = 1.0) -> TrainingResult:
    torch.manual_seed(0)
    split = load_split(DIGITS, 1)
    with watcher as log:
        return train(
            build(NET),
            split.train,
            split.heldout,
            RECIPE,
            resolution=8,
            seed=0,
            report=lambda epoch, accuracy: None,
            threads=1,
            watcher=log,
            checkpoint=Checkpoint(watcher._output / "checkpoint.pt", {}, every),
        )


def points(output: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return {tag: values for tag, values in found.items() if values}


def timeless(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


@pytest.fixture(autouse=True)
def sorted_event_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard sorts files by second, process and number, as text: all that tells runs of one test apart."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(TrainingLog(folder, quiet=True))


# -- files -----------------------------------------------------------------------------------------------


def test_log_csv_has_the_history(whole: tuple[Path, TrainingResult]) -> None:
    folder, result = whole
    rows = read_csv(folder / "log.csv")
    assert [(row["epoch"], row["step"], row["resolution"]) for row in rows] == [
        ("1", "25", "8"),
        ("2", "50", "8"),
        ("3", "75", "8"),
    ]
    for row, expected in zip(rows, result.history, strict=True):
        for name, value in asdict(expected).items():
            assert row[name] == ("" if value is None else str(value))
    assert [row["accuracy"] == row["loss"] == "" for row in rows] == [True, False, False]  # every second, and the last


def test_tensorboard_has_it_by_step(whole: tuple[Path, TrainingResult]) -> None:
    folder, result = whole
    found = points(folder)
    history = result.history
    names = {"train/loss": "train_loss", "train/accuracy": "train_accuracy"}
    names |= {"heldout/loss": "loss", "heldout/accuracy": "accuracy"}
    for tag, name in {**names, "resolution": "resolution", "images_per_second": "images_per_second"}.items():
        expected = [(row.step, getattr(row, name)) for row in history if getattr(row, name) is not None]
        assert found.pop(tag) == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    assert [step for step, _ in found["lr"]] == [20, 25, 45, 50, 70, 75]
    assert dict(found.pop("lr"))[75] == pytest.approx(history[-1].lr)
    losses = found.pop("train/loss_of_step")
    assert [step for step, _ in losses] == [20, 45, 70]  # the engine reads every twentieth of an epoch
    assert all(0 < value < 10 for _, value in losses)
    assert not found


def test_a_loss_read_at_the_last_step_of_an_epoch_gives_one_learning_rate(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, quiet=True) as log:
        log.begin(Plan(2, 40, 32, ""), [])
        for step in (20, 40):
            log.step(step, 32, 0.1, 2.0)
        log.epoch(ROW)
    assert points(tmp_path)["lr"] == [(20, pytest.approx(0.1)), (40, pytest.approx(0.1))]


def test_no_event_files_where_none_are_wanted(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, tensorboard=False, quiet=True) as log:
        log.begin(Plan(1, 40, 32, ""), [])
        log.step(40, 32, 0.1, 2.0)
        log.epoch(ROW)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


# -- killed and resumed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "deaths",
    [
        [{"at": 3}],  # before the first checkpoint
        [{"at": 23}, {"at": 45}],  # checkpoints lie behind: at 18, 42
        [{"at": 50, "row": True}],  # its row is written, the checkpoint of the end of the epoch is not
        [{"at": 50, "error": KeyboardInterrupt}, {"at": 50, "row": True}],  # nothing but the row is left to do, twice
    ],
)
def test_killed_and_resumed_there_is_no_double_and_no_missing_row(
    deaths: list[dict[str, Any]], tmp_path: Path, whole: tuple[Path, TrainingResult]
) -> None:
    for death in deaths:
        with pytest.raises(death.get("error", Killed), match=f"^at step {death['at']}$"):
            run(Dies(tmp_path, **death), every=0.25)
    run(TrainingLog(tmp_path, quiet=True), every=0.25)
    assert timeless(read_csv(tmp_path / "log.csv")) == timeless(read_csv(whole[0] / "log.csv"))
    found, expected = points(tmp_path), points(whole[0])
    for tag in ("train/loss", "heldout/loss", "heldout/accuracy", "resolution"):
        assert found[tag] == expected[tag]
    assert [step for step, _ in found["images_per_second"]] == [25, 50, 75]


def test_rows_beyond_the_checkpoint_go_when_the_training_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Killed, match=r"^at step 75$"):
        run(Dies(tmp_path, at=75, row=True), every=2)
    assert len(read_csv(tmp_path / "log.csv")) == 3
    with pytest.raises(Killed, match=r"^at step 51$"):
        run(Dies(tmp_path, at=51), every=2)  # on from the end of the second epoch
    assert [row["epoch"] for row in read_csv(tmp_path / "log.csv")] == ["1", "2"]
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(Killed, match=r"^at step 1$"):
        run(Dies(tmp_path, at=1), every=2)  # from the beginning
    assert read_csv(tmp_path / "log.csv") == []
    assert points(tmp_path) == {}


def test_history_beyond_the_resumed_step_is_dropped(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, quiet=True, tensorboard=False) as log:
        log.begin(Plan(4, 40, 32, "", step=60), [replace(ROW, epoch=e, step=40 * e) for e in (1, 2, 3)])
        assert [row["step"] for row in read_csv(tmp_path / "log.csv")] == ["40"]


def test_what_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log.csv").mkdir()
    (tmp_path / "tensorboard").touch()
    assert run(TrainingLog(tmp_path, quiet=True)).epochs == 3
    assert f"{tmp_path}/log.csv cannot be written (Is a directory); the training continues" in caplog.messages
    assert (
        f"{tmp_path}/tensorboard cannot be written (File exists); the training continues without it" in caplog.messages
    )
    (tmp_path / "log.csv").rmdir()
    run(TrainingLog(tmp_path, quiet=True, tensorboard=False))  # done: it only writes what it knows
    assert len(read_csv(tmp_path / "log.csv")) == 3


# -- what is shown ---------------------------------------------------------------------------------------


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock: its only member is the time."""
    time = [1000.0]
    monkeypatch.setattr(training_log.time, "monotonic", lambda: time[0])
    return time


def test_a_line_an_epoch_where_there_is_no_terminal(
    tmp_path: Path, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingLog(tmp_path, "net [red] from scratch", tensorboard=False) as log:
        log.begin(Plan(3, 40, 32, "channels-last, bf16", step=40), [ROW])
        for step in range(41, 81):
            now[0] += 2
            log.step(step, 32, 0.1, None)
        log.epoch(replace(ROW, epoch=2, step=80))
        for step in range(81, 121):
            log.step(step, 32, 0.1, None)
        log.epoch(replace(ROW, epoch=3, step=120, accuracy=None, loss=None))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "net [red] from scratch",
        "channels-last, bf16",
        "resuming: 40 of 120 steps are done",
        # 40 steps in 80 s, and 40 are left
        "[2/3] training loss 2.2500, held-out accuracy 25.00%, loss 1.9000; 1,234 images/s; 1:20 left",
        "[3/3] training loss 2.2500; 1,234 images/s; 0:00 left",
    ]


def test_no_time_left_is_made_up_before_a_step_is_done(
    tmp_path: Path, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingLog(tmp_path, tensorboard=False) as log:
        log.begin(Plan(3, 40, 32, "", step=40), [])  # interrupted between the last step of an epoch and its row
        log.epoch(ROW)
    assert capsys.readouterr().err.splitlines()[-1].endswith("loss 1.9000; 1,234 images/s")


def shown(log: TrainingLog, width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(log)
    return [line.strip() for line in capture.get().splitlines()]


def test_the_bar_of_a_terminal(
    tmp_path: Path, now: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with TrainingLog(tmp_path, tensorboard=False) as log:
        log.begin(Plan(100, 40, 32, ""), [])
        assert shown(log)[0].startswith("epoch 1/100 ")
        assert shown(log)[0].endswith(" step 0/4,000")
        for step in range(1, 41):
            now[0] += 0.5
            log.step(step, 32, 0.1, 2.125 if step == 20 else None)
        head, facts = shown(log)
        assert head.startswith("epoch 1/100 ")
        assert head.endswith(" step 40/4,000, 33:00 left")  # 0.5 s × 3,960
        assert facts == "64 images/s · loss 2.125"
        now[0] += 20  # a measurement as long as the epoch
        log.epoch(ROW)
        head, facts = shown(log)
        assert head.endswith(" step 40/4,000, 1:06:00 left")
        assert facts == "1,234 images/s · loss 2.250 · held-out accuracy 25.00%"
        for step in (41, 42, 43):
            now[0] += 0.25
            log.step(step, 32, 0.1, None)
        head, facts = shown(log)
        assert head.startswith("epoch 2/100 ")
        assert facts == "128 images/s · loss 2.250 · held-out accuracy 25.00%"
        log.epoch(replace(ROW, step=80, accuracy=None, loss=None))
        assert shown(log)[1].endswith("held-out accuracy 25.00%")  # the last that was measured
        assert [len(line) <= 50 for line in shown(log, 50)] == [True, True]
    errors = capsys.readouterr().err
    assert "step 43/4,000" in errors
    assert "[1/100]" not in errors


def test_a_dumb_terminal_gets_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with TrainingLog(tmp_path, tensorboard=False) as log:
        log.begin(Plan(1, 40, 32, ""), [])
        log.step(40, 32, 0.1, None)
        log.epoch(ROW)
    assert capsys.readouterr().err.startswith("[1/1] training loss 2.2500")


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_nothing(
    terminal: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt, match=r"^at step 30$"):
        run(Dies(tmp_path, at=30, error=KeyboardInterrupt))
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_says_how_far_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with TrainingLog(tmp_path, tensorboard=False) as log:
            log.begin(Plan(100, 40, 32, ""), [])
            log.step(1234, 32, 0.1, None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == "stopped: 1,234 of 4,000 steps are done\n"


# -- learning curves -------------------------------------------------------------------------------------


def history(epochs: int, measured: int = 1) -> list[EpochRow]:
    def row(epoch: int) -> EpochRow:
        known = measured and (epoch % measured == 0 or epoch == epochs)
        accuracy, loss = (0.9 - 0.5 / epoch, 0.5 + 1 / epoch) if known else (None, None)
        return replace(ROW, epoch=epoch, train_loss=1 + 1 / epoch, loss=loss, accuracy=accuracy, lr=0.1 / epoch)

    return [row(epoch) for epoch in range(1, epochs + 1)]


def texts(path: Path) -> list[str]:
    """Matplotlib draws text as outlines in an SVG, and says in a comment what they are."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.parse(path, parser).getroot()
    assert root.tag.endswith("svg")
    return [(node.text or "").strip() for node in root.iter(ElementTree.Comment)]


@pytest.mark.parametrize(("epochs", "measured"), [(1, 1), (2, 1), (350, 5)])
@pytest.mark.pictures
def test_curves(epochs: int, measured: int, tmp_path: Path) -> None:
    draw_curves(history(epochs, measured), tmp_path / "new" / "curves.v1")
    with Image.open(tmp_path / "new" / "curves.v1.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").resize((128, 64)).getcolors(8192) or ()) > 5
    found = texts(tmp_path / "new" / "curves.v1.svg")
    labels = ["training (label smoothing, mixing included)", "held out (plain labels)", "learning rate, end of epoch"]
    assert {*labels, f"held-out accuracy (%), last {90 - 50 / epochs:.2f}", "cross-entropy"} <= set(found)
    assert found.count("epoch") == 3
    if epochs == 1:  # one tick on each axis of epochs, and none between epochs
        assert found.count("1") == 3
        assert not {"0.0", "0.50", "0.96", "1.04", "1.50"} & set(found)


@pytest.mark.pictures
def test_curves_without_held_out_images_and_without_epochs(tmp_path: Path) -> None:
    draw_curves(history(5, 0), tmp_path / "curves")
    found = texts(tmp_path / "curves.svg")
    assert found.count("epoch") == 2
    assert not [text for text in found if text.startswith("held")]
    draw_curves([], tmp_path / "none")
    assert not list(tmp_path.glob("none*"))


@pytest.mark.pictures
def test_a_bad_first_epoch_does_not_flatten_the_others(tmp_path: Path) -> None:
    rows = history(30)
    draw_curves([replace(rows[0], loss=80.0), *rows[1:]], tmp_path / "curves")
    found = texts(tmp_path / "curves.svg")
    assert "cross-entropy (log scale)" in found
    assert {"1", "3", "10", "30"} <= set(found)
