"""What the jobs of a sweep gave, whichever processes a launcher of Hydra's runs them in; told by the first process."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ..space.errors import UserError
from ..space.files import write_text

#: In the sweep's folder, while it runs: a file from each job of another process.
FOLDER = ".results"


@dataclass
class Outcome:
    """Of one job.

    Args:
        number: of the job.
        name: what differs between it and the others.
        document: its result, where JSON is wanted; None: it failed.
        text: its result for people, where JSON is not wanted.
        error: why it failed, a mistake of the user's.
    """

    number: int
    name: str
    document: Any = None
    text: str = ""
    error: str = ""


@dataclass
class Sweep:
    """The jobs of one sweep; launchers send it to other processes with the job."""

    as_json: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    folder: str = ""
    home: tuple[str, int] = field(default_factory=lambda: (platform.node(), os.getpid()))

    def add(self, outcome: Outcome, *, as_json: bool) -> None:
        """What a job gave, or that it began: in this process told now, or with the others as one document."""
        self.as_json = as_json
        if self.home == (platform.node(), os.getpid()):
            self.outcomes[outcome.number] = outcome
            if outcome.text:
                print(outcome.text, flush=True)
        else:
            content = {"as_json": as_json, **asdict(outcome)}
            write_text(Path(self.folder) / f"{outcome.number}.json", json.dumps(content))

    @property
    def began(self) -> bool:
        """Whether any job did."""
        return bool(self.outcomes) or (bool(self.folder) and os.path.isdir(self.folder))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Around the sweep: at its end, however it ends, what the jobs gave is told in their order.

        Raises:
            UserError: jobs failed; a line for each of them.
        """
        _current.append(self)
        try:
            yield
        finally:
            _current.remove(self)
            self._collect()
            if self.as_json and self.outcomes:
                documents = [self.outcomes[number].document for number in sorted(self.outcomes)]
                print(json.dumps(documents, indent=2), flush=True)
        errors = [f"{one.name}: {one.error}" for _, one in sorted(self.outcomes.items()) if one.error]
        if errors:
            raise UserError("\n".join(errors))

    def begin(self, folder: Path) -> None:
        """Where the jobs' folders are; what a killed sweep has left there goes."""
        self.folder = str(folder.absolute() / FOLDER)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _collect(self) -> None:
        """Read what other processes left."""
        files = [] if not self.folder else Path(self.folder).glob("*.json")
        for file in sorted(files, key=lambda file: int(file.stem)):
            found = json.loads(file.read_text(encoding="utf-8"))
            self.as_json = found.pop("as_json")
            outcome = Outcome(**found)
            self.outcomes[outcome.number] = outcome
            if outcome.text:
                print(outcome.text, flush=True)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


#: The sweep that runs in this process, for :class:`Beginning`, which Hydra makes.
_current: list[Sweep] = []


class Beginning(Callback):
    """Tells the sweep of its folder, which Hydra alone knows."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra when the configuration is composed and no job has begun."""
        for sweep in _current:
            sweep.begin(Path(str(config.hydra.sweep.dir)))
