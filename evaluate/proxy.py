"""The evaluator that trains each candidate for a few epochs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from ..space.architecture import Architecture
from ..space.cost import cost
from ..space.errors import UserError, check_int
from ..space.network import build
from .data import ImageData
from .device import find_device
from .evaluation import Evaluation, Report
from .profile import profile
from .recipe import Training
from .training import train


@dataclass(frozen=True)
class Proxy:
    """Accuracy after a short training, on images held out of the training part.

    The last epoch counts, not the best one: the best of several measurements on the same images is too high, and
    the more so the more often one measures. The test part is never read. The first call loads the images; making
    the evaluator does not.

    Args:
        data: the images.
        training: the recipe.
        device: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        latency_batch: batch size at which latency is measured on that device too; None: it is not.
        threads: of the CPU; None: chosen by timed steps, at most those torch has.

    Raises:
        UserError: a field is of the wrong kind, or the machine lacks the device.
    """

    data: ImageData
    training: Training
    device: str = "auto"
    latency_batch: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, value, kind in (("data", self.data, ImageData), ("training", self.training, Training)):
            if not isinstance(value, kind):
                target = f"`_target_: {kind.__module__}.{kind.__name__}` in a config"
                raise UserError(f"{name} must be of type {kind.__name__} ({target}), got {type(value).__name__}")
        find_device(self.device)
        if self.latency_batch is not None:
            check_int("latency_batch", self.latency_batch, 1, 1_000_000)
        if self.threads is not None:
            check_int("threads", self.threads, 1, 4096)

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        """Train and measure one network; ``seed`` sets its first weights and everything random in its training.

        Raises:
            EvaluationError: the loss is not finite, or there is not enough memory.
            UserError: the images cannot be read or do not fit the network's classes or channels.
            Stopped: from ``report``.
        """
        start = time.perf_counter()
        device = find_device(self.device)
        split = self.data.load(architecture.in_channels)
        split.check(architecture)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would change the GPUs' too
            model = build(architecture)
        result = train(
            model,
            split.train,
            split.heldout,
            self.training,
            resolution=architecture.resolution,
            seed=seed,
            report=report,
            device=device,
            threads=self.threads,
        )
        assert result.accuracy is not None  # there are held-out images
        assert result.loss is not None
        latency = None
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
            },
        )
