"""Run the trials of a study: what a search, a grid and an ablation have in common."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.study import Study

from ..evaluate.evaluation import Evaluator
from ..evaluate.folder import folder_lock
from ..evaluate.interrupt import Interrupts
from ..space.errors import UserError, check_int, check_number
from .objective import Objective
from .problem import Problem
from .processes import make_workers
from .progress import Progress
from .record import interrupt_running
from .storage import open_study
from .study import Loop
from .worker_count import count_workers


def run_trials(
    problem: Problem,
    evaluator: Evaluator,
    objective: Objective,
    sampler: BaseSampler,
    pruner: BasePruner | None,
    write: Callable[[Study, float], dict[str, Any]],
    *,
    name: str,
    job: Mapping[str, Any],
    trials: int,
    workers: int | str,
    workers_per_device: int,
    timeout: float | None,
    output: Path,
    storage: str | None,
    quiet: bool,
    confirm: int = 0,
    prepare: Callable[[Study], None] = lambda study: None,
) -> dict[str, Any]:
    """What every job over a study does: hold the folder, open or find the study, run the loop, write the results.

    ``prepare`` is called with the study before the loop, ``write`` with it and this run's seconds at the end, also
    after Ctrl-C or SIGTERM. Returns what ``write`` does.

    Raises:
        UserError: as :func:`~effnas.search.job.run_search`.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    check_int("trials", trials, 1)
    check_int("confirm (less than trials)", confirm, 0, trials - 1)
    if confirm and len(objective.directions) > 1:
        raise UserError(f"confirm must be 0 with several objectives ({', '.join(objective.names)}), got {confirm}")
    places, note = count_workers(workers, workers_per_device, evaluator)
    if timeout is not None:
        check_number("timeout (seconds)", timeout, 0, open_low=True)
    owner = f"{platform.node()}:{output.resolve()}"
    start = time.perf_counter()
    with folder_lock(output), Interrupts() as interrupts:
        study = open_study(
            storage, name, output, objective.directions, dict(job), sampler=sampler, pruner=pruner or NopPruner()
        )
        interrupt_running(study, owner, shared=storage is not None)
        prepare(study)
        progress = Progress(study, objective, trials, note, quiet=quiet)
        try:
            with progress as watcher, make_workers(evaluator, places, interrupts) as pool:
                shared = storage is not None
                loop = Loop(study, owner, problem, objective, pool, watcher, interrupts, shared=shared, confirm=confirm)
                loop.run(trials, timeout)
        except KeyboardInterrupt:
            write(study, time.perf_counter() - start)
            raise
        return write(study, time.perf_counter() - start)
