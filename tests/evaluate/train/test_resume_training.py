"""Checkpoints: a training that was killed and goes on is the training that was never stopped."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnas.evaluate.data import ImageData
from effnas.evaluate.data.load import load_split
from effnas.evaluate.train.checkpoint import Checkpoint
from effnas.evaluate.train.history import EpochRow, TrainingResult, Unwatched
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.train import train
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.network import build
from effnas.space.stage import Stage

DIGITS = ImageData(source="digits", limit=300, flip=True, crop=1)
NET = Architecture(
    stages=(Stage("mbconv", 8, 2, expand_ratio=2, se_ratio=0.25),),
    stem=8,
    stem_stride=1,
    head=16,
    dropout=0.2,
    drop_path=0.2,
    resolution=16,
    in_channels=1,
    num_classes=10,
)
#: Everything that has a state or draws random numbers.
RECIPES = {
    "sgd": Training(epochs=3, batch_size=48, ema_decay=0.9, mixup=0.2, cutmix=1.0, erase=0.3, progressive=0.5),
    "rmsprop": Training(epochs=3, batch_size=48, optimizer="rmsprop", lr=0.05, schedule="exponential", ema_decay=0.99),
    "weights": Training(epochs=3, batch_size=48, balance="weights", accumulate=2, memory_format="channels_last"),
    "sampling": Training(epochs=3, batch_size=48, balance="sampling", label_smoothing=0.1, mixup=0.2),
    "adamw": Training(epochs=3, batch_size=48, optimizer="adamw", lr=0.02, crop_scale=(0.3, 1.0), accumulate=2),
}


class Killed(BaseException):
    """As a kill between two steps."""


class Kills(Unwatched):
    """Ends the process after a step."""

    def __init__(self, at: int, error: type[BaseException] = Killed) -> None:
        self.at, self.error = at, error

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        if step == self.at:
            raise self.error(f"after step {step}")


def run(
    training: Training, checkpoint: Checkpoint | None = None, watcher: Any = None
) -> tuple[TrainingResult, nn.Module]:
    torch.manual_seed(5)
    model = build(NET)
    split = load_split(DIGITS, 1)
    result = train(
        model,
        split.train,
        split.heldout,
        training,
        resolution=16,
        seed=3,
        report=lambda epoch, accuracy: None,
        threads=1,
        watcher=watcher,
        checkpoint=checkpoint,
    )
    return result, model


def weights(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def told(result: TrainingResult) -> list[tuple[Any, ...]]:
    """What the rows say but for the time."""
    return [(r.epoch, r.step, r.lr, r.resolution, r.train_loss, r.loss, r.accuracy) for r in result.history]


@pytest.mark.parametrize("name", RECIPES)
def test_killed_at_any_step_and_resumed_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    training = RECIPES[name]
    whole, expected = run(training)
    steps = whole.steps
    assert steps == 15
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {"name": name}, every=0.4)  # in the middle of epochs too
    for at in (1, 4, 5, 7, 11, 14):  # killed again and again: the run goes on where its last checkpoint was
        with pytest.raises(Killed, match=f"^after step {at}$"):
            run(training, checkpoint, Kills(at))
    result, model = run(training, checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(expected), strict=True))
    assert told(result) == told(whole)
    again, same = run(training, checkpoint)  # a training that is done is done
    assert told(again) == told(whole)
    assert all(torch.equal(a, b) for a, b in zip(weights(same), weights(expected), strict=True))


def test_an_interrupt_between_two_steps_keeps_them(tmp_path: Path) -> None:
    training = RECIPES["sgd"]
    _, expected = run(training)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {})
    for at in (2, 5, 10):  # in an epoch, and at the end of one before it was measured
        with pytest.raises(KeyboardInterrupt, match=f"^after step {at}$"):
            run(training, checkpoint, Kills(at, KeyboardInterrupt))
        state = checkpoint.load()
        assert state is not None
        assert (state["epoch"] - 1) * 5 + state["done"] == at
    _, model = run(training, checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(expected), strict=True))


def test_the_history_of_earlier_runs_is_told(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Notes(Kills):
        def begin(self, plan: Any, history: Sequence[EpochRow]) -> None:
            seen.append([plan.step, *(row.epoch for row in history)])

    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {})
    for at in (7, 12, 0):
        try:
            run(RECIPES["rmsprop"], checkpoint, Notes(at))
        except Killed:
            continue
    assert seen == [[0], [5, 1], [10, 1, 2]]


# -- files ------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_training_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path, {"seed": 0, "training": {"lr": 0.1, "epochs": 3}}).save({"epoch": 1})
    with pytest.raises(UserError, match=r"another training is in this folder \(training.lr: 0.1 → 0.2\)"):
        Checkpoint(path, {"seed": 0, "training": {"lr": 0.2, "epochs": 3}}).load()
    assert Checkpoint(path, {"seed": 0, "training": {"lr": 0.1, "epochs": 3}}).load() == {"epoch": 1}


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "checkpoint.pt", {}).load() is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_checkpoint_cut_short_says_so(share: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path, {}).save({"weights": torch.ones(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cannot be read: it is truncated or damaged\. Delete it to start again"):
        Checkpoint(path, {}).load()


class Evil:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    path, trap = tmp_path / "checkpoint.pt", tmp_path / "trap"
    for write in (lambda: torch.save(Evil(trap), path), lambda: path.write_bytes(pickle.dumps(Evil(trap), 2))):
        write()
        with pytest.raises(UserError, match=r"cannot be read: it holds more than data, which is never loaded. Delete"):
            Checkpoint(path, {}).load()
        assert not trap.exists()


def test_another_file_of_torch_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="not a checkpoint of effnas train"):
        Checkpoint(tmp_path / "checkpoint.pt", {}).load()


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {})
    assert checkpoint.save({"epoch": 1})

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("effnas.evaluate.train.checkpoint.torch.save", full)
    assert not checkpoint.save({"epoch": 2})
    assert (
        "cannot be written (No space left on device); the last one is kept, and the training continues" in caplog.text
    )
    monkeypatch.undo()
    assert checkpoint.load() == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_place_that_cannot_be_written_does_not_stop_a_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    checkpoint = Checkpoint(Path("/dev/full/checkpoint.pt"), {})  # not a folder: nothing can be written there
    result, _ = run(Training(epochs=1, batch_size=48), checkpoint)
    assert result.steps == 5
    assert "there is none yet, and the training continues" in caplog.text


def test_the_state_is_as_it_was_saved(tmp_path: Path) -> None:
    state = {"numbers": np.arange(3).tolist(), "weights": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)}
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {})
    checkpoint.save(state)
    found = checkpoint.load()
    assert found is not None
    assert torch.equal(found["weights"], state["weights"])
    assert found["weights"].stride() == state["weights"].stride()  # type: ignore[attr-defined]
    assert found["numbers"] == [0, 1, 2]


def altered(state: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    """Set what ``path`` leads to, or remove it where the value is ``...``."""
    *way, last = path
    for key in way:
        state = state[key]
    if value is ...:
        del state[last]
    else:
        state[last] = value


ALTERATIONS: list[tuple[tuple[Any, ...], Any]] = [
    *(((key,), value) for key in ("model", "average", "optimizer", "history", "losses") for value in (..., 7, None)),
    *(((key,), value) for key in ("epoch", "done", "seconds") for value in (..., None, "1", -1, float("nan"))),
    *(((key,), 10**9) for key in ("epoch", "done")),
    (("model", "classifier.weight"), ...),
    (("model", "classifier.weight"), torch.zeros(3, 16)),
    (("model", "classifier.weight"), torch.zeros(10, 16, dtype=torch.int64)),
    (("model", "classifier.weight"), 0.5),
    (("model", "more"), torch.zeros(1)),
    (("average", "updates"), ...),
    (("average", "updates"), torch.zeros(2)),
    (("average", "weights"), 3),
    (("average", "weights", "classifier.bias"), torch.zeros(11)),
    (("optimizer", "state"), {}),
    (("optimizer", "state", 0), {}),
    (("optimizer", "state", 0, "mean_square"), ...),
    (("optimizer", "state", 0, "momentum"), torch.zeros(5)),
    (("optimizer", "state", 0, "momentum"), None),
    (("optimizer", "state", 99), {}),
    (("optimizer", "param_groups"), []),
    (("optimizer", "param_groups", 0, "weight_decay"), 9.0),
    (("optimizer", "param_groups", 0, "lr_scale"), ...),
    (("optimizer", "param_groups", 0, "params"), [0]),
    (("history",), [{"epoch": 1}]),
    (("history", 0, "accuracy"), "high"),
    (("history", 0, "train_loss"), ...),
    (("history", 0, "more"), 1),
    (("losses",), (1.0,)),
    (("losses",), ("a", 1)),
]


def test_a_checkpoint_of_altered_structure_says_so(tmp_path: Path) -> None:
    training, path = RECIPES["rmsprop"], tmp_path / "checkpoint.pt"
    with pytest.raises(Killed, match="after step 8"):
        run(training, Checkpoint(path, {}, every=0.4), Kills(8))
    whole = path.read_bytes()
    for way, value in ALTERATIONS:
        path.write_bytes(whole)
        content = torch.load(path, weights_only=True)
        altered(content["state"], way, value)
        torch.save(content, path)
        with pytest.raises(UserError, match=r"pt: this checkpoint is damaged: .+\. Delete it to start again$"):
            run(training, Checkpoint(path, {}))
    for name in ("state", "identity"):
        for value in (..., 3, None):
            path.write_bytes(whole)
            content = torch.load(path, weights_only=True)
            altered(content, (name,), value)
            torch.save(content, path)
            with pytest.raises(UserError, match="does not say which training it is of, or where that stands"):
                Checkpoint(path, {}).load()
