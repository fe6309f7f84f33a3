"""Where the record of a search is kept: an Optuna study in a journal file, or any Optuna storage by URL."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from ..evaluate.identity import describe_changes
from ..evaluate.table_files import read_columns
from ..space.errors import UserError, hide_passwords
from .journal import Journal, JournalFile, check_journal, is_half_written
from .optuna_private import get_storage
from .record import MEASURES, is_counted
from .remembered import INTERRUPTED
from .sharing.outages import Outages, describe_fault, explain_address, is_restart
from .sharing.owned_storage import OwnedStorage
from .sharing.ownership import BEAT, GRACE, Owner, close_orphans, describe_owners, find_orphans, make_owner

JOURNAL = "study.journal"
#: Seconds in which a host must answer who connects to it, unless the address has a ``connect_timeout`` of its own.
CONNECT = 20
_WAYS = (
    "Restore it, or begin anew with restart=true, which keeps the old files beside the new ones, or choose another "
    "folder with -o DIR"
)
#: Seconds between attempts to open a storage: the later ones while its server may be starting again. An address that is
#: wrong should not take long to be told; who has a study open waits longer (:mod:`.sharing.outages`).
_PAUSES = (1.0, 2.0, 4.0)
#: Study attribute: what the search is, so that a folder is not continued as another search.
JOB = "job"
#: Study attribute, for dashboards: what the values and measures of its trials are, and in which unit.
UNITS = "units"
_UNITS = {
    "accuracy": "share of held-out images, 0 to 1",
    "merit": "no accuracy: what ranks networks in its place",
    "params": "parameters",
    "macs": "multiply-accumulates of one image",
    "activations": "elements of one image",
    "peak_memory": "bytes of activations, one image",
    "latency": "seconds per batch",
    "seconds": "of the evaluation",
    "reward": "accuracy × (cost / target)^w",
}


def _connect(url: str, owner: Owner) -> OwnedStorage:
    if url.lower().startswith("grpc:"):
        raise UserError(
            f"storage {hide_passwords(url)}: Optuna's gRPC proxy passes on no heartbeats, so the trials of a machine "
            "that is gone would run for ever. Give the address of the data base itself, like "
            "postgresql+psycopg://USER@HOST/NAME; for many connections PgBouncer can stand before it"
        )

    if url.partition("?")[0] in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        raise UserError(
            f"storage {url}: is in memory, and gone when this process ends. Leave storage out for a file in the output "
            "folder, or name a file, like sqlite:///study.db"
        )
    # SQLite refuses a writer while another one writes; PostgreSQL's driver waits for minutes for a silent host
    waits = {"timeout": 60} if url.startswith("sqlite") else {}
    if url.startswith(("postgresql:", "postgresql+psycopg")) and "connect_timeout" not in url:
        waits = {"connect_timeout": CONNECT}

    def open_tables() -> OwnedStorage:
        engine = {"connect_args": waits} if waits else {}
        return OwnedStorage(url, owner, BEAT, GRACE, Outages(url), **engine)

    for pause in _PAUSES:
        try:
            return open_tables()
        except Exception as error:  # two processes may have begun to make the tables at once: one of them is refused
            if pause > _PAUSES[0] and not is_restart(error):
                raise
        time.sleep(pause)
    return open_tables()


def _open_journal(path: Path, says: int) -> tuple[BaseStorage, Callable[[], None]]:
    """The journal file, and what removes a record at its end that a kill or a full disk cut short, with a note.

    Raises:
        UserError: the journal is damaged elsewhere, or is none, or is empty where the folder tells of trials.
    """
    if not path.exists() or not path.stat().st_size:
        _check_loss(path, says, 0)
        return Journal(JournalFile(path)), lambda: None
    try:
        state, rest = check_journal(path)
    except UserError as error:
        raise UserError(f"{error}; {_tell_of(says)} finished trials" if says else str(error)) from None
    if rest and not (state.lines and is_half_written(rest)):
        if not state.lines:
            _check_loss(path, says, 0)
        raise UserError(
            f"{path}: is not the journal of a study: it ends in {len(rest):,} bytes that are no record, "
            f"{rest[:40]!r}. {_WAYS}"
        )

    def repair() -> None:
        if rest:
            with open(path, "r+b") as file:
                file.truncate(path.stat().st_size - len(rest))
            print(
                f"{path}: the last record was only half written ({len(rest)} bytes, {state.name_trial(rest)}) and is "
                "removed; what was running then is evaluated again",
                file=sys.stderr,
            )

    return Journal(JournalFile(path, state)), repair


def _tell_of(says: int) -> str:
    return f"summary.json and trials.csv beside it tell of {says}"


def _check_loss(place: object, says: int, holds: int | None) -> None:
    """Refuse a study that has lost trials, before anything of the folder is overwritten."""
    if holds is not None and holds < says:
        raise UserError(
            f"{place}: holds {holds} finished trial{'s' * (holds != 1)}, but {_tell_of(says)}: the study has been "
            f"damaged, removed or exchanged. {_WAYS}"
        )


def _count_reported(folder: Path) -> int:
    """How many finished trials the results in the folder tell of; 0 where there are none."""
    found = [0]
    with contextlib.suppress(OSError, ValueError):
        summary = json.loads((folder / "summary.json").read_bytes())
        number = summary.get("trials", 0) if isinstance(summary, dict) and "study" in summary else 0
        found.append(number if isinstance(number, int) else 0)
    with contextlib.suppress(UserError):
        states = read_columns(folder / "trials.csv").get("state", [])
        found.append(sum(state in ("complete", "failed", "pruned") for state in states))
    return max(found)


def open_study(
    storage: str | None,
    name: str,
    folder: Path,
    directions: Sequence[str],
    job: dict[str, Any],
    **options: Any,
) -> Study:
    """The study, made or found again; ``options`` are the sampler and the pruner.

    Raises:
        UserError: the storage cannot be opened, or holds another search under this name.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    options["study_name"] = name
    new: dict[str, Any] = {
        "directions": [StudyDirection[direction.upper()] for direction in directions],
        "load_if_exists": True,
    }
    job, owner, says = json.loads(json.dumps(job)), make_owner(folder), _count_reported(folder)
    place: str | Path = folder / JOURNAL if storage is None else hide_passwords(storage)
    try:
        if storage is None:
            options["storage"], repair = _open_journal(folder / JOURNAL, says)
        else:
            options["storage"], repair = _connect(storage, owner), lambda: None

        def check(holds: int) -> None:
            _check_loss(place, says, holds)
            repair()

        with ExitStack() as stack:
            stack.callback(_close_storage, options["storage"])
            study = _find_study(job, owner, new, options, check)
            stack.pop_all()
    except (UserError, OSError):
        raise
    except Exception as error:  # SQLAlchemy's, Redis', a missing driver: all are the address's fault
        reason = describe_fault(error, storage or "")
        reason += explain_address(storage or "", reason)
        # without its cause, in which the driver may name the password
        raise UserError(f"storage {place}: cannot be opened as an Optuna storage: {reason}") from None
    stored: dict[str, Any] = study.user_attrs[JOB]
    if changes := describe_changes(stored, job):
        close_study(study)
        raise UserError(
            f"{folder if storage is None else place}: holds another search ({changes}). "
            "Continue it with its original settings, or choose another folder with -o DIR"
        )
    return study


