"""Optuna's samplers that look at complete trials only, made to learn from infeasible candidates too.

A candidate beyond a limit that is known before training is pruned: it has constraints and no values. To Optuna's
genetic algorithms, Gaussian process and CMA-ES it is as if it had never been: under tight limits they would stay at
random, or propose the infeasible for ever.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIIISampler, NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ...evaluate.machine.device import torch_threads
from ...space.errors import UserError
from ..optuna_private import add_constraints, draw_seed
from .history import draw_value, find_proposed, loss_signs, sum_violations
from .study_view import StudyView

#: Random steps, at most, away from what was proposed before.
ATTEMPTS = 100


class Infeasible(BaseSampler):
    """Mixed into a sampler, shows it pruned trials that violate constraints as complete ones.

    Their values are worse than all others', by their violation; they have no values in the study. NSGA-II, NSGA-III and
    the Gaussian process look at the constraints anyway (Deb et al. 2002: the feasible one wins, else the lesser
    violation), for CMA-ES the order of the values is all there is. A constraint that was not yet known when the trial
    was pruned (latency) counts as just met.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As without infeasible trials."""
        view = StudyView(study, _show_infeasible).as_study()
        return super().infer_relative_search_space(view, trial)  # type: ignore[safe-super]  # of the class mixed into

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As without infeasible trials."""
        view = StudyView(study, _show_infeasible).as_study()
        return super().sample_relative(view, trial, search_space)  # type: ignore[safe-super]


class NSGA2(Infeasible, NSGAIISampler):
    """Optuna's NSGA-II, infeasible candidates part of the population."""


class NSGA3(Infeasible, NSGAIIISampler):
    """Optuna's NSGA-III, infeasible candidates part of the population."""


class GP(Infeasible, GPSampler):
    """Optuna's Gaussian process, with infeasible candidates among the data.

    It learns nothing from trials that failed, and would propose such a one again and again: what was proposed before is
    left by random steps until it is new. Its time grows with the cube of the trials, so it sees few of them.
    """

    sees = 300

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What has the largest expected improvement, or is near it and new."""
        with torch_threads(1):
            params = super().sample_relative(study, trial, search_space)
        was_proposed = find_proposed(study, trial, params)
        rng = np.random.default_rng(draw_seed(self))
        for _ in range(ATTEMPTS):
            if not params or not was_proposed(params):
                break
            name = list(search_space)[rng.integers(len(search_space))]
            params[name] = draw_value(study, trial, name, search_space[name], rng)
        return params


class CMAES(Infeasible, CmaEsSampler):
    """Optuna's CMA-ES, infeasible candidates part of the population.

    It handles numbers only: :class:`effnas.search.algorithms.ordinal.Ordinal` shows it choices as such.
    """

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Raise :class:`UserError` in a study of several objectives."""
        if len(study.directions) > 1:
            raise UserError(
                f"algorithm: CMA-ES handles one objective, but the study has {len(study.directions)}. Choose one of: "
                "objective=reward or objective=accuracy, or any other algorithm, like auto, nsga2 or evolution"
            )
        super().before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing: Optuna's would warn that it does not use constraints."""


def _show_infeasible(study: Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    signs = loss_signs(study.directions)
    losses = np.array([t.values for t in complete]).reshape(len(complete), len(signs)) * signs
    worst = np.where(np.isfinite(losses), losses, -np.inf).max(axis=0, initial=-np.inf)
    worst = np.where(np.isfinite(worst), worst, 0.0)
    names = {name: None for t in trials for name in t.constraints}
    return [_show_complete(t, worst, signs, list(names)) for t in trials]


def _show_complete(
    trial: FrozenTrial, worst: NDArray[np.float64], signs: NDArray[np.float64], names: list[str]
) -> FrozenTrial:
    excess = sum_violations(trial) if trial.state == TrialState.PRUNED else 0.0
    unknown = [name for name in names if name not in trial.constraints]
    if excess <= 0 and not unknown:
        return trial
    shown = copy.copy(trial)
    add_constraints(shown, dict.fromkeys(unknown, 0.0))
    if excess > 0:
        shown.state = TrialState.COMPLETE
        shown.values = ((worst + excess) * signs).tolist()
    return shown
