"""How good the answers of a classifier are, and how well it knows that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...space.errors import UserError
from ..data.table import Indices

Numbers = npt.NDArray[np.float64]

#: Equal-width bins of the confidence (Guo et al. 2017, section 2).
BINS = 15
TOP = 5


@dataclass(frozen=True)
class Predictions:
    """What a network said of N images, each array of shape (N,).

    Args:
        labels: the true classes.
        predicted: the most probable ones.
        confidence: their probabilities (softmax).
        in_top_k: whether the true class is among the ``k`` most probable ones.
        loss: cross-entropy, in nats.
        num_classes: K.
        k: 5, or K where there are fewer classes.
    """

    labels: Indices
    predicted: Indices
    confidence: Numbers
    in_top_k: npt.NDArray[np.bool_]
    loss: Numbers
    num_classes: int
    k: int

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable class is the true one."""
        same: npt.NDArray[np.bool_] = self.labels == self.predicted
        return same


class Collector:
    """Gathers what a network says, batch by batch; numbers stay on the device until the end, so that nothing waits."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes, self.k = num_classes, min(TOP, num_classes)
        self._batches: list[tuple[Tensor, ...]] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Note one batch: logits (B, num_classes) and int64 labels (B,), on one device."""
        log_probabilities = logits.float().log_softmax(1)
        top = log_probabilities.topk(self.k, 1)
        among = (top.indices == labels[:, None]).any(1)
        loss = -log_probabilities.gather(1, labels[:, None])[:, 0]
        self._batches.append((labels, top.indices[:, 0], top.values[:, 0].exp(), among, loss))

    def result(self) -> Predictions:
        """All that was noted, on the CPU.

        Raises:
            UserError: nothing was, or the network's output was not finite.
        """
        if not any(len(labels) for labels, *_ in self._batches):
            raise UserError("there are no images to measure on")
        labels, predicted, confidence, among, loss = (
            torch.cat(part).cpu().numpy() for part in zip(*self._batches, strict=True)
        )
        if broken := int((~np.isfinite(loss)).sum()):
            raise UserError(
                f"the network's output is not finite for {broken:,} of {len(loss):,} images: its weights are damaged, "
                "or too large for the precision (precision=fp32 has the widest range)"
            )
        doubles = confidence.astype(np.float64), loss.astype(np.float64)
        return Predictions(labels, predicted, doubles[0], among, doubles[1], self.num_classes, self.k)


@dataclass(frozen=True)
class ClassRow:
    """One class; None where a number has no meaning, so everywhere for a class without an image.

    Args:
        label: its number.
        images: of this class.
        predicted: images that were taken for it, rightly or wrongly.
        recall: fraction of its images that were recognised: the accuracy within the class.
        recall_top_k: fraction of its images that have it among the k most probable classes.
        precision: fraction of ``predicted`` that are of it; None where nothing was taken for it.
        f1: harmonic mean of recall and precision, 2·correct / (images + predicted).
    """

    label: int
    images: int
    predicted: int
    recall: float | None
    recall_top_k: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Bin:
    """Images whose confidence is in (low, high]; accuracy and mean confidence are None where there is none."""

    low: float
    high: float
    images: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True)
class Metrics:
    """All numbers of one measurement; fractions, not per cent.

    Args:
        images: N.
        top1: fraction of images whose most probable class is the true one.
        top1_low, top1_high: 95 % interval of ``top1`` for more images of the same kind (Wilson 1927).
        top_k: fraction of images with the true class among the ``k`` most probable ones.
        k: 5, or the number of classes where there are fewer.
        loss: mean cross-entropy in nats, without label smoothing.
        confidence: mean probability of the predicted classes; above ``top1`` the network is too sure of itself.
        ece: expected calibration error, Σ |bin| / N · |accuracy − confidence| over the bins (Guo et al. 2017, eq. 3).
        balanced_accuracy: mean of the classes' recall.
        macro_f1: mean of the classes' F1. Both are means over the classes that have images, each class counting the
            same; a class without an image has no part in them.
        empty_classes: how many have no image.
        classes: one row each, in the order of the labels.
        bins: of the confidence, from 0 to 1.
    """

    images: int
    top1: float
    top1_low: float
    top1_high: float
    top_k: float
    k: int
    loss: float
    confidence: float
    ece: float
    balanced_accuracy: float
    macro_f1: float
    empty_classes: int
    classes: tuple[ClassRow, ...]
    bins: tuple[Bin, ...]


def summarize(predictions: Predictions) -> Metrics:
    """Everything that follows from the predictions of at least one image."""
    p, total = predictions, len(predictions.labels)
    rows, bins = _class_rows(p), _bins(p)
    present = [row for row in rows if row.images]
    low, high = _wilson(int(p.correct.sum()), total)
    return Metrics(
        images=total,
        top1=float(p.correct.mean()),
        top1_low=low,
        top1_high=high,
        top_k=float(p.in_top_k.mean()),
        k=p.k,
        loss=float(p.loss.mean()),
        confidence=float(p.confidence.mean()),
        ece=sum(b.images / total * abs(b.accuracy - b.confidence) for b in bins if b.images),  # type: ignore[operator]
        balanced_accuracy=float(np.mean([row.recall for row in present])),
        macro_f1=float(np.mean([row.f1 for row in present])),
        empty_classes=len(rows) - len(present),
        classes=rows,
        bins=bins,
    )


def confusion_matrix(predictions: Predictions) -> Indices:
    """(K, K) counts: row i, column j has the images of class i that were taken for class j."""
    k = predictions.num_classes
    return np.bincount(predictions.labels * k + predictions.predicted, minlength=k * k).reshape(k, k)


def confusions(predictions: Predictions) -> list[tuple[int, int, int]]:
    """``(class, predicted, images)`` of every entry of the confusion matrix that is not 0, the largest first."""
    k = predictions.num_classes
    places, counts = np.unique(predictions.labels * k + predictions.predicted, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(places[i]) // k, int(places[i]) % k, int(counts[i])) for i in order]


def _class_rows(p: Predictions) -> tuple[ClassRow, ...]:
    k = p.num_classes
    images, predicted = np.bincount(p.labels, minlength=k), np.bincount(p.predicted, minlength=k)
    correct, among = (np.bincount(p.labels[which], minlength=k) for which in (p.correct, p.in_top_k))
    return tuple(
        ClassRow(
            label=i,
            images=int(images[i]),
            predicted=int(predicted[i]),
            recall=_ratio(correct[i], images[i]),
            recall_top_k=_ratio(among[i], images[i]),
            precision=_ratio(correct[i], predicted[i]) if images[i] else None,
            f1=_ratio(2 * correct[i], images[i] + predicted[i]) if images[i] else None,
        )
        for i in range(k)
    )


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _bins(p: Predictions) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    at = np.clip(np.searchsorted(edges, p.confidence, side="left") - 1, 0, BINS - 1)  # the upper edge belongs to a bin
    images = np.bincount(at, minlength=BINS)
    correct = np.bincount(at, weights=p.correct, minlength=BINS)
    confidence = np.bincount(at, weights=p.confidence, minlength=BINS)
    means = [(_ratio(correct[i], images[i]), _ratio(confidence[i], images[i])) for i in range(BINS)]
    return tuple(Bin(float(edges[i]), float(edges[i + 1]), int(images[i]), *means[i]) for i in range(BINS))


def _wilson(hits: int, total: int) -> tuple[float, float]:
    z, share = 1.959964, hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
