"""Run the trials of a study: what a search, a grid and an ablation have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study

from ..evaluate.contain import contained
from ..evaluate.evaluation import Evaluator, require_accuracy
from ..evaluate.folder import WEIGHTS_FOLDER, folder_lock, set_aside
from ..evaluate.identity import describe_content, describe_files
from ..evaluate.interrupt import Interrupts
from ..evaluate.study_result import StudyResult
from ..evaluate.tracking.tracking import FILES, Tracking
from ..space.errors import UserError, advise_without_restart, check_int
from .objective import Accuracy, Objective
from .options import StudyOptions, check_evaluator
from .problem import Enqueued, Problem, list_waiting
from .progress import Progress
from .record import is_counted, is_ours
from .sharing.outages import explained
from .sharing.ownership import close_orphans, make_owner
from .stopping.checkpoints import CHECKPOINTS
from .stopping.referee import Referee
from .storage import JOURNAL, close_study, open_study, set_study_aside, tell_units
from .study import Loop
from .tracked import Tracked
from .winner.keeper import Keeper
from .workers.executor import Local

#: What searches, grids and ablations write to their folders; the names of figures are without an ending.
RESULTS = (
    *(JOURNAL, "summary.json", "trials.csv", "pareto.csv", "points.csv", "ablation.csv", "comparisons.csv"),
    *("members.csv", "baseline.yaml", "coefficients.yaml", "latency.json", "report.html", "networks"),
    *(WEIGHTS_FOLDER, CHECKPOINTS, *FILES),
    *(f"{name}.{kind}" for name in ("search", "grid", "ablation", "rank") for kind in ("png", "svg")),
)


#: No study has more; a number beyond is a slip, and too large a one is no number for progress to count with.
MOST_TRIALS = 100_000_000


def run_trials(
    problem: Problem,
    evaluator: Evaluator,
    objective: Objective,
    sampler: BaseSampler,
    write: Callable[[Study, float], StudyResult],
    options: StudyOptions,
    *,
    name: str,
    by: str,
    job: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
    trials: int | Callable[[], int],
    output: Path,
    confirm: int = 0,
    keeper: Keeper | None = None,
    prepare: Callable[[Study, Interrupts], None] = lambda study, interrupts: None,
) -> StudyResult:
    """What every job over a study does: hold the folder, open or find the study, run the loop, write the results.

    Args:
        problem: what is searched.
        evaluator: evaluates candidates.
        objective: turns evaluations into values.
        sampler: chooses parameters.
        write: called with the study and this run's seconds at the end, after Ctrl-C or SIGTERM too.
        options: of :func:`~effnas.search.options.complete_options`.
        name, by: of the study where the options name none, and of the command, whose folder it is.
        job: what the user chose, as plain data; with ``facts`` it identifies the study, and a folder that holds another
            one is refused. None: ``facts`` and the evaluator do. Everything else may change between two runs.
        facts: what else makes this study what it is.
        trials: finished trials to reach; a function is asked when ``prepare`` is done.
        output: the folder.
        confirm: as :func:`~effnas.search.job.run_search`.
        keeper: of the candidates' weights.
        prepare: called with the study before the loop, and with what lets a signal end what takes long.

    Returns:
        What ``write`` does.

    Raises:
        UserError: as :func:`~effnas.search.job.run_search`.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    if not callable(trials):
        check_int("trials", trials, 1, MOST_TRIALS)
        check_int("confirm (less than trials)", confirm, 0, trials - 1)
    referee = Referee(options["pruner"] or NopPruner(), evaluator, objective, output)
    executor = options["executor"] or Local()
    with executor.hold(options["workers"], options["workers_per_device"], evaluator) as site:
        contained(getattr(evaluator, "prepare", lambda: None))
        identity = _identify(evaluator, facts, job or {})
        storage = options["storage"]
        owner = make_owner(output)
        start = time.perf_counter()
        with explained(storage), folder_lock(output, by), Interrupts() as interrupts, ExitStack() as stack:
            if options["restart"]:
                if storage is not None:
                    set_study_aside(storage, options["study"] or name, output)
                set_aside(output, RESULTS)
                stack.enter_context(advise_without_restart())
                stack.enter_context(explained(storage))
            how = {"sampler": sampler, "pruner": referee.pruner}
            study = open_study(storage, options["study"] or name, output, objective.directions, identity, **how)
            stack.callback(close_study, study)
            tell_units(study, objective.names)
            foreign = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and not is_ours(t)]
            if foreign and not options["quiet"]:
                print(_describe_foreign(len(foreign)), file=sys.stderr)
            close_orphans(study, owner, fresh=True, limit=options["max_interruptions"])
            evaluator = referee.evaluator
            if keeper is not None:
                keeper.open(study)
                evaluator = keeper.equip(evaluator)
            referee.open(study)
            prepare(study, interrupts)
            wanted = trials() if callable(trials) else trials
            progress = Progress(
                study, objective, wanted, site.note, waiting=list_waiting(study, problem), quiet=options["quiet"]
            )
            settings = {**identity, "study": study.study_name, "trials": wanted}
            tracking = stack.enter_context(
                Tracking(options["tracker"], output, settings, axis="trial", quiet=options["quiet"])
            )
            try:
                with progress as shown, site.make_workers(evaluator, interrupts, options["trial_timeout"]) as pool:
                    watcher = shown if keeper is None else keeper.watch(shown, study)
                    if tracking.wanted:
                        watcher = Tracked(watcher, tracking, objective.names, owner["folder"] if storage else "")
                    loop = Loop(
                        study,
                        owner,
                        problem,
                        objective,
                        pool,
                        watcher,
                        interrupts,
                        referee,
                        shared=storage is not None,
                        confirm=confirm,
                        max_failures=options["max_failures"],
                        max_interruptions=options["max_interruptions"],
                    )
                    loop.run(wanted, options["timeout"])
            except (KeyboardInterrupt, UserError) as error:
                done = any(is_counted(trial) for trial in study.get_trials(deepcopy=False))
                if done or isinstance(error, KeyboardInterrupt):
                    tracking.conclude(write(study, time.perf_counter() - start))
                raise
            tracking.conclude(summary := write(study, time.perf_counter() - start))
            return summary


