"""What a tracker is: opened for a run's folder, told one record a trial or an epoch, closed at the end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ...space.errors import UserError

#: Characters of one value among a run's settings; what is longer is cut off.
LONGEST = 500
#: What a trial can end as, with ``infeasible`` for one that was refused before it was evaluated.
STATES = ("complete", "failed", "pruned", "infeasible")


@dataclass(frozen=True)
class Beginning:
    """What a tracker is told first.

    Args:
        name: of the run: its folder, as the user named it.
        folder: of the run, which the tracker may write to.
        settings: what makes the run this one, flat, for reading.
        id: of the tracker's run that an earlier run of this folder began, to go on with; None: a new one is begun.
        records: that the tracker has of it already.
        axis: what the records are counted by: ``trial`` or ``epoch``.
        quiet: nothing is to be printed.
    """

    name: str
    folder: Path
    settings: Mapping[str, str | int | float | bool]
    id: str | None = None
    records: int = 0
    axis: str = "trial"
    quiet: bool = False


@dataclass(frozen=True)
class Record:
    """A trial, or an epoch of a training.

    Args:
        number: of the trial, from 0, or of the epoch, from 1.
        place: how many records the tracker has had before.
        values: accuracy (a fraction), MACs, seconds, scores, losses, by name; all finite.
        params: the decisions of a trial.
        facts: words: ``state``, ``reason``, ``digest``, …
    """

    number: int
    place: int
    values: Mapping[str, float]
    params: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Of a trial: one of :data:`STATES`; an epoch is complete."""
        return self.facts.get("state", "complete")


class TrackedRun(Protocol):
    """An open run of a tracker. Whatever it raises is told once and ends no training."""

    @property
    def id(self) -> str:
        """With which it is found again."""
        ...

    def record(self, record: Record) -> None:
        """A trial or an epoch has ended."""
        ...

    def end(self, summary: Mapping[str, str | int | float | bool], state: str) -> None:
        """Nothing more comes; ``state``: ``finished``, ``failed`` or ``stopped`` (by Ctrl-C)."""
        ...


class Tracker(Protocol):
    """Settings of a tracker, checked when made."""

    @property
    def place(self) -> str:
        """Which tracker, and where in it: another place begins another run."""
        ...

    def begin(self, beginning: Beginning) -> TrackedRun:
        """Open a run, or go on with it."""
        ...


@dataclass(frozen=True)
class Untracked:
    """No tracker."""

    place: str = field(default="", init=False)

    def begin(self, beginning: Beginning) -> TrackedRun:
        """Nothing is opened.

        Raises:
            UserError: always; :mod:`~effnas.evaluate.tracking.tracking` does not ask.
        """
        raise UserError("tracker=none opens no run")


def require(module: str, needs: str, package: str) -> Any:
    """Import a tracker's library.

    Args:
        module: to import.
        needs: a name in it; a folder of the same name in the working directory, such as W&B's own, has none.
        package: as pip installs it.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    try:
        found = import_module(module)
        getattr(found, needs)
    except Exception as error:  # a broken installation raises anything
        lacking = isinstance(error, ModuleNotFoundError | AttributeError)
        why = "it is not installed" if lacking else f"it cannot be imported ({type(error).__name__}: {error})"
        raise UserError(
            f"tracker={module} needs the package {package}, and {why}: pip install 'effnas[{module}]', or choose "
            "another tracker: none, wandb, mlflow or trackio"
        ) from None
    return found


def flatten(data: Mapping[str, Any], before: str = "") -> dict[str, str | int | float | bool]:
    """Nested plain data as ``a.b.c`` → value; lists and whatever else as text, cut at :data:`LONGEST`."""
    return dict(_flatten(data, before))


def _flatten(data: Mapping[str, Any], before: str) -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in data.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, bool | int | float):
            yield name, value
        elif value is not None:
            yield name, str(value)[:LONGEST]


def only_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are finite numbers."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def make_row(record: Record, axis: str) -> dict[str, Any]:
    """A record as one row: its number under ``axis``, all values, the decisions as ``decision/NAME``, and the words."""
    values = {safe_name(name): value for name, value in record.values.items()}
    decisions = {f"decision/{safe_name(name)}": value for name, value in record.params.items()}
    return {axis: record.number, **values, **decisions, **record.facts}


def safe_name(name: str) -> str:
    """A name that every tracker takes: letters, digits, ``_ - . /`` and blanks, at most 250."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250] or "_"
