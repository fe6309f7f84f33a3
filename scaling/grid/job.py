"""The grid search of the compound coefficients (Tan & Le 2019, section 3.3, step 1).

The points of the grid are enqueued in a study and go through the same loop, evaluator and workers as a search: they
resume and run in parallel as its trials do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

from optuna.study import Study

from ...evaluate.evaluation import Evaluator
from ...evaluate.study_result import StudyResult
from ...report.job import write_report
from ...search.options import StudyOptions, complete_options
from ...search.problem import check_seeds
from ...search.trials import run_enqueued
from ...search.winner.keeper import Keeper, rank_by_mean
from ...space.built import BuiltNetwork
from ...space.errors import UserError, advise_without_restart, check_choice, check_int
from ...space.multipliers import DIVISOR
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ..coefficients import Coefficients
from ..compound import SEARCHED, base_network
from .choosing import CHOICES, posterior_of
from .latency import LatencyRatios
from .points import NAMES, Grid, Scaled, grid_points
from .ranking import Rows, surface_of
from .refine import ROUND, finer_points
from .report import write_grid
from .spending import make_spending
from .star import Star
from .study import GridPlan, make_grid_problem

#: Which points are trained.
METHODS = ("grid", "star")

__all__ = ["grid_points", "run_grid_search"]


def run_grid_search(
    baseline: NetworkSpec | str | None,
    evaluator: Evaluator,
    *,
    network: BuiltNetwork | None = None,
    in_channels: int | None = None,
    divisor: int = DIVISOR,
    method: str = "grid",
    alpha: Sequence[float] = (1.0, 1.4),
    beta: Sequence[float] = (1.0, 1.2),
    gamma: Sequence[float] = (1.0, 1.3),
    step: float = 0.05,
    ratio: str = "nominal",
    solve: str = "gamma",
    tolerance: float | None = None,
    choose: str = "posterior",
    refine: int = 0,
    until: str = "trained",
    max_trainings: int | None = None,
    latency_batch: int = 1,
    latency_device: str = "cpu",
    latency_threads: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    confirm: int = 0,
    keep: int = 1,
    output: str | Path = "outputs/grid",
    job: Mapping[str, Any] | None = None,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyResult:
    """Train the baseline scaled by every point of the grid at φ = 1 and rank them; continues from what ``output`` has.

    Args:
        baseline: the network of φ = 0; a string is a file or the name of a zoo network; None: ``network``, or else
            what a search wrote, ``outputs/search/baseline.yaml``.
        evaluator: trains the scaled networks.
        network: a network of the user's own builder; files of its networks need it.
        in_channels: of the images; None: the baseline's own.
        divisor: what the scaled networks' widths are multiples of: 4, 8, 16 or 32.
        method: ``grid``, mixtures of twice the cost, as in the paper; or ``star``, each dimension alone, and then the
            mixture that a law over them says is best (:mod:`~effnas.scaling.grid.star`).
        alpha, beta, gamma, step, ratio, solve, tolerance: the grid (:class:`~effnas.scaling.grid.points.Grid`); a star
            has ``ratio`` and ``tolerance`` only.
        choose: what the coefficients are: the point of the highest expected accuracy over a family by the
            ``posterior`` (:mod:`~effnas.scaling.grid.posterior`), the ``surface``'s highest point
            (:mod:`~effnas.scaling.grid.response`), or the ``point`` of the highest mean accuracy, also used where there
            are too few points for a surface.
        refine: rounds of finer points around the best ones, at half the step each time, after the grid
            (:func:`~effnas.scaling.grid.refine.finer_points`).
        until: ``trained``: each point has ``seeds`` trainings; ``decided``: after these, further ones where they matter
            most, until no other candidate may be better than the chosen one by more than .1 points at two standard
            errors (:mod:`~effnas.scaling.grid.deciding`).
        max_trainings: with ``until="decided"``, trainings in all; those of ``confirm`` come on top.
        latency_batch, latency_device, latency_threads: how latency is measured, with ``ratio="latency"``
            (:class:`~effnas.scaling.grid.latency.LatencyRatios`).
        seeds: trainings of each point; two or more tell whether the winner stands out from the noise.
        seed: the first of them.
        confirm: trainings of the chosen point, when all else is done, with seeds that had no part in the choice: what
            it reaches there is reported beside what it was chosen for.
        keep: networks whose trained weights are kept, those of the highest mean accuracy; 0: none.
        output: folder of ``coefficients.yaml``, ``baseline.yaml``, ``points.csv``, ``trials.csv``, ``summary.json``,
            ``grid.png``, ``grid.svg``, ``report.html`` and ``weights/trial-N.safetensors``.
        job, command: as :func:`~effnas.search.job.run_search`.
        options: how the study is run, :class:`~effnas.search.options.StudyOptions`.

    Returns:
        The content of ``summary.json``, with ``trials``, ``front`` and ``table("points")`` as data frames of pandas.

    Raises:
        UserError: a setting is wrong, another grid is in the folder, or no point could be trained.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    check_choice("choose", choose, CHOICES)
    check_choice("method", method, METHODS)
    check_int("refine", refine, 0, 10)
    check_seeds(seed, seeds, confirm)
    spending = make_spending(until, max_trainings, seed, confirm)
    output, how = as_path("output", output), complete_options(options)
    architecture = base_network(baseline, network, SEARCHED, in_channels, divisor)
    scaled = Scaled(architecture, divisor)
    grid = Grid(alpha, beta, gamma, step, ratio, solve, tolerance)
    star = _make_star(grid, refine, choose) if method == "star" else None
    points = star or grid
    facts = {**points.settings(), "baseline": architecture.digest, "seed": seed}
    facts |= {"divisor": divisor} if divisor != DIVISOR else {}
    latency = None
    if ratio == "latency":
        latency = LatencyRatios(
            architecture,
            output,
            within=points.within,
            batch_size=latency_batch,
            device=latency_device,
            threads=latency_threads,
            quiet=how["quiet"],
        )
        facts |= latency.settings
    problem = make_grid_problem(scaled, seed, seeds)
    find_own_pixels = getattr(evaluator, "find_own_pixels", None)  # who trains on images of no size has none
    own_pixels = None if find_own_pixels is None else find_own_pixels()
    keeper = Keeper(output, keep, rank_by_mean, evaluator, seeds)

    def follow(rows: Rows, level: int) -> list[Coefficients]:
        if star is not None:
            return [star.best(scaled, posterior_of(rows))]
        return finer_points(grid, scaled, rows, surface_of(rows), level, latency)

    plan = GridPlan(
        problem,
        scaled,
        points,
        *((refine, ROUND) if star is None else (1, 1)),
        follow,
        latency,
        choose=choose,
        spending=spending,
        confirm=confirm,
        own_pixels=own_pixels,
        quiet=how["quiet"],
    )

    def write(optuna_study: Study, seconds: float) -> StudyResult:
        plan.look_at(optuna_study)
        found = write_grid(
            optuna_study,
            scaled,
            plan.rounds,
            output,
            keeper,
            candidates=plan.candidates,
            own_pixels=own_pixels,
            choose=choose,
            until=None if spending is None else spending.result,
            latencies={} if latency is None else latency.known,
            settings={**points.settings(), "divisor": divisor},
            seed=seed,
            seconds=seconds,
            evaluator=type(evaluator).__name__,
            command=command,
        )
        if how["report"]:
            write_report(output)
        return found

    deadline = None if how["timeout"] is None else time.monotonic() + how["timeout"]
    with ExitStack() as begun:
        while True:  # the grid, then each round of refinement, then the chosen point again
            if deadline is not None:
                how = {**how, "timeout": max(deadline - time.monotonic(), 1e-3)}
            summary = run_enqueued(
                problem,
                evaluator,
                write,
                how,
                name="grid",
                by="grid-alpha-beta-gamma",
                job=job,
                facts=facts,
                trials=lambda: plan.trainings,
                output=output,
                prepare=plan.prepare,
                keeper=keeper,
                lacking="no point of the grid has a result",
            )
            if summary["best"] is None:
                raise UserError(f"{output}: no point of twice the cost has a result, so there are no coefficients")
            if how["restart"]:  # that was the first time
                begun.enter_context(advise_without_restart())
                how = {**how, "restart": False}
            late = deadline is not None and time.monotonic() >= deadline
            # what is not done though nothing is left to ask for is with another machine
            if late or not plan.done or plan.complete:
                return summary


def _make_star(grid: Grid, refine: int, choose: str) -> Star:
    """The star with a grid's ratio and tolerance.

    Raises:
        UserError: a setting is given that only a grid has.
    """
    usual = Grid()
    given = [name for name in NAMES if [*getattr(grid, name)] != [*getattr(usual, name)]]
    given += [name for name in ("step", "solve") if getattr(grid, name) != getattr(usual, name)]
    given += ["refine"] * (refine > 0)
    if given:
        raise UserError(
            f"{given[0]} applies with method=grid; method=star grows each dimension alone and has ratio and tolerance"
        )
    if choose == "surface":
        raise UserError("choose=surface applies with method=grid; method=star has posterior and point")
    return Star(grid.ratio, grid.tolerance)
