"""The evaluator that measures candidates with shared weights, which are trained once."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ...space.architecture import Architecture
from ...space.cost import cost
from ...space.errors import UserError, check_choice, check_int
from ...space.network_spec import NetworkSpec
from ...space.paths import expand_path, is_file, is_folder
from ...space.space import load_space
from ...space.weights.weights import save_weights
from ..arguments import check_threads
from ..data.labelled_images import LabelledImages
from ..data.load import load_split
from ..data.sources import check_data
from ..data.split import Split
from ..evaluation import Evaluation, EvaluationError, Report
from ..kept_weights import is_within_reach, name_weights
from ..latency.known import KnowsLatency
from ..machine.device import find_device, out_of_memory, torch_threads
from ..machine.profile import profile
from ..tabular import LookupSpace
from ..train.accuracy import measure_accuracy
from ..train.recipe import Training
from .files import TrainedSupernet, read_supernet
from .members import Members
from .recalibrate import recalibrate
from .rules import RULES
from .training import SupernetTraining

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supernet(KnowsLatency):
    """Accuracy of a candidate with the weights that all members of the space share, on held-out images.

    The shared weights are trained once, before the first candidate, and found again by what made them. A candidate's
    part of them is copied out, its BatchNorm statistics are computed anew, and it is measured. The accuracies rank the
    members of one space; they are not those of networks that are trained by themselves.

    Args:
        space: whose members share the weights: itself, a shipped one's name or a file.
        data: the images.
        training: the recipe of the shared weights.
        rule: which members a step trains, of :data:`~effnas.evaluate.supernet.rules.RULES`.
        recalibration: training images that a candidate's BatchNorm statistics are computed on; 0: those that the
            training has gathered of all members.
        path: folder in which the supernet is trained, or is found; or the file of a trained one, which is used as it
            is; None: a folder in the cache.
        weights: file of a network that is the largest member, from which the shared training starts; None: from random
            weights.
        seed: of the shared training.
        device: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, …
        threads: of the CPU; None: in training chosen by timed steps, and those torch has.
        latency_batch: batch size at which a candidate's latency is measured on that device too; None: not measured.
        quiet: no progress of the training on standard error.
        latency_model: says the latency instead (:class:`~effnas.evaluate.latency.known.KnowsLatency`).

    Raises:
        UserError: a field is of the wrong kind, the space's networks cannot share weights, or the machine lacks the
            device.
    """

    space: LookupSpace | str = field(repr=False)  # has no text of its own
    data: LabelledImages
    training: Training
    rule: str = "sandwich"
    recalibration: int = 512
    path: str | None = None
    weights: str | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    latency_batch: int | None = None
    quiet: bool = False
    _folder: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        space = load_space(self.space) if isinstance(self.space, str) else self.space
        if not hasattr(space, "distributions") or not hasattr(space, "build"):
            raise UserError(f"evaluator.space must be a space, its name or its file, got {type(space).__name__}")
        object.__setattr__(self, "space", space)
        check_data(self.data)
        if not isinstance(self.training, Training):
            target = f"`_target_: {Training.__module__}.Training` in a config"
            raise UserError(f"training must be of type Training ({target}), got {type(self.training).__name__}")
        if self.training.sync_bn:
            raise UserError("training.sync_bn must be false: a supernet's BatchNorm sees the part of each process")
        check_choice("evaluator.rule", self.rule, RULES)
        check_int("evaluator.recalibration", self.recalibration, 0)
        if self.path is not None and (not isinstance(self.path, str) or not self.path):
            raise UserError(f"evaluator.path must be a folder, a file or null, got {self.path!r}")
        if self.weights is not None and (not isinstance(self.weights, str) or not self.weights):
            raise UserError(f"evaluator.weights must be a file of weights or null, got {self.weights!r}")
        check_int("evaluator.seed", self.seed, 0, 2**32 - 1)
        find_device(self.device)
        check_threads(self.threads)
        if self.latency_batch is not None:
            check_int("latency_batch", self.latency_batch, 1, 1_000_000)
        self.check_latency_model("latency_batch")
        if not isinstance(self.quiet, bool):
            raise UserError(f"evaluator.quiet must be true or false, got {self.quiet!r}")

    def __getstate__(self) -> dict[str, Any]:
        kept = ("members", "_bench")  # another process reads the file
        return {name: value for name, value in self.__dict__.items() if name not in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def members(self) -> Members:
        """Of the space.

        Raises:
            UserError: its networks cannot share weights.
        """
        assert not isinstance(self.space, str)
        return Members(self.space)

    @cached_property
    def _bench(self) -> _Bench:
        file = self._ensure()
        trained = read_supernet(file, self.members)
        trained.network.to(find_device(self.device))
        split = load_split(self.data, self.members.largest.in_channels, trained.normalization)
        split.check(self.members.largest)
        if trained.classes != split.classes:
            raise UserError(
                f"evaluator.path: {file} was trained on other classes ({', '.join(trained.classes):.60}) than the data "
                f"has ({', '.join(split.classes):.60})"
            )
        return _Bench(file, trained, split)

    def _ensure(self) -> Path:
        """The file of the trained supernet."""
        path = None if self.path is None else expand_path(self.path)
        if path is not None and (is_file(path) or (path.suffix == ".safetensors" and not is_folder(path))):
            if self.weights is not None:
                raise UserError(
                    f"evaluator.weights begin the training of a supernet, but evaluator.path={path} is one that is "
                    "trained: leave evaluator.weights out, or give another path"
                )
            return path
        return SupernetTraining(
            members=self.members,
            data=self.data,
            training=replace(self.training, compile=False),
            rule=self.rule,
            seed=self.seed,
            folder=path,
            device=self.device,
            threads=self.threads,
            weights=self.weights,
            quiet=self.quiet,
        ).ensure()

    @property
    def input_files(self) -> tuple[str, ...]:
        """Of the images, and files that are given: :func:`~effnas.evaluate.identity.describe_files`."""
        files = (file for file in (self.path, self.weights) if file)
        return (*getattr(self.data, "input_files", ()), *files, *map(str, self.latency_files))

    def keeping(self, folder: str) -> Supernet:
        """The same, leaving the weights of each candidate in ``folder``, which is made where there is none."""
        other = copy.copy(self)
        object.__setattr__(other, "_folder", folder)  # no field: it changes nothing of what a candidate is worth
        return other

    def prepare(self) -> None:
        """Train the shared weights, or find them.

        Raises:
            UserError: as :meth:`~effnas.evaluate.supernet.training.SupernetTraining.ensure`, or the file that is given
                cannot be read, is of another space or of other classes.
            KeyboardInterrupt: after Ctrl-C, with a checkpoint written: the same again goes on.
        """
        if self.training.note:
            log.warning("%s", self.training.note)
        self._bench  # noqa: B018  # kept by its being read

    def describe(self) -> dict[str, Any]:
        """For the record of a search: what was trained, and what its largest and smallest member are worth."""
        bench = self._bench
        ends = {"largest": self.members.largest, "smallest": self.members.smallest}
        accuracies = {name: self._measure(member, 0)[1] for name, member in ends.items()}
        return {
            "accuracy_is": f"with shared weights (BatchNorm of {self.recalibration:,} images)",
            "note": (
                "note: these accuracies are of shared weights, which rank the members of the space; effnas train "
                "--weights goes on from those of the winner"
            ),
            "supernet": str(bench.file),
            "rule": bench.trained.identity.get("rule"),
            "recalibration": self.recalibration,
            **{f"{name}_accuracy": accuracy for name, accuracy in accuracies.items()},
            **{f"training_{name}": value for name, value in bench.trained.training.items()},
        }

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Measure one member; ``seed`` draws the images of its BatchNorm statistics.

        Raises:
            EvaluationError: the loss is not finite, or there is not enough memory.
            UserError: the network is no member of the space, or as :meth:`prepare`.
        """
        start = time.perf_counter()
        bench = self._bench
        member = self.members.check(architecture)
        network, accuracy, loss, used = self._measure(member, seed)
        if not math.isfinite(loss):
            raise EvaluationError(f"held-out loss is {loss} with the supernet's weights")
        if self._folder is not None and is_within_reach(self._folder):
            bench.leave_weights(Path(self._folder) / name_weights(member.digest, seed), network, member)
        latency = self.say_latency(member)
        if self.latency_batch is not None:
            latency = profile(
                member,
                batch_size=self.latency_batch,
                threads=self.threads,
                device=str(find_device(self.device)),
                repeats=20,
                fvcore=False,
            ).latency
        return Evaluation(
            accuracy=accuracy,
            cost=cost(member),
            latency=latency,
            seconds=time.perf_counter() - start,
            metrics={"loss": loss, "recalibration_images": used, "heldout_images": len(bench.split.heldout)},
        )

    def extract(self, architecture: NetworkSpec, *, seed: int = 0) -> nn.Module:
        """The plain network of a member, with its own BatchNorm statistics, in evaluation mode.

        Raises:
            UserError: as a call.
        """
        return self._measure(self.members.check(architecture), seed)[0]

    def _measure(self, member: Architecture, seed: int) -> tuple[nn.Module, float, float, int]:
        """The member's network, its accuracy and loss on held-out images, and the images of its statistics."""
        bench, device, batch = self._bench, find_device(self.device), self.training.batch_size
        with torch_threads(self.threads), out_of_memory(batch, member.resolution):
            network = bench.trained.network.extract(member)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            how = {"batch_size": batch, "resolution": member.resolution, "device": device}
            used = recalibrate(network, bench.split.train, self.recalibration, seed=seed, **how)  # type: ignore[arg-type]
            accuracy, loss = measure_accuracy(network, bench.split.heldout, **how)  # type: ignore[arg-type]
        return network, accuracy, loss, used


@dataclass(frozen=True)
class _Bench:
    """A trained supernet, and the images that its members are measured on."""

    file: Path
    trained: TrainedSupernet
    split: Split

    def leave_weights(self, file: Path, network: nn.Module, architecture: Architecture) -> None:
        try:
            save_weights(
                file,
                network,
                architecture=architecture,
                normalization=self.trained.normalization,
                classes=self.split.classes,
            )
        except OSError as error:  # a full disk: the candidate's worth is known all the same
            log.warning("%s cannot be written (%s): these weights are not kept", file, error.strerror)
