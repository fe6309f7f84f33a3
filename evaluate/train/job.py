"""``effnas train``: the settings, the run, the output folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...report.job import write_report
from ...space.built import BuiltNetwork
from ...space.errors import UserError, advise_without_restart, check_int, check_number
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.weights.contents import Weights
from ..arguments import check_threads
from ..data.labelled_images import LabelledImages
from ..data.load import load_test
from ..data.sources import find_table
from ..evaluation import EvaluationError
from ..folder import folder_lock, set_aside
from ..identity import describe_content, describe_files
from ..interrupt import Interrupts
from ..machine.device import find_device
from ..tracking.tracker import Tracker
from ..tracking.tracking import Tracking
from .accuracy import measure_accuracy
from .checkpoint import Checkpoint
from .distributed import Group, torchrun_group
from .history import EpochRow, Plan, Unwatched, Watcher
from .log import TrainingLog
from .recipe import Training
from .report import CHECKPOINT, RESULTS, write_training, write_weights
from .starting_point import StartingPoint, find_starting_point
from .tracked import TrackedEpochs
from .train import train

log = logging.getLogger(__name__)


def run_train(
    architecture: NetworkSpec | str | None,
    data: LabelledImages,
    training: Training,
    *,
    network: BuiltNetwork | None = None,
    weights: Weights | str | Path | None = None,
    grow: bool = False,
    num_classes: int | str = "auto",
    resolution: int | None = None,
    in_channels: int | None = None,
    padding: str | None = None,
    bn_eps: float | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    test: bool = True,
    checkpoint_every: float = 1.0,
    tensorboard: bool = True,
    tracker: Tracker | None = None,
    report: bool = True,
    restart: bool = False,
    output: str | Path = "outputs/train",
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train one network, from scratch or from weights; continues from what ``output`` has.

    Under ``torchrun`` each process calls it with the same arguments, and the first one writes the files.

    Args:
        architecture: what to train: a string is the name of a zoo network or a file; None: the one that ``weights``
            name, or else ``network``.
        data: the images.
        training: the recipe.
        network: a network of the user's own builder; files of its networks need it.
        weights: a file to start from (:func:`~effnas.space.weights.weights.read_weights`); its classifier is kept where
            the classes are the same, and replaced by a fresh one elsewhere.
        grow: the weights are of a smaller member of the family, which the network is grown from
            (:func:`~effnas.space.weights.grow.grow`).
        num_classes: of the classifier; ``auto``: as many as the data has.
        resolution: of the input in pixels; None: the architecture's.
        in_channels: of the images; None: the architecture's. Weights for colour images are adapted, as timm does it.
        padding, bn_eps: of the network, if a weights file needs other values than its format implies.
        seed: of the first weights and of everything random in the training.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        threads: of the CPU; None: chosen by timed steps.
        test: measure the test part at the end, once, where the data has one; one that cannot be used is left out, and
            the summary's ``test_note`` says why.
        checkpoint_every: epochs between two checkpoints; may be a fraction.
        tensorboard: write event files too.
        tracker: where each epoch is recorded besides (:mod:`effnas.evaluate.tracking`); None: nowhere.
        report: write ``report.html`` at the end, the run on one page.
        restart: begin anew: what the folder holds of an earlier run is kept under another name, with a number.
        output: folder of ``weights.safetensors``, ``architecture.yaml``, ``checkpoint.pt``, ``log.csv``,
            ``curves.png``, ``curves.svg``, ``summary.json``, ``report.html`` and ``tensorboard/``.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``summary.json``; an empty mapping in all processes of torchrun's but the first.

    Raises:
        UserError: a setting is wrong, the data or weights do not fit, another training is in the folder, or the
            training failed (the loss is not finite, memory runs out).
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
    """
    check_int("seed", seed, 0, 2**32 - 1)
    check_number("checkpoint_every (epochs)", checkpoint_every, 0, open_low=True)
    check_threads(threads)
    output = as_path("output", output)
    with ExitStack() as stack:
        group = stack.enter_context(torchrun_group())
        place = find_device(device if group.size == 1 or not torch.cuda.is_available() else f"cuda:{group.local_rank}")
        start = find_starting_point(
            architecture,
            data,
            weights,
            own=network,
            grow=grow,
            num_classes=num_classes,
            resolution=resolution,
            padding=padding,
            bn_eps=bn_eps,
            in_channels=in_channels,
        )
        model = start.build(seed)
        test, lacking = _look_at_test(data, start) if test else (False, "")
        if group.main:
            stack.enter_context(folder_lock(output, "train"))
            if restart:
                set_aside(output, RESULTS)
                stack.enter_context(advise_without_restart())
        if restart:
            group.wait()  # none reads the old checkpoint
        identity = {
            **start.identity,
            "training": training.to_dict(),
            "data": describe_content(data),
            "files": describe_files(data),
            "seed": seed,
            "processes": group.size,
        }
        checkpoint = Checkpoint(output / CHECKPOINT, identity, checkpoint_every)
        checkpoint.load()  # another training in the folder is refused before anything is written
        if group.main:
            start.architecture.save(output / "architecture.yaml")
        note = "\n".join(filter(None, (start.note, lacking)))
        tracking = Tracking(tracker if group.main else None, output, identity, axis="epoch", quiet=quiet)
        stack.enter_context(tracking)
        watcher = _watcher(stack, output, note, group, tracking, tensorboard=tensorboard, quiet=quiet)
        try:
            result = train(
                model,
                start.split.train,
                start.split.heldout,
                training,
                resolution=start.architecture.resolution,
                seed=seed,
                report=lambda epoch, accuracy: None,
                device=place,
                threads=threads,
                watcher=watcher,
                checkpoint=checkpoint,
                group=group,
            )
        except EvaluationError as error:
            raise UserError(f"the training failed: {error}{_advice(str(error))}") from error
        if group.main:
            write_weights(model, start, output)  # first: nothing that goes wrong after the training costs it
        tested = {"test_note": lacking or None}
        if test:
            tested = _test(model, start, data, training, place, group)
        if not group.main:
            return {}
        facts = {"seed": seed, "device": str(place), "processes": group.size, "command": command}
        facts |= {"training": identity["training"], "trained_on": identity["data"]}
        summary = write_training(result, start, {**tested, **facts}, output)
        tracking.conclude(summary)
        if report:
            write_report(output)
        return summary


