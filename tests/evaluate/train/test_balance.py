"""Classes of unequal size: weights of the loss, and balanced sampling, against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnas.evaluate.data.decode import Unreadable
from effnas.evaluate.data.pixels import Pixels
from effnas.evaluate.data.sets import ImageSet, MemorySet, StreamSet
from effnas.evaluate.data.table import Encoded, Indices
from effnas.evaluate.machine.settings import Settings
from effnas.evaluate.train.distributed import ALONE
from effnas.evaluate.train.losses import weigh_classes
from effnas.evaluate.train.optimizers import make_optimizer
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.train.stepper import Stepper
from effnas.evaluate.train.train import train

#: Six images of class 0, two of class 1, four of class 2: 12 / (3 · 6), 12 / (3 · 2), 12 / (3 · 4).
LABELS = torch.tensor([0, 0, 0, 1, 0, 2, 2, 0, 1, 2, 0, 2])
WEIGHTS = [2 / 3, 2.0, 1.0]


def test_weights_of_the_classes() -> None:
    assert weigh_classes(LABELS, 3).tolist() == pytest.approx(WEIGHTS)
    assert float(weigh_classes(LABELS, 3)[LABELS].mean()) == pytest.approx(1)
    assert weigh_classes(torch.tensor([0, 0, 0, 3]), 5).tolist() == pytest.approx([4 / 6, 1, 1, 2, 1])


class Constant(nn.Module):
    """The same logits for every image: its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([math.log(0.7), math.log(0.2), math.log(0.1)]))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), 3)


def loss_of(targets: Tensor, **recipe: object) -> float:
    model, training = Constant(), Training(lr=1e-9, batch_size=8, clip_norm=None, **recipe)  # type: ignore[arg-type]
    optimizer = make_optimizer(training, model)
    step = Stepper(model, optimizer, training, Settings(), torch.device("cpu"), ALONE, weigh_classes(LABELS, 3))
    return float(step(torch.zeros(len(targets), 1, 2, 2), targets, 1e-9))


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_the_loss_is_the_mean_by_the_weights_of_the_whole_batch(accumulate: int) -> None:
    targets = torch.tensor([0, 1, 1, 2, 0])
    sums = [w * -math.log(p) for w, p in ((2 / 3, 0.7), (2, 0.2), (2, 0.2), (1, 0.1), (2 / 3, 0.7))]
    assert loss_of(targets, accumulate=accumulate) == pytest.approx(sum(sums) / (2 / 3 + 2 + 2 + 1 + 2 / 3), rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_torch_with_smoothed_and_mixed_labels_too(accumulate: int, smoothing: float) -> None:
    hard = torch.tensor([0, 1, 1, 2, 0])
    mixed = torch.tensor([[0.5, 0.5, 0], [0, 0.2, 0.8], [1, 0, 0]])
    for targets in (hard, mixed):
        theirs = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS), label_smoothing=smoothing)
        expected = float(theirs(Constant().logits.detach().expand(len(targets), 3), targets))
        found = loss_of(targets, accumulate=accumulate, label_smoothing=smoothing)
        assert found == pytest.approx(expected, rel=1e-6)


class Table:
    """An ImageTable of arrays."""

    classes = ("a", "b", "c")

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels.numpy()

    def fetch(self, rows: Indices) -> list[tuple[str, Encoded]]:
        return [(str(row), np.full((2, 2), row % 250, dtype=np.uint8)) for row in rows]


def sets(labels: Tensor) -> list[ImageSet]:
    pixels = Pixels(1, 2, (0.0,), (1.0,))
    rows = np.arange(len(labels))
    stored = (torch.arange(len(labels)) % 250).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return [
        MemorySet(stored, labels, 3, pixels),
        StreamSet(Table(labels), rows, 3, pixels, 0, Unreadable(len(labels), 0.0, "here")),
    ]


def drawn(images: ImageSet, seed: int = 0, **options: object) -> list[tuple[list[int], list[int]]]:
    """Rows and labels of each batch."""
    batches = images.batches(100, device="cpu", shuffle=seed, balanced=True, **options)  # type: ignore[arg-type]
    return [(stored[:, 0, 0, 0].tolist(), labels.tolist()) for stored, labels in batches]


def test_an_epoch_draws_each_class_as_often_and_each_of_its_images() -> None:
    labels = torch.cat([torch.zeros(900), torch.ones(90), torch.full((10,), 2)]).long()
    memory, stream = (drawn(images) for images in sets(labels))
    assert memory == stream  # streamed sets draw alike
    assert [len(labels) for _, labels in memory] == [100] * 10
    counts = np.bincount([label for _, batch in memory for label in batch])
    assert np.abs(counts - 1000 / 3).max() < 5 * math.sqrt(1000 * 2 / 9)  # of a binomial distribution
    rare = [row for rows, batch in memory for row, label in zip(rows, batch, strict=True) if label == 2]
    assert set(rare) == {row % 250 for row in range(990, 1000)}
    assert all(labels[row % 250 + 750] == 2 for row in rare)


def test_the_order_follows_from_the_seed_where_it_is_resumed_and_shared_too() -> None:
    images = sets(LABELS.repeat(40))[0]
    whole = drawn(images)
    assert drawn(images) == whole != drawn(images, seed=1)
    assert drawn(images, start=2) == whole[2:]
    parts = [drawn(images, shard=(i, 2)) for i in range(2)]
    assert [[*a[0], *b[0]] for a, b in zip(*parts, strict=True)] == [rows for rows, _ in whole]


@pytest.mark.parametrize("balance", [None, "weights", "sampling"])
def test_a_training_without_features_learns_how_often_classes_count(balance: str | None) -> None:
    """Where images say nothing, the best constant is the classes' share: as they are, or all the same."""
    training = Training(
        epochs=40,
        batch_size=60,
        lr=4.0,
        warmup_epochs=0,
        weight_decay=0.0,
        balance=balance,
        memory_format="channels_last",
        precision="fp32",
        compile=False,
    )
    model = Constant()
    images = sets(LABELS.repeat(20))[0]
    train(model, images, None, training, resolution=2, seed=0, report=lambda epoch, accuracy: None, threads=1)
    expected = [1 / 3, 1 / 3, 1 / 3] if balance else [1 / 2, 1 / 6, 1 / 3]
    assert model.logits.softmax(0).tolist() == pytest.approx(expected, abs=0.04)


def test_the_balance_belongs_to_the_identity_of_a_recipe(tmp_path: Path) -> None:
    assert Training().to_dict()["balance"] is None
    assert Training(balance="weights").to_dict()["balance"] == "weights"
