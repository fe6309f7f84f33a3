"""The training of a supernet in its folder: once, whoever needs it; a training that was stopped goes on."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ...space.errors import UserError, explain_os_error
from ...space.files import remove_leftovers
from ...space.network_spec import hash_plain
from ...space.paths import cache_folder
from ...space.weights.weights import read_weights
from ..data.labelled_images import LabelledImages
from ..data.load import load_split
from ..evaluation import EvaluationError
from ..identity import describe_changes, describe_content, describe_files
from ..interrupt import Interrupts
from ..machine.device import find_device
from ..train.checkpoint import Checkpoint
from ..train.distributed import Group, torchrun_group
from ..train.history import Unwatched, Watcher
from ..train.job import Interruptible
from ..train.log import TrainingLog
from ..train.recipe import Training
from ..train.report import CHECKPOINT
from ..train.train import train
from .files import FORMAT, NAME, TrainedSupernet, read_identity, save_supernet
from .members import Members
from .pretrained import begin_with, find_start
from .rules import Sampler
from .shared import SharedNetwork
from .stepper import make_stepper

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupernetTraining:
    """A supernet to be trained, or trained already.

    Args:
        members: of its space.
        data: the images.
        training: the recipe; it is never compiled, for each step runs other networks.
        rule: of :data:`~effnas.evaluate.supernet.rules.RULES`.
        seed: of the first weights and of everything random in the training.
        folder: where it is; None: in the cache, by its digest.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        threads: of the CPU; None: chosen by timed steps.
        weights: file that the largest member begins with; None: random weights.
        quiet: no progress on standard error.
    """

    members: Members
    data: LabelledImages
    training: Training
    rule: str
    seed: int
    folder: Path | None = None
    device: str = "auto"
    threads: int | None = None
    weights: str | None = None
    quiet: bool = False

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes it what it is: plain data."""
        found = {
            "format": FORMAT,
            "space": {"name": self.members.space.name, "members": self.members.describe()},
            "training": self.training.to_dict(),
            "data": describe_content(self.data),
            "files": describe_files(self.data),
            "rule": self.rule,
            "seed": self.seed,
            "weights": None if self.weights is None else read_weights(self.weights).digest,
        }
        return dict(json.loads(json.dumps(found)))  # as it comes back from a file

    @cached_property
    def place(self) -> Path:
        """Its folder."""
        if self.folder is not None:
            return self.folder
        identity = {**self.identity, "space": self.identity["space"]["members"]}  # whatever it is called
        return cache_folder() / "supernet" / hash_plain(identity)

    @property
    def file(self) -> Path:
        """Of the trained supernet."""
        return self.place / NAME

    def ensure(self) -> Path:
        """Train it unless it is there; processes that need the same one wait for the first of them.

        Under ``torchrun`` all processes train it together.

        Returns:
            The file.

        Raises:
            UserError: the images do not fit the space, another supernet is in the folder, or the training failed.
            KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
        """
        with torchrun_group() as group, contextlib.ExitStack() as stack:
            if group.main:
                stack.enter_context(_hold(self.place))
            there = group.sum(torch.tensor(float(group.main and self.file.exists())))
            if there:
                self._check_own()
            else:
                self._train(group)
            group.wait()
        return self.file

    def _check_own(self) -> None:
        """Raise :class:`UserError` unless the supernet in the folder is this one."""
        found = read_identity(self.file)
        own = {**self.identity, "space": self.identity["space"]["members"]}
        kinds = {"training": Training, **self.members.list_defaults()}
        if changes := describe_changes({**found, "space": found["space"]["members"]}, own, kinds):
            raise UserError(
                f"evaluator.path: another supernet is in {self.place} ({changes}): choose another folder, or give its "
                f"file ({self.file}) to use it as it is"
            )

    def _train(self, group: Group) -> None:
        members, largest = self.members, self.members.largest
        start = None if self.weights is None else find_start(members, self.data, self.weights)
        split = load_split(self.data, largest.in_channels) if start is None else start.split
        split.check(largest)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            network = SharedNetwork(members.sizes, largest)
        if start is not None:
            begin_with(network, members, start, self.seed)
        identity = {**self.identity, "processes": group.size}
        advice = f"choose another with evaluator.path=DIR, or delete {CHECKPOINT} there"
        checkpoint = Checkpoint(self.place / CHECKPOINT, identity, advice=advice)
        checkpoint.load()  # another training in the folder is refused before anything is written
        note = (
            f"training a supernet of the space {members.space.name} ({self.rule}, {self.training.epochs} epochs, "
            f"{len(split.train):,} images{'' if start is None else f', from {start.note}'}) in {self.place}"
        )
        device = self.device if group.size == 1 or not torch.cuda.is_available() else f"cuda:{group.local_rank}"
        with contextlib.ExitStack() as stack:
            shown: Watcher = Unwatched()
            if group.main:
                shown = stack.enter_context(TrainingLog(self.place, note, tensorboard=False, quiet=self.quiet))
            watcher = Interruptible(shown, stack.enter_context(Interrupts()))
            try:
                result = train(
                    network,
                    split.train,
                    None,
                    self.training,
                    resolution=largest.resolution,
                    seed=self.seed,
                    report=lambda epoch, accuracy: None,
                    device=find_device(device),
                    threads=self.threads,
                    watcher=watcher,
                    checkpoint=checkpoint,
                    group=group,
                    make_stepper=make_stepper(Sampler(members, self.rule, self.seed)),
                )
            except EvaluationError as error:
                raise UserError(
                    f"the training of the supernet failed: {error}; a lower training.lr may help"
                ) from error
        if not group.main:
            return
        pixels = split.train.pixels
        facts = {name: getattr(result, name) for name in ("epochs", "steps", "seconds", "train_loss")}
        trained = TrainedSupernet(network, (pixels.mean, pixels.std), split.classes, self.identity, facts)
        try:
            save_supernet(self.file, trained)
        except OSError as error:
            raise UserError(explain_os_error(error)) from error
        checkpoint.path.unlink(missing_ok=True)  # it is done; what is three times as large as the weights can go


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """The folder, as one process's; another one's training is waited for."""
    lock = FileLock(str(folder / ".lock"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.warning("%s: waiting for another process that trains this supernet", folder)
            lock.acquire()
    except OSError as error:
        raise UserError(f"evaluator.path: {explain_os_error(error)}") from None
    remove_leftovers(folder, held=True)
    try:
        yield
    finally:
        lock.release()
