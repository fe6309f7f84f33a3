"""Samplers of numbers for spaces of choices: a choice is shown as its place in the list."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ..seeded import HistoryCache, choose_seed, trial_rank
from .study_view import StudyView


class Ordinal(BaseSampler):
    """Any Optuna sampler, to which the n choices of a parameter are the whole numbers 0 to n - 1.

    What is near in the list is taken to be near in effect: right for widths, depths and kernel sizes, for other choices
    a matter of luck. Numbers stay what they are. A trial's number is shown as its rank
    (:func:`effnas.search.seeded.trial_rank`).

    Args:
        sampler: called as ``sampler(seed=…)``: the class itself, or a partial of it.
        seed: None: another search each time.

    Raises:
        UserError: the seed is not one.
    """

    def __init__(self, sampler: Callable[..., BaseSampler], seed: int | None = None) -> None:
        self._sampler = sampler(seed=choose_seed(seed))
        self._space = IntersectionSearchSpace(include_pruned=True)
        self._cache = HistoryCache()

    def __str__(self) -> str:
        return f"{type(self).__name__}({self._sampler})"

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The sampler's, of which the trials have the choices in common."""
        for name, value in vars(self._sampler).items():  # what Seeded hands on, one sampler further in
            if isinstance(value, IntersectionSearchSpace | HistoryCache):
                setattr(self._sampler, name, self._cache.get(name, lambda value=value: value))  # type: ignore[misc]
        numbers = self._sampler.infer_relative_search_space(self._make_view(study), self._show_trial(study, trial))
        shared = self._space.calculate(study)
        return {name: space for name, space in shared.items() if numbers.get(name) == _to_numbers(space)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The choices at the places that the sampler gives."""
        numbers = {name: _to_numbers(space) for name, space in search_space.items()}
        places = self._sampler.sample_relative(self._make_view(study), self._show_trial(study, trial), numbers)
        return {name: _to_value(search_space[name], place) for name, place in places.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The choice at the place that the sampler gives."""
        numbers = _to_numbers(param_distribution)
        shown = self._show_trial(study, trial)
        return _to_value(
            param_distribution, self._sampler.sample_independent(self._make_view(study), shown, param_name, numbers)
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Rank the trial; what the sampler does."""
        self._sampler.before_trial(self._make_view(study), self._show_trial(study, trial))

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """What the sampler does."""
        self._sampler.after_trial(self._make_view(study), self._show_trial(study, trial), state, values)

    def reseed_rng(self) -> None:
        """What the sampler does."""
        self._sampler.reseed_rng()

    def _make_view(self, study: Study) -> Study:
        known: dict[int, tuple[FrozenTrial, FrozenTrial]] = self._cache.get("trials", dict)

        def show(_: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
            for trial in trials:
                if trial.number not in known or known[trial.number][0] is not trial:
                    known[trial.number] = (trial, _translate_trial(trial))
            return [known[trial.number][1] for trial in trials]

        return StudyView(study, show).as_study()

    def _show_trial(self, study: Study, trial: FrozenTrial) -> FrozenTrial:
        shown = _translate_trial(trial)
        shown.number = trial_rank(study, trial)
        return shown


def _to_numbers(space: BaseDistribution) -> BaseDistribution:
    return IntDistribution(0, len(space.choices) - 1) if isinstance(space, CategoricalDistribution) else space


def _to_value(space: BaseDistribution, place: Any) -> Any:
    return space.choices[place] if isinstance(space, CategoricalDistribution) else place


def _translate_trial(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.distributions = {name: _to_numbers(space) for name, space in trial.distributions.items()}
    shown.params = {name: _to_place(trial.distributions[name], value) for name, value in trial.params.items()}
    return shown


def _to_place(space: BaseDistribution, value: Any) -> Any:
    return int(space.to_internal_repr(value)) if isinstance(space, CategoricalDistribution) else value
