"""Where a training stands, in one file: written whole or not at all, and read as data."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...space.errors import UserError
from ...space.files import replacing
from ..folder import describe_changes

log = logging.getLogger(__name__)

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training.

    Args:
        path: of the file.
        identity: what makes the training what it is (architecture, recipe, data, seed), plain data: a file of another
            one is refused.
        every: epochs between two writes; may be a fraction. The end of the training always is one.
    """

    path: Path
    identity: Mapping[str, Any]
    every: float = 1.0

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
            UserError: the file is not a checkpoint, is damaged, or belongs to another training.
        """
        if not self.path.is_file():
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
            raise UserError(
                f"{self.path}: this checkpoint cannot be read: it "
                + ("holds more than data, which is never loaded" if more else "is truncated or damaged")
                + ". Delete it to start again"
            ) from None
        if not isinstance(found, dict) or found.get("effnas_checkpoint") != FORMAT:
            raise UserError(
                f"{self.path}: not a checkpoint of effnas train (format {FORMAT}); delete it to start again"
            )
        if changes := describe_changes(found["identity"], self.identity):
            raise UserError(
                f"{self.path.parent}: another training is in this folder ({changes}); choose another with "
                f"hydra.run.dir=DIR, or delete {self.path.name}"
            )
        state: dict[str, Any] = found["state"]
        return state
