"""Optuna's journal, at a price per trial that does not grow with the number of trials.

Each line carries a checksum, as one key more, which Optuna's own storage reads over. It is of the line and of the
checksum before it, so that a line that is altered, lost, repeated or moved is found (:func:`check_journal`).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import re
import time
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from io import BytesIO, RawIOBase
from itertools import islice
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from ..space.errors import UserError
from .optuna_private import BufferedJournalStorage

FINISHED = tuple(state for state in TrialState if state.is_finished())
#: How every record begins.
_HEAD = b'{"op_code":'
_SUM = re.compile(rb',"sum":"([0-9a-f]{8})"\}$')
SUM_LENGTH = len(',"sum":"01234567"}')
#: Of which kind a record is, and who wrote it.
_OF = re.compile(rb'\{"op_code":(\d+),"worker_id":"([^"\\]*)"')
_NEW_TRIAL = 4  # Optuna's op_code
#: Records that are parsed at once.
MANY = 1000


class JournalState:
    """What the lines of a journal say, from the first to the last one read.

    Args:
        path: for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = 0
        #: The checksum of the last line that has one. Lines of others, or of an older effnas, have none.
        self.sum = 0
        self._writers: set[bytes] = set()
        #: The number of each trial in its study, by its number in the journal.
        self._numbers: list[int] = []
        self._trials: dict[object, int] = {}

    def add(self, line: bytes) -> None:
        """Look at the next line.

        Raises:
            UserError: it is no record, or does not follow from the one before it.
        """
        self.lines += 1
        found, head = _SUM.search(line, max(0, len(line) - SUM_LENGTH)), _OF.match(line)
        number = None if found is None else zlib.crc32(b"}", zlib.crc32(memoryview(line)[: found.start()], self.sum))
        if found is None or head is None or number != int(found[1], 16):
            self._add_doubtful(line, found, number)
        else:  # what has the right sum is what was written
            self.sum = number
            self._writers.add(head[2])
            if int(head[1]) == _NEW_TRIAL:
                self._count(json.loads(line))

    def _add_doubtful(self, line: bytes, found: re.Match[bytes] | None, number: int | None) -> None:
        """Look at a line of others, or one that is damaged."""
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
        except ValueError:
            raise self._damaged(f"is not a record of a study: {line[:40]!r}") from None
        writer = str(record.get("worker_id")).encode()
        if found is not None:
            if number is None or number != int(found[1], 16):
                raise self._damaged("does not follow from what is before it: a record was altered, lost or added")
            self.sum = number
            self._writers.add(writer)
        elif writer in self._writers:
            raise self._damaged("has lost its checksum: the record was altered")
        if record.get("op_code") == _NEW_TRIAL:
            self._count(record)

    def _count(self, record: Mapping[str, Any]) -> None:
        study = record.get("study_id")
        self._numbers.append(self._trials.get(study, 0))
        self._trials[study] = self._numbers[-1] + 1

    def _damaged(self, reason: str) -> UserError:
        return UserError(
            f"{self._path}: line {self.lines} {reason}. The file is damaged: restore it, or begin anew with "
            "restart=true, which keeps the old files beside the new ones, or choose another folder with "
            "-o DIR"
        )

    def name_trial(self, part: bytes) -> str:
        """Which trial the beginning of a record is about."""
        found = re.search(rb'"trial_id":(\d+),', part)
        number = int(found[1]) if found is not None else -1
        return f"of trial {self._numbers[number]}" if 0 <= number < len(self._numbers) else "of no trial"


def _chain(content: bytes, before: int) -> int:
    return zlib.crc32(content, before)


def check_journal(path: Path) -> tuple[JournalState, bytes]:
    """Go through a journal: what it says, and what follows the last whole line.

    Raises:
        UserError: a line is damaged.
    """
    state, line = JournalState(path), b""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                state.add(line[:-1])
    return state, b"" if line.endswith(b"\n") else line