def _watcher(
    stack: ExitStack, output: Path, note: str, group: Group, tracking: Tracking, *, tensorboard: bool, quiet: bool
) -> Watcher:
    """What the main process shows and logs; all of them stop between two steps where a signal comes."""
    log: Watcher = Unwatched()
    if group.main:
        log = stack.enter_context(TrainingLog(output, note, tensorboard=tensorboard, quiet=quiet))
        log = TrackedEpochs(log, tracking) if tracking.wanted else log
    return Interruptible(log, stack.enter_context(Interrupts()))


@dataclass(frozen=True)
class Interruptible:
    """A watcher that raises KeyboardInterrupt between two steps, and nowhere else."""

    log: Watcher
    interrupts: Interrupts

    def begin(self, plan: Plan, history: Sequence[EpochRow]) -> None:
        """As :meth:`~effnas.evaluate.train.history.Watcher.begin`."""
        self.log.begin(plan, history)

    def step(self, step: int, images: int, lr: float, loss: float | None) -> None:
        """As :meth:`~effnas.evaluate.train.history.Watcher.step`."""
        self.log.step(step, images, lr, loss)
        self.interrupts.check()

    def epoch(self, row: EpochRow) -> None:
        """As :meth:`~effnas.evaluate.train.history.Watcher.epoch`."""
        self.log.epoch(row)


def _advice(reason: str) -> str:
    if reason.startswith("loss is"):
        return "; a lower training.lr, a longer training.warmup_epochs or training.clip_norm=1.0 may help"
    return "; a smaller training.batch_size or resolution may help" if reason.startswith("out of memory") else ""


def _look_at_test(data: LabelledImages, start: StartingPoint) -> tuple[bool, str]:
    """Whether there is a test part to use, as far as its files and labels say; and what keeps one from being used."""
    try:
        return find_table(data, "test", start.split.classes) is not None, ""
    except Exception as error:  # whatever is wrong with it, the training does not need it
        return False, _without_test(error)


def _without_test(error: Exception) -> str:
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f"the test part is left out: {' '.join(reason.split())}"


def _test(
    network: nn.Module,
    start: StartingPoint,
    data: LabelledImages,
    training: Training,
    device: torch.device,
    group: Group,
) -> dict[str, Any]:
    """Accuracy and loss on the test part, and its number of images; why not, where it cannot be measured."""
    try:
        images = load_test(data, start.architecture.in_channels, start.normalization)
        if images is None:
            return {}
        accuracy, loss = measure_accuracy(
            network,
            images,
            batch_size=training.batch_size,
            resolution=start.architecture.resolution,
            device=device,
            group=group,
        )
    except Exception as error:  # the training is done: its weights are written, and its report is to come
        note = _without_test(error)
        log.warning("%s", note)
        return {"test_note": note}
    return {"test_accuracy": accuracy, "test_loss": loss, "test_images": len(images)}
