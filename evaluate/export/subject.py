"""What is exported: a trained network, what its images need, and the images that prove its exports."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ...space.paths import expand_path, is_file, is_folder
from ...space.weights.contents import Weights
from ..data.image_data import ImageData
from ..data.labelled_images import LabelledImages
from ..data.load import load_part
from ..pretrained import Pretrained
from ..train.report import CHECKPOINT, WEIGHTS
from .preprocessing import Preprocessing

#: Fields of a data set that a training records and that say which images those are.
_RECORDED = tuple(field.name for field in fields(ImageData))


@dataclass(frozen=True)
class Subject:
    """A trained network on its way out.

    Args:
        module: in evaluation mode, on the CPU; (n, channels, size, size) to logits (n, classes).
        architecture: of it.
        preprocessing: what its images need.
        classes: names of its outputs; None: unknown.
        inside: whether ``module`` normalises the images itself: they are then given in units of 0 to 255.
        plain: the network itself, where ``module`` is something around it.
        layers: names of what ``module`` gives before the logits.
    """

    module: nn.Module
    architecture: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    plain: nn.Module
    inside: bool = False
    layers: tuple[str, ...] = ()

    def around(self, network: nn.Module) -> nn.Module:
        """Another copy of the network, with around it what ``module`` has."""
        return Normalized(network, self.preprocessing).eval() if self.inside else network.eval()

    @property
    def example(self) -> Tensor:
        """Two images of noise, for tracing."""
        p = self.preprocessing
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(2, p.channels, p.size, p.size, generator=generator) * 255
        return self.given(noise)

    def given(self, images: Tensor) -> Tensor:
        """Images (n, channels, size, size) in units of 0 to 255 as the module takes them."""
        return images.float() if self.inside else self.preprocessing.pixels().normalize(images)

    @torch.inference_mode()
    def logits(self, given: Tensor) -> Tensor:
        """What PyTorch says: (n, classes)."""
        found: Tensor = self.module(given)
        return found


class Normalized(nn.Module):
    """A network that takes images in units of 0 to 255."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(preprocessing, name)).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, size, size) to logits (n, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


@dataclass(frozen=True)
class ProofImages:
    """What exports are proved with.

    Args:
        given: as the network takes them, (n, channels, size, size).
        labels: int64 (n,); None: images of noise, which have none.
        of: where they are from, for people.
    """

    given: Tensor
    labels: Tensor | None
    of: str


# -- the run ---------------------------------------------------------------------------------------------


def find_weights(given: str) -> Path:
    """The weights of a run's folder, or the file itself.

    Raises:
        UserError: a folder without weights, of a training that has not finished, say.
    """
    path = expand_path(given)
    if not is_folder(path):
        return path
    if is_file(path / WEIGHTS):
        return path / WEIGHTS
    if is_file(path / CHECKPOINT):
        raise UserError(
            f"{path}: the training there has not finished: it has {CHECKPOINT} and no {WEIGHTS}; run the same effnas "
            "train command again, or export another run"
        )
    best = read_summary(path / "summary.json").get("best")
    number = best.get("number") if isinstance(best, Mapping) else None
    kept = path / "weights" / f"trial-{number}.safetensors"
    if number is not None and is_file(kept):
        return kept
    raise UserError(
        f"{path}: there is no {WEIGHTS} in this folder; name a folder of effnas train, of a search that kept its best "
        "weights, or a file of weights"
    )


