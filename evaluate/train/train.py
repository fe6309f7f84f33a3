"""The training engine: one recipe, one network, one set of images.

Everything random in a step follows from the seed and the step's number (and the process's, where there are several),
and the order of an epoch from the seed and the epoch's: a training that goes on from a checkpoint needs no state of
random numbers, and is the training that was never stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from ...space.errors import UserError
from ..data.sets import ImageSet
from ..evaluation import EvaluationError, Report, SimpleReport, widen_report
from ..machine.device import fork_random_state, keep_memory, out_of_memory, torch_threads
from ..machine.fast_layers import fast_layers
from ..machine.settings import Settings
from .accuracy import measure_accuracy
from .augment import Augment, Mix
from .checkpoint import Checkpoint, restore_training
from .choosing import choose_settings
from .distributed import ALONE, Group, synchronise_batch_norms
from .freeze import bn_momentum_of, freeze_parts
from .history import EpochRow, Plan, TrainingResult, Unwatched, Watcher, report_epoch
from .losses import Losses, weigh_classes
from .optimizers import MovingAverage, make_optimizer
from .recipe import Training
from .stepper import Stepper


def train(
    model: nn.Module,
    train: ImageSet,
    heldout: ImageSet | None,
    training: Training,
    *,
    resolution: int,
    seed: int,
    report: Report | SimpleReport,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    watcher: Watcher | None = None,
    checkpoint: Checkpoint | None = None,
    group: Group = ALONE,
    make_stepper: Callable[..., Stepper] = Stepper,
) -> TrainingResult:
    """Train ``model`` in place; in the end it holds the weights that were measured (the average where EMA is on).

    The order of images, their augmentation, dropout and stochastic depth follow from ``seed`` alone, and the caller's
    random state is as it was: two calls with equal arguments give equal weights on a CPU with the same settings.

    Args:
        model: moved to ``device``; stays there.
        train: images to learn from; an incomplete last batch is left out.
        heldout: images to measure on after every ``eval_every`` epochs; None: none.
        training: the recipe.
        resolution: side of the square input in pixels, in the last epochs.
        seed: of everything random here.
        report: called with (epochs done, held-out accuracy, training accuracy) after each measurement, those of earlier
            runs first; may raise :class:`Stopped`, which leaves a checkpoint of that epoch's end.
        device: where to train.
        threads: of the CPU; None: chosen by timed steps, at most those torch has.
        watcher: called at every step and epoch.
        checkpoint: where the training continues if it was stopped, and what it writes; None: neither.
        group: the processes that train this network together; each is given the same arguments.
        make_stepper: of what takes the steps, called as :class:`~effnas.evaluate.train.stepper.Stepper` is.

    Raises:
        EvaluationError: the loss is not finite, or there is not enough memory.
        UserError: ``train`` or ``heldout`` has no images, a checkpoint that does not fit, or a batch that cannot be
            shared among the processes.
    """
    device = torch.device(device)
    if device.type == "cpu":
        keep_memory()
    if len(train) == 0 or (heldout is not None and len(heldout) == 0):
        raise UserError(f"training: no {'training' if len(train) == 0 else 'held-out'} images")
    batch_size = min(training.batch_size, len(train))
    if batch_size % group.size:
        rule = f"training.batch_size must be a multiple of the number of processes ({group.size})"
        raise UserError(f"{rule}, got {batch_size}")
    with (
        out_of_memory(batch_size, resolution),
        fork_random_state(device),
        bn_momentum_of(model, training.bn_momentum),
        freeze_parts(model, training.freeze),
    ):
        steps = training.epochs * (len(train) // batch_size)
        shape = batch_size // group.size // training.accumulate or 1, train.pixels.channels, resolution, resolution
        model.to(device)
        settings, note = choose_settings(model, shape, device, training, threads=threads, steps=steps)
        model.to(memory_format=settings.layout)  # type: ignore[call-overload]
        place = device, batch_size, settings, group, checkpoint
        run = _Run(model, train, heldout, training, resolution, seed, *place, make_stepper)
        with (
            torch_threads(settings.threads),
            synchronise_batch_norms(model, device, on=training.sync_bn and group.size > 1),
            fast_layers(model, device),
        ):
            return run.go(watcher or Unwatched(), widen_report(report), "; ".join(filter(None, (note, training.note))))


def seed_of(*numbers: int) -> int:
    """One seed of 32 bits from several numbers: neighbours give unrelated ones."""
    packed = struct.pack(f"<{len(numbers)}q", *numbers)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=4).digest(), "little")


@dataclass
class _Run:
    """One training on its way."""

    model: nn.Module
    train: ImageSet
    heldout: ImageSet | None
    training: Training
    resolution: int
    seed: int
    device: torch.device
    batch_size: int
    settings: Settings
    group: Group
    checkpoint: Checkpoint | None
    make_stepper: Callable[..., Stepper]
    history: list[EpochRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe = self.training
        self.steps_per_epoch = len(self.train) // self.batch_size
        self.augment = Augment.of(recipe, self.train.pixels)
        self.mix = Mix(recipe.mixup, recipe.cutmix, self.train.num_classes)
        self.optimizer = make_optimizer(recipe, self.model)
        self.average = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        #: Epoch in progress, its steps that are done, and its losses; seconds of earlier runs.
        self.epoch, self.done, self.earlier = 1, 0, 0.0
        self.losses = Losses(self.group)
        self.seen, self.trained = 0, 0.0

    def go(self, watcher: Watcher, report: Report, note: str) -> TrainingResult:
        """From where it stands to the end."""
        self._restore()
        self.begin = time.perf_counter()
        recipe, spe = self.training, self.steps_per_epoch
        plan = Plan(recipe.epochs, spe, self.batch_size, note, (self.epoch - 1) * spe + self.done)
        watcher.begin(plan, self.history)
        weights = weigh_classes(self.train.labels, self.train.num_classes) if recipe.balance == "weights" else None
        how = recipe, self.settings, self.device, self.group
        self.step = self.make_stepper(self.model, self.optimizer, *how, weights)
        if (stop := next(filter(None, (report_epoch(report, row) for row in self.history)), None)) is not None:
            raise stop
        while self.epoch <= recipe.epochs:
            self._run_steps(watcher)
            row = self._measure_epoch()
            self.history.append(row)
            watcher.epoch(row)
            stop = report_epoch(report, row)
            self.epoch, self.done = self.epoch + 1, 0
            self.losses = Losses(self.group)
            if stop is not None:
                self._save()
                raise stop
            if self.checkpoint and (self.epoch > recipe.epochs or self.checkpoint.due(row.step, spe)):
                self._save()
        if self.average is not None:
            self.model.load_state_dict(self.average.model.state_dict())
        self.model.eval()
        last = self.history[-1]
        return TrainingResult(
            accuracy=last.accuracy,
            loss=last.loss,
            train_loss=last.train_loss,
            epochs=recipe.epochs,
            steps=last.step,
            seconds=last.seconds,
            images_per_second=last.images_per_second if not self.trained else self.seen / self.trained,
            history=tuple(self.history),
            settings=note,
        )

    def _run_steps(self, watcher: Watcher) -> None:
        """The rest of the epoch's steps."""
        recipe, spe = self.training, self.steps_per_epoch
        resolution = recipe.resolution_at(self.epoch, self.resolution)
        first = (self.epoch - 1) * spe
        self.step.train_mode()
        self.losses.begin(self.epoch, spe)
        begin = time.perf_counter()
        batches = self.train.batches(
            self.batch_size,
            device=self.device,
            shuffle=seed_of(self.seed, self.epoch),
            drop_last=True,
            start=self.done,
            shard=self.group.shard,
            **({"balanced": True} if recipe.balance == "sampling" else {}),
        )
        for stored, labels in batches:
            step = first + self.done
            torch.manual_seed(seed_of(self.seed, step, self.group.rank, 1))
            images, targets = self.mix(self.augment(stored, resolution), labels)
            lr = recipe.lr_at(step, spe, self.batch_size)
            loss = self.step(images.contiguous(memory_format=self.settings.layout), targets, lr, step)
            if self.average is not None:
                self.average.update()
            self.done += 1
            self.seen += len(labels) * self.group.size
            shown = self.losses.add(loss, self.step.hits, len(labels) * self.group.size, lr)
            with self._kept_when_interrupted(begin):
                watcher.step(step + 1, len(labels) * self.group.size, lr, shown)
            if self.checkpoint and self.done < spe and self.checkpoint.due(step + 1, spe):
                self._save()
        self.losses.read()
        self.trained += time.perf_counter() - begin

    def _measure_epoch(self) -> EpochRow:
        """The row of the epoch whose steps are done."""
        recipe, epoch = self.training, self.epoch
        accuracy = loss = None
        if self.heldout is not None and (epoch % recipe.eval_every == 0 or epoch == recipe.epochs):
            accuracy, loss = measure_accuracy(
                self.model if self.average is None else self.average.model,
                self.heldout,
                batch_size=recipe.batch_size,
                resolution=self.resolution,
                device=self.device,
                settings=self.settings,
                group=self.group,
            )
            if not math.isfinite(loss):
                raise EvaluationError(f"held-out loss is {loss} after epoch {epoch}")
        step = (epoch - 1) * self.steps_per_epoch + self.done
        return EpochRow(
            epoch=epoch,
            step=step,
            lr=recipe.lr_at(max(0, step - 1), self.steps_per_epoch, self.batch_size),
            resolution=recipe.resolution_at(epoch, self.resolution),
            train_loss=self.losses.mean(),
            loss=loss,
            accuracy=accuracy,
            images_per_second=self.seen / self.trained if self.trained else 0.0,
            seconds=self.earlier + time.perf_counter() - self.begin,
            train_accuracy=self.losses.accuracy(),
        )

    # -- checkpoints --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _kept_when_interrupted(self, begin: float) -> Iterator[None]:
        """A Ctrl-C that comes between two steps leaves a checkpoint."""
        try:
            yield
        except KeyboardInterrupt:
            if self.checkpoint:
                self._save()
            raise

    def _save(self) -> None:
        if self.checkpoint is None or not self.group.main:
            return
        self.checkpoint.save(
            {
                "epoch": self.epoch,
                "done": self.done,
                "seconds": self.earlier + time.perf_counter() - self.begin,
                "losses": self.losses.state(),
                "history": [asdict(row) for row in self.history],
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state(),
            }
        )

    def _restore(self) -> None:
        state = self.checkpoint.load() if self.checkpoint else None
        if self.checkpoint is None or state is None:
            return
        stands = restore_training(
            self.checkpoint,
            state,
            self.model,
            self.optimizer,
            self.average,
            epochs=self.training.epochs,
            steps_per_epoch=self.steps_per_epoch,
        )
        self.epoch, self.done, self.earlier = stands.epoch, stands.done, stands.seconds
        self.history = list(stands.history)
        self.losses = Losses(self.group, *stands.losses)
