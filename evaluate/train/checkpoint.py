"""Where a training stands, in one file: written whole or not at all, and read as data."""

from __future__ import annotations

import logging
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...space.errors import UserError
from ...space.files import replacing
from ..identity import describe_changes
from .history import EpochRow
from .optimizers import STATES, MovingAverage
from .recipe import Training

log = logging.getLogger(__name__)

FORMAT = 1


class CheckpointError(UserError):
    """The file cannot be gone on from."""


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training.

    Args:
        path: of the file.
        identity: what makes the training what it is (architecture, recipe, data, seed), plain data: a file of another
            one is refused.
        every: epochs between two writes; may be a fraction. The end of the training always is one.
        advice: what to do where the file is of another training.
    """

    path: Path
    identity: Mapping[str, Any]
    every: float = 1.0
    advice: str = (
        "begin anew with restart=true, which keeps the old files beside the new ones, or choose another folder with "
        "-o DIR"
    )

    def due(self, steps: int, steps_per_epoch: int) -> bool:
        """Whether it is time after so many steps of the whole training."""
        each = max(1, round(self.every * steps_per_epoch))
        return steps % each == 0

    def save(self, state: Mapping[str, Any]) -> bool:
        """Write the file; if that fails (a full disk), keep the old one, warn and return False."""
        try:
            with replacing(self.path) as file:
                torch.save({"effnas_checkpoint": FORMAT, "identity": dict(self.identity), "state": state}, file)
            return True
        except (OSError, RuntimeError) as error:  # torch's writer turns a short write into a RuntimeError
            reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
            kept = "the last one is kept" if self.path.exists() else "there is none yet"
            log.warning(
                "%s: the checkpoint cannot be written (%s); %s, and the training continues", self.path, reason, kept
            )
            return False

    def load(self) -> dict[str, Any] | None:
        """What :meth:`save` was given, on the CPU; None where there is no file.

        Raises:
            CheckpointError: the file is not a checkpoint, is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
        except (
            OSError,
            RuntimeError,
            EOFError,
            ValueError,
            KeyError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
        ) as error:
            more = isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error)
            raise CheckpointError(
                f"{self.path}: this checkpoint cannot be read: it "
                + ("holds more than data, which is never loaded" if more else "is truncated or damaged")
                + ". Delete it to start again"
            ) from None
        if not isinstance(found, dict) or found.get("effnas_checkpoint") != FORMAT:
            raise CheckpointError(
                f"{self.path}: not a checkpoint of effnas train (format {FORMAT}); delete it to start again"
            )
        if not isinstance(found.get("identity"), dict) or not isinstance(found.get("state"), dict):
            raise self.damaged("it does not say which training it is of, or where that stands")
        if changes := describe_changes(found["identity"], self.identity, {"training": Training}):
            raise CheckpointError(f"{self.path.parent}: another training is in this folder ({changes}); {self.advice}")
        state: dict[str, Any] = found["state"]
        return state

    def damaged(self, what: object) -> CheckpointError:
        """The error of a file whose content is not what :meth:`save` was given."""
        text = " ".join(str(what).split())[:200]
        return CheckpointError(f"{self.path}: this checkpoint is damaged: {text}. Delete it to start again")


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Args:
        epoch: in progress, from 1; one more than there are where all are done.
        done: its steps that are done.
        seconds: of earlier runs.
        losses: sum and number of the epoch's training losses, hits and number of its images.
        history: one row per finished epoch.
    """

    epoch: int
    done: int
    seconds: float
    losses: tuple[float, int, int, int]
    history: tuple[EpochRow, ...]


def restore_training(
    checkpoint: Checkpoint,
    state: Mapping[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    average: MovingAverage | None,
    *,
    epochs: int,
    steps_per_epoch: int,
) -> Position:
    """Put what :meth:`Checkpoint.load` gave into the model, its optimizer and its average, and say where they stand.

    Raises:
        CheckpointError: the file is of another structure than such a training writes.
    """
    try:
        position = _read_position(state, epochs, steps_per_epoch)
        _check_tensors("model", state["model"], model.state_dict())
        _check_optimizer(state["optimizer"], optimizer, began=position.epoch > 1 or position.done > 0)
        if (state["average"] is None) != (average is None):
            raise ValueError("average: there, or missing, where the recipe says otherwise")
        if average is not None:
            _check_whole("average: updates", state["average"]["updates"], 0)
            _check_tensors("average", state["average"]["weights"], average.model.state_dict())
            average.restore(state["average"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except KeyError as error:
        raise checkpoint.damaged(f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise checkpoint.damaged(error) from None
    return position


def _read_position(state: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> Position:
    epoch = _check_whole("epoch", state["epoch"], 1, epochs + 1)
    total, steps, *counted = state["losses"]
    hits, images = counted or (0, 0)  # an older effnas counted none
    rows = tuple(EpochRow(**row) for row in state["history"])
    if len(rows) != epoch - 1:
        raise ValueError(f"history: {len(rows)} epochs, where {epoch - 1} are done")
    for row in rows:
        _check_whole("history: step", row.step, 0)
        for name in ("lr", "train_loss", "images_per_second", "seconds"):
            _check_real(f"history: {name}", getattr(row, name))
        for name in ("loss", "accuracy", "train_accuracy"):
            if getattr(row, name) is not None:
                _check_real(f"history: {name}", getattr(row, name))
    return Position(
        epoch,
        _check_whole("done", state["done"], 0, steps_per_epoch),
        _check_real("seconds", state["seconds"]),
        (
            _check_real("losses", total),
            _check_whole("losses", steps, 0, steps_per_epoch),
            _check_whole("losses: hits", hits, 0),
            _check_whole("losses: images", images, 0),
        ),
        rows,
    )


def _check_whole(name: str, value: object, low: int, high: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError(f"{name}: {value!r:.60} is no whole number from {low} to {'∞' if high is None else high}")
    return value


def _check_real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name}: {value!r:.60} is no number from 0 on")
    return float(value)


def _check_tensors(name: str, found: object, own: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless they are tensors by the same names, of the same shapes and types."""
    if not isinstance(found, Mapping) or found.keys() != own.keys():
        raise ValueError(f"{name}: not the tensors of this network")
    for key, tensor in own.items():
        there = found[key]
        if not isinstance(there, Tensor) or (there.shape, there.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name}: {key} is not a tensor of the network's shape and type")


