"""The evaluator that looks networks up in a table of measured ones."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from ..space.cost import cost
from ..space.errors import UserError, check_choice, unknown
from ..space.network_spec import NetworkSpec
from ..space.paths import expand_path, is_file
from ..space.space import Choice, Decisions, SearchSpace, load_space
from .evaluation import Evaluation, EvaluationError, Report
from .latency.known import KnowsLatency
from .table_files import READERS, read_columns

UNITS = {"fraction": 1, "percent": 100}
REPEATS = ("mean", "draw", "error")


class LookupSpace(Protocol):
    """What a space must have to be looked up in; :class:`~effnas.space.space.SearchSpace` has more."""

    name: str

    @property
    def distributions(self) -> Mapping[str, Any]:
        """Decision names to what has ``choices``."""

    def build(self, decisions: Mapping[str, Any]) -> NetworkSpec:
        """The network that the decisions describe."""


@dataclass(frozen=True)
class Tabular(KnowsLatency):
    """Accuracy and other measurements from a table with one row a measured network.

    The columns are named after the space's decisions and after what was measured; others are ignored. A row is found by
    the network that its decisions build, so rows that differ only in decisions without effect are repeats of one
    network. The file is read at the first call, once per process. Messages count rows from 1, without the header.

    Args:
        path: ``.csv`` (comma-separated, with a header), ``.json`` (a list of records), ``.jsonl`` (one record per
            line) or ``.parquet``.
        space: the space itself, or a shipped one's name or a file. Cells match its choices by value: ``3``, ``3.0`` and
            ``"3"`` are the choice 3; ``true``, ``True`` and ``1`` the choice true.
        accuracy: column of the top-1 accuracy.
        accuracy_unit: ``fraction`` (0.76) or ``percent`` (76).
        latency: column in seconds per batch; None: no latency.
        metrics: further columns, one or several, carried into the evaluation's metrics.
        latency_model: says the latency instead of a column (:class:`~effnas.evaluate.latency.known.KnowsLatency`).
        repeats: of several rows of one network: their ``mean``, one row ``draw``-n by the seed and the network as
            another training would be, or an ``error``.

    Raises:
        UserError: a setting is wrong; when called, the file cannot be read or a row cannot be used.
    """

    path: str | Path
    space: LookupSpace | str = field(repr=False)  # has no text of its own, and a search's record names it already
    accuracy: str = "accuracy"
    accuracy_unit: str = "fraction"
    latency: str | None = None
    metrics: Sequence[str] | str = ()
    repeats: str = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not str(self.path):
            raise UserError(f"evaluator.path must name the table, {', '.join(READERS)}, got {self.path!r}")
        check_choice(f"evaluator.path: {self.path}: suffix", Path(self.path).suffix.lower(), READERS)
        for name, optional in (("accuracy", False), ("latency", True)):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and not (optional and value is None):
                raise UserError(f"evaluator.{name} must name a column{' or be null' * optional}, got {value!r}")
        self.check_latency_model("latency")
        names = (self.metrics,) if isinstance(self.metrics, str) else self.metrics
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise UserError(f"evaluator.metrics must be a list of columns, got {names!r}")
        object.__setattr__(self, "metrics", tuple(names))
        check_choice("evaluator.accuracy_unit", self.accuracy_unit, UNITS)
        check_choice("evaluator.repeats", self.repeats, REPEATS)
        if not hasattr(self._space, "distributions") or not hasattr(self._space, "build"):
            raise UserError(f"evaluator.space must be a space, its name or its file, got {type(self.space).__name__}")

    @cached_property
    def _space(self) -> LookupSpace:
        return load_space(self.space) if isinstance(self.space, str) else self.space

    @property
    def _measured(self) -> dict[str, str]:
        """The columns of numbers, each with the setting that asks for it."""
        found = {self.accuracy: "accuracy"}
        if self.latency is not None:
            found.setdefault(self.latency, "latency")
        for column in self.metrics:
            found.setdefault(column, "metrics")
        return found

    @cached_property
    def rows(self) -> dict[str, list[dict[str, float]]]:
        """By the digest of a network, what each of its rows measured: numbers by column, the accuracy a fraction.

        Raises:
            UserError: the file is not there, not readable, empty, or lacks a column; a cell is not among the choices
                of its decision, is missing, or is not a number in its range.
        """
        file = expand_path(self.path)
        if not is_file(file):
            raise UserError(f"evaluator.path: no such file: {file}")
        columns = read_columns(file)
        names = list(self._space.distributions)
        if missing := [name for name in names if name not in columns]:
            raise UserError(
                f"{file}: no column for {', '.join(missing)}, which the space {self._space.name} decides; "
                f"the columns are {', '.join(columns)}"
            )
        for column, setting in self._measured.items():
            if column not in columns:
                raise unknown(f"{file}: evaluator.{setting}: column", column, columns)
        found: dict[str, list[dict[str, float]]] = {}
        first: dict[str, int] = {}
        for number, cells in enumerate(zip(*(columns[name] for name in names), strict=True), start=1):
            where = f"{file}: row {number}"
            decisions = self._decisions(dict(zip(names, cells, strict=True)), where)
            try:
                digest = self._space.build(decisions).digest
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
            if self.repeats == "error" and digest in first:
                raise UserError(
                    f"{file}: rows {first[digest]} and {number} are the same network ({_text(decisions)}), which "
                    "evaluator.repeats=error forbids: mean takes the mean of such rows, draw one of them"
                )
            first.setdefault(digest, number)
            values = {column: columns[column][number - 1] for column in self._measured}
            found.setdefault(digest, []).append(self._numbers(values, where))
        if self.accuracy_unit == "percent" and all(r[self.accuracy] <= 0.01 for rows in found.values() for r in rows):
            raise UserError(
                f"{file}: no {self.accuracy} is above 1 percent: set evaluator.accuracy_unit=fraction if the column "
                "holds fractions"
            )
        return found

    @property
    def input_files(self) -> tuple[str | Path, ...]:
        """The table: :func:`~effnas.evaluate.identity.describe_files`."""
        return (self.path, *self.latency_files)

    def prepare(self) -> None:
        """Read the table.

        Raises:
            UserError: as :attr:`rows`.
        """
        self.rows  # noqa: B018  # kept by its being read

    def describe(self) -> dict[str, Any]:
        """For the record of a search: how many networks and rows there are."""
        counts = {"networks": len(self.rows), "rows": sum(map(len, self.rows.values()))}
        exact = self.repeats != "draw" or all(len(rows) == 1 for rows in self.rows.values())
        return {"accuracy_is": f"in {Path(self.path).name}", "exact": exact, **counts}

    def _decisions(self, cells: Mapping[str, Any], where: str) -> Decisions:
        found: Decisions = {}
        for name, cell in cells.items():
            choices = self._space.distributions[name].choices
            choice = match_choice(cell, choices)
            if choice is None and _blank(cell):
                raise UserError(f"{where}: {name} is missing; choose one of: {', '.join(map(str, choices))}")
            if choice is None:
                raise unknown(f"{where}: {name}", cell, choices)
            found[name] = choice
        return found

    def _numbers(self, cells: Mapping[str, Any], where: str) -> dict[str, float]:
        values = {column: _number(cell, f"{where}: {column}") for column, cell in cells.items()}
        accuracy, high = values[self.accuracy], UNITS[self.accuracy_unit]
        if not 0 <= accuracy <= high:
            hint = "; set evaluator.accuracy_unit=percent if the column holds percentages" * (1 < accuracy <= 100)
            kind = "a fraction between 0 and 1" if high == 1 else "a percentage between 0 and 100"
            raise UserError(f"{where}: {self.accuracy} must be {kind}, got {accuracy:g}{hint}")
        if self.latency is not None and values[self.latency] <= 0:
            raise UserError(f"{where}: {self.latency} must be above 0 seconds, got {values[self.latency]:g}")
        return {**values, self.accuracy: accuracy / high}

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Look one network up; ``seed`` chooses among its rows where ``repeats`` is ``draw``.

        Raises:
            EvaluationError: the table lacks the network.
            UserError: the table cannot be used.
        """
        rows = self.rows.get(architecture.digest)
        if rows is None:
            raise EvaluationError(f"{self.path} has no row for {self._describe(architecture)}")
        if self.repeats == "draw":
            rng = np.random.default_rng((seed, int(architecture.digest, 16)))
            rows = [rows[int(rng.integers(len(rows)))]]
        values = {column: fmean(row[column] for row in rows) for column in self._measured}
        return Evaluation(
            accuracy=values[self.accuracy],
            cost=cost(architecture),
            latency=values[self.latency] if self.latency is not None else self.say_latency(architecture),
            metrics={column: values[column] for column in self.metrics},
        )

    def _describe(self, architecture: NetworkSpec) -> str:
        """The network in the table's words, where the space can say them."""
        name = f"the network {architecture.name or architecture.digest}"
        if not isinstance(self._space, SearchSpace):
            return name
        decisions = self._space.decisions_of(architecture)
        return f"{name}, which is not in the space {self._space.name}" if decisions is None else _text(decisions)


def _text(decisions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in decisions.items())


def match_choice(cell: Any, choices: Iterable[Choice]) -> Choice | None:
    """The choice that a cell means; None: it means none of them."""
    value = cell.strip() if isinstance(cell, str) else cell
    if isinstance(value, str):
        for choice in choices:
            if isinstance(choice, str) and choice == value:
                return choice
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        try:
            value = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        for choice in choices:
            if isinstance(choice, bool | str):
                continue
            if math.isclose(choice, value, rel_tol=1e-6):  # nearly: 1.66 may have gone through 32 bits
                return choice
    return next((choice for choice in choices if isinstance(choice, bool) and choice == value), None)


def _blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _number(cell: Any, where: str) -> float:
    if _blank(cell):
        raise UserError(f"{where} is missing")
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} must be a finite number, got {cell!r:.60}")
    return value
