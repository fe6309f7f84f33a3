"""Accuracy of a network on a set of images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ..data.sets import ImageSet
from ..machine.device import fit_batch
from ..machine.inference import prepare_for_inference
from ..machine.settings import Settings
from .distributed import ALONE, Group


@torch.inference_mode()
def measure_accuracy(
    model: nn.Module,
    images: ImageSet,
    *,
    batch_size: int,
    resolution: int,
    device: str | torch.device = "cpu",
    settings: Settings | None = None,
    group: Group = ALONE,
) -> tuple[float, float]:
    """Top-1 accuracy, a fraction, and mean cross-entropy over all ``images``; the model is left as it is.

    What is run is a copy of it with BatchNorm folded into the convolutions; a batch that does not fit is halved.

    Args:
        model: on ``device``.
        images: what it is measured on.
        batch_size: images per forward pass, of all processes.
        resolution: side of the square input in pixels.
        device: where the model is.
        settings: memory format and precision; None: channels-last, fp32.
        group: the processes that share the images.

    Raises:
        RuntimeError, MemoryError: out of memory even with one image at a time.
    """
    device = torch.device(device)
    settings = settings or Settings()
    fast = prepare_for_inference(model, settings)

    def run(size: int) -> tuple[float, float]:
        return _measure(fast, images, size, resolution, device, group)

    # several processes must agree on the batches: one that halves its own alone would wait for ever
    return run(batch_size) if group.size > 1 else fit_batch(run, batch_size, device)[0]


def _measure(
    model: nn.Module,
    images: ImageSet,
    batch_size: int,
    resolution: int,
    device: torch.device,
    group: Group,
) -> tuple[float, float]:
    # hits, number, summed loss; MPS has no float64
    totals = torch.zeros(3, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
    for stored, labels in images.batches(batch_size, device=device, shard=group.shard):
        if not len(labels):
            continue
        logits = model(images.pixels.prepare(stored, resolution))
        hits = (logits.argmax(1) == labels).sum()
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([hits.to(totals), totals.new_tensor(len(labels)), loss.to(totals)])
    hits, count, loss = group.sum(totals).tolist()
    return hits / count, loss / count
