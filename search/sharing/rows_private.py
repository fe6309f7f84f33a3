"""The fence around the rows of Optuna's tables: how trials are made of them, with six statements for all, or one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import lru_cache
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial, TrialState

#: More trials than so many are named by a condition, not by their numbers: data bases limit those.
MANY = 500

#: What tells that a running trial has other rows than it had: the sum of their numbers, of each kind. (The highest
#: number would do, but PostgreSQL looks for that from the end of the table. A value that Optuna's own storage writes in
#: the place of another is read when the trial has ended.)
Mark = tuple[int | None, ...]

_read_distribution = lru_cache(4096)(json_to_distribution)


def read_trials(
    c: Any, which: Sequence[Any], known: Mapping[int, tuple[FrozenTrial, Mark | None]]
) -> list[tuple[FrozenTrial, Mark]]:
    """The trials of these conditions, oldest first, with their marks.

    ``known`` are those that are as given while they run: as long as their mark is, or without one in any case.
    """
    from optuna.storages._rdb import models
    from sqlalchemy import case, func, select

    p, u, s = models.TrialParamModel, models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    v, i = models.TrialValueModel, models.TrialIntermediateValueModel
    trials: Any = models.TrialModel.__table__
    table = trials.c
    columns = (table.trial_id, table.number, table.state, table.datetime_start, table.datetime_complete)
    grow: list[tuple[Any, Any]] = [
        (p.param_id, p.trial_id),
        (u.trial_user_attribute_id, u.trial_id),
        (s.trial_system_attribute_id, s.trial_id),
        (i.trial_intermediate_value_id, i.trial_id),
    ]
    runs = table.state == TrialState.RUNNING
    marks = [
        case((runs, select(func.sum(number)).where(trial_id == table.trial_id).scalar_subquery()))
        for number, trial_id in grow
    ]
    heads = [
        (*row[: len(columns)], tuple(row[len(columns) :]))
        for row in c.execute(select(*columns, *marks).where(*which).order_by(table.trial_id))
    ]

    def is_known(trial_id: int, state: TrialState, mark: Mark) -> bool:
        return state == TrialState.RUNNING and trial_id in known and known[trial_id][1] in (None, mark)

    wanted = [trial_id for trial_id, _, state, _, _, mark in heads if not is_known(trial_id, state, mark)]
    few = wanted if len(wanted) <= MANY else select(table.trial_id).where(*which)

    def parts(model: Any, order: Any, *values: Any) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {number: [] for number in wanted}
        if wanted:
            for row in c.execute(select(model.trial_id, *values).where(model.trial_id.in_(few)).order_by(order)):
                if row[0] in found:
                    found[row[0]].append(row)
        return found

    params = parts(p, p.param_id, p.param_name, p.param_value, p.distribution_json)
    user = parts(u, u.trial_user_attribute_id, u.key, u.value_json)
    system = parts(s, s.trial_system_attribute_id, s.key, s.value_json)
    values = parts(v, v.objective, v.value, v.value_type)
    steps = parts(i, i.step, i.step, i.intermediate_value, i.intermediate_value_type)
    made = []
    for trial_id, number, state, begun, ended, mark in heads:
        if trial_id not in params:
            made.append((known[trial_id][0], mark))
            continue
        kinds = {name: _read_distribution(text) for _, name, _, text in params[trial_id]}
        trial = FrozenTrial(
            number=number,
            trial_id=trial_id,
            state=state,
            datetime_start=to_local(begun),
            datetime_complete=to_local(ended),
            value=None,
            values=[v.stored_repr_to_value(*row[1:]) for row in values[trial_id]] or None,
            params={name: kinds[name].to_external_repr(value) for _, name, value, _ in params[trial_id]},
            distributions=kinds,
            user_attrs={key: json.loads(text) for _, key, text in user[trial_id]},
            system_attrs={key: json.loads(text) for _, key, text in system[trial_id]},
            intermediate_values={row[1]: i.stored_repr_to_intermediate_value(*row[2:]) for row in steps[trial_id]},
        )
        made.append((trial, mark))
    return made


def to_local(moment: Any) -> Any:
    """A time that the tables keep in UTC, as Optuna gives it: in this machine's time zone, which it does not name."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
