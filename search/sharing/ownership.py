"""Whose a running trial is, and whether its process is still there: for studies that several machines share.

The owner and a first heartbeat are written in the same transaction that starts the trial (:class:`.OwnedStorage`), so
there is no moment at which a kill leaves a running trial without them. On the machine of a dead process its trials are
found at once, elsewhere when no heartbeat came for :data:`GRACE` seconds of the data base's own clock. Optuna's
heartbeat alone would not do: its first beat comes after the trial was started, and it beats in ``Study.optimize`` only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Container, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TypedDict

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ...evaluate.interrupt import Interrupts
from ..optuna_private import get_enqueued_params, get_storage, get_study_id, get_trial_id, read_trial
from ..record import CONTINUES, close_interrupted, enqueue_missing, is_counted, point_of, result_of
from ..remembered import INTERRUPTED
from .owned_storage import OwnedStorage
from .tables_private import OWNER

#: Seconds between the heartbeats of a running trial.
BEAT = 20
#: Seconds without one after which its process is taken to be dead.
GRACE = 120
#: How long a trial of an older effnas, which writes no heartbeats, is taken to be running: one without an owner, whose
#: process was killed just then or is choosing its parameters, and one with an owner on another machine.
NAMELESS, SILENT = timedelta(minutes=1), timedelta(days=1)


class Owner(TypedDict):
    """Who runs a trial: the folder, with the name of its machine; and the process."""

    folder: str
    machine: str
    pid: int
    started: str


def make_owner(folder: Path) -> Owner:
    """This process, with the folder it works for."""
    pid = os.getpid()
    return {
        "folder": f"{platform.node()}:{folder.resolve()}",
        "machine": _machine(),
        "pid": pid,
        "started": _start_of(pid) or "",
    }


def _machine() -> str:
    """What processes share that can see each other's numbers: this boot of the machine, this container."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return platform.node()


def _start_of(pid: int) -> str | None:
    """When the process began, as Linux counts it; None: it has ended, or nobody can tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _has_ended(owner: Owner) -> bool:
    """Whether a process of this machine is surely gone."""
    if owner["started"]:
        return _start_of(owner["pid"]) != owner["started"]
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's: it may be another process by now
        return False
    return False


def find_orphans(study: Study, owner: Owner, *, fresh: bool) -> list[FrozenTrial]:
    """Running trials whose process is no more.

    Args:
        study: in any storage; one that is not shared is this process' alone.
        owner: this process.
        fresh: whether this process has not yet started a trial: what runs in its name is left of an earlier run.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    storage = get_storage(study)
    if not isinstance(storage, OwnedStorage):
        return running if fresh else []
    # nobody could beat while the data base was away
    steady = storage.outages.ended is None or time.monotonic() - storage.outages.ended > GRACE
    stale = set(storage.list_stale_trials(get_study_id(study))) if running and steady else set()
    return [t for t in running if _is_orphan(t, owner, get_trial_id(t) in stale, fresh)]


def _is_orphan(trial: FrozenTrial, mine: Owner, stale: bool, fresh: bool) -> bool:
    its: Owner | None = trial.system_attrs.get(OWNER)
    if its is None:
        return _is_abandoned(trial, mine)
    if its["machine"] != mine["machine"]:
        return stale
    if (its["pid"], its["started"]) == (mine["pid"], mine["started"]):
        return fresh and its["folder"] == mine["folder"]
    return stale or _has_ended(its)


def _is_abandoned(trial: FrozenTrial, mine: Owner) -> bool:
    """Of a trial that an older effnas started."""
    folder = result_of(trial).get("owner")
    if folder == mine["folder"]:
        return True
    begun = trial.datetime_start
    limit = NAMELESS if folder is None else SILENT
    return begun is None or abs(datetime.now() - begun) > limit  # the clocks of two machines may differ


def enqueue_again(study: Study) -> None:
    """Enqueue what was enqueued for trials that were interrupted, unless another trial has it by now."""
    again = {
        point_of(trial): params
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get(INTERRUPTED) and (params := get_enqueued_params(trial)) is not None
    }
    enqueue_missing(study, again.values())


def is_taken(study: Study, trial: FrozenTrial) -> bool:
    """Whether an earlier trial has the same parameters: two processes have enqueued them at the same time."""
    point = point_of(trial)
    return any(
        point_of(other) == point and (is_counted(other) or not other.state.is_finished())
        for other in study.get_trials(deepcopy=False)[: trial.number]
    )


