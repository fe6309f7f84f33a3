"""MLflow: one run a folder, and under it one a trial; the epochs of a training are steps of its run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from ...space.errors import hide_passwords
from .tracker import Beginning, Record, TrackedRun, require, safe_name

T = TypeVar("T")
#: Of MLflow's limits: parameters, metrics and tags that one request takes together, and letters of a value.
AT_ONCE, LETTERS = 90, 500
#: MLflow's own names of states.
_ENDS = {"complete": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}


@dataclass(frozen=True)
class Mlflow:
    """Records in MLflow, on a server or in a data base file. Its environment variables count too.

    Args:
        project: the experiment of the runs, as MLflow calls it.
        name: of the run; None: its folder.
        uri: where: ``http://HOST:5000``, ``sqlite:///mlflow.db``, …; None: as ``MLFLOW_TRACKING_URI`` says, else
            MLflow's own default.

    Raises:
        UserError: the package mlflow-skinny (or mlflow) is not installed.
    """

    project: str = "effnas"
    name: str | None = None
    uri: str | None = None

    def __post_init__(self) -> None:
        require("mlflow", "MlflowClient", "mlflow-skinny")

    @property
    def place(self) -> str:
        """The experiment, and where it is."""
        where = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        return " ".join(filter(None, ("mlflow", self.project, hide_passwords(where))))

    def begin(self, beginning: Beginning) -> TrackedRun:
        """As :meth:`~effnas.evaluate.tracking.tracker.Tracker.begin`."""
        # By default a server that is away is asked for four minutes, and the run would wait.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        mlflow = require("mlflow", "MlflowClient", "mlflow-skinny")
        client = mlflow.MlflowClient(tracking_uri=self.uri)
        if beginning.id is not None:
            client.update_run(beginning.id, status="RUNNING")
            return MlflowRun(client, client.get_run(beginning.id).info.experiment_id, beginning.id, beginning.axis)
        experiment = self._find_experiment(client)
        name = self.name or beginning.name
        made = client.create_run(experiment, tags={"effnas.folder": beginning.name}, run_name=name)
        run = MlflowRun(client, experiment, made.info.run_id, beginning.axis)
        run.write(run.id, params=beginning.settings)
        return run

    def _find_experiment(self, client: Any) -> str:
        """The id of the experiment, made where there is none: by another process too, just now."""
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.project)
        if found is None:
            try:
                return str(client.create_experiment(self.project))
            except MlflowException:
                found = client.get_experiment_by_name(self.project)
                if found is None:
                    raise
        return str(found.experiment_id)


@dataclass(frozen=True)
class MlflowRun:
    """An open run of MLflow's, by its client: no run is the process's current one."""

    client: Any
    experiment: str
    id: str
    axis: str

    def record(self, record: Record) -> None:
        """A run below this one for each trial, which has the values too, by the trial's number; of an epoch, these."""
        if self.axis == "trial":
            tags = {"mlflow.parentRunId": self.id, **{f"effnas.{name}": words for name, words in record.facts.items()}}
            made = self.client.create_run(self.experiment, tags=tags, run_name=f"trial {record.number}")
            self.write(made.info.run_id, params=record.params, values={self.axis: record.number, **record.values})
            self.client.set_terminated(made.info.run_id, _ENDS.get(record.state, "KILLED"))
        self.write(self.id, values=record.values, step=record.number)

    def end(self, summary: Mapping[str, str | int | float | bool], state: str) -> None:
        """Numbers that were found become metrics ``found.NAME``, words tags."""
        numbers = {f"found.{name}": value for name, value in summary.items() if not isinstance(value, str | bool)}
        words = {f"effnas.{name}": str(value) for name, value in summary.items() if isinstance(value, str | bool)}
        self.write(self.id, values=numbers, tags=words)
        self.client.set_terminated(self.id, _ENDS.get(state, "KILLED"))

    def write(
        self,
        run: str,
        *,
        params: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Log to a run, in requests of the size that MLflow takes."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        entries: list[tuple[str, Any]] = [
            *(("params", Param(safe_name(name), str(value)[:LETTERS])) for name, value in (params or {}).items()),
            *(("metrics", Metric(safe_name(n), float(v), now, step)) for n, v in (values or {}).items()),
            *(("tags", RunTag(safe_name(name), value[:LETTERS])) for name, value in (tags or {}).items()),
        ]
        for some in _in_parts(entries):
            kinds: dict[str, list[Any]] = {"params": [], "metrics": [], "tags": []}
            for kind, entry in some:
                kinds[kind].append(entry)
            self.client.log_batch(run, **kinds)


def _in_parts(entries: Sequence[T]) -> Iterator[list[T]]:
    left = iter(entries)
    while some := list(islice(left, AT_ONCE)):
        yield some
