"""The fence around Optuna: what uses its private names, each behind a public function or class.

Optuna offers no public way to a study's storage, to the attributes of a trial that another process runs, to its
journal's records, or to a sampler's generator. Where a release moves one of these names,
``tests/search/test_optuna_private.py`` says which. Its tables have a fence of their own, in ``search/sharing/``.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume import get_non_dominated_box_bounds
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.distributions import json_to_distribution as read_distribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.samplers import GPSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

#: System attribute of a trial: the standard deviation of the accuracy behind its values, where that is an estimate.
SPREAD = "effnas:spread"
#: Releases of Optuna that all of this was tested with.
TESTED_VERSIONS = ("5.0.0",)


def get_storage(study: Study) -> BaseStorage:
    """Where the study keeps its trials: all of them, which ``study.get_trials`` does not show under Hyperband."""
    return study._storage


def get_study_id(study: Study) -> int:
    """The study's number in its storage."""
    return study._study_id


def get_trial_id(trial: Trial | FrozenTrial) -> int:
    """The trial's number in its storage, which no trial of another study there has."""
    return trial._trial_id


def read_trial(study: Study, trial: Trial | FrozenTrial) -> FrozenTrial:
    """The trial as it is stored now."""
    return get_storage(study).get_trial(get_trial_id(trial))


def set_user_attr(study: Study, trial: Trial | FrozenTrial, key: str, value: Any) -> None:
    """Set a user attribute of any unfinished trial, whichever process asked for it."""
    get_storage(study).set_trial_user_attr(get_trial_id(trial), key, value)


def set_user_attrs(trial: Trial, attributes: Mapping[str, Any]) -> None:
    """Set several user attributes of a trial that is told next: they are written with that."""
    storage = get_storage(trial.study)
    if (hold := getattr(storage, "hold_user_attrs", None)) is not None:  # one that writes them in one piece
        hold(get_trial_id(trial), attributes)
        return
    for key, value in attributes.items():
        storage.set_trial_user_attr(get_trial_id(trial), key, value)


def set_system_attr(study: Study, trial: Trial | FrozenTrial, key: str, value: Any) -> None:
    """Set a system attribute of any unfinished trial, whichever process asked for it."""
    get_storage(study).set_trial_system_attr(get_trial_id(trial), key, value)


def report_value(study: Study, trial: Trial, step: int, value: float) -> None:
    """``Trial.report`` for studies with several objectives too: an intermediate value of a trial that runs.

    Raises:
        UpdateFinishedTrialError: it has been finished.
    """
    get_storage(study).set_trial_intermediate_value(get_trial_id(trial), step, value)


def find_first_step(pruner: BasePruner) -> int | None:
    """The first step at which the pruner may stop a trial; None: that is not known."""
    if isinstance(pruner, PatientPruner) and pruner._wrapped_pruner is not None:
        return find_first_step(pruner._wrapped_pruner)
    if isinstance(pruner, SuccessiveHalvingPruner):
        first = pruner._min_resource
        return None if first is None else int(first * pruner._reduction_factor**pruner._min_early_stopping_rate)
    if isinstance(pruner, HyperbandPruner):
        return int(pruner._min_resource)
    if isinstance(pruner, PercentilePruner | ThresholdPruner):
        return int(max(pruner._n_warmup_steps, 1))
    first = getattr(pruner, "min_epochs", None)  # ours
    return first if isinstance(first, int) else None


def get_enqueued_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters that the trial was enqueued with; None: its sampler was asked for them."""
    params: dict[str, Any] | None = trial.system_attrs.get("fixed_params")
    return params


def add_constraints(trial: FrozenTrial, constraints: Mapping[str, float]) -> None:
    """Add to ``trial.constraints``, in memory only."""
    trial.system_attrs = {**trial.system_attrs, **{f"constraints:{name}": v for name, v in constraints.items()}}


def add_spread(trial: FrozenTrial, spread: float) -> None:
    """Say, in memory only, that the accuracy behind the trial's values is an estimate, and its standard deviation."""
    trial.system_attrs = {**trial.system_attrs, SPREAD: spread}


def draw_seed(sampler: GPSampler) -> int:
    """A seed below 2³¹ from the sampler's own generator."""
    return int(sampler._rng.rng.randint(2**31))


