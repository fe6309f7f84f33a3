"""Each export's proof: what it says of images, at two batch sizes, against what PyTorch says of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...space.errors import UserError
from .formats import Format, Run, write_format
from .images import ALL, ProofImages
from .inside import Resized
from .subject import Subject

#: Images at once, where there are so many; tracing saw two.
BATCHES = (1, 3)
#: Largest difference of an output, as a fraction of the largest one: what other orders of adding up make.
TOLERANCE = 1e-3
#: Largest mean difference between the pixels of a graph's own resize and the data's, in units of 0 to 255.
PIXELS = 1.0


class ProofError(UserError):
    """An export does not do what the network does."""


@dataclass(frozen=True)
class Proof:
    """What was found.

    Args:
        batches: images at once.
        images: what they were, for people.
        max_difference: of a logit, over the largest logit: the worst batch.
        tolerance: that was allowed; None: eight bits are judged by their accuracy.
        agreement: fraction of all images that get the same class from both.
        accuracy_before, accuracy_after: PyTorch's and the export's on all images; None: they have no labels.
        labelled: number of images of these accuracies.
        by: what ran the export.
        allowed_drop: of the accuracy, in eight bits.
    """

    batches: tuple[int, ...]
    images: str
    max_difference: float
    tolerance: float | None
    agreement: float
    accuracy_before: float | None
    accuracy_after: float | None
    labelled: int
    by: str
    allowed_drop: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"batches": list(self.batches)}


@dataclass(frozen=True)
class Resizing:
    """How the resize inside the graphs differs from the data's own, in PyTorch.

    Args:
        mean_difference, largest_difference: of a pixel, in units of 0 to 255, over all images.
        tolerance: of the mean.
        agreement: fraction of the images that get the same class both ways.
        accuracy: of the network on the images as the data makes them.
    """

    mean_difference: float
    largest_difference: float
    tolerance: float
    agreement: float
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def as_run(opened: nn.Module | Run) -> Run:
    """What runs an export, whatever it was opened as."""
    if not isinstance(opened, nn.Module):
        return opened
    module = opened

    @torch.inference_mode()
    def run(images: Tensor) -> Sequence[Tensor]:
        return (module(images),)

    return run


def prove(
    row: Format, subject: Subject, opened: nn.Module | Run, images: ProofImages, classes: Tensor, by: str
) -> Proof:
    """Compare, and measure the accuracies.

    Args:
        row: of the format.
        subject: the network.
        opened: the export.
        images: what both are asked.
        classes: that PyTorch gives them, int64 (n,).
        by: what runs it.

    Raises:
        ProofError: they differ; the message names the first layer that does.
    """
    run, worst = as_run(opened), 0.0
    sizes = tuple(dict.fromkeys(min(size, len(images), row.most or size) for size in BATCHES))
    for size in sizes:
        given = images.first(size)
        wanted = subject.logits(given)
        try:
            found = run(given)[-1]
        except Exception as error:  # of a runtime
            raise ProofError(
                f"to={row.name}: the proof failed: the export cannot run a batch of {size} "
                f"({' '.join(str(error).split()):.200}); nothing was written"
            ) from error
        if found.shape != wanted.shape:
            raise ProofError(
                f"to={row.name}: the proof failed: a batch of {size} gives an output of shape {tuple(found.shape)} "
                f"instead of {tuple(wanted.shape)}; nothing was written"
            )
        difference = relative_difference(found, wanted)
        if not difference <= TOLERANCE:
            raise ProofError(
                f"to={row.name}: the proof failed: at batch {size} the logits differ by {difference:.1e} of the "
                f"largest one (allowed: {TOLERANCE:g}); {_tell_layer(row, subject, opened, given)}; nothing was written"
            )
        worst = max(worst, difference)
    before, after = classes, ask_all(run, images, row.most)
    labels = images.labels
    return Proof(
        batches=sizes,
        images=images.of,
        max_difference=worst,
        tolerance=TOLERANCE,
        agreement=mean_of(before == after),
        accuracy_before=None if labels is None else mean_of(before == labels),
        accuracy_after=None if labels is None else mean_of(after == labels),
        labelled=0 if labels is None else len(labels),
        by=by,
    )


@torch.inference_mode()
def prove_resizing(subject: Subject, images: ProofImages, ready: Tensor, classes: Tensor) -> Resizing:
    """Compare the module's own crop and resize with what the data makes of the same images.

    Args:
        subject: whose module resizes.
        images: as they are, with labels.
        ready: the same, (n, channels, size, size) in units of 0 to 255, by the data's own way.
        classes: that the module gives them, int64 (n,).

    Raises:
        ProofError: the pixels differ too much.
    """
    assert isinstance(subject.module, Resized)
    assert images.labels is not None
    total, largest, right = 0.0, 0.0, []
    for image, wanted in zip(images.given, ready, strict=True):
        difference = (subject.module.resize(image[None])[0] - wanted).abs()
        total, largest = total + float(difference.mean()), max(largest, float(difference.max()))
        right.append(subject.plain(subject.preprocessing.pixels().normalize(wanted[None])).argmax(1))
    mean, own = total / len(images), torch.cat(right)
    if mean > PIXELS:
        raise ProofError(
            f"resize_inside=true: the proof failed: pixels differ by {mean:.2g} of 255 in the mean from those "
            f"that the data makes (allowed: {PIXELS:g}), as when data.image_size stores smaller images; nothing was "
            "written; preprocess_inside=true leaves the resize outside"
        )
    return Resizing(mean, largest, PIXELS, mean_of(own == classes), mean_of(own == images.labels))


def ask_all(run: Run, images: ProofImages, most: int | None = None) -> Tensor:
    """The class that each image gets, int64 (n,), asked so many at once, at most."""
    return torch.cat([run(given)[-1].argmax(1) for given in images.batches(most or ALL)])


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Largest difference of an element over the largest one; NaN where one is none."""
    if not found.numel():
        return 0.0
    largest = float(wanted.abs().max())
    difference = float((found.float() - wanted.float()).abs().max())
    return difference / largest if largest else difference


