"""A study as a sampler is to see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from functools import cached_property
from typing import Any, cast

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ..optuna_private import ListedAsStudy


class StudyView(ListedAsStudy):
    """Other trials, all else the study's own.

    Args:
        study: what there is.
        show: gives the trials to see for those of the study, which it must not change.
    """

    def __init__(self, study: Study, show: Callable[[Study, list[FrozenTrial]], list[FrozenTrial]]) -> None:
        self._study = study
        self._show = show

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def as_study(self) -> Study:
        """Itself: samplers only ask for what is here."""
        return cast(Study, self)

    @cached_property
    def _shown(self) -> list[FrozenTrial]:
        return self._show(self._study, self._study.get_trials(deepcopy=False))

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """As the study's."""
        trials = [t for t in self._shown if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    @property
    def trials(self) -> list[FrozenTrial]:
        """As the study's."""
        return self.get_trials()


class StudyPart(StudyView):
    """Some of the trials of a study, which need not be listed for that.

    Args:
        study: what there is.
        choose: lists them.
    """

    def __init__(self, study: Study, choose: Callable[[], list[FrozenTrial]]) -> None:
        super().__init__(study, lambda *_: choose())

    @cached_property
    def _shown(self) -> list[FrozenTrial]:
        return self._show(self._study, [])
