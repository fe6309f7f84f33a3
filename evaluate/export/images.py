"""The images that exports are proved with and eight bits are calibrated on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...space.errors import UserError
from ..data.decode import decode_rows, decode_whole
from ..data.labelled_images import LabelledImages
from ..data.pixels import Pixels
from ..data.split import Part
from ..pretrained import Pretrained
from .preprocessing import Preprocessing

#: Images at once when all of them are asked.
ALL = 50


@dataclass(frozen=True)
class ProofImages:
    """What exports are proved with.

    Args:
        given: as the network takes them, each (channels, height, width); a tensor where they are of one size.
        labels: int64 (n,); None: images of noise, which have none.
        of: where they are from, for people.
    """

    given: Tensor | tuple[Tensor, ...]
    labels: Tensor | None
    of: str

    def first(self, count: int) -> Tensor:
        """A batch of so many, at most; images of several sizes are cut to what the smallest sides leave."""
        return stack(self.given[:count])

    def batches(self, most: int = ALL) -> Iterator[Tensor]:
        """All of them, so many at once, one by one where they may be of several sizes."""
        if isinstance(self.given, tuple):
            yield from (image[None] for image in self.given)
        else:
            yield from torch.split(self.given, min(most, ALL))

    def __len__(self) -> int:
        return len(self.given)


def stack(images: Tensor | Sequence[Tensor]) -> Tensor:
    """A batch of images, cut at the right and below to the smallest height and width."""
    if isinstance(images, Tensor):
        return images
    height, width = (min(image.shape[axis] for image in images) for axis in (1, 2))
    return torch.stack([image[:, :height, :width] for image in images])


@dataclass(frozen=True)
class Found:
    """What the data says.

    Args:
        preprocessing: of its images.
        classes: names; None: unknown.
        ready: float or uint8 (n, channels, size, size) in units of 0 to 255, as the data's own way makes them; None:
            there are no images.
        whole: the same images as they are, uint8, where they were asked for.
        labels: int64 (n,).
        note: which images these are, or why there are none.
    """

    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    ready: Tensor | None
    whole: tuple[Tensor, ...]
    labels: Tensor | None
    note: str


def find_images(
    start: Pretrained, data: LabelledImages | None, told: bool, part: str, count: int, whole: bool = False
) -> Found:
    """The preprocessing, the names of the classes, and images with their labels.

    Args:
        start: network and weights.
        data: whose part is read; None: there is none.
        told: whether the user named the data; that of the run's record may be gone.
        part: of it.
        count: of images, at most, spread over the part.
        whole: read them at their own size too.

    Raises:
        UserError: the user's data cannot be used.
    """
    network, weights = start.architecture, start.weights
    if data is not None:
        try:
            return _read_images(start, data, part, count, whole)
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
    preprocessing = Preprocessing(network.resolution, network.in_channels, mean, std, crop, how)
    return Found(preprocessing, weights.classes, None, (), None, note)


def _read_images(start: Pretrained, data: LabelledImages, part: str, count: int, whole: bool) -> Found:
    network, found = start.architecture, start.load_part(data, part)
    check_class_count(len(found.classes), start, f"{data.title}, {part} part")
    pixels = found.images.pixels
    read = _read_whole(found, count) if whole else _read_ready(found, count)
    stored, labels, originals = read
    if not len(labels):
        raise UserError(f"{data.title}, {part} part: there are no images to prove exports with")
    preprocessing = Preprocessing(
        network.resolution,
        network.in_channels,
        pixels.mean,
        pixels.std,
        pixels.center_crop,
        pixels.interpolation,
    )
    ready = torch.cat([pixels.prepare_unnormalized(chunk, network.resolution) for chunk in stored])
    note = f"{len(labels):,} images of {data.title}, {part} part"
    return Found(preprocessing, found.classes, ready, originals, labels, note)


def _read_ready(part: Part, count: int) -> tuple[list[Tensor], Tensor, tuple[Tensor, ...]]:
    """Images as the set stores them, and labels."""
    stored, labels, left = [], [torch.zeros(0, dtype=torch.int64)], count
    for images, of in part.images.batches(min(count, 64), device="cpu", shuffle=0):
        stored.append(images[:left])
        labels.append(of[:left])
        left -= len(stored[-1])
        if left <= 0:
            break
    return stored, torch.cat(labels), ()


def _read_whole(part: Part, count: int) -> tuple[list[Tensor], Tensor, tuple[Tensor, ...]]:
    """The same from the files, with the images at their own size."""
    order = torch.randperm(len(part.rows), generator=torch.Generator().manual_seed(0)).numpy()
    pixels: Pixels = part.images.pixels
    stored: list[Tensor] = []
    labels: list[int] = []
    originals: list[Tensor] = []
    for row in part.rows[order]:
        if len(labels) == count:
            break
        one, (readable,), _ = decode_rows(part.table, row[None], pixels)
        if readable:
            ((_, encoded),) = part.table.fetch(row[None])
            stored.append(torch.from_numpy(one))
            labels.append(int(part.table.labels[row]))
            originals.append(torch.from_numpy(decode_whole(encoded, pixels.channels, pixels.white)))
    return stored, torch.tensor(labels, dtype=torch.int64), tuple(originals)


def split_images(images: ProofImages, first: int) -> tuple[ProofImages, ProofImages]:
    """The first ones, to calibrate on, and the others, to prove with; half of them where there are few."""
    if not first or images.labels is None:
        return images, images
    first = min(first, len(images) // 2)
    if not first:
        raise UserError(f"int8=true: {images.of}: at least 2 images are needed, to calibrate on and to measure")
    of = images.of.partition(" ")[2]
    rest = len(images) - first
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
            f"the data ({where}) has {count} class{'es' * (count != 1)}, the weights {start.weights.path} have "
            f"{start.architecture.num_classes}: exports are proved on images of their classes"
        )