def _find_study(
    job: dict[str, Any], owner: Owner, new: dict[str, Any], options: dict[str, Any], check: Callable[[int], None]
) -> Study:
    """The study of that name, made for this job where there is none yet; ``check`` first learns what it holds."""
    name, storage = options["study_name"], options["storage"]
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(**options)
        check(sum(map(is_counted, study.get_trials(deepcopy=False))))
    else:
        check(0)
        study = optuna.create_study(**options, **new)
        if study.study_name != name:
            raise UserError(
                f"study {name!r}: this data base takes the name for that of {study.study_name!r}, which is there: "
                "choose another one with study=NAME"
            )
    stored = study.user_attrs.get(JOB)
    if stored not in (None, job) and _is_without_result(study, owner):
        optuna.delete_study(study_name=name, storage=storage)  # it failed before its first result
        study, stored = optuna.create_study(**options, **new), None
    if stored is None:
        _check_unused(study, new["directions"])
        study.set_user_attr(JOB, job)
    return study


def _check_unused(study: Study, directions: Sequence[StudyDirection]) -> None:
    """Refuse a study of somebody's that was not made for this; one in which trials only wait may be."""
    begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    theirs, ours = ([direction.name.lower() for direction in one] for one in (study.directions, directions))
    if begun or theirs != ours:
        what = f"holds {len(begun):,} trials that are not of effnas"
        if theirs != ours:
            what = f"was made to {' and '.join(theirs)}, and this run is to {' and '.join(ours)}"
        raise UserError(f"study {study.study_name!r} in this storage {what}: choose another name with study=NAME")


def tell_units(study: Study, names: Sequence[str]) -> None:
    """Record the names of the objectives, and of these and all measures the units, where they are not recorded yet."""
    if study.metric_names != list(names):
        study.set_metric_names(list(names))
    units = {name: _UNITS[name] for name in dict.fromkeys((*names, *MEASURES)) if name in _UNITS}
    if study.user_attrs.get(UNITS) != units:
        study.set_user_attr(UNITS, units)


def set_study_aside(url: str, name: str, folder: Path) -> None:
    """Keep a study of a shared storage under another name, the first free one of ``NAME.1``, ``NAME.2``, …

    Raises:
        UserError: another process is running it.
    """
    owner = make_owner(folder)
    storage = _connect(url, owner)
    try:
        names = optuna.get_all_study_names(storage)
        if name not in names:
            return
        study = optuna.load_study(study_name=name, storage=storage)
        close_orphans(study, owner, fresh=True)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running:
            raise UserError(
                f"restart: study {name!r} is being run in {describe_owners(running)}; stop that first, or choose "
                "another name with study=NAME"
            )
        new = next(free for n in count(1) if (free := f"{name}.{n}") not in names)
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=new)
        optuna.delete_study(study_name=name, storage=storage)
    finally:
        storage.close()


def close_study(study: Study) -> None:
    """Give back the connections to a shared storage; the study may go on being used."""
    _close_storage(get_storage(study))


def _close_storage(storage: BaseStorage) -> None:
    if isinstance(storage, OwnedStorage):
        storage.close()


def _is_without_result(study: Study, owner: Owner) -> bool:
    """Whether nothing is lost with the study: no trial has finished, and none is running in a living process."""
    trials = study.get_trials(deepcopy=False)
    running = sum(t.state == TrialState.RUNNING for t in trials) > len(find_orphans(study, owner, fresh=True))
    return not running and all(t.user_attrs.get(INTERRUPTED) for t in trials if t.state.is_finished())
