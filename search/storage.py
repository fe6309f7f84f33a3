"""Where the record of a search is kept: an Optuna study in a journal file, or any Optuna storage by URL."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from ..evaluate.folder import describe_changes
from ..space.errors import UserError
from .journal import Journal, JournalFile
from .seeded import INTERRUPTED

JOURNAL = "study.journal"
#: Study attribute: what the search is, so that a folder is not continued as another search.
JOB = "job"


def _connect(url: str) -> BaseStorage:
    try:
        return optuna.storages.get_storage(url)
    except Exception:  # two processes may have begun to make the tables at once: one of them is refused
        time.sleep(1)
        return optuna.storages.get_storage(url)


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
    job = json.loads(json.dumps(job))
    try:
        options["storage"] = _connect(storage) if storage is not None else _open_journal(folder)
        if name in optuna.get_all_study_names(options["storage"]):
            study = optuna.load_study(**options)
        else:
            study = optuna.create_study(**options, **new)
        stored = study.user_attrs.get(JOB)
        if stored not in (None, job) and _is_without_result(study, shared=storage is not None):
            optuna.delete_study(study_name=name, storage=options["storage"])  # it failed before its first result
            study, stored = optuna.create_study(**options, **new), None
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy's, Redis', a missing driver: all are the address's fault
        place = storage or folder / JOURNAL
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"storage {place}: cannot be opened as an Optuna storage: {reason}") from error
    if stored is None:
        study.set_user_attr(JOB, job)
    elif stored != job:
        place = folder if storage is None else storage
        raise UserError(
            f"{place}: holds another search ({describe_changes(stored, job)}). Continue it "
            "with its original settings, or choose another folder with hydra.run.dir=DIR"
        )
    return study


def _is_without_result(study: Study, shared: bool) -> bool:
    """Whether nothing is lost with the study: no trial has finished, and none is running on another machine."""
    trials = study.get_trials(deepcopy=False)
    running = shared and any(t.state == TrialState.RUNNING for t in trials)
    return not running and all(t.user_attrs.get(INTERRUPTED) for t in trials if t.state.is_finished())