def mean_of(right: Tensor) -> float:
    """The fraction that is true."""
    return float(right.double().mean())


# -- the first layer that differs --------------------------------------------------------------------------


class Layers(nn.Module):
    """A network that gives what each of its layers gives, in the order in which they run, and then the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.names: list[str] = []
        self._found: list[Tensor] = []
        for name, layer in network.named_modules():
            if name and not any(layer.children()):
                layer.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def keep(layer: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.names.append(name)
                self._found.append(output.clone())  # an activation in place may follow

        return keep

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(n, channels, size, size) to the outputs of all layers, and the logits."""
        self.names.clear()
        self._found.clear()
        logits = self.network(images)
        found = (*self._found, logits)
        self._found.clear()
        return found


def _tell_layer(row: Format, subject: Subject, opened: nn.Module | Run, given: Tensor) -> str:
    try:
        name = first_difference(row, subject, opened, given)
    except Exception as error:  # the failed proof is what is told
        return f"which layer differs first cannot be said ({' '.join(str(error).split()):.100})"
    return f"the first layer that differs is {name}" if name else "no layer differs when all of them are exported"


def first_difference(row: Format, subject: Subject, opened: nn.Module | Run, given: Tensor) -> str | None:
    """The name of the first layer whose output differs in the export; None: of none.

    A module's layers are compared one by one. A graph has none: the network is exported again with the outputs of all
    its layers.
    """
    import copy

    network = Layers(copy.deepcopy(subject.module))
    with torch.inference_mode():
        wanted = network(given)
    names = [*network.names, "the output"]
    if isinstance(opened, nn.Module):
        with torch.inference_mode():
            found: Sequence[Tensor] = Layers(opened)(given)
    else:
        with tempfile.TemporaryDirectory() as folder:
            layers = tuple(f"layer_{i}" for i in range(len(network.names)))
            write_format(row, replace(subject, module=network.eval(), layers=layers), Path(folder))
            found = as_run(row.open(subject, Path(folder) / row.file, None))(given)
    for name, one, other in zip(names, found, wanted, strict=False):
        if one.shape != other.shape or not relative_difference(one, other) <= TOLERANCE:
            return name.removeprefix("network.") if subject.inside else name
    return None