def divide_non_dominated(
    losses: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes that fill what no row of losses, shape (n, m), dominates below the reference: corners, shape (k, m) each.

    By Lacour et al. (2017, *A box decomposition algorithm to compute the hypervolume indicator*); m is 2 or more.
    """
    lower, upper = get_non_dominated_box_bounds(losses, reference)
    return lower, upper


class ListedAsStudy:
    """The base of what a sampler is given in a study's place: Optuna's own list its trials by a private method."""

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """The trials to see, as ``Study.get_trials`` gives them."""
        raise NotImplementedError

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return self.get_trials(deepcopy, states)


class _Replay(JournalStorageReplayResult):
    """Optuna's replay of a journal, quicker where many records are read at once.

    Equal distributions are one object, which is made once; a trial that nobody has seen since it was copied is changed
    in place. Optuna makes a distribution, and copies a trial, for each record.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._distributions: dict[str, BaseDistribution] = {}
        #: By study and parameter, the first trial that has it, and with which distribution.
        self._first: dict[tuple[int, str], tuple[int, BaseDistribution]] = {}
        #: Trials that were made or copied during the records that are being read now.
        self._own: set[int] = set()
        self._ways = {op.value: getattr(self, f"_apply_{op.name.lower()}", None) for op in JournalOperation}

    def apply_logs(self, logs: Iterable[dict[str, Any]]) -> None:
        refused: UpdateFinishedTrialError | None = None
        try:
            for log in logs:
                try:
                    if (way := self._ways.get(log["op_code"])) is None:
                        super().apply_logs([log])
                    else:
                        self.log_number_read += 1
                        way(log)
                except UpdateFinishedTrialError as error:  # somebody else ended our trial: told once
                    refused = error
        finally:
            self._own.clear()
        if refused is not None:
            raise refused

    def _apply_create_trial(self, log: dict[str, Any]) -> None:
        number = len(self._trials)
        super()._apply_create_trial(log)
        if number in self._trials:
            self._own.add(number)

    def _change(self, trial_id: int) -> FrozenTrial:
        """The trial, which may be changed."""
        trial = self._trials[trial_id]
        if trial_id not in self._own:
            self._own.add(trial_id)
            self._trials[trial_id] = trial = copy.copy(trial)
            trial.params, trial.distributions = dict(trial.params), dict(trial.distributions)
            trial.user_attrs, trial.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
            trial.intermediate_values = dict(trial.intermediate_values)
        return trial

    def _apply_set_trial_param(self, log: dict[str, Any]) -> None:
        trial_id, name, text = log["trial_id"], log["param_name"], log["distribution"]
        if not self._trial_exists_and_updatable(trial_id, log):
            return
        distribution = self._distributions.get(text)
        if distribution is None:
            if len(self._distributions) > 10_000:  # of spaces that are another one in each trial
                self._distributions.clear()
            self._distributions[text] = distribution = read_distribution(text)
        key = self._trial_id_to_study_id[trial_id], name
        first = self._first.get(key)
        if first is None:
            holders = ((n, self._trials[n].distributions.get(name)) for n in self._study_id_to_trial_ids[key[0]])
            first = next(((n, held) for n, held in holders if held is not None), None)
        if first is not None and first[1] is not distribution:
            try:
                check_distribution_compatibility(first[1], distribution)
            except Exception:
                if self._is_issued_by_this_worker(log):
                    raise
                return
        if first is None or trial_id <= first[0]:
            first = trial_id, distribution
        self._first[key] = first
        trial = self._change(trial_id)
        trial.params[name] = distribution.to_external_repr(log["param_value_internal"])
        trial.distributions[name] = distribution

    def _apply_set_trial_intermediate_value(self, log: dict[str, Any]) -> None:
        if self._trial_exists_and_updatable(log["trial_id"], log):
            self._change(log["trial_id"]).intermediate_values[log["step"]] = log["intermediate_value"]

    def _apply_set_trial_user_attr(self, log: dict[str, Any]) -> None:
        if self._trial_exists_and_updatable(log["trial_id"], log):
            self._change(log["trial_id"]).user_attrs.update(log["user_attr"])

    def _apply_set_trial_system_attr(self, log: dict[str, Any]) -> None:
        if self._trial_exists_and_updatable(log["trial_id"], log):
            self._change(log["trial_id"]).system_attrs.update(log["system_attr"])


class BufferedJournalStorage(JournalStorage):
    """Optuna's journal storage, with all parameters of a trial in one write, and all that is known at its end.

    Both are held back until the next record of another kind, or until something is read. What a kill takes with it is
    a trial that was still being asked for or not yet told, and those are asked for again.
    """

    def __init__(self, backend: BaseJournalBackend) -> None:
        self._held: list[dict[str, Any]] = []
        super().__init__(backend)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Hold the parameter back."""
        record = {
            "op_code": JournalOperation.SET_TRIAL_PARAM,
            "worker_id": self._replay_result.worker_id,
            "trial_id": trial_id,
            "param_name": param_name,
            "param_value_internal": param_value_internal,
            "distribution": distribution_to_json(distribution),
        }
        with self._thread_lock:
            self._held.append(record)

    def hold_user_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Hold user attributes of a trial back, whose end is written next."""
        worker = self._replay_result.worker_id
        head = {"op_code": JournalOperation.SET_TRIAL_USER_ATTR, "worker_id": worker, "trial_id": trial_id}
        with self._thread_lock:
            self._held += [{**head, "user_attr": {key: value}} for key, value in attributes.items()]

    @contextmanager
    def replay_trials(self, study_id: int) -> Iterator[tuple[Sequence[int], Mapping[int, FrozenTrial]]]:
        """The ids of the study's trials, oldest first, and the trials by their id, which no thread changes meanwhile.

        Raises:
            KeyError: there is no such study.
        """
        with self._thread_lock:
            self._sync_with_backend()
            self._replay_result.get_study(study_id)
            yield self._replay_result._study_id_to_trial_ids[study_id], self._replay_result._trials

    def _write_log(self, op_code: int, extra_fields: dict[str, Any]) -> None:
        self._append([{"op_code": op_code, "worker_id": self._replay_result.worker_id, **extra_fields}])

    def _sync_with_backend(self) -> None:
        if not isinstance(self._replay_result, _Replay):  # Optuna makes one when it opens the journal
            self._replay_result = _Replay(self._worker_id_prefix)
        if self._held:
            self._append([])
        super()._sync_with_backend()

    def _append(self, records: Iterable[dict[str, Any]]) -> None:
        held, self._held = self._held, []
        self._backend.append_logs([*held, *records])
