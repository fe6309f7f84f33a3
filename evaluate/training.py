"""The training engine: one recipe, one network, one set of images."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..space.errors import UserError, check_choice, check_int, check_number
from .data import ImageSet
from .device import autocast, out_of_memory
from .evaluation import EvaluationError, Report
from .images import Pixels
from .optimizers import OPTIMIZERS, MovingAverage, make_optimizer, staircase

SCHEDULES = ("cosine", "exponential")
PRECISIONS = ("auto", "fp32", "bf16")
#: ``lr`` is stated for this many images a step.
LR_BATCH = 256
#: Steps between looks at the loss.
CHECK_EVERY = 20


@dataclass(frozen=True)
class Training:
    """A recipe.

    Args:
        epochs: passes over the training images.
        batch_size: images a step; a smaller set is one batch.
        optimizer: ``sgd`` (Nesterov), ``rmsprop`` (TensorFlow's, decay 0.9, eps 1e-3) or ``adamw``.
        lr: peak learning rate for 256 images a step; scaled linearly to the batch in use (Goyal et al., 2017).
        momentum: of sgd and rmsprop; beta1 of adamw.
        weight_decay: on kernels and matrices, never on biases and BatchNorm; L2 but for adamw.
        schedule: ``cosine`` falls from the end of the warm-up to zero at the end; ``exponential`` multiplies by
            ``decay_rate`` every ``decay_epochs``, in steps, counted from the first epoch (EfficientNet, section 5.2).
        warmup_epochs: linear rise to the peak before that; may be a fraction.
        decay_rate, decay_epochs: of ``exponential``.
        label_smoothing: of the training loss.
        ema_decay: of the moving average of weights, which is what is then measured; 0: off.
        clip_norm: largest norm of the gradient of all weights; None: no clipping.
        precision: ``bf16`` is autocast, ``auto`` is bf16 on GPUs that compute it and fp32 elsewhere.
        bn_momentum: BatchNorm's while training, None: the network's own. The 0.01 of EfficientNet needs hundreds of
            steps before the running statistics mean anything; a short training needs 0.1.
        channels_last: memory layout; the faster one for depthwise convolutions (1.3 times on 2 CPU cores).
        eval_every: epochs between measurements on held-out images; the last epoch always is measured.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    epochs: int = 5
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.8
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    clip_norm: float | None = 5.0
    precision: str = "auto"
    bn_momentum: float | None = 0.1
    channels_last: bool = True
    eval_every: int = 1

    def __post_init__(self) -> None:
        check_int("epochs", self.epochs, 1, 1_000_000)
        check_int("batch_size", self.batch_size, 1, 1_000_000)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_number("lr", self.lr, 0, open_low=True)
        check_number("momentum", self.momentum, 0, 1, open_high=True)
        check_number("weight_decay", self.weight_decay, 0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_number("warmup_epochs", self.warmup_epochs, 0)
        if self.warmup_epochs > self.epochs:
            raise UserError(f"warmup_epochs must be at most epochs ({self.epochs}), got {self.warmup_epochs}")
        check_number("decay_rate", self.decay_rate, 0, 1, open_low=True)
        check_number("decay_epochs", self.decay_epochs, 0, open_low=True)
        check_number("label_smoothing", self.label_smoothing, 0, 1, open_high=True)
        check_number("ema_decay", self.ema_decay, 0, 1, open_high=True)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, 0, open_low=True)
        check_choice("precision", self.precision, PRECISIONS)
        if self.bn_momentum is not None:
            check_number("bn_momentum", self.bn_momentum, 0, 1, open_low=True)
        if not isinstance(self.channels_last, bool):
            raise UserError(f"channels_last must be true or false, got {self.channels_last!r}")
        check_int("eval_every", self.eval_every, 1)

    def lr_at(self, step: int, steps_per_epoch: int, batch_size: int | None = None) -> float:
        """Learning rate of a step.

        Args:
            step: counted from 0 over the whole training.
            steps_per_epoch: optimizer steps an epoch.
            batch_size: the one in use; None: the recipe's.
        """
        peak = self.lr * (batch_size or self.batch_size) / LR_BATCH
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return peak * (step + 1) / warmup
        if self.schedule == "exponential":
            return peak * staircase(step / steps_per_epoch, self.decay_rate, self.decay_epochs)
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.epochs * steps_per_epoch - warmup)))


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Args:
        accuracy: held-out top-1 after the last epoch, a fraction; None without held-out images.
        loss: held-out cross-entropy, without label smoothing; None without held-out images.
        train_loss: mean over the steps of the last epoch, as trained (with label smoothing).
        epochs, steps: done.
        seconds: wall-clock time, measurements included.
        images_per_second: of training alone.
    """

    accuracy: float | None
    loss: float | None
    train_loss: float
    epochs: int
    steps: int
    seconds: float
    images_per_second: float


def train(
    model: nn.Module,
    train: ImageSet,
    heldout: ImageSet | None,
    training: Training,
    *,
    resolution: int,
    seed: int,
    report: Report,
    device: str | torch.device = "cpu",
) -> TrainingResult:
    """Train ``model`` in place; in the end it holds the weights that were measured (the average where EMA is on).

    The order of images, dropout and stochastic depth follow from ``seed`` alone, and the caller's random state is as
    it was: two calls with equal arguments give equal weights on a CPU with the same number of threads.

    Args:
        model: moved to ``device``; stays there.
        train: images to learn from; an incomplete last batch is left out.
        heldout: images to measure on after every ``eval_every`` epochs; None: none.
        training: the recipe.
        resolution: side of the square input in pixels.
        seed: of everything random here.
        report: called with (epochs done, held-out accuracy) after each measurement; may raise :class:`Stopped`.
        device: where to train.

    Raises:
        EvaluationError: the loss is not finite, or there is not enough memory.
        UserError: ``train`` or ``heldout`` has no images.
    """
    device = torch.device(device)
    if len(train) == 0 or (heldout is not None and len(heldout) == 0):
        raise UserError(f"training: no {'training' if len(train) == 0 else 'held-out'} images")
    batch_size = min(training.batch_size, len(train))
    with (
        out_of_memory(batch_size, resolution),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        _bn_momentum(model, training.bn_momentum),
    ):
        torch.manual_seed(seed)
        return _train(model, train, heldout, training, resolution, seed, report, device, batch_size)


def _train(
    model: nn.Module,
    train: ImageSet,
    heldout: ImageSet | None,
    training: Training,
    resolution: int,
    seed: int,
    report: Report,
    device: torch.device,
    batch_size: int,
) -> TrainingResult:
    start = time.perf_counter()
    layout = torch.channels_last if training.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    steps_per_epoch = len(train) // batch_size
    optimizer = make_optimizer(
        training.optimizer,
        model,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    average = MovingAverage(model, training.ema_decay) if training.ema_decay else None
    step, seen, trained, train_loss = 0, 0, 0.0, math.nan
    accuracy = loss = None
    for epoch in range(1, training.epochs + 1):
        model.train()
        begin = time.perf_counter()
        losses = _Losses(epoch, steps_per_epoch)
        order = seed * 1_000_003 + epoch
        for stored, labels in train.batches(batch_size, device=device, shuffle=order, drop_last=True):
            images = train.pixels.prepare(_augment(stored, train.pixels), resolution)
            lr = training.lr_at(step, steps_per_epoch, batch_size)
            for group in optimizer.param_groups:
                group["lr"] = lr
            losses.add(_step(model, optimizer, images.contiguous(memory_format=layout), labels, training), lr)
            if average is not None:
                average.update()
            step += 1
            seen += len(labels)
        train_loss = losses.mean()
        trained += time.perf_counter() - begin
        if heldout is not None and (epoch % training.eval_every == 0 or epoch == training.epochs):
            accuracy, loss = measure(
                model if average is None else average.model,
                heldout,
                batch_size=training.batch_size,
                resolution=resolution,
                device=device,
                precision=training.precision,
                channels_last=training.channels_last,
            )
            if not math.isfinite(loss):
                raise EvaluationError(f"held-out loss is {loss} after epoch {epoch}")
            report(epoch, accuracy)
    if average is not None:
        model.load_state_dict(average.model.state_dict())
    model.eval()
    return TrainingResult(
        accuracy=accuracy,
        loss=loss,
        train_loss=train_loss,
        epochs=training.epochs,
        steps=step,
        seconds=time.perf_counter() - start,
        images_per_second=seen / trained,
    )


def _augment(images: Tensor, pixels: Pixels) -> Tensor:
    count, side, where = len(images), images.shape[-1], images.device
    if pixels.crop:
        shift = torch.randint(2 * pixels.crop + 1, (2, count), device=where)
        windows = functional.pad(images, [pixels.crop] * 4).unfold(2, side, 1).unfold(3, side, 1)
        images = windows[torch.arange(count, device=where), :, shift[0], shift[1]]
    if pixels.flip:
        chosen = torch.rand(count, device=where) < 0.5
        images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)
    return images


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, training: Training
) -> Tensor:
    """One update; the loss, still on the device."""
    optimizer.zero_grad(set_to_none=True)
    with autocast(training.precision, images.device):
        logits = model(images)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=training.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    if training.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    optimizer.step()
    return loss.detach()


class _Losses:
    """The losses of an epoch; they stay on the device a while, for reading each would stall a GPU at every step."""

    def __init__(self, epoch: int, steps_per_epoch: int) -> None:
        self.where = f"epoch {epoch}", f"of {steps_per_epoch}"
        self.waiting: list[tuple[Tensor, float]] = []
        self.sum, self.steps = 0.0, 0

    def add(self, loss: Tensor, lr: float) -> None:
        """One more step's loss, and the learning rate of the step."""
        self.waiting.append((loss, lr))
        if len(self.waiting) == CHECK_EVERY:
            self.read()

    def read(self) -> None:
        """Take in what waits; refuse the first loss that is not finite."""
        values = torch.stack([loss for loss, _ in self.waiting]).tolist() if self.waiting else []
        for value, (_, lr) in zip(values, self.waiting, strict=True):
            self.steps += 1
            if not math.isfinite(value):
                epoch, of = self.where
                raise EvaluationError(f"loss is {value} at {epoch}, step {self.steps} {of}, learning rate {lr:.4g}")
            self.sum += value
        self.waiting.clear()

    def mean(self) -> float:
        """Over the steps there were: a streamed set that meets unreadable images has fewer than planned."""
        self.read()
        if not self.steps:
            raise UserError("training: none of the training images can be read")
        return self.sum / self.steps


@torch.inference_mode()
def measure(
    model: nn.Module,
    images: ImageSet,
    *,
    batch_size: int,
    resolution: int,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    channels_last: bool = True,
) -> tuple[float, float]:
    """Top-1 accuracy, a fraction, and mean cross-entropy over all ``images``; the model's mode is restored."""
    device = torch.device(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    was_training = model.training
    model.eval()
    hits = torch.zeros((), dtype=torch.int64, device=device)
    total = torch.zeros((), dtype=torch.float64, device="cpu" if device.type == "mps" else device)
    count = 0
    try:
        for stored, labels in images.batches(batch_size, device=device):
            with autocast(precision, device):
                logits = model(images.pixels.prepare(stored, resolution).contiguous(memory_format=layout))
            logits = logits.float()
            hits += (logits.argmax(1) == labels).sum()
            total += functional.cross_entropy(logits, labels, reduction="sum").to(total)
            count += len(labels)
    finally:
        model.train(was_training)
    return int(hits) / count, float(total) / count


@contextlib.contextmanager
def _bn_momentum(model: nn.Module, momentum: float | None) -> Iterator[None]:
    """Every BatchNorm with this momentum for a while."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] if momentum is not None else []
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.momentum = value
