"""The recipe of a training: its fields (``conf/training/*.yaml``), its rules, and what follows from them by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...space.errors import UserError, check_choice, check_int, check_number, unknown
from ..machine.settings import MEMORY_FORMATS, PRECISIONS
from .policies import POLICIES

OPTIMIZERS = ("sgd", "rmsprop", "adamw")
SCHEDULES = ("cosine", "exponential")
FROZEN = ("none", "features")
BALANCES = ("weights", "sampling")
#: ``lr`` is stated for this many images per step.
LR_BATCH = 256
#: Resolutions of progressive resizing are multiples of this, and it ends after this share of the epochs.
RESOLUTION_STEP, PROGRESS_END = 8, 0.75


@dataclass(frozen=True)
class Training:
    """A recipe.

    Args:
        epochs: passes over the training images.
        batch_size: images per step, all processes together; a smaller set is one batch.
        accumulate: parts of a batch that go through the network one after the other; their gradients are summed. A
            batch that does not fit into memory is split further automatically. BatchNorm sees the parts.
        optimizer: ``sgd`` (Nesterov), ``rmsprop`` (TensorFlow's, decay 0.9, eps 1e-3) or ``adamw``.
        lr: peak learning rate for 256 images per step; scaled linearly to the batch in use (Goyal et al., 2017).
        momentum: of sgd and rmsprop; beta1 of adamw.
        weight_decay: on kernels and matrices, never on biases and BatchNorm; L2 but for adamw.
        schedule: ``cosine`` falls from the end of the warm-up to zero at the end; ``exponential`` multiplies by
            ``decay_rate`` every ``decay_epochs``, in steps, counted from the first epoch (EfficientNet, section 5.2).
        warmup_epochs: linear rise to the peak before that; may be a fraction. Longer than ``epochs``: half of these,
            and ``note`` says so.
        decay_rate, decay_epochs: of ``exponential``.
        balance: for classes of unequal size. ``weights``: the loss of an image is weighted by n / (k · n_c), for n
            training images, k classes and n_c images of its class, and divided by the batch's sum of weights, as
            ``torch.nn.CrossEntropyLoss(weight=…)`` does. ``sampling``: an epoch draws as many images as there are, with
            replacement, each class as often (``WeightedRandomSampler``'s). None: neither.
        label_smoothing: of the training loss.
        ema_decay: of the moving average of weights, which is what is then measured; 0: off.
        clip_norm: largest norm of the gradient of all weights; None: no clipping.
        augment: policy that each training image goes through: ``none``, ``autoaugment`` (Cubuk et al. 2019; found on
            ImageNet, CIFAR-10 or SVHN), ``randaugment`` (Cubuk et al. 2020), ``trivialaugment`` (Müller & Hutter 2021).
        augment_magnitude, augment_layers: of ``randaugment``: strength 0 to 30, operations per image.
        crop_scale: area of random resized crops as a share of the image, lowest and highest (Inception's: 0.08, 1);
            None: shifts by ``data.crop`` pixels instead.
        erase: rate at which a random rectangle of an image is erased (Zhong et al. 2020).
        mixup, cutmix: alpha of the Beta distribution of mixup (Zhang et al. 2018) and of CutMix (Yun et al. 2019); 0:
            off. With both, a batch takes one of them.
        progressive: resolution of the first epoch as a fraction of the last one's; it rises to 1 over three quarters of
            the epochs (Tan & Le 2021, section 4). 1: the same throughout.
        freeze: ``none``; ``features`` trains the classifier alone; a number n keeps the stem and the first n stages.
        layer_decay: discriminative learning rates: the classifier's is ``lr``, that of each stage towards the input
            this many times its successor's (Howard & Ruder 2018). 1: the same for all.
        precision: ``bf16`` is autocast; ``auto``: the faster of fp32 and bf16, by timed steps, on hardware that
            computes it.
        bn_momentum: BatchNorm's while training, None: the network's own. The 0.01 of EfficientNet needs hundreds of
            steps before the running statistics mean anything; a short training needs 0.1.
        memory_format: ``channels_last``, ``contiguous``, or ``auto``: the faster one, by timed steps.
        compile: ``torch.compile``; ``auto``: where the training is long enough to pay for the compiling, and it is
            faster.
        sync_bn: with several processes, BatchNorm over the batch of all of them.
        eval_every: epochs between measurements on held-out images; the last epoch always is measured.

    Raises:
        UserError: a field is outside its range; the message names it.
    """

    epochs: int = 5
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float = 0.8
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    balance: str | None = None
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    clip_norm: float | None = 5.0
    augment: str = "none"
    augment_magnitude: int = 9
    augment_layers: int = 2
    crop_scale: Sequence[float] | None = None
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    progressive: float = 1.0
    freeze: str | int = "none"
    layer_decay: float = 1.0
    precision: str = "auto"
    bn_momentum: float | None = 0.1
    memory_format: str = "auto"
    compile: bool | str = "auto"
    sync_bn: bool = False
    eval_every: int = 1

    def __post_init__(self) -> None:
        check_int("training.epochs", self.epochs, 1, 1_000_000)
        check_int("training.batch_size", self.batch_size, 1, 1_000_000)
        check_int("training.accumulate", self.accumulate, 1, self.batch_size)
        check_choice("training.optimizer", self.optimizer, OPTIMIZERS)
        check_number("training.lr", self.lr, 0, open_low=True)
        check_number("training.momentum", self.momentum, 0, 1, open_high=True)
        check_number("training.weight_decay", self.weight_decay, 0)
        check_choice("training.schedule", self.schedule, SCHEDULES)
        check_number("training.warmup_epochs", self.warmup_epochs, 0)
        check_number("training.decay_rate", self.decay_rate, 0, 1, open_low=True)
        check_number("training.decay_epochs", self.decay_epochs, 0, open_low=True)
        if self.balance is not None and self.balance not in BALANCES:
            raise unknown("training.balance", self.balance, ("null", *BALANCES))
        check_number("training.label_smoothing", self.label_smoothing, 0, 1, open_high=True)
        check_number("training.ema_decay", self.ema_decay, 0, 1, open_high=True)
        if self.clip_norm is not None:
            check_number("training.clip_norm", self.clip_norm, 0, open_low=True)
        self._check_images()
        self._check_transfer()
        check_choice("training.precision", self.precision, ("auto", *PRECISIONS))
        if self.bn_momentum is not None:
            check_number("training.bn_momentum", self.bn_momentum, 0, 1, open_low=True)
        check_choice("training.memory_format", self.memory_format, ("auto", *MEMORY_FORMATS))
        if not isinstance(self.compile, bool) and self.compile != "auto":
            raise UserError(f"training.compile must be auto, true or false, got {self.compile!r}")
        if not isinstance(self.sync_bn, bool):
            raise UserError(f"training.sync_bn must be true or false, got {self.sync_bn!r}")
        check_int("training.eval_every", self.eval_every, 1)

    def _check_images(self) -> None:
        check_choice("training.augment", self.augment, POLICIES)
        check_int("training.augment_magnitude", self.augment_magnitude, 0, 30)
        check_int("training.augment_layers", self.augment_layers, 1, 16)
        if self.crop_scale is not None:
            scale = self.crop_scale
            if isinstance(scale, str) or not isinstance(scale, Sequence) or len(scale) != 2:
                raise UserError(f"training.crop_scale must be two numbers such as [0.08, 1.0], or null, got {scale!r}")
            check_number("training.crop_scale: lowest share of the area", scale[0], 0, 1, open_low=True)
            check_number("training.crop_scale: highest share of the area", scale[1], scale[0], 1)
            object.__setattr__(self, "crop_scale", (float(scale[0]), float(scale[1])))
        check_number("training.erase", self.erase, 0, 1)
        check_number("training.mixup", self.mixup, 0)
        check_number("training.cutmix", self.cutmix, 0)
        check_number("training.progressive", self.progressive, 0, 1, open_low=True)

    def _check_transfer(self) -> None:
        if isinstance(self.freeze, str):
            if self.freeze not in FROZEN:
                raise unknown(
                    "training.freeze", self.freeze, (*FROZEN, "or the number of stages, counted from the input")
                )
        else:
            check_int("training.freeze", self.freeze, 0, 10_000)
        check_number("training.layer_decay", self.layer_decay, 0, 1, open_low=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, what a checkpoint keeps to recognise its own training."""
        return {**asdict(self), "crop_scale": None if self.crop_scale is None else list(self.crop_scale)}

    @property
    def shortened_warmup(self) -> float:
        """Epochs of warm-up that there are: half of the training where the recipe's would be longer than all of it."""
        return self.warmup_epochs if self.warmup_epochs <= self.epochs else self.epochs / 2

    @property
    def note(self) -> str:
        """What is not as the fields say, because they do not go together; "": nothing."""
        if self.shortened_warmup == self.warmup_epochs:
            return ""
        return (
            f"training.warmup_epochs={self.warmup_epochs:g} is longer than training.epochs={self.epochs}: the warm-up "
            f"is shortened to {self.shortened_warmup:g}"
        )

    def lr_at(self, step: int, steps_per_epoch: int, batch_size: int | None = None) -> float:
        """Learning rate of a step.

        Args:
            step: counted from 0 over the whole training.
            steps_per_epoch: optimizer steps per epoch.
            batch_size: the one in use; None: the recipe's.
        """
        peak = self.lr * (batch_size or self.batch_size) / LR_BATCH
        warmup = round(self.shortened_warmup * steps_per_epoch)
        if step < warmup:
            return peak * (step + 1) / warmup
        if self.schedule == "exponential":
            return peak * staircase(step / steps_per_epoch, self.decay_rate, self.decay_epochs)
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.epochs * steps_per_epoch - warmup)))

    def resolution_at(self, epoch: int, resolution: int) -> int:
        """Pixels in an epoch (from 1) of a training whose last epochs are at ``resolution``."""
        rising = math.ceil(self.epochs * PROGRESS_END)
        if self.progressive == 1 or epoch > rising or self.epochs == 1:
            return resolution
        share = self.progressive + (1 - self.progressive) * (epoch - 1) / rising
        return min(resolution, max(RESOLUTION_STEP, round(share * resolution / RESOLUTION_STEP) * RESOLUTION_STEP))


def staircase(epoch: float, rate: float, every: float) -> float:
    """``rate ** ⌊epoch / every⌋``; the tiny term keeps ``every`` = 2.4 exact at epochs 2.4, 4.8, …."""
    return float(rate ** math.floor(epoch / every + 1e-9))