def _describe_foreign(count: int) -> str:
    what, are = ("1 trial", "is") if count == 1 else (f"{count:,} trials", "are")
    return f"{what} of the study that effnas has not evaluated {are} left out"


def _identify(evaluator: Evaluator, facts: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a study this one: the content of what it is given, where there is one in the configuration's words."""
    found: dict[str, Any] = {"evaluator": describe_content(evaluator), "files": describe_files(evaluator), **facts}
    for name, chosen in describe_content(job).items():
        known = {} if name == "evaluator" else found.get(name)
        found[name] = {**known, **chosen} if isinstance(known, dict) and isinstance(chosen, dict) else chosen
    return found


def run_enqueued(
    problem: Enqueued,
    evaluator: Evaluator,
    write: Callable[[Study, float], StudyResult],
    options: StudyOptions,
    *,
    name: str,
    by: str,
    job: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
    trials: int | Callable[[], int],
    output: Path,
    prepare: Callable[[Study, Interrupts], None],
    keeper: Keeper,
    lacking: str,
) -> StudyResult:
    """:func:`run_trials` of candidates that ``prepare`` enqueues, for their accuracy; returns the summary.

    Raises:
        UserError: as there, or no trial is complete, which ``lacking`` says.
    """
    check_evaluator(evaluator)
    require_accuracy(evaluator, name)
    summary = run_trials(
        problem,
        evaluator,
        Accuracy(),
        RandomSampler(0),  # never asked
        write,
        options,
        name=name,
        by=by,
        job=job,
        facts=facts,
        trials=trials,
        output=output,
        keeper=keeper,
        prepare=prepare,
    )
    if not summary["complete"]:
        raise make_no_result_error(output, lacking, f"{summary['failed']} failed", summary["reasons"])
    return summary


def make_no_result_error(output: Path, lacking: str, counts: str, reasons: Sequence[str]) -> UserError:
    """The error of a study without what it was run for: what is lacking, how many trials failed, the first reason."""
    first = f"; the first reason: {reasons[0]}" if reasons else ""
    return UserError(f"{output}: {lacking} ({counts}){first}")
