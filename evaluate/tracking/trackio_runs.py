"""Trackio: one run a folder, a row for each trial or epoch, in a file on this machine or a Space on the hub."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .tracker import Beginning, Record, TrackedRun, make_row, require, safe_name


@dataclass(frozen=True)
class Trackio:
    """Records in Trackio; by default in its folder on this machine (``TRACKIO_DIR``).

    Args:
        project: of the runs.
        name: of the run, which is found again by it; None: its folder.
        group: of runs that belong together.
        space: a Space of the Hugging Face hub that shows them, ``USER/NAME``; None: this machine alone.

    Raises:
        UserError: the package trackio is not installed.
    """

    project: str = "effnas"
    name: str | None = None
    group: str | None = None
    space: str | None = None

    def __post_init__(self) -> None:
        require("trackio", "init", "trackio")

    @property
    def place(self) -> str:
        """The project, and its Space."""
        return " ".join(filter(None, ("trackio", self.project, self.space)))

    def begin(self, beginning: Beginning) -> TrackedRun:
        """As :meth:`~effnas.evaluate.tracking.tracker.Tracker.begin`."""
        trackio = require("trackio", "init", "trackio")
        with _told(beginning.quiet):
            run = trackio.init(
                project=self.project,
                name=beginning.id or self.name or beginning.name,
                group=self.group,
                space_id=self.space,
                config=dict(beginning.settings),
                resume="never" if beginning.id is None else "allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return TrackioRun(run, beginning.axis, beginning.quiet)


@dataclass(frozen=True)
class TrackioRun:
    """An open run of Trackio's."""

    run: Any
    axis: str
    quiet: bool

    @property
    def id(self) -> str:
        """The name, by which Trackio resumes."""
        return str(self.run.name)

    def record(self, record: Record) -> None:
        """One row: the number, all values, the decisions as ``decision/NAME``, and the words."""
        self.run.log(make_row(record, self.axis), step=record.place)

    def end(self, summary: Mapping[str, str | int | float | bool], state: str) -> None:
        """The findings become settings ``found.NAME`` of the run, which has no summary of its own."""
        numbers = {f"found/{safe_name(n)}": v for n, v in summary.items() if not isinstance(v, str | bool)}
        with _told(self.quiet):
            if numbers:
                self.run.log(numbers)
            self.run.finish()


def _told(quiet: bool) -> contextlib.AbstractContextManager[Any]:
    """It prints, and has no switch against that."""
    return contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext()
