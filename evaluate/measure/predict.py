"""What a trained network says of many images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..data.sets import ImageSet
from ..machine.device import fit_batch
from ..machine.inference import prepare_for_inference
from ..machine.settings import Settings
from .metrics import Collector, Predictions


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: ImageSet,
    *,
    batch_size: int,
    resolution: int,
    device: torch.device,
    settings: Settings,
    seen: Callable[[int], None],
) -> tuple[Predictions, int]:
    """Predictions for all ``images`` in their order, and the batch size that fitted; the model is left as it is.

    What is run is a copy of it with BatchNorm folded into the convolutions; a batch that does not fit is halved.

    Args:
        model: on ``device``.
        images: what it is asked.
        batch_size: images per forward pass.
        resolution: side of the square input in pixels.
        device: where the model is.
        settings: memory format and precision.
        seen: called after each batch with the number of images so far.

    Raises:
        UserError: no images, or output that is not finite.
        RuntimeError, MemoryError: out of memory even with one image at a time.
    """
    fast = prepare_for_inference(model, settings)
    return fit_batch(lambda size: _predict(fast, images, size, resolution, device, seen), batch_size, device)


def _predict(
    model: nn.Module,
    images: ImageSet,
    batch_size: int,
    resolution: int,
    device: torch.device,
    seen: Callable[[int], None],
) -> Predictions:
    collector, count = Collector(images.num_classes), 0
    for stored, labels in images.batches(batch_size, device=device):
        collector.add(model(images.pixels.prepare(stored, resolution)), labels)
        count += len(labels)
        seen(count)
    return collector.result()