def read_summary(path: Path) -> dict[str, Any]:
    """``summary.json`` of the run that weights are of; empty where there is none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def recorded_data(summary: Mapping[str, Any]) -> LabelledImages | None:
    """The data that a run was trained on, where its summary tells and it is one of the sources with a name."""
    told = summary.get("trained_on")
    if not isinstance(told, Mapping) or not str(told.get("_target_", "")).endswith(".ImageData"):
        return None
    try:
        return ImageData(**{name: told[name] for name in _RECORDED if name in told})
    except (UserError, TypeError):
        return None


# -- the images ------------------------------------------------------------------------------------------


def find_images(
    start: Pretrained, data: LabelledImages | None, told: bool, part: str, count: int
) -> tuple[Preprocessing, tuple[str, ...] | None, tuple[Tensor, Tensor] | None, str]:
    """The preprocessing, the names of the classes, stored images with their labels, and a note on the images.

    Args:
        start: network and weights.
        data: whose part is read; None: there is none.
        told: whether the user named the data; that of the run's record may be gone.
        part: of it.
        count: of images, at most, spread over the part.

    Raises:
        UserError: the user's data cannot be used.
    """
    network, weights = start.architecture, start.weights
    if data is not None:
        try:
            return _read_images(start, data, part, count)
        except UserError as error:
            if told:
                raise
            note = f"the run's data cannot be read here ({' '.join(str(error).split()):.200})"
    else:
        note = "no data was given"
    mean, std = weights.normalization or ((127.5,) * network.in_channels, (127.5,) * network.in_channels)
    if weights.normalization is None:
        note += "; the weights do not say how images are normalised, (x − 127.5)/127.5 is taken"
    crop = getattr(data, "center_crop", 1.0)
    how = getattr(data, "interpolation", "bilinear")
    found = Preprocessing(network.resolution, network.in_channels, mean, std, crop, how)
    return found, weights.classes, None, note


def _read_images(
    start: Pretrained, data: LabelledImages, part: str, count: int
) -> tuple[Preprocessing, tuple[str, ...], tuple[Tensor, Tensor], str]:
    network, weights = start.architecture, start.weights
    found = load_part(
        data,
        part,
        network.in_channels,
        resolution=network.resolution,
        num_classes=network.num_classes,
        classes=weights.classes,
        normalization=weights.normalization,
    )
    check_class_count(len(found.classes), start, f"{data.title}, {part} part")
    pixels = found.images.pixels
    batches, left = [], count
    for stored, labels in found.images.batches(min(count, 64), device="cpu", shuffle=0):
        batches.append((pixels.prepare_unnormalized(stored[:left], network.resolution), labels[:left]))
        left -= len(batches[-1][1])
        if left <= 0:
            break
    if not batches:
        raise UserError(f"{data.title}, {part} part: there are no images to prove exports with")
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    preprocessing = Preprocessing(
        network.resolution,
        network.in_channels,
        pixels.mean,
        pixels.std,
        pixels.center_crop,
        pixels.interpolation,
    )
    return preprocessing, found.classes, (images, labels), f"{len(labels):,} images of {data.title}, {part} part"


def split_images(images: ProofImages, first: int) -> tuple[ProofImages, ProofImages]:
    """The first ones, to calibrate on, and the others, to prove with; half of them where there are few."""
    if not first or images.labels is None:
        return images, images
    first = min(first, len(images.given) // 2)
    if not first:
        raise UserError(f"int8=true: {images.of}: at least 2 images are needed, to calibrate on and to measure")
    of = images.of.partition(" ")[2]
    rest = len(images.given) - first
    return (
        ProofImages(images.given[:first], images.labels[:first], f"{first:,} {of}"),
        ProofImages(images.given[first:], images.labels[first:], f"{rest:,} {of}, none of those for calibration"),
    )


def check_class_count(count: int, start: Pretrained, where: str) -> None:
    """Refuse images of other classes than the network's.

    Raises:
        UserError: they are.
    """
    if count != start.architecture.num_classes:
        raise UserError(
            f"the data ({where}) has {count} classes, the weights {start.weights.path} have "
            f"{start.architecture.num_classes}: exports are proved on images of their classes"
        )


def check_weights(start: Pretrained) -> Weights:
    """The weights, with a classifier.

    Raises:
        UserError: there is none.
    """
    if start.classes is None:
        raise UserError(f"weights: {start.weights.path} has no classifier: fine-tune it on your data (effnas train)")
    return start.weights
