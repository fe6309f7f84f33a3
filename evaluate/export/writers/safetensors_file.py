"""``safetensors``: the weights alone, in a file that says which network they are of."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ....space.built import find_built
from ....space.weights.weights import load_into, read_weights, save_weights
from ..subject import Subject


def write(subject: Subject, path: Path) -> None:
    """The file."""
    save_weights(
        path,
        subject.plain,
        architecture=subject.architecture,
        normalization=(subject.preprocessing.mean, subject.preprocessing.std),
        classes=subject.classes,
    )


def read(subject: Subject, path: Path, threads: int | None) -> nn.Module:
    """The network that the file names, with its weights."""
    weights = read_weights(path, find_built(subject.architecture))
    module = (weights.architecture or subject.architecture).module()
    load_into(module, weights)
    return subject.around(module)
