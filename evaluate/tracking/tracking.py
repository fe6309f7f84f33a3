"""The record of a run in a tracker: each trial or epoch once, however often the run is stopped and continued.

``tracker.json`` in the run's folder has the tracker's run and what it has been told, so that the same command goes on
with it. A tracker that is away costs a warning; what it has missed is told when the same command comes again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ...space.errors import hide_passwords
from ..folder import write_json
from .tracker import Beginning, Record, TrackedRun, Tracker, Untracked, flatten, only_numbers

log = logging.getLogger(__name__)

STATE = "tracker.json"
#: What a restart sets aside: the state, and W&B's own folder.
FILES = (STATE, "wandb")
#: Of a summary: the parts whose numbers are told at the end.
_PARTS = ("best", "selected_on", "confirmed_on")


class Tracking:
    """Tells a tracker of a run; a context manager.

    Args:
        tracker: the user's choice; None: nothing is told to anybody.
        folder: of the run, held by this process.
        settings: what makes the run this one, as plain data.
        axis: ``trial`` or ``epoch``.
        quiet: nothing is to be printed.
    """

    def __init__(
        self, tracker: Tracker | None, folder: Path, settings: Mapping[str, Any], *, axis: str, quiet: bool
    ) -> None:
        self._tracker = None if tracker is None or isinstance(tracker, Untracked) else tracker
        self._folder, self._summary = folder, dict[str, Any]()
        self._beginning = Beginning(str(folder), folder, flatten(settings), axis=axis, quiet=quiet)
        self._run: TrackedRun | None = None
        #: All records before this number are told, and these of the later ones.
        self._below, self._beyond = 0, set[int]()
        self._records = 0
        #: What the file has: of each place that was told of this folder, how far.
        self._state: dict[str, Any] = {}

    def __enter__(self) -> Tracking:
        if self._tracker is None:
            return self
        self._state = self._read_state()
        known = self._state.get(self._tracker.place, {})
        with self._excused():
            self._below, self._beyond = int(known.get("below", 0)), {int(n) for n in known.get("beyond", ())}
            self._records = int(known.get("records", 0))
            self._run = self._tracker.begin(replace(self._beginning, id=known.get("id"), records=self._records))
            self._write_state()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            state = "finished" if kind is None else "stopped" if kind is KeyboardInterrupt else "failed"
            with self._excused():
                self._run.end(self._summary, state)

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._run is not None

    def record(self, number: int, make: Callable[[], Record | None]) -> None:
        """Tell of a trial or an epoch that was not told yet; of one that ``make`` gives no record of it counts as told.

        Args:
            number: of it among all, from 0.
            make: its record, whose ``place`` is filled in here.
        """
        if self._run is None or number < self._below or number in self._beyond:
            return
        with self._excused():
            if (record := make()) is not None:
                self._run.record(replace(record, place=self._records, values=only_numbers(record.values)))
                self._records += 1
            self._beyond.add(number)
            while self._below in self._beyond:
                self._beyond.remove(self._below)
                self._below += 1
            if record is not None:
                self._write_state()

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """What the run has found, told at its end."""
        plain = {key: value for key, value in summary.items() if isinstance(value, bool | int | float | str)}
        parts = {
            key: only_numbers(value) | {k: v for k, v in value.items() if isinstance(v, str)}
            for key in _PARTS
            if isinstance(value := summary.get(key), Mapping)
        }
        self._summary = flatten({**plain, **parts})

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """Whatever goes wrong in a tracker is told once, and nothing more is told to it."""
        try:
            yield
        except Exception as error:
            self._run = None
            words = hide_passwords(" ".join(f"{type(error).__name__}: {error}".split()))[:400]
            place = hide_passwords(getattr(self._tracker, "place", "") or "")
            log.warning(
                "tracker %s: %s; the run goes on without it, and the same command again tells it what it has missed",
                place,
                words,
            )

    def _read_state(self) -> dict[str, Any]:
        try:
            found = json.loads((self._folder / STATE).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()):
            return found
        log.warning("%s cannot be read: a new run of the tracker is begun", self._folder / STATE)
        return {}

    def _write_state(self) -> None:
        if self._run is None or self._tracker is None:
            return
        mine = {"id": self._run.id, "records": self._records, "below": self._below, "beyond": sorted(self._beyond)}
        self._state[self._tracker.place] = mine
        write_json(self._folder / STATE, self._state)