def _check_optimizer(found: Any, optimizer: Optimizer, *, began: bool) -> None:
    """Raise ValueError unless it is the state of such an optimizer, which ``load_state_dict`` hardly checks."""
    groups, own = found["param_groups"], optimizer.state_dict()["param_groups"]
    for there, here in zip(groups, own, strict=True):
        # the learning rate is set at each step; the others are the recipe's, or the device's
        for key in here.keys() & there.keys() - {"lr", "fused", "foreach"}:
            if there[key] != here[key]:
                raise ValueError(f"optimizer: {key} is {there[key]!r:.60}, the recipe's is {here[key]!r:.60}")
        if missing := {"params", "weight_decay", "lr_scale"} - there.keys():
            raise ValueError(f"optimizer: {min(missing)} is missing")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    keys = STATES[type(optimizer).__name__]
    for index, values in found["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(weights) or values.keys() != keys:
            raise ValueError(f"optimizer: the state of weight {index!r:.60} is not such an optimizer's")
        for key, value in values.items():
            if value is not None and (not isinstance(value, Tensor) or value.shape not in ((), weights[index].shape)):
                raise ValueError(f"optimizer: {key} of weight {index} is not a tensor of its shape")
            if value is None and optimizer.defaults.get("momentum") != 0:
                raise ValueError(f"optimizer: {key} of weight {index} is missing")
    if began and weights and not found["state"] and optimizer.defaults.get("momentum") != 0:
        raise ValueError("optimizer: its state is missing")
