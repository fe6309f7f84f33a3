"""What the jobs of a sweep gave, whichever processes a launcher of Hydra's runs them in; told by the first process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ..evaluate.folder import write_csv
from ..space.errors import UserError
from ..space.files import write_text
from ..space.tables import align_rows

log = logging.getLogger(__name__)

#: In the sweep's folder: a row for each job.
TABLE = "sweep.csv"
#: Its columns beside what was varied, where a job's result has them.
FACTS = (
    *("confirmed_accuracy", "confirmed_score", "confirmed_tau", "test_accuracy", "accuracy", "top1", "merit", "score"),
    *("macs", "params", "activations", "latency", "alpha", "beta", "gamma", "phi", "resolution", "ceiling"),
    *("epochs", "trials", "complete", "failed", "seconds"),
)
#: How many of them are shown at the end of the sweep, and the characters of a column that is text.
SHOWN, WIDEST = 5, 40
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
        overrides: ``key=value`` of the job, as Hydra has them.
        facts: numbers of its result, and its folder, for :data:`TABLE`.
    """

    number: int
    name: str
    document: Any = None
    text: str = ""
    error: str = ""
    overrides: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


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
            if any(outcome.facts for outcome in self.outcomes.values()):
                self._write_table(Path(self.folder).parent)

    def _write_table(self, folder: Path) -> None:
        """A row for each job: what was varied, and what came out."""
        jobs = [self.outcomes[number] for number in sorted(self.outcomes)]
        varied = [dict(override.partition("=")[::2] for override in job.overrides) for job in jobs]
        keys = list(dict.fromkeys(key for one in varied for key in one))
        keys = [key for key in keys if len(jobs) == 1 or len({one.get(key) for one in varied}) > 1]
        rows = [
            {**job.facts, **{key: one.get(key) for key in keys}, "job": job.number, "error": job.error}
            for job, one in zip(jobs, varied, strict=True)
        ]
        found = list(dict.fromkeys(key for row in rows for key in row if key not in ("job", "error", *keys)))
        try:
            write_csv(folder / TABLE, ["job", *keys, *found, "error"], rows)
        except OSError as error:
            log.warning("%s: cannot be written (%s)", folder / TABLE, error)
            return
        shown = [name for name in found if name != "folder"][:SHOWN]
        print(f"\n{folder / TABLE}:", file=sys.stderr)
        names = ["job", *keys, *shown]
        cells = [names, *([_show(row.get(name)) for name in names] for row in rows)]
        print("\n".join(align_rows(cells)), file=sys.stderr, flush=True)


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def list_facts(result: Any) -> dict[str, Any]:
    """The numbers of a job's result that a table over jobs has: of its best network, of its seeds, of its trials."""
    if not isinstance(result, Mapping):
        return {}
    parts = (result.get("best"), result.get("confirmed_on"))
    best, confirmed = (part if isinstance(part, Mapping) else {} for part in parts)
    known = {**result, **best, **{f"confirmed_{key}": confirmed.get(key) for key in ("accuracy", "score", "tau")}}
    return {key: known[key] for key in FACTS if isinstance(known.get(key), int | float)}


#: The sweep that runs in this process, for :class:`Beginning`, which Hydra makes.
_current: list[Sweep] = []


class Beginning(Callback):
    """Tells the sweep of its folder, which Hydra alone knows."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra when the configuration is composed and no job has begun."""
        for sweep in _current:
            sweep.begin(Path(str(config.hydra.sweep.dir)))
        if ".submitit_launcher." in str(config.hydra.launcher.get("_target_")):
            _quiet_submitit()


def _quiet_submitit() -> None:
    """It writes its warnings to both streams, and standard output is for results."""
    import_module("submitit")
    logger = logging.getLogger("submitit")
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            logger.removeHandler(handler)
