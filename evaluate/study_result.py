"""What a job over a study returns: its summary, and its tables as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .non_dominated import non_dominated

if TYPE_CHECKING:
    from pandas import DataFrame


class StudyResult(dict[str, Any]):
    """The content of a ``summary.json``, with the tables beside it as data frames of pandas.

    Args:
        summary: the content.
        tables: rows by the table's name: ``trials`` (``trials.csv``), ``front``, and the job's own.
    """

    def __init__(self, summary: Mapping[str, Any], **tables: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(summary)
        self.tables = {name: [dict(row) for row in rows] for name, rows in tables.items()}

    def table(self, name: str) -> DataFrame:
        """One of the tables by its name.

        Raises:
            KeyError: there is none of this name; ``tables`` has them all.
        """
        from pandas import DataFrame

        return DataFrame(self.tables[name])

    @property
    def trials(self) -> DataFrame:
        """All finished trials, a row each, with the columns of ``trials.csv``."""
        return self.table("trials")

    @property
    def front(self) -> DataFrame:
        """What nothing beats in accuracy and MACs, or in the objectives where there are several; cheapest first."""
        return self.table("front")


def find_front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows with an accuracy that no other beats in accuracy and MACs, cheapest first."""
    done = [row for row in rows if row["accuracy"] is not None]
    mask = non_dominated([(row["accuracy"], row["macs"]) for row in done], ("maximize", "minimize"))
    return sorted((row for row, keep in zip(done, mask, strict=True) if keep), key=lambda row: row["macs"])
