"""How a study is run, whatever it searches: the options that all jobs over a study have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from ..evaluate.tracking.tracker import Tracker
from ..space.errors import UserError, check_int, check_number, show
from ..space.quantity import as_plain
from .workers.executor import Executor


class StudyOptions(TypedDict, total=False):
    """How a study is run, whatever it searches; :data:`DEFAULTS` has what is left out.

    Args:
        workers: processes that evaluate at the same time, sharing this machine's cores; 1: this process; ``auto``: as
            :func:`~effnas.search.workers.count.count_workers`. Where the evaluator's ``device`` is ``auto``, they take
            turns with the GPUs.
        workers_per_device: with ``workers="auto"``, processes that share a GPU.
        timeout: seconds after which no new trial starts; None: no limit.
        trial_timeout: seconds that the evaluation of one candidate may take; then its process is ended and the trial
            has failed. With ``workers=1`` candidates are therefore evaluated in one other process. None: no limit.
        max_failures: failed trials in a row after which the study stops; None: it never does.
        max_interruptions: how often the process may end without a word during one candidate until that is given up;
            from the second time on the candidate is evaluated in a process of its own. None: it never is.
        storage: URL of an Optuna storage, for several machines; None: a journal file in the output folder.
        study: its name there; None: the command's.
        restart: begin anew; what an earlier run has left in the folder, or the storage, is kept under another name.
        pruner: Optuna's, for one objective, or :class:`~effnas.search.stopping.halving.AsynchronousHalving`; None:
            every candidate is evaluated to its end.
        executor: where evaluations run: :class:`~effnas.search.workers.ray_cluster.RayCluster`, on whose nodes
            ``workers`` of them run at a time; None: on this machine.
        tracker: where each trial is recorded besides (:mod:`effnas.evaluate.tracking`); None: nowhere.
        report: write ``report.html`` at the end, the run on one page (:mod:`effnas.report.job`).
        quiet: no progress on standard error.
    """

    workers: int | str
    workers_per_device: int
    timeout: float | None
    trial_timeout: float | None
    max_failures: int | None
    max_interruptions: int | None
    storage: str | None
    study: str | None
    restart: bool
    pruner: BasePruner | None
    executor: Executor | None
    tracker: Tracker | None
    report: bool
    quiet: bool


DEFAULTS: StudyOptions = {
    "workers": 1,
    "workers_per_device": 1,
    "timeout": None,
    "trial_timeout": None,
    "max_failures": 10,
    "max_interruptions": 10,
    "storage": None,
    "study": None,
    "restart": False,
    "pruner": None,
    "executor": None,
    "tracker": None,
    "report": True,
    "quiet": False,
}


#: Characters of the name of a study: as many as Optuna's tables hold.
LONGEST_NAME = 512


@dataclass(frozen=True)
class _Shape:
    """What an option must be: in words, and as a question to its value."""

    what: str
    fits: Callable[[Any], bool]


_SHAPES = {
    "storage": _Shape("a URL such as sqlite:///study.db", lambda value: isinstance(value, str)),
    "study": _Shape("a name", lambda value: isinstance(value, str) and value != "" and "\0" not in value),
    "pruner": _Shape("one of Optuna's, like MedianPruner()", lambda value: isinstance(value, BasePruner)),
    "executor": _Shape("an executor, like RayCluster()", lambda value: callable(getattr(value, "hold", None))),
    "tracker": _Shape("a tracker of effnas.evaluate.tracking", lambda value: callable(getattr(value, "begin", None))),
}


def check_parts(space: object, evaluator: object, objective: object, algorithm: object) -> None:
    """Raise :class:`UserError` unless these are what a search is made of, and no names or classes of it."""
    if not hasattr(space, "distributions") or not callable(getattr(space, "build", None)):
        raise UserError(f"space must be a space, its name or its file, got {show(space)}")
    check_evaluator(evaluator)
    if isinstance(objective, type) or not (callable(objective) and hasattr(objective, "directions")):
        raise UserError(f"objective must be an objective, like MnasNetReward(), got {show(objective)}")
    if not callable(algorithm):
        hint = f": give its class, {type(algorithm).__name__}" if isinstance(algorithm, BaseSampler) else ""
        raise UserError(f"algorithm must be called as algorithm(seed=…), got {show(algorithm)}{hint}")


def check_evaluator(evaluator: object) -> None:
    """Raise :class:`UserError` unless it can be called with a network."""
    if isinstance(evaluator, type) or not callable(evaluator):
        hint = f": make one, {evaluator.__name__}(…)" if isinstance(evaluator, type) else ""
        raise UserError(f"evaluator must be called with a network, got {show(evaluator)}{hint}")


def complete_options(given: StudyOptions) -> StudyOptions:
    """The options with :data:`DEFAULTS` for those that are not given.

    Raises:
        TypeError: there is no such option.
        UserError: an option is of the wrong kind, or a limit is not a number above 0.
    """
    for name in given:
        if name not in DEFAULTS:
            raise TypeError(f"a study has no option {name!r}; it takes: {', '.join(DEFAULTS)}")
    options: StudyOptions = {**DEFAULTS, **{name: as_plain(value) for name, value in given.items()}}  # type: ignore[typeddict-item]
    for name, shape in _SHAPES.items():
        value = options[name]  # type: ignore[literal-required]
        if isinstance(value, type) or not (value is None or shape.fits(value)):
            raise UserError(f"{name} must be {shape.what}, got {show(value)}")
    if options["storage"] is not None and len(options["study"] or "") > LONGEST_NAME:
        length = len(options["study"] or "")
        raise UserError(f"study must be a name of at most {LONGEST_NAME} characters in a data base, got {length}")
    for name in ("restart", "report", "quiet"):
        if not isinstance(options[name], bool):  # type: ignore[literal-required]
            raise UserError(f"{name} must be true or false, got {show(options[name])}")  # type: ignore[literal-required]
    for limit in ("timeout", "trial_timeout"):
        if options[limit] is not None:
            check_number(f"{limit} (seconds)", options[limit], 0, open_low=True)
    for most in ("max_failures", "max_interruptions"):
        if options[most] is not None:
            check_int(most, options[most], 1)
    return options
