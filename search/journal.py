"""Optuna's journal, at a price per trial that does not grow with the number of trials."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from .optuna_private import BufferedJournalStorage

FINISHED = tuple(state for state in TrialState if state.is_finished())


class JournalFile(BaseJournalBackend):
    """Optuna's journal file, synced to the disk when a trial changes its state, at most once per second.

    What a killed process wrote is in the kernel's hands and safe; only a power failure can take the last records. It
    takes no lock of its own: one process writes it, the one that holds the folder. What that process wrote itself it
    does not read again, as long as the file's size says that nobody else has written (a dashboard, say).
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._synced = -math.inf
        #: What was read last: so many records, so many bytes.
        self._number = self._offset = 0
        #: The records appended since, and where the file ends if it holds nothing more.
        self._own: list[str] = []
        self._end = 0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records at the end of the file."""
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        content = "".join(lines).encode()
        with open(self._path, "ab") as file:
            alone = file.tell() == self._end
            file.write(content)
            file.flush()
            if alone:  # else the file is longer than is known here, and what follows the last read is read
                self._own += lines
                self._end += len(content)
            now = time.monotonic()
            if now - self._synced >= 1 and any("state" in log for log in logs):
                os.fsync(file.fileno())
                self._synced = now

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The records from that number on: a line that is still being written is left for the next time."""
        if log_number_from == self._number and self._path.stat().st_size == self._end:
            lines: Sequence[str | bytes] = self._own
        else:
            if log_number_from != self._number:  # a record was refused, or the storage is a new one
                self._number = self._offset = 0
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
            content = content[: content.rfind(b"\n") + 1]
            lines = content.splitlines()
            self._end = self._offset + len(content)
        skipped = log_number_from - self._number
        self._number, self._offset, self._own = self._number + len(lines), self._end, []
        # parsed, though they were objects a moment ago: what is in memory is what a later process will read
        return map(json.loads, lines[skipped:])


class _Listing:
    """The trials of one study in their order. Finished ones do not change: only the others are looked up again."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []
        self._open: list[int] = []

    def update(self, ids: Sequence[int], stored: Mapping[int, FrozenTrial]) -> None:
        new = range(len(self.trials), len(ids))
        self.trials += [stored[ids[number]] for number in new]
        for number in self._open:
            self.trials[number] = stored[ids[number]]
        self._open = [number for number in (*self._open, *new) if not self.trials[number].state.is_finished()]

    def unfinished(self) -> list[FrozenTrial]:
        return [self.trials[number] for number in self._open]


class Journal(BufferedJournalStorage):
    """Optuna's journal storage, quick to write a trial's parameters and to list the trials."""

    def __init__(self, file: JournalFile) -> None:
        self._listings: dict[int, _Listing] = {}
        super().__init__(file)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's, which goes through all trials: for every trial asked for it does so to find waiting ones."""
        with self.replay_trials(study_id) as (ids, stored):
            listing = self._listings.setdefault(study_id, _Listing())
            listing.update(ids, stored)
            if states is None:
                trials = list(listing.trials)
            else:
                some = any(state in states for state in FINISHED)
                trials = [t for t in (listing.trials if some else listing.unfinished()) if t.state in states]
            return copy.deepcopy(trials) if deepcopy else trials
