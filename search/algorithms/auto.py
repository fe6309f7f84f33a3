"""The algorithm that was measured to be best for a search of this kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optuna.study import Study

from .member_facts import Known
from .predictor import Predictor

#: Study attribute: what was chosen, which a search that is continued keeps.
CHOSEN = "chosen_algorithm"
#: What ``benchmarks/parallel_quality.py`` and ``search.py`` have measured: trials at once, trials, objectives.
MOST_AT_ONCE, MOST_TRIALS, MOST_OBJECTIVES = 128, 1000, 2


class Auto(Predictor):
    """``predictor``, by all that was measured (docs/search.md); a search says why it is taken.

    Args:
        known: as :class:`~effnas.search.algorithms.predictor.Predictor` takes it.
        prior: as there.
        seed: None: another search each time.
    """

    def __init__(
        self, known: Known | None = None, prior: Mapping[str, Any] | None = None, seed: int | None = None
    ) -> None:
        super().__init__(known=known, prior=prior, seed=seed)


@dataclass(frozen=True)
class Choice:
    """What ``algorithm=auto`` has chosen.

    Args:
        algorithm: its name.
        why: for people.
    """

    algorithm: str
    why: str

    def explain(self) -> str:
        """One line for people."""
        return f"algorithm=auto: {self.algorithm}, {self.why}"


def choose_algorithm(trials: int, at_once: int, objectives: int, informed: bool) -> Choice:
    """The choice for a search.

    ``predictor`` was the best in nearly every comparison, and where it was not, nothing that is known beforehand says
    so: it is always the choice. What differs is whether such a search was measured.

    Args:
        trials: asked for.
        at_once: how many run at the same time.
        objectives: of the study.
        informed: whether costs are known before training; of networks that a builder makes they are not.
    """
    beyond = [
        *([f"{at_once} trials at once (up to {MOST_AT_ONCE})"] if at_once > MOST_AT_ONCE else []),
        *([f"{trials:,} trials (up to {MOST_TRIALS:,})"] if trials > MOST_TRIALS else []),
        *([f"{objectives} objectives (up to {MOST_OBJECTIVES})"] if objectives > MOST_OBJECTIVES else []),
        *([] if informed else ["spaces whose costs are not known before training"]),
    ]
    if beyond:
        return Choice("predictor", f"the best in nearly every comparison, but not measured for {', '.join(beyond)}")
    return Choice("predictor", "the best in nearly every comparison of searches like this one")


def keep_choice(study: Study, choice: Choice) -> Choice:
    """What was chosen when the search began, whatever would be now; recorded where it begins."""
    stored = study.user_attrs.get(CHOSEN)
    if stored is None:
        study.set_user_attr(CHOSEN, asdict(choice))
        return choice
    return Choice(**stored)
