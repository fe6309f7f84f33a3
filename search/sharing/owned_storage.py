"""The storage of a study that several processes share: Optuna's tables, and in memory what is known of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..optuna_private import get_trial_id
from .listing import Listing, Mine, copy_trial, make_trial
from .outages import Outages
from .rows_private import Mark
from .tables_private import OWNER, End, Held, OwnedTables

T = TypeVar("T")


class OwnedStorage(BaseStorage):
    """A storage of a URL, which knows of every running trial who runs it.

    A trial that is asked for here is written in three transactions: its start, with its owner; its parameters, when
    a user attribute or a report is set; and all that is known at its end, with that. In between it is in memory. A kill
    leaves a running trial with an owner, whose process is found to be gone, never half of a finished one.

    Args:
        url: SQLAlchemy's.
        owner: who starts trials here: plain data.
        beat: seconds between two heartbeats.
        grace: seconds without one after which a trial is stale.
        outages: waits where the data base does not answer; None: nobody does.
        engine: for SQLAlchemy's ``create_engine``.
    """

    def __init__(
        self,
        url: str,
        owner: Mapping[str, Any],
        beat: int,
        grace: int,
        outages: Outages | None = None,
        **engine: Any,
    ) -> None:
        self.outages = Outages(url, 0) if outages is None else outages
        self._tables = OwnedTables(url, owner, beat, grace, **engine)
        self._listings: dict[int, Listing] = {}
        self._mine: dict[int, Mine] = {}
        #: Study and number of the trials that were listed, by their ids.
        self._places: dict[int, tuple[int, int]] = {}

    def _ask(self, method: Callable[..., T], *words: Any) -> T:
        return self.outages.call(lambda again: method(*words))

    # -- trials of this process --------------------------------------------------------------------------

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's; a running one is this process'."""
        if template_trial is not None:
            return self._ask(self._tables.create_new_trial, study_id, template_trial)
        trial_id, number, now = self.outages.call(lambda again: self._tables.start(study_id, self._mine, again))
        self._take(study_id, make_trial(trial_id, number, now))
        return trial_id

    def _take(self, study_id: int, trial: FrozenTrial) -> None:
        trial.system_attrs = {**trial.system_attrs, OWNER: self._tables.owner}
        self._mine[get_trial_id(trial)] = mine = Mine(study_id, trial)
        self._put(mine, trial)

    def _put(self, mine: Mine, trial: FrozenTrial) -> None:
        mine.trial = trial
        listing = self._listings.get(mine.study_id)
        if listing is not None and trial.number < len(listing.trials):
            listing.put(trial)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Hold the parameter back.

        Raises:
            ValueError: the study knows it with another distribution.
        """
        mine = self._mine.get(trial_id)
        if mine is None:
            self._ask(self._tables.set_trial_param, trial_id, param_name, param_value_internal, distribution)
            return
        kinds = self._listings.setdefault(mine.study_id, Listing()).kinds
        check_distribution_compatibility(kinds.setdefault(param_name, distribution), distribution)
        mine.held.params[param_name] = (param_value_internal, distribution)
        trial = copy.copy(mine.trial)
        trial.distributions = {**trial.distributions, param_name: distribution}
        trial.params = {**trial.params, param_name: distribution.to_external_repr(param_value_internal)}
        self._put(mine, trial)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Hold the attribute back."""
        mine = self._mine.get(trial_id)
        if mine is None:
            self._ask(self._tables.set_trial_system_attr, trial_id, key, value)
            return
        mine.held.system[key] = text = json.dumps(value)
        trial = copy.copy(mine.trial)
        trial.system_attrs = {**trial.system_attrs, key: json.loads(text)}
        self._put(mine, trial)

    def hold_user_attrs(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Hold user attributes of a trial back, whose end is written next."""
        mine = self._mine.get(trial_id)
        if mine is None:
            for key, value in attributes.items():
                self.set_trial_user_attr(trial_id, key, value)
            return
        texts = {key: json.dumps(value) for key, value in attributes.items()}
        mine.held.user.update(texts)
        trial = copy.copy(mine.trial)
        trial.user_attrs = {**trial.user_attrs, **{key: json.loads(text) for key, text in texts.items()}}
        self._put(mine, trial)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write the attribute, with what was held back."""
        if trial_id not in self._mine:
            self._ask(self._tables.set_trial_user_attr, trial_id, key, value)
            return
        self.hold_user_attrs(trial_id, {key: value})
        self._write(trial_id, None)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Write the value, with what was held back."""
        mine = self._mine.get(trial_id)
        if mine is None:
            self._ask(self._tables.set_trial_intermediate_value, trial_id, step, intermediate_value)
            return
        if step in mine.trial.intermediate_values:
            return
        mine.held.steps[step] = intermediate_value
        trial = copy.copy(mine.trial)
        trial.intermediate_values = {**trial.intermediate_values, step: float(intermediate_value)}
        self._put(mine, trial)
        self._write(trial_id, None)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's, with what was held back; of several processes that begin a waiting trial one has it."""
        if state == TrialState.RUNNING:
            return self._claim(trial_id)
        mine = self._mine.get(trial_id)
        if mine is None:
            return self._ask(self._tables.set_trial_state_values, trial_id, state, values)
        self._write(trial_id, End(state, values))
        trial = copy.copy(mine.trial)
        trial.state, trial.values, trial.datetime_complete = state, values, datetime.now()
        self._put(mine, trial)
        del self._mine[trial_id]
        return True

    def _claim(self, trial_id: int) -> bool:
        if trial_id not in self._places:  # nobody has listed it
            return self._ask(self._tables.claim, trial_id, -1, (), False)
        study_id, _ = self._places[trial_id]
        if not self.outages.call(lambda again: self._tables.claim(trial_id, study_id, self._mine, again)):
            return False
        self._take(study_id, self._ask(self._tables.get_trial, trial_id))
        return True

    def _write(self, trial_id: int, end: End | None) -> None:
        mine = self._mine[trial_id]
        held, written = mine.held, mine.written
        try:
            self.outages.call(lambda again: self._tables.write(trial_id, held, written, end, again))
        except UpdateFinishedTrialError:  # another process has taken its place
            del self._mine[trial_id]
            raise
        mine.written |= {*held.user, *held.system}
        mine.held = Held()

    # -- all trials --------------------------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's, with what was held back."""
        if (mine := self._mine.get(trial_id)) is not None:
            return copy_trial(mine.trial)
        study_id, number = self._places.get(trial_id, (-1, -1))
        if number >= 0 and (listed := self._listings[study_id].trials[number]).state.is_finished():
            return copy_trial(listed)
        return self._ask(self._tables.get_trial, trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's, with what was held back."""
        listing = self._listings.setdefault(study_id, Listing())
        self._update(study_id, listing)
        if states is None:
            trials = list(listing.trials)
        elif any(state in states for state in TrialState if state.is_finished()):
            trials = [trial for trial in listing.trials if trial.state in states]
        else:
            trials = [listing.trials[n] for n in sorted(listing.open.values()) if listing.trials[n].state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _update(self, study_id: int, listing: Listing) -> None:
        known: dict[int, tuple[FrozenTrial, Mark | None]] = {
            trial_id: (listing.trials[listing.open[trial_id]], mark) for trial_id, mark in listing.marks.items()
        }
        known |= {trial_id: (mine.trial, None) for trial_id, mine in self._mine.items() if mine.study_id == study_id}
        after, among = listing.last, [trial_id for trial_id in listing.open if trial_id <= listing.last]
        for trial, mark in self._ask(self._tables.list_trials, study_id, after, among, known):
            trial_id = get_trial_id(trial)
            listing.put(trial, mark)
            self._places[trial_id] = study_id, trial.number
            listing.last = max(listing.last, trial_id)
            if trial.state.is_finished():
                self._mine.pop(trial_id, None)  # another process has taken its place
            for name, kind in trial.distributions.items():
                listing.kinds.setdefault(name, kind)

    def list_stale_trials(self, study_id: int) -> list[int]:
        """The ids of the study's running trials whose last heartbeat is too long ago, by the data base's clock."""
        return self._ask(self._tables.list_stale, study_id)

    def record_heartbeat(self, trial_id: int) -> None:
        """Say that the trial is being run; whoever asks waits for no data base that does not answer."""
        self._tables.record_heartbeat(trial_id)

    # -- studies, as Optuna's ----------------------------------------------------------------------------

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As Optuna's; the following, too."""
        return self._ask(self._tables.create_new_study, directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """See above."""
        if (listing := self._listings.pop(study_id, None)) is not None:
            for trial in listing.trials:
                del self._places[get_trial_id(trial)]
        self._ask(self._tables.delete_study, study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """See above."""
        self._ask(self._tables.set_study_user_attr, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """See above."""
        self._ask(self._tables.set_study_system_attr, study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """See above."""
        return self._ask(self._tables.get_study_id_from_name, study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """See above."""
        return self._ask(self._tables.get_study_name_from_id, study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """See above."""
        return self._ask(self._tables.get_study_directions, study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See above."""
        return self._ask(self._tables.get_study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See above."""
        return self._ask(self._tables.get_study_system_attrs, study_id)

    def get_all_studies(self) -> list[Any]:
        """See above."""
        return self._ask(self._tables.get_all_studies)

    def close(self) -> None:
        """Give back this thread's session and all connections; what is asked next makes new ones."""
        self._tables.remove_session()
        self._tables.engine.dispose()
