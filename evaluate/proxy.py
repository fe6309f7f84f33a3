"""The evaluator that trains each candidate for a few epochs."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from ..space.architecture import Architecture
from ..space.cost import cost
from ..space.errors import UserError, check_int
from ..space.network import Network, build
from ..space.network_spec import NetworkSpec
from ..space.paths import expand_path, is_file
from ..space.weights.contents import Normalization
from ..space.weights.grow import Growth, check_growable, grow
from ..space.weights.weights import load_into, read_weights, save_weights
from .arguments import check_threads
from .data.labelled_images import LabelledImages
from .data.load import find_common_side, load_split
from .data.sources import check_data
from .data.split import Split
from .evaluation import Evaluation, Report
from .kept_weights import is_within_reach, name_checkpoint, name_weights
from .latency.known import KnowsLatency
from .machine.device import find_device
from .machine.profile import profile
from .train.checkpoint import Checkpoint, CheckpointError
from .train.history import TrainingResult
from .train.recipe import Training
from .train.train import train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proxy(KnowsLatency):
    """Accuracy after a short training, on images held out of the training part.

    The last epoch counts, not the best one: the best of several measurements on the same images is too high, and
    the more so the more often one measures. The test part is never read. The first call loads the images; making
    the evaluator does not.

    Args:
        data: the images: ``ImageData``, or ``DatasetImages`` for images from Python.
        training: the recipe.
        device: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        latency_batch: batch size at which latency is measured on that device too; None: not measured.
        latency_model: says the latency instead (:class:`~effnas.evaluate.latency.known.KnowsLatency`).
        threads: of the CPU; None: chosen by timed steps, at most those torch has.
        initial: file of the weights (``weights.safetensors`` of ``effnas train``) of a smaller member of the family
            that each candidate starts from, grown by :func:`~effnas.space.weights.grow.grow`; None: from random
            weights. Trained with the same ``data`` and ``data.split_seed``, so that it has not seen the held-out
            images.

    Raises:
        UserError: a field is of the wrong kind, or the machine lacks the device.
    """

    data: LabelledImages
    training: Training
    device: str = "auto"
    latency_batch: int | None = None
    threads: int | None = None
    initial: str | None = None
    _folder: ClassVar[str | None] = None
    _checkpoints: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        check_data(self.data)
        if not isinstance(self.training, Training):
            target = f"`_target_: {Training.__module__}.Training` in a config"
            raise UserError(f"training must be of type Training ({target}), got {type(self.training).__name__}")
        find_device(self.device)
        if self.latency_batch is not None:
            check_int("latency_batch", self.latency_batch, 1, 1_000_000)
        self.check_latency_model("latency_batch")
        check_threads(self.threads)
        if self.initial is not None and (not isinstance(self.initial, str) or not self.initial):
            raise UserError(f"initial must be a file of weights or null, got {self.initial!r}")

    def keeping(self, folder: str) -> Proxy:
        """The same, leaving the weights of each candidate in ``folder``, which is made where there is none."""
        other = copy.copy(self)
        object.__setattr__(other, "_folder", folder)  # no field: it changes nothing of what a candidate is worth
        return other

    @property
    def input_files(self) -> tuple[str, ...]:
        """Of the images, and the weights to start from: :func:`~effnas.evaluate.identity.describe_files`."""
        initial = [] if self.initial is None else [self.initial]
        return (*getattr(self.data, "input_files", ()), *initial, *map(str, self.latency_files))

    def checkpointing(self, folder: str) -> Proxy:
        """The same, leaving a checkpoint of each candidate that is stopped in ``folder``, and going on from it."""
        other = copy.copy(self)
        object.__setattr__(other, "_checkpoints", folder)  # no field, for the same reason
        return other

    def reported_steps(self) -> tuple[int, ...]:
        """The epochs after which a candidate is measured."""
        epochs, every = self.training.epochs, self.training.eval_every
        return (*range(every, epochs, every), epochs)

    def find_own_pixels(self) -> int | None:
        """The median shorter side of the training images as they are stored; None where none can be read."""
        return find_common_side(self.data)

    def prepare(self) -> None:
        """Read the file that candidates start from, where there is one, and say what the recipe changes by itself.

        Raises:
            UserError: it cannot be read, or does not say which network it is of.
        """
        if self.training.note:
            log.warning("%s", self.training.note)
        if self.initial is not None:
            read_initial(self.initial)

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Train and measure one network; ``seed`` sets its first weights and everything random in its training.

        Raises:
            EvaluationError: the loss is not finite, or there is not enough memory.
            UserError: the images cannot be read or do not fit the network's classes or channels; with ``initial``, the
                network is not of that family, or the images are of other classes.
            Stopped: from ``report``.
        """
        start = time.perf_counter()
        device = find_device(self.device)
        initial = None if self.initial is None else read_initial(self.initial)
        split = load_split(self.data, architecture.in_channels, None if initial is None else initial.normalization)
        split.check(architecture)
        if initial is not None:
            initial.check_classes(split)
        model, result = self._train(architecture, initial, split, device, seed, report)
        if self._folder is not None and is_within_reach(self._folder):
            self._leave_weights(
                Path(self._folder) / name_weights(architecture.digest, seed), model, architecture, split
            )
        assert result.accuracy is not None  # there are held-out images
        assert result.loss is not None
        latency = self.say_latency(architecture)
        if self.latency_batch is not None:
            latency = profile(
                architecture,
                batch_size=self.latency_batch,
                threads=self.threads,
                device=str(device),
                repeats=20,
                fvcore=False,
            ).latency
        return Evaluation(
            accuracy=result.accuracy,
            cost=cost(architecture),
            latency=latency,
            seconds=time.perf_counter() - start,
            metrics={
                "loss": result.loss,
                "train_loss": result.train_loss,
                "images_per_second": result.images_per_second,
                "epochs": result.epochs,
                "heldout_images": len(split.heldout),
                "image_passes": _count_passes(self.training, len(split.train), len(split.heldout)),
            },
        )

    def _train(
        self,
        architecture: NetworkSpec,
        initial: Initial | None,
        split: Split,
        device: torch.device,
        seed: int,
        report: Report,
    ) -> tuple[nn.Module, TrainingResult]:
        """The network and its training, from where that was stopped, or from the beginning."""
        checkpoint = None
        if self._checkpoints is not None and is_within_reach(self._checkpoints):
            # no more than the folder's own search says: that is refused where its settings have changed
            identity = {"network": architecture.digest, "training": self.training.to_dict(), "seed": seed}
            file = Path(self._checkpoints) / name_checkpoint(architecture.digest, seed)
            checkpoint = Checkpoint(file, identity, every=self.training.epochs)
        while True:
            model: nn.Module
            model = build(architecture, seed) if initial is None else initial.grow_into(architecture, seed).network
            try:
                return model, train(
                    model,
                    split.train,
                    split.heldout,
                    self.training,
                    resolution=architecture.resolution,
                    seed=seed,
                    report=report,
                    device=device,
                    threads=self.threads,
                    checkpoint=checkpoint,
                )
            except CheckpointError as error:
                log.warning("%s: the candidate is trained from the beginning", error)
                assert checkpoint is not None
                checkpoint.path.unlink(missing_ok=True)

    def _leave_weights(self, file: Path, model: nn.Module, architecture: NetworkSpec, split: Split) -> None:
        pixels = split.train.pixels
        try:
            save_weights(
                file,
                model,
                architecture=architecture,
                normalization=(pixels.mean, pixels.std),
                classes=split.classes,
            )
        except OSError as error:  # a full disk: the candidate's worth is known all the same
            log.warning("%s cannot be written (%s): these weights are not kept", file, error.strerror)


