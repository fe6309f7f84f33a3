"""The fence around Optuna's tables in a data base, for :mod:`effnas.search.sharing.owned_storage` alone.

Optuna's own storage writes a trial of 28 decisions in 145 statements and 52 transactions: one a parameter, one an
attribute, and reads it back as often. Here a trial takes three transactions of a few statements each. What is read is
what Optuna would read, so that its dashboard, and processes with its own storage, may work on the same study.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from .mysql_private import ENGINE, SESSION, is_mysql, name_mysql, tables_made
from .rows_private import Mark, read_trials, to_local

#: System attribute of a trial: who runs it (:mod:`effnas.search.sharing.ownership`).
OWNER = "effnas:owner"


@dataclass
class Held:
    """What is known of a running trial and not yet written: attributes as JSON."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    user: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    #: Intermediate values by their steps.
    steps: dict[int, float] = field(default_factory=dict)


class End(NamedTuple):
    """How a trial ends."""

    state: TrialState
    values: Sequence[float] | None


class OwnedTables(RDBStorage):
    """Optuna's tables in a data base; a trial that starts gets its owner and a heartbeat in the same transaction.

    Args:
        url: SQLAlchemy's.
        owner: who starts trials here: plain data.
        beat: seconds between two heartbeats.
        grace: seconds without one after which a trial is stale.
        engine: for SQLAlchemy's ``create_engine``.
    """

    def __init__(self, url: str, owner: Mapping[str, Any], beat: int, grace: int, **engine: Any) -> None:
        self.owner, self._mysql = dict(owner), is_mysql(url)
        if self._mysql:
            url, engine = name_mysql(url), {**ENGINE, **engine}
        try:
            with tables_made(url, engine) if self._mysql else nullcontext():
                super().__init__(url, engine, heartbeat_interval=beat, grace_period=grace)
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        self._prepare_connections()
        file = self.engine.url.database if self.engine.name == "sqlite" else None
        self._file = None if file in (None, "", ":memory:") else str(file)
        self._inode = self._stat()

    def _prepare_connections(self) -> None:
        """Have heartbeats compared in one time zone, whatever the clients' machines say."""
        from sqlalchemy import event

        says = {"postgresql": "SET TIME ZONE 'UTC'", "mysql": SESSION}.get(self.engine.name)
        if says is None:
            return

        def prepare(connection: Any, record: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute(says)
            connection.commit()

        event.listen(self.engine, "connect", prepare)
        self.engine.dispose()  # connections that were made before

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file) if self._file is not None else None
        except OSError:
            found = None
        return None if found is None else (found.st_dev, found.st_ino)

    @contextmanager
    def _connected(self, isolation: str | None = None) -> Iterator[Any]:
        """A connection, for a transaction of its own unless the isolation is ``AUTOCOMMIT``."""
        from sqlalchemy.exc import SQLAlchemyError

        if self._stat() != self._inode:  # its connections would go on writing what nobody can read
            raise StorageInternalError(f"{self._file} was deleted or replaced while it was in use")
        try:
            with self.engine.connect() as connection:
                if isolation is not None:
                    connection = connection.execution_options(isolation_level=isolation)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise StorageInternalError("a transaction has failed") from error

    # -- the three transactions of a trial ---------------------------------------------------------------

    def start(self, study_id: int, mine: Collection[int], again: bool) -> tuple[int, int, datetime]:
        """Begin a trial: its id, its number, the time. ``again``: it may have been begun before, as none of ``mine``.

        Raises:
            StorageInternalError: the study is there no more.
        """
        from optuna.storages._rdb.models import StudyModel, TrialModel
        from sqlalchemy import insert, select, update

        trials: Any = TrialModel.__table__
        now = datetime.now(UTC).replace(tzinfo=None)
        with self._connected() as c:
            # whoever begins one waits here: numbers are unique, and ids grow in the order of the commits
            study = (StudyModel.study_id == study_id,)
            lock: Any = select(StudyModel.study_id).where(*study).with_for_update()
            if self.engine.name == "sqlite":  # which knows no such lock, but has one writer at a time
                lock = update(StudyModel).where(*study).values(study_id=study_id).returning(StudyModel.study_id)
            if c.execute(lock, execution_options={"synchronize_session": False}).first() is None:
                raise StorageInternalError("the study was deleted while it was in use")
            if again and (found := self._find_begun(c, study_id, mine)) is not None:
                return (*found, to_local(now))
            last = select(trials.c.number).where(trials.c.study_id == study_id).order_by(trials.c.trial_id.desc())
            before = c.execute(last.limit(1)).scalar()
            number = 0 if before is None else int(before) + 1
            row = {"study_id": study_id, "number": number, "state": TrialState.RUNNING, "datetime_start": now}
            trial_id = int(c.execute(insert(trials).values(row)).inserted_primary_key[0])
            self._own(c, trial_id)
        return trial_id, number, to_local(now)

    def _find_begun(self, c: Any, study_id: int, mine: Collection[int]) -> tuple[int, int] | None:
        from optuna.storages._rdb.models import TrialModel, TrialSystemAttributeModel
        from sqlalchemy import select

        owned = TrialSystemAttributeModel.trial_id == TrialModel.trial_id
        its = (TrialSystemAttributeModel.key == OWNER, TrialSystemAttributeModel.value_json == json.dumps(self.owner))
        here = (TrialModel.study_id == study_id, TrialModel.state == TrialState.RUNNING)
        rows = c.execute(select(TrialModel.trial_id, TrialModel.number).where(owned, *its, *here)).all()
        return next(((int(row[0]), int(row[1])) for row in rows if row[0] not in mine), None)

    def claim(self, trial_id: int, study_id: int, mine: Collection[int], again: bool) -> bool:
        """Begin a waiting trial; False: it is none. Of several processes that try at once one has it, in SQLite too."""
        from optuna.storages._rdb.models import TrialModel
        from sqlalchemy import update

        trials: Any = TrialModel.__table__
        waiting = (trials.c.trial_id == trial_id, trials.c.state == TrialState.WAITING)
        now = datetime.now(UTC).replace(tzinfo=None)
        with self._connected() as c:
            done = c.execute(update(trials).where(*waiting).values(state=TrialState.RUNNING, datetime_start=now))
            if done.rowcount != 1:
                found = self._find_begun(c, study_id, mine) if again else None
                return found is not None and found[0] == trial_id
            self._own(c, trial_id)
        return True

    def _own(self, c: Any, trial_id: int) -> None:
        from optuna.storages._rdb.models import TrialHeartbeatModel, TrialSystemAttributeModel
        from sqlalchemy import insert

        owner = {"trial_id": trial_id, "key": OWNER, "value_json": json.dumps(self.owner)}
        c.execute(insert(TrialSystemAttributeModel), [owner])
        c.execute(insert(TrialHeartbeatModel), [{"trial_id": trial_id}])

    def write(self, trial_id: int, held: Held, written: Collection[str], end: End | None, again: bool) -> None:
        """Write what was held back of a running trial, and its end, if it is that.

        Args:
            trial_id: of a trial that was begun here.
            held: is written.
            written: keys of attributes that were written before.
            end: of the trial; None: it goes on.
            again: it may have been written before: the answer was lost.

        Raises:
            UpdateFinishedTrialError: somebody else has ended it.
            StorageInternalError: the study is there no more.
        """
        from optuna.storages._rdb import models
        from sqlalchemy import delete, insert, update

        trials: Any = models.TrialModel.__table__
        change: dict[str, Any] = {"state": TrialState.RUNNING if end is None else end.state}
        if end is not None:
            change["datetime_complete"] = datetime.now(UTC).replace(tzinfo=None)
        mine = {"trial_id": trial_id}
        rows: dict[Any, list[dict[str, Any]]] = {
            models.TrialParamModel: [
                {**mine, "param_name": name, "param_value": value, "distribution_json": distribution_to_json(kind)}
                for name, (value, kind) in held.params.items()
            ],
            models.TrialUserAttributeModel: [{**mine, "key": k, "value_json": v} for k, v in held.user.items()],
            models.TrialSystemAttributeModel: [{**mine, "key": k, "value_json": v} for k, v in held.system.items()],
            models.TrialIntermediateValueModel: [],
            models.TrialValueModel: [],
        }
        for step, number in held.steps.items():
            value, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(number)
            row = {**mine, "step": step, "intermediate_value": value, "intermediate_value_type": kind}
            rows[models.TrialIntermediateValueModel].append(row)
        for objective, number in enumerate((end and end.values) or ()):
            stored, sort = models.TrialValueModel.value_to_stored_repr(number)
            rows[models.TrialValueModel].append({**mine, "objective": objective, "value": stored, "value_type": sort})
        with self._connected() as c:
            running = (trials.c.trial_id == trial_id, trials.c.state == TrialState.RUNNING)
            if c.execute(update(trials).where(*running).values(change)).rowcount != 1:
                self._check_ended(c, trial_id, held, end if again else None)
                return
            for model, new in rows.items():
                if new and again and "key" not in new[0]:
                    c.execute(delete(model).where(model.trial_id == trial_id))
                elif old := [row["key"] for row in new if "key" in row and (again or row["key"] in written)]:
                    c.execute(delete(model).where(model.trial_id == trial_id, model.key.in_(old)))
                if new:
                    c.execute(insert(model), new)

    def _check_ended(self, c: Any, trial_id: int, held: Held, end: End | None) -> None:
        """Whether the trial has ended as it is to end now, with what is held back."""
        from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
        from sqlalchemy import select

        state = c.execute(select(TrialModel.state).where(TrialModel.trial_id == trial_id)).scalar()
        if state is None:
            raise StorageInternalError("the study was deleted while it was in use")
        its = select(TrialUserAttributeModel.key, TrialUserAttributeModel.value_json).filter_by(trial_id=trial_id)
        stored = dict(c.execute(its).all())
        if end is None or state != end.state or any(stored.get(key) != value for key, value in held.user.items()):
            raise UpdateFinishedTrialError(f"trial {trial_id} has been finished")

    # -- what is read ------------------------------------------------------------------------------------

    def list_trials(
        self, study_id: int, after: int, among: Collection[int], known: Mapping[int, tuple[FrozenTrial, Mark | None]]
    ) -> list[tuple[FrozenTrial, Mark]]:
        """Trials of the study, oldest first: those with an id above ``after``, and those ``among`` the lower ones.

        ``known``: as :func:`.read_trials` has it.
        """
        from optuna.storages._rdb.models import TrialModel

        new = TrialModel.trial_id > after
        return self._read(
            (TrialModel.study_id == study_id, (TrialModel.trial_id.in_(among) | new) if among else new), known
        )

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's.

        Raises:
            KeyError: there is no such trial.
        """
        from optuna.storages._rdb.models import TrialModel

        found = self._read((TrialModel.trial_id == trial_id,), {})
        if not found:
            raise KeyError(f"no trial {trial_id}")
        return found[0][0]

    def _read(
        self, which: tuple[Any, ...], known: Mapping[int, tuple[FrozenTrial, Mark | None]]
    ) -> list[tuple[FrozenTrial, Mark]]:
        # Nothing to lock, and no snapshot is needed: who is finished when listed has all its parts. With MySQL there is
        # none in a transaction, and the other mode would be asked for, and given back, over the network.
        with self._connected(None if self._mysql else "AUTOCOMMIT") as connection:
            return read_trials(connection, which, known)

    def list_stale(self, study_id: int) -> list[int]:
        """The ids of the study's running trials whose last heartbeat is too long ago, by the data base's clock."""
        return list(self._get_stale_trial_ids(study_id))
