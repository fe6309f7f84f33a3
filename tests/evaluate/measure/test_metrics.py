"""The numbers of a measurement, against scikit-learn and by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn import metrics as theirs
from torch import Tensor

from effnas.evaluate.measure.metrics import BINS, Collector, Predictions, confusion_matrix, confusions, summarize
from effnas.space.errors import UserError


def predictions(logits: Tensor, labels: Tensor, batch: int = 7) -> Predictions:
    collector = Collector(logits.shape[1])
    for x, y in zip(logits.split(batch), labels.split(batch), strict=True):
        collector.add(x, y)
    return collector.result()


def random(classes: int, images: int = 300, seed: int = 0, present: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits that are often right, and labels of the first ``present`` classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(present or classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    return logits + 1.5 * torch.nn.functional.one_hot(labels, classes), labels


def with_confidence(confidence: list[float], right: list[bool]) -> tuple[Tensor, Tensor]:
    """Two classes; the first one is predicted with this probability, above 1/2."""
    p = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], 1), torch.tensor([0 if r else 1 for r in right])


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10, 40])
def test_the_whole(classes: int) -> None:
    logits, labels = random(classes)
    result = summarize(predictions(logits, labels))
    y, answers = labels.numpy(), logits.argmax(1).numpy()
    assert result.images == 300
    assert result.k == min(5, classes)
    assert result.top1 == pytest.approx(theirs.accuracy_score(y, answers))
    expected = theirs.top_k_accuracy_score(y, logits, k=5, labels=range(classes)) if classes > 5 else 1.0
    assert result.top_k == pytest.approx(expected)
    assert result.loss == pytest.approx(theirs.log_loss(y, logits.double().softmax(1)), rel=1e-5)
    assert result.balanced_accuracy == pytest.approx(theirs.balanced_accuracy_score(y, answers))
    assert result.macro_f1 == pytest.approx(theirs.f1_score(y, answers, average="macro"))
    assert result.empty_classes == 0


@pytest.mark.parametrize(("classes", "present"), [(3, None), (10, 10), (10, 7)])
def test_each_class(classes: int, present: int | None) -> None:
    logits, labels = random(classes, present=present)
    answers = logits.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, support = theirs.precision_recall_fscore_support(
            labels, answers, labels=range(classes), zero_division=np.nan
        )
    rows = summarize(predictions(logits, labels)).classes
    assert [row.label for row in rows] == list(range(classes))
    assert [row.images for row in rows] == support.tolist()
    assert [row.predicted for row in rows] == answers.bincount(minlength=classes).tolist()
    for row in rows[:present]:
        assert row.recall == pytest.approx(recall[row.label])
        assert row.precision == pytest.approx(precision[row.label])
        assert row.f1 == pytest.approx(f1[row.label])
        own = labels == row.label
        among = theirs.top_k_accuracy_score(labels[own], logits[own], k=5, labels=range(classes)) if classes > 5 else 1
        assert row.recall_top_k == pytest.approx(among)


def test_confusion() -> None:
    logits, labels = random(10, present=8)
    found = predictions(logits, labels)
    expected = theirs.confusion_matrix(labels, logits.argmax(1), labels=range(10))
    assert np.array_equal(confusion_matrix(found), expected)
    entries = confusions(found)
    assert [n for *_, n in entries] == sorted(expected[expected > 0].tolist(), reverse=True)
    assert all(expected[i, j] == n for i, j, n in entries)


def test_a_class_without_images_has_no_numbers_and_no_part_in_means() -> None:
    logits = torch.eye(4)[[0, 0, 1, 3, 0]]
    labels = torch.tensor([0, 0, 1, 0, 1])  # nothing of 2 and 3, and one image was taken for a 3
    result = summarize(predictions(logits, labels))
    for row, taken in ((result.classes[2], 0), (result.classes[3], 1)):
        assert (row.images, row.predicted) == (0, taken)
        assert row.recall is row.recall_top_k is row.precision is row.f1 is None
    assert result.empty_classes == 2
    assert result.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.macro_f1 == pytest.approx((2 * 2 / (3 + 3) + 2 * 1 / (2 + 1)) / 2)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    result = summarize(predictions(torch.eye(3)[[0, 0]], torch.tensor([0, 1])))
    assert result.classes[1].precision is None
    assert (result.classes[1].recall, result.classes[1].f1) == (0, 0)


def test_calibration_by_hand() -> None:
    """Bins of 1/15: (8/15, 9/15] has 0.55 and 0.59, (13/15, 14/15] has 0.9, (14/15, 1] has 0.95, 0.97, 0.99."""
    logits, labels = with_confidence([0.55, 0.59, 0.9, 0.95, 0.97, 0.99], [True, False, True, True, True, False])
    result = summarize(predictions(logits, labels))
    by_hand = 2 / 6 * abs(1 / 2 - 0.57) + 1 / 6 * abs(1 - 0.9) + 3 / 6 * abs(2 / 3 - 0.97)
    assert result.ece == pytest.approx(by_hand, abs=1e-6)
    assert result.confidence == pytest.approx(0.825)
    filled = {i: b for i, b in enumerate(result.bins) if b.images}
    assert {i: b.images for i, b in filled.items()} == {8: 2, 13: 1, 14: 3}
    assert filled[14].accuracy == pytest.approx(2 / 3)
    assert filled[14].confidence == pytest.approx(0.97)
    assert len(result.bins) == BINS == 15
    assert (result.bins[0].low, result.bins[14].high) == (0, 1)
    assert result.bins[3].accuracy is result.bins[3].confidence is None


@pytest.mark.parametrize(("confidence", "place"), [(1.0, 14), (0.6, 8), (0.6000001, 9)])
def test_the_upper_edge_belongs_to_a_bin(confidence: float, place: int) -> None:
    one = np.array([0])
    found = Predictions(one, one, np.array([confidence]), np.array([True]), np.array([0.1]), 2, 2)
    (at,) = (i for i, b in enumerate(summarize(found).bins) if b.images)
    assert at == place


def test_a_sure_network_that_is_right_has_no_calibration_error() -> None:
    result = summarize(predictions(100 * torch.eye(3), torch.arange(3)))
    assert (result.ece, result.top1, result.loss) == (0, 1, 0)


def test_a_constant_network_is_not_right_everywhere() -> None:
    result = summarize(predictions(torch.zeros(40, 10), torch.arange(10).repeat(4)))
    assert (result.top1, result.top_k) == (0.1, 0.5)
    assert result.loss == pytest.approx(math.log(10))


@pytest.mark.parametrize(("hits", "total"), [(0, 3), (872, 1000), (5, 5)])
def test_interval(hits: int, total: int) -> None:
    logits, labels = torch.eye(2)[[0] * total], torch.tensor([0] * hits + [1] * (total - hits))
    result = summarize(predictions(logits, labels))
    interval = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert (result.top1_low, result.top1_high) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_low_precision_logits_are_measured_in_fp32() -> None:
    logits, labels = random(10)
    low = predictions(logits.bfloat16(), labels)
    assert low.confidence.dtype == low.loss.dtype == np.float64
    assert np.allclose(low.loss, predictions(logits.bfloat16().float(), labels).loss)


def test_output_that_is_not_finite() -> None:
    logits, labels = random(4)
    logits[3, 2], logits[9] = math.nan, math.inf
    with pytest.raises(UserError, match=r"^the network's output is not finite for 2 of 300 images: its weights"):
        predictions(logits, labels)


def test_no_images() -> None:
    with pytest.raises(UserError, match="there are no images to measure on"):
        Collector(3).result()
