"""The weights of a smaller member of the family, that candidates start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..space.architecture import Architecture
from ..space.built import AnyArchitecture, BuiltNetwork
from ..space.errors import UserError
from ..space.network import Network, build
from ..space.weights.grow import Growth, grow
from ..space.weights.weights import Normalization, load_into, read_weights
from .data.split import Split


@dataclass(frozen=True)
class Initial:
    """What a weights file of ours holds, ready to grow.

    Args:
        path: of the file.
        network: with the weights, on the CPU.
        architecture: of it.
        normalization: that it was trained with.
        classes: names of its outputs; None where the file does not say.
    """

    path: str
    network: Network
    architecture: Architecture
    normalization: Normalization | None
    classes: tuple[str, ...] | None

    def check(self, split: Split) -> None:
        """Raise :class:`UserError` unless its outputs are the data's classes."""
        if self.classes is not None and self.classes != split.classes:
            raise UserError(
                f"initial: {self.path} was trained on other classes ({', '.join(self.classes):.60}) than the data has "
                f"({', '.join(split.classes):.60}): train the smaller network on the same data"
            )

    def grown(self, architecture: AnyArchitecture, seed: int) -> Growth:
        """A candidate with these weights.

        Raises:
            UserError: it is not a larger member of the family.
        """
        if isinstance(architecture, BuiltNetwork):
            raise UserError(f"initial: networks of a builder ({architecture.code}) cannot be grown; leave initial out")
        try:
            return grow(self.network, self.architecture, architecture, seed=seed)
        except UserError as error:
            raise UserError(f"initial: the network cannot start from {self.path}: {error}") from None


def read_initial(path: str) -> Initial:
    """Read the file, once for all candidates of a process.

    Raises:
        UserError: it cannot be read, or does not say which network it is of.
    """
    file = Path(path).expanduser()
    return _read(path, file.stat().st_mtime_ns if file.is_file() else 0)


@lru_cache(maxsize=1)
def _read(path: str, changed: int) -> Initial:
    weights = read_weights(path)
    if weights.architecture is None:
        raise UserError(
            f"initial: {path} ({weights.format} format) does not say which network it is of; give a file that effnas "
            "train wrote (weights.safetensors)"
        )
    if isinstance(weights.architecture, BuiltNetwork):
        raise UserError(
            f"initial: {path} is of a builder's network ({weights.architecture.code}), which cannot be grown"
        )
    network = build(weights.architecture)
    load_into(network, weights)
    return Initial(path, network, weights.architecture, weights.normalization, weights.classes)
