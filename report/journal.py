"""The trials of a run that has not written its tables yet, from the journal of its study.

The journal is Optuna's: a line a record. Its own reader keeps all of each trial, which takes long; a page shows a few
numbers of each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

#: Of the file, as ``search.storage`` calls it.
JOURNAL = "study.journal"
#: What each trial has recorded under a name of its own, and a row of ``trials.csv`` says too.
_RECORDED = ("accuracy", "params", "macs", "activations", "peak_memory", "latency", "seconds", "epochs", "merit")
_SHOWN = frozenset((*_RECORDED, "result", "interrupted", "duplicate_of", "reason"))
#: Optuna's numbers of the states that end a trial.
_STATES = {1: "complete", 2: "pruned", 3: "failed"}
#: How the records begin that say nothing of a row: intermediate values, and attributes of the system.
_PASSED = (b'{"op_code":7,', b'{"op_code":9,')


def read_journal(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows like those of ``trials.csv``, of the trials that have ended, and the directions of the objectives.

    Both are empty where there is no journal, or it cannot be read.
    """
    file = folder / JOURNAL
    if not os.path.isfile(file) or not os.path.getsize(file):
        return [], []
    journal = _Journal()
    try:
        for record in _read_records(file):
            journal.add(record)
        return journal.list_rows(), journal.list_directions()
    except Exception:  # of a file that is none: whatever its content leads to
        return [], []


def _read_records(file: Path) -> Iterator[dict[str, Any]]:
    with open(file, "rb") as lines:
        for line in lines:
            # the last line may be one that a process is writing now
            if line.endswith(b"\n") and not line.startswith(_PASSED):
                yield json.loads(line)


class _Journal:
    """The first study of a journal, as the records say that it is; those that Optuna refuses change nothing."""

    def __init__(self) -> None:
        #: By its number, the name and the directions of each study that is there.
        self._studies: dict[int, tuple[str, list[int]]] = {}
        self._begun = 0
        #: All trials: the study's number, and what is known.
        self._trials: list[tuple[int, dict[str, Any]]] = []
        self._choices: dict[str, Callable[[float], Any]] = {}
        #: By Optuna's number of the operation.
        self._ways = {0: self._begin, 1: self._delete, 4: self._create, 5: self._choose, 6: self._move, 8: self._note}

    def add(self, record: dict[str, Any]) -> None:
        """The next record."""
        if (way := self._ways.get(record["op_code"])) is not None:
            way(record)

    def list_directions(self) -> list[str]:
        """Of the objectives."""
        _, directions = next(iter(self._studies.values()), ("", []))
        return [{1: "minimize", 2: "maximize"}.get(number, "not_set") for number in directions]

    def list_rows(self) -> list[Row]:
        """Of the trials that have ended, interrupted ones aside."""
        first = next(iter(self._studies), None)
        own = enumerate(trial for study, trial in self._trials if study == first)
        return [
            _row(number, trial)
            for number, trial in own
            if trial["state"] in _STATES and not trial["attributes"].get("interrupted")
        ]

    def _begin(self, record: dict[str, Any]) -> None:
        if record["study_name"] not in {name for name, _ in self._studies.values()}:
            self._studies[self._begun] = record["study_name"], record["directions"]
            self._begun += 1

    def _delete(self, record: dict[str, Any]) -> None:
        self._studies.pop(record["study_id"], None)

    def _create(self, record: dict[str, Any]) -> None:
        if record["study_id"] not in self._studies:
            return
        spaces = record.get("distributions", {})
        params = {name: self._read_choice(spaces[name], value) for name, value in record.get("params", {}).items()}
        values = record.get("values") or ([] if record.get("value") is None else [record["value"]])
        attributes = record.get("user_attrs", {})
        trial = {"state": record.get("state", 0), "values": values, "params": params, "attributes": attributes}
        self._trials.append((record["study_id"], trial))

    def _find(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """The trial that the record is about, if it has not ended."""
        number = record["trial_id"]
        trial = self._trials[number][1] if 0 <= number < len(self._trials) else None
        return None if trial is None or trial["state"] in _STATES else trial

    def _choose(self, record: dict[str, Any]) -> None:
        if (trial := self._find(record)) is not None:
            value = self._read_choice(record["distribution"], record["param_value_internal"])
            trial["params"][record["param_name"]] = value

    def _read_choice(self, space: str, value: float) -> Any:
        if space not in self._choices:
            from optuna.distributions import json_to_distribution

            self._choices[space] = json_to_distribution(space).to_external_repr
        return self._choices[space](value)

    def _move(self, record: dict[str, Any]) -> None:
        if (trial := self._find(record)) is not None:
            trial["state"] = record["state"]
            trial["values"] = record["values"] or trial["values"]

    def _note(self, record: dict[str, Any]) -> None:
        if (trial := self._find(record)) is not None:
            trial["attributes"].update({k: v for k, v in record["user_attr"].items() if k in _SHOWN})


def _row(number: int, trial: dict[str, Any]) -> Row:
    known = trial["attributes"]
    infeasible = (known.get("result") or {}).get("infeasible")
    row: Row = {
        "number": number,
        "state": "infeasible" if infeasible else _STATES[trial["state"]],
        "score": trial["values"][0] if trial["values"] else None,
        **{name: known.get(name) for name in _RECORDED},
        **{f"decision.{name}": value for name, value in trial["params"].items()},
    }
    return {**row, "duplicate_of": known.get("duplicate_of"), "reason": known.get("reason")}