def close_orphans(study: Study, owner: Owner, *, fresh: bool = False, limit: int | None = None) -> None:
    """Close the trials whose process is no more; their places in the search are free again.

    ``fresh`` is as for :func:`find_orphans`, ``limit`` as for :func:`~effnas.search.record.close_interrupted`.
    """
    orphans = find_orphans(study, owner, fresh=fresh)
    trials = study.get_trials(deepcopy=False) if orphans else []
    for trial in orphans:
        key = result_of(trial).get("key")
        killed = [t for t in trials if result_of(t).get("killed") and result_of(t)["key"] == key]
        # a worker's death leaves this process alive: then only someone from outside has killed it
        blamed = result_of(trial).get("inline", False) and result_of(trial).get("owner") == owner["folder"]
        close_interrupted(study, trial, len(killed) + 1 if blamed else 0, limit)


class Heart:
    """Says in the storage, every :data:`BEAT` seconds, that the trials that this process runs are being run.

    A context manager; nothing where the study is this process' alone.
    """

    def __init__(self, study: Study, trials: Callable[[], Iterable[Trial]]) -> None:
        storage = get_storage(study)
        self._storage = storage if isinstance(storage, OwnedStorage) else None
        self._trials = trials
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="effnas-heartbeat")

    def _beat(self) -> None:
        assert self._storage is not None
        while not self._end.wait(BEAT):
            for trial in self._trials():
                with contextlib.suppress(Exception):  # the data base is away for a while: the next beat may reach it
                    self._storage.record_heartbeat(get_trial_id(trial))

    def __enter__(self) -> Heart:
        if self._storage is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._storage is not None:
            self._thread.join(5)


class Company:
    """The other processes that add trials to a study: what those that died have left, and what is still to come.

    Args:
        study: shared, or not: then nobody else is there.
        owner: this process.
        enumerated: whether all candidates were enqueued beforehand, and all of them are needed.
        interrupts: let Ctrl-C through where the data base is waited for; None: they are not asked.
    """

    def __init__(self, study: Study, owner: Owner, enumerated: bool, interrupts: Interrupts | None = None) -> None:
        self._study, self._owner, self._enumerated = study, owner, enumerated
        storage = get_storage(study)
        self._shared = isinstance(storage, OwnedStorage)
        if isinstance(storage, OwnedStorage) and interrupts is not None:
            storage.outages.pause = interrupts.pause
        self._swept = time.monotonic()

    def sweep(self, seconds: float = BEAT) -> None:
        """Free the places of trials whose process has died; not more often than after so many seconds."""
        if not self._shared or time.monotonic() - self._swept < seconds:
            return
        self._swept = time.monotonic()
        close_orphans(self._study, self._owner)
        if self._enumerated:
            enqueue_again(self._study)

    def refuse(self, trial: Trial, wanted: int) -> bool:
        """Close a trial just asked for that nobody needs.

        Where all candidates were enqueued, it is none of them, or an earlier trial has it; elsewhere as many as are
        ``wanted`` were begun before, by several processes at once.
        """
        if not self._shared:
            return False
        stored = read_trial(self._study, trial)
        if self._enumerated and get_enqueued_params(stored) is not None and not is_taken(self._study, stored):
            return False
        if not self._enumerated and (CONTINUES in stored.user_attrs or self._count_before(trial.number) < wanted):
            return False
        close_interrupted(self._study, trial)
        return True

    def _count_before(self, number: int) -> int:
        before = self._study.get_trials(deepcopy=False)[:number]
        return sum(is_counted(trial) or _is_awaited(trial) for trial in before)

    def list_others(self, mine: Container[int]) -> list[FrozenTrial]:
        """Running trials of other processes, which will count, but for those of the numbers ``mine``."""
        if not self._shared or self._enumerated:
            return []
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in running if trial.number not in mine]

    def list_needed(self, lacking: bool) -> list[FrozenTrial]:
        """What is still to come from others, or was until the dead were closed.

        All candidates that are waiting or running, where all are needed; else those running, where trials are lacking.
        """
        if not self._shared or not (self._enumerated or lacking):
            return []
        others = self.list_others(())
        self.sweep(0)
        if not self._enumerated:
            return others
        return self._study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))


def _is_awaited(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and CONTINUES not in trial.user_attrs


def describe_owners(trials: Iterable[FrozenTrial]) -> str:
    """Where trials are running, as a person would look for them."""
    folders = [trial.system_attrs.get(OWNER, {}).get("folder") or result_of(trial).get("owner") for trial in trials]
    return ", ".join(sorted({str(folder or "an older effnas") for folder in folders}))
