"""What is exported: a trained network, what its images need, and the run that it is of."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ...space.paths import expand_path, is_file, is_folder
from ...space.weights.contents import Weights
from ..compress.report import PRUNED, RECORD, TRAINED
from ..data.image_data import ImageData
from ..data.labelled_images import LabelledImages
from ..pretrained import Pretrained
from ..train.report import CHECKPOINT, WEIGHTS
from .inside import RESIZE, put_inside
from .preprocessing import Preprocessing

log = logging.getLogger(__name__)

#: Fields of a data set that a training records and that say which images those are.
_RECORDED = tuple(field.name for field in fields(ImageData))


@dataclass(frozen=True)
class Subject:
    """A trained network on its way out.

    Args:
        module: in evaluation mode, on the CPU; (n, channels, size, size) to logits (n, classes).
        architecture: of it.
        preprocessing: what its images need.
        classes: names of its outputs; None: unknown.
        inside: whether ``module`` normalises the images itself: they are then given in units of 0 to 255. ``resize``:
            it also crops and resizes them, and takes uint8 of any height and width.
        plain: the network itself, where ``module`` is something around it.
        layers: names of what ``module`` gives before the logits.
    """

    module: nn.Module
    architecture: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    plain: nn.Module
    inside: bool | str = False
    layers: tuple[str, ...] = ()

    def around(self, network: nn.Module) -> nn.Module:
        """Another copy of the network, with around it what ``module`` has."""
        return put_inside(network, self.preprocessing, self.inside)

    @property
    def example(self) -> Tensor:
        """Two images of noise, for tracing."""
        return self.noise(2, seed=0)

    def noise(self, count: int, seed: int) -> Tensor:
        """Images as the module takes them: where it resizes them, higher than wide and larger than they will be."""
        p, generator = self.preprocessing, torch.Generator().manual_seed(seed)
        more = (p.size // 3 + 5, p.size // 4 + 2) if self.inside == RESIZE else (0, 0)
        images = torch.rand(count, p.channels, p.size + more[0], p.size + more[1], generator=generator) * 255
        return images.to(torch.uint8) if self.inside == RESIZE else self.given(images)

    @property
    def any_size(self) -> dict[int, Any]:
        """The axes of the images that graphs take in any length, by their number, as ``torch.export`` has them."""
        names = {0: "batch", 2: "height", 3: "width"} if self.inside == RESIZE else {0: "batch"}
        return {axis: torch.export.Dim(name, min=1) for axis, name in names.items()}

    def given(self, images: Tensor) -> Tensor:
        """Images (n, channels, size, size) in units of 0 to 255 as a module takes them that does not resize them."""
        return images.float() if self.inside else self.preprocessing.pixels().normalize(images)

    @torch.inference_mode()
    def logits(self, given: Tensor) -> Tensor:
        """What PyTorch says: (n, classes)."""
        found: Tensor = self.module(given)
        return found


# -- the run ---------------------------------------------------------------------------------------------


def find_weights(given: str) -> Path:
    """The weights of a run's folder, or the file itself; of a compression those that it has trained, if it has.

    Raises:
        UserError: a folder without weights, of a training that has not finished, say.
    """
    path = expand_path(given)
    if not is_folder(path):
        return path
    if is_file(path / RECORD) and is_folder(path / TRAINED):
        path = path / TRAINED
    elif is_file(path / RECORD) and is_file(path / PRUNED):
        return path / PRUNED
    if is_file(path / WEIGHTS):
        return path / WEIGHTS
    if is_file(path / CHECKPOINT):
        raise UserError(
            f"{path}: the training there has not finished: it has {CHECKPOINT} and no {WEIGHTS}; run the same effnas "
            "train command again, or export another run"
        )
    best = read_summary(path / "summary.json").get("best")
    number = best.get("number") if isinstance(best, Mapping) else None
    kept = path / "weights" / f"trial-{number}.safetensors"
    if number is not None and is_file(kept):
        return kept
    raise UserError(
        f"{path}: there is no {WEIGHTS} in this folder; name a folder of effnas train or compress, of a search that "
        "kept its best weights, or a file of weights"
    )


def read_summary(path: Path) -> dict[str, Any]:
    """``summary.json`` of the run that weights are of; empty where there is none, or, with a warning, no whole one."""
    found: Any = None
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        pass
    if not isinstance(found, dict):
        log.warning("%s: is cut off, or not of effnas: what the run was trained on and has reached is not known", path)
        return {}
    return found


def recorded_data(summary: Mapping[str, Any]) -> LabelledImages | None:
    """The data that a run was trained on, where its summary tells and it is one of the sources with a name."""
    told = summary.get("trained_on")
    if not isinstance(told, Mapping) or not str(told.get("_target_", "")).endswith(".ImageData"):
        return None
    try:
        return ImageData(**{name: told[name] for name in _RECORDED if name in told})
    except (UserError, TypeError):
        return None


def check_weights(start: Pretrained) -> Weights:
    """The weights, with a classifier.

    Raises:
        UserError: there is none.
    """
    if start.classes is None:
        raise UserError(f"weights: {start.weights.path} has no classifier: fine-tune it on your data (effnas train)")
    return start.weights
