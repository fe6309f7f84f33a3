"""The grid search of the compound coefficients (Tan & Le 2019, section 3.3, step 1).

The points of the grid are enqueued in a study and go through the same loop, evaluator and workers as a search: they
resume and run in parallel as its trials do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from ...evaluate.evaluation import Evaluator
from ...search.objective import Accuracy
from ...search.trials import run_trials
from ...space.built import BuiltNetwork, configured_network
from ...space.errors import UserError, check_choice, check_int, check_number
from ...space.network_spec import NetworkSpec
from ..scale.job import base_network
from .latency import LatencyRatios
from .points import Grid, Scaled, grid_points
from .ranking import CHOICES
from .report import write_grid
from .study import GridPlan, GridProblem

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["GridJob", "grid_points", "run_grid_job", "run_grid_search"]

#: Where ``effnas search`` writes what is scaled.
BASELINE = "outputs/search/baseline.yaml"


@dataclass
class GridJob:
    """The settings of a grid search that are not a choice of YAML; the groups are checked by what they construct."""

    baseline: str | None = None
    network: Any = None
    alpha: Any = (1.0, 1.4)
    beta: Any = (1.0, 1.2)
    gamma: Any = (1.0, 1.3)
    step: float = 0.05
    ratio: str = "nominal"
    solve: str = "gamma"
    tolerance: float | None = None
    choose: str = "surface"
    refine: int = 0
    latency_batch: int = 1
    latency_device: str = "cpu"
    latency_threads: int | None = None
    seeds: int = 1
    seed: int = 0
    workers: Any = 1
    workers_per_device: int = 1
    timeout: float | None = None
    storage: str | None = None
    study: str | None = None
    json: bool = False
    evaluator: Any = None
    data: Any = None
    training: Any = None
    pruner: Any = None


def run_grid_search(
    baseline: NetworkSpec | str | None,
    evaluator: Evaluator,
    *,
    network: BuiltNetwork | None = None,
    alpha: Sequence[float] = (1.0, 1.4),
    beta: Sequence[float] = (1.0, 1.2),
    gamma: Sequence[float] = (1.0, 1.3),
    step: float = 0.05,
    ratio: str = "nominal",
    solve: str = "gamma",
    tolerance: float | None = None,
    choose: str = "surface",
    refine: int = 0,
    latency_batch: int = 1,
    latency_device: str = "cpu",
    latency_threads: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    workers: int | str = 1,
    workers_per_device: int = 1,
    timeout: float | None = None,
    pruner: BasePruner | None = None,
    output: str | Path = "outputs/grid",
    storage: str | None = None,
    study: str | None = None,
    job: Mapping[str, Any] | None = None,
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train the baseline scaled by every point of the grid at φ = 1 and rank them; continues from what ``output`` has.

    Args:
        baseline: the network of φ = 0; a string is a file or the name of a zoo network; None: ``network``, or else
            what a search wrote, ``outputs/search/baseline.yaml``.
        evaluator: trains the scaled networks.
        network: a network of the user's own builder; files of its networks need it.
        alpha, beta, gamma, step, ratio, solve, tolerance: the grid (:class:`~effnas.scaling.grid.points.Grid`).
        choose: what the coefficients are: the ``surface``'s highest point (:mod:`~effnas.scaling.grid.response`), or
            the ``point`` of the highest mean accuracy, which they are too where there are too few points for a surface.
        refine: rounds of finer points around the best ones, at half the step each time, after the grid
            (:func:`~effnas.scaling.grid.study.finer_points`).
        latency_batch, latency_device, latency_threads: how latency is measured, with ``ratio="latency"``
            (:class:`~effnas.scaling.grid.latency.LatencyRatios`).
        seeds: trainings of each point; two or more tell whether the winner stands out from the noise.
        seed: the first of them.
        workers, workers_per_device, timeout, pruner, storage, study, job, command, quiet: as for
            :func:`~effnas.search.job.run_search`.
        output: folder of ``coefficients.yaml``, ``baseline.yaml``, ``points.csv``, ``trials.csv``, ``summary.json`` and
            ``grid.png``.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: a setting is wrong, another grid is in the folder, or no point could be trained.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    check_choice("choose", choose, CHOICES)
    check_int("refine", refine, 0, 10)
    check_int("seeds", seeds, 1, 100)
    check_int("seed", seed, 0, 2**32 - 1)
    if timeout is not None:
        check_number("timeout (seconds)", timeout, 0, open_low=True)
    output = Path(output)
    architecture = base_network(baseline, network, BASELINE)
    scaled = Scaled(architecture)
    grid = Grid(alpha, beta, gamma, step, ratio, solve, tolerance)
    problem = GridProblem(scaled, tuple(range(seed, seed + seeds)))
    job = {**(job or {"evaluator": repr(evaluator)}), **grid.settings()}
    job |= {"baseline": architecture.digest, "seed": seed}
    latency = None
    if ratio == "latency":
        latency = LatencyRatios(
            architecture,
            output,
            within=grid.within,
            batch_size=latency_batch,
            device=latency_device,
            threads=latency_threads,
            quiet=quiet,
        )
        job |= latency.settings
    plan = GridPlan(problem, grid, grid.points(scaled, latency), refine, latency, quiet=quiet)
    getattr(evaluator, "prepare", lambda: None)()

    def write(optuna_study: Study, seconds: float) -> dict[str, Any]:
        facts: dict[str, Any] = {"evaluator": type(evaluator).__name__, "command": command, "choose": choose}
        facts["settings"] = grid.settings()
        facts["latencies"] = {} if latency is None else latency.known
        summary = write_grid(optuna_study, scaled, plan.rounds, output, seed=seed, seconds=seconds, **facts)
        return {"summary": summary, "done": plan.done(optuna_study)}

    deadline = None if timeout is None else time.monotonic() + timeout
    while True:  # the grid, then each round of refinement
        asked = plan.trainings
        result = run_trials(
            problem,
            evaluator,
            Accuracy(),
            RandomSampler(seed),  # never asked: every trial was enqueued
            pruner,
            write,
            name=study or "grid",
            job=job,
            trials=asked,
            workers=workers,
            workers_per_device=workers_per_device,
            timeout=None if deadline is None else max(deadline - time.monotonic(), 1e-3),
            output=output,
            storage=storage,
            quiet=quiet,
            prepare=plan.prepare,
        )
        summary: dict[str, Any] = result["summary"]
        late = deadline is not None and time.monotonic() >= deadline
        # what is not done though nothing is left to ask for is with another machine
        if late or (plan.last if result["done"] else plan.trainings <= asked):
            break
    if summary["best"] is None:
        first = f"; the first reason: {summary['reasons'][0]}" if summary["reasons"] else ""
        raise UserError(f"{output}: no point of the grid has a result ({summary['failed']} failed){first}")
    return summary


def run_grid_job(config: DictConfig, output: Path, command: str) -> dict[str, Any]:
    """Make the objects that the configuration names and run :func:`run_grid_search`."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationKeyError

    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except InterpolationKeyError as error:
        raise UserError(
            f"{error.full_key or 'the configuration'}: refers to an option that this command does not "
            f"have ({str(error).splitlines()[0]}): set it yourself, like evaluator.space=mobile_cifar"
        ) from None
    return run_grid_search(
        config.baseline,
        instantiate(config.evaluator, _convert_="all"),
        network=configured_network(config.network),
        pruner=instantiate(config.pruner, _convert_="all"),
        output=output,
        job={key: plain[key] for key in ("evaluator", "data", "training", "pruner")},
        command=command,
        **{
            key: plain[key]
            for key in (
                *("alpha", "beta", "gamma", "step", "ratio", "solve", "tolerance", "choose", "refine"),
                *("latency_batch", "latency_device", "latency_threads"),
                *("seeds", "seed", "workers", "workers_per_device", "timeout", "storage", "study"),
            )
        },
    )