def is_half_written(part: bytes) -> bool:
    """Whether it is the beginning of a record, which a kill or a power failure has cut short."""
    part = part.rstrip(b"\0")  # the file system had made room for the record already
    return part.startswith(_HEAD) or _HEAD.startswith(part)


class JournalFile(BaseJournalBackend):
    """Optuna's journal file, synced to the disk when a trial changes its state, at most once per second.

    What a killed process wrote is in the kernel's hands and safe; only a power failure can take the last records. It
    takes no lock of its own: one process writes it, the one that holds the folder. What that process wrote itself it
    does not read again, as long as the file's size says that nobody else has written (a dashboard, say).
    """

    def __init__(self, path: Path, state: JournalState | None = None) -> None:
        path.touch()
        self._path, self._place = path, _find_place(path)
        self._sum = (check_journal(path)[0] if state is None else state).sum
        self._synced = -math.inf
        #: What was read last: so many records, so many bytes.
        self._number = self._offset = 0
        #: The records appended since, and where the file ends if it holds nothing more.
        self._own: list[bytes] = []
        self._end = 0

    def _check_there(self) -> None:
        if _find_place(self._path) != self._place:  # what follows would be the end of a study without its beginning
            raise UserError(
                f"{self._path}: was deleted or replaced while it was in use. Restore it, or begin anew (restart=true)"
            )

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records at the end of the file, all of them or none.

        Raises:
            OSError: the file cannot be written.
            UserError: it was deleted or replaced.
        """
        self._check_there()
        lines, total = [], self._sum
        for log in logs:
            body = json.dumps(log, separators=(",", ":")).encode()
            total = _chain(body, total)
            lines.append(b'%s,"sum":"%08x"}\n' % (body[:-1], total))
        content = b"".join(lines)
        with open(self._path, "ab", buffering=0) as file:
            start = file.tell()
            alone = start == self._end
            _write_whole(file, content, start)
            self._sum = total
            if alone:  # else the file is longer than is known here, and what follows the last read is read
                self._own += lines
                self._end += len(content)
            now = time.monotonic()
            if now - self._synced >= 1 and any("state" in log for log in logs):
                os.fsync(file.fileno())
                self._synced = now

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The records from that number on: a line that is still being written is left for the next time.

        Raises:
            UserError: the file was deleted or replaced.
        """
        self._check_there()
        if log_number_from == self._number and self._path.stat().st_size == self._end:
            number, lines = len(self._own), iter(self._own)
        else:
            if log_number_from != self._number:  # a record was refused, or the storage is a new one
                self._number = self._offset = 0
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
            content = content[: content.rfind(b"\n") + 1]
            number, lines = content.count(b"\n"), iter(BytesIO(content))
            self._end = self._offset + len(content)
        skipped = log_number_from - self._number
        self._number, self._offset, self._own = self._number + number, self._end, []
        # parsed, though they were objects a moment ago: what is in memory is what a later process will read
        return _parse(islice(lines, skipped, None))


def _parse(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The records of lines, many at once: a parser's call takes as long as a record."""
    while some := list(islice(lines, MANY)):
        yield from json.loads(b"[%s]" % b",".join(some))


def _find_place(path: Path) -> tuple[int, int] | None:
    """Where the file is on its disk; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _write_whole(file: RawIOBase, content: bytes, start: int) -> None:
    """Write all of it; where that fails, on a full disk say, the half record is taken back: others may follow it."""
    done = 0
    try:
        while done < len(content):
            done += file.write(content[done:]) or 0
    except OSError as error:
        with contextlib.suppress(OSError):
            if file.seek(0, os.SEEK_END) == start + done:
                file.truncate(start)
        error.filename = getattr(file, "name", None)  # of a write: the system names no file
        raise


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

    def view_trials(self, study_id: int) -> Sequence[FrozenTrial]:
        """All trials as they are now, without a copy of the list: it is the storage's, and grows with the next call."""
        with self.replay_trials(study_id) as (ids, stored):
            listing = self._listings.setdefault(study_id, _Listing())
            listing.update(ids, stored)
            return listing.trials

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