def _count_passes(training: Training, images: int, heldout: int) -> int:
    """Images that went through the network, each forward pass one; a training step on an image is three of them."""
    return 3 * training.epochs * images + math.ceil(training.epochs / training.eval_every) * heldout


@dataclass(frozen=True)
class Initial:
    """What a weights file of ours holds, ready to grow.

    Args:
        path: of the file.
        module: with the weights, on the CPU.
        architecture: of it.
        normalization: that it was trained with.
        classes: names of its outputs; None where the file does not say.
    """

    path: str
    module: Network
    architecture: Architecture
    normalization: Normalization | None
    classes: tuple[str, ...] | None

    def check_classes(self, split: Split) -> None:
        """Raise :class:`UserError` unless its outputs are the data's classes."""
        if self.classes is not None and self.classes != split.classes:
            raise UserError(
                f"initial: {self.path} was trained on other classes ({', '.join(self.classes):.60}) than the data has "
                f"({', '.join(split.classes):.60}): train the smaller network on the same data"
            )

    def grow_into(self, architecture: NetworkSpec, seed: int) -> Growth:
        """A candidate with these weights.

        Raises:
            UserError: it is not a larger member of the family.
        """
        larger = check_growable(
            architecture, f"initial: networks of a builder ({architecture.name}) cannot be grown; leave initial out"
        )
        try:
            return grow(self.module, self.architecture, larger, seed=seed)
        except UserError as error:
            raise UserError(f"initial: the network cannot start from {self.path}: {error}") from None


def read_initial(path: str) -> Initial:
    """Read the file, once for all candidates of a process.

    Raises:
        UserError: it cannot be read, or does not say which network it is of.
    """
    file = expand_path(path)
    return _read(path, file.stat().st_mtime_ns if is_file(file) else 0)


@lru_cache(maxsize=1)
def _read(path: str, changed: int) -> Initial:
    weights = read_weights(path)
    if weights.architecture is None:
        raise UserError(
            f"initial: {path} ({weights.format} format) does not name its network; give a file that effnas "
            "train wrote (weights.safetensors)"
        )
    architecture = check_growable(
        weights.architecture,
        f"initial: {path} belongs to a builder's network ({weights.architecture.name}), which cannot be grown",
    )
    module = build(architecture)
    load_into(module, weights)
    return Initial(path, module, architecture, weights.normalization, weights.classes)
