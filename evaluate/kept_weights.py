"""The folder in which a search keeps trained weights.

A worker leaves the weights of each candidate under a hidden name, made of the network and the seed. The search gives
those of a trial that it keeps the trial's name, and removes the others; a kill between the two leaves a hidden file,
which the next run finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .folder import WEIGHTS_FOLDER


def name_weights(digest: str, seed: int | str) -> str:
    """The name under which the weights of a network that was trained with a seed are left."""
    return f".{digest}-{seed}.safetensors"


def name_checkpoint(digest: str, seed: int | str) -> str:
    """The name of the file in which a training stands that was stopped."""
    return f"{digest}-{seed}.pt"


#: Whether this process is on a node of a cluster, which may not share the files of the search.
_on_a_node = False


def serve_a_node() -> None:
    """Make no folder of a search in this process where the search has not: what is left elsewhere nobody removes."""
    global _on_a_node
    _on_a_node = True


def is_within_reach(folder: str | Path) -> bool:
    """Whether files can be left in a search's folder of weights or checkpoints: beside it, or where it is shared."""
    return not _on_a_node or Path(folder).parent.is_dir()  # the search's own folder is there before its first candidate


class KeptWeights:
    """The files of trials, ``trial-N.safetensors``, in the folder ``weights`` of a search's.

    Args:
        output: folder of the search.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / WEIGHTS_FOLDER

    def file(self, number: int) -> Path:
        """Of the trial with that number."""
        return self.folder / f"trial-{number}.safetensors"

    def has(self, number: int) -> bool:
        """Whether there are weights of that trial."""
        return self.file(number).is_file()

    def take(self, key: str, number: int) -> bool:
        """Give what a worker left of ``DIGEST:SEED`` the name of a trial; False where it left nothing."""
        left = self.folder / name_weights(*key.split(":", 1)) if ":" in key else None
        if left is None or not left.is_file():
            return False
        left.replace(self.file(number))
        return True

    def take_left(self, numbers: Mapping[str, int]) -> None:
        """What a killed run left: the trials' numbers by ``DIGEST:SEED`` say whose it is; the rest goes."""
        for key, number in numbers.items():
            self.take(key, number)
        for file in list(self.folder.glob(".*.safetensors")):
            file.unlink(missing_ok=True)

    def keep_only(self, numbers: set[int]) -> None:
        """Remove the files of other trials."""
        for file in list(self.folder.glob("trial-*.safetensors")):
            number = file.stem.removeprefix("trial-")
            if number.isdecimal() and int(number) not in numbers:
                file.unlink(missing_ok=True)
