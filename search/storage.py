"""Where the record of a search is kept: an Optuna study in a journal file, or any Optuna storage by URL."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from ..evaluate.folder import describe_changes
from ..space.errors import UserError
from .journal import Journal, JournalFile
from .optuna_private import OwnedStorage, get_storage
from .ownership import BEAT, GRACE, Owner, find_orphans, make_owner
from .seeded import INTERRUPTED

JOURNAL = "study.journal"
#: Study attribute: what the search is, so that a folder is not continued as another search.
JOB = "job"


def _connect(url: str, owner: Owner) -> BaseStorage:
    # SQLite refuses a writer while another one writes, others drop connections that were idle for hours
    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return OwnedStorage(url, owner, BEAT, GRACE, **engine)
    except Exception:  # two processes may have begun to make the tables at once: one of them is refused
        time.sleep(1)
        return OwnedStorage(url, owner, BEAT, GRACE, **engine)


def _open_journal(folder: Path) -> BaseStorage:
    """The journal file of ``folder``.

    A record that a kill or a full disk truncated, at the end of the file, is removed: its trial was running.

    Raises:
        UserError: the journal is damaged elsewhere.
    """
    path = folder / JOURNAL
    if path.exists():
        _repair_journal(path)
    return Journal(JournalFile(path))


def _repair_journal(path: Path) -> None:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            if not isinstance(json.loads(line), dict):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{path}: line {number} is not a record of a study: {line[:40]!r}. The file is damaged: restore it, or "
                "remove it to start again, or choose another folder with hydra.run.dir=DIR"
            ) from None
    if whole != content:
        with open(path, "r+b") as file:
            file.truncate(len(whole))


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
    job, owner = json.loads(json.dumps(job)), make_owner(folder)
    try:
        options["storage"] = _connect(storage, owner) if storage is not None else _open_journal(folder)
        with ExitStack() as stack:
            stack.callback(_close_storage, options["storage"])
            study = _find_study(job, owner, new, options)
            stack.pop_all()
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy's, Redis', a missing driver: all are the address's fault
        place = storage or folder / JOURNAL
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"storage {place}: cannot be opened as an Optuna storage: {reason}") from error
    stored: dict[str, Any] = study.user_attrs[JOB]
    if stored != job:
        close_study(study)
        place = folder if storage is None else storage
        raise UserError(
            f"{place}: holds another search ({describe_changes(stored, job)}). Continue it "
            "with its original settings, or choose another folder with hydra.run.dir=DIR"
        )
    return study


def _find_study(job: dict[str, Any], owner: Owner, new: dict[str, Any], options: dict[str, Any]) -> Study:
    """The study of that name, made for this job where there is none yet."""
    name, storage = options["study_name"], options["storage"]
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(**options)
    else:
        study = optuna.create_study(**options, **new)
    stored = study.user_attrs.get(JOB)
    if stored not in (None, job) and _is_without_result(study, owner):
        optuna.delete_study(study_name=name, storage=storage)  # it failed before its first result
        study, stored = optuna.create_study(**options, **new), None
    if stored is None:
        study.set_user_attr(JOB, job)
    return study


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
