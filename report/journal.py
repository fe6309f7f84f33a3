"""The trials of a run that has not written its tables yet, from the journal of its study."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]

#: Of the file, as ``search.storage`` calls it.
JOURNAL = "study.journal"
#: What each trial has recorded under a name of its own, and a row of ``trials.csv`` says too.
_RECORDED = ("accuracy", "params", "macs", "activations", "peak_memory", "latency", "seconds", "epochs", "merit")
_STATES = {"COMPLETE": "complete", "FAIL": "failed", "PRUNED": "pruned"}


def read_journal(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows like those of ``trials.csv``, of the trials that have ended, and the directions of the objectives.

    Both are empty where there is no journal, or it cannot be read.
    """
    file = folder / JOURNAL
    if not os.path.isfile(file) or not os.path.getsize(file):
        return [], []
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = JournalStorage(JournalFileBackend(str(file)))
        names = optuna.get_all_study_names(storage)
        if not names:
            return [], []
        study = optuna.load_study(study_name=names[0], storage=storage)
        ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        directions = [direction.name.lower() for direction in study.directions]
        return [_row(trial) for trial in ended if not trial.user_attrs.get("interrupted")], directions
    except Exception:  # of a file that is none: whatever Optuna's reader stumbles over
        return [], []
    finally:
        optuna.logging.set_verbosity(level)


def _row(trial: Any) -> Row:
    known = trial.user_attrs
    infeasible = (known.get("result") or {}).get("infeasible")
    row: Row = {
        "number": trial.number,
        "state": "infeasible" if infeasible else _STATES.get(trial.state.name, trial.state.name.lower()),
        "score": trial.values[0] if trial.values else None,
        **{name: known.get(name) for name in _RECORDED},
        **{f"decision.{name}": value for name, value in trial.params.items()},
    }
    return {**row, "duplicate_of": known.get("duplicate_of"), "reason": known.get("reason")}
