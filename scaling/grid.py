"""The grid search of the compound coefficients (Tan & Le 2019, section 3.3, step 1).

The points of the grid are enqueued in a study and go through the same loop, evaluator and workers as a search: they
resume and run in parallel as its trials do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from ..evaluate.evaluation import EvaluationError, Evaluator
from ..search.job import run_trials
from ..search.objective import Accuracy
from ..search.record import is_counted
from ..search.study import Candidate
from ..space.built import AnyArchitecture, BuiltNetwork
from ..space.errors import UserError, check_choice, check_int
from .coefficients import Coefficients
from .compound import scale
from .family import base_network
from .grid_points import NAMES, Grid, Scaled, grid_points
from .grid_ranking import CHOICES
from .grid_report import write_grid

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["GridJob", "GridProblem", "grid_points", "run_grid_job", "run_grid_search"]

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


@dataclass(frozen=True)
class GridProblem:
    """The grid as the search loop sees it: a point and a seed are the parameters of a trial."""

    baseline: AnyArchitecture
    points: tuple[Coefficients, ...]
    seeds: tuple[int, ...]

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Each coefficient, and the seeds.

        Wide ranges: more seeds and a finer grid may be asked for later, and Optuna keeps a study's distributions.
        """
        found: dict[str, BaseDistribution] = {name: FloatDistribution(1, 10) for name in NAMES}
        return {**found, "seed": CategoricalDistribution(tuple(range(self.seeds[0], self.seeds[0] + 100)))}

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """The baseline scaled by the point at φ = 1."""
        coefficients = Coefficients(params["alpha"], params["beta"], params["gamma"])
        try:
            return Candidate(scale(self.baseline, coefficients, 1), params["seed"])
        except UserError as error:
            raise EvaluationError(str(error)) from None

    def feasible(self, number: int) -> dict[str, Any] | None:
        """Nothing is limited."""
        return None

    @property
    def enumerated(self) -> bool:
        """The points are the candidates."""
        return True

    def enqueue(self, study: Study) -> None:
        """Every point and seed that is neither waiting nor finished, seed by seed."""
        known = set()
        for trial in study.get_trials(deepcopy=False):
            if is_counted(trial):
                known.add(tuple(trial.params.items()))
            elif not trial.state.is_finished():  # waiting, or running on another machine
                known.add(tuple(trial.system_attrs.get("fixed_params", {}).items()))
        for seed in self.seeds:
            for p in self.points:
                params = {"alpha": p.alpha, "beta": p.beta, "gamma": p.gamma, "seed": seed}
                if tuple(params.items()) not in known:
                    study.enqueue_trial(params)


def run_grid_search(
    baseline: AnyArchitecture | str | None,
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
    """Train the baseline scaled by every point of the grid at φ = 1 and rank them; goes on with what ``output`` has.

    Args:
        baseline: the network of φ = 0; a text is a file or a zoo name; None: ``network``, or else what a search
            wrote, ``outputs/search/baseline.yaml``.
        evaluator: trains the scaled networks.
        network: of the user's own builder, which a file of one of its networks needs beside it.
        alpha, beta, gamma, step, ratio, solve, tolerance: the grid (:class:`~effnas.scaling.grid_points.Grid`).
        choose: what the coefficients are: the ``surface``'s highest point (:mod:`~effnas.scaling.response`), or the
            ``point`` of the highest mean accuracy, which they are too where there are too few points for a surface.
        seeds: trainings of each point; two or more tell whether the winner stands out of the noise.
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
    check_int("seeds", seeds, 1, 100)
    check_int("seed", seed, 0, 2**32 - 1)
    output = Path(output)
    architecture = base_network(baseline, network, BASELINE)
    scaled = Scaled(architecture)
    grid = Grid(alpha, beta, gamma, step, ratio, solve, tolerance)
    points = tuple(grid.points(scaled))
    problem = GridProblem(architecture, points, tuple(range(seed, seed + seeds)))
    job = {**(job or {"evaluator": repr(evaluator)}), **grid.settings()}
    job |= {"baseline": architecture.digest, "seed": seed}
    if not quiet:
        print(_announcement(scaled, points, seeds), file=sys.stderr, flush=True)

    getattr(evaluator, "prepare", lambda: None)()

    def write(optuna_study: Study, seconds: float) -> dict[str, Any]:
        facts = {"evaluator": type(evaluator).__name__, "command": command, "choose": choose}
        return write_grid(optuna_study, scaled, points, output, seed=seed, seconds=seconds, **facts)

    summary = run_trials(
        problem,
        evaluator,
        Accuracy(),
        RandomSampler(seed),  # never asked: every trial was enqueued
        pruner,
        write,
        name=study or "grid",
        job=job,
        trials=len(points) * seeds,
        workers=workers,
        workers_per_device=workers_per_device,
        timeout=timeout,
        output=output,
        storage=storage,
        quiet=quiet,
        prepare=problem.enqueue,
    )
    if summary["best"] is None:
        first = f"; the first reason: {summary['reasons'][0]}" if summary["reasons"] else ""
        raise UserError(f"{output}: no point of the grid has a result ({summary['failed']} failed){first}")
    return summary


def _announcement(scaled: Scaled, points: Sequence[Coefficients], seeds: int) -> str:
    """How much there is to train."""
    different = len({network.digest for p in points if (network := scaled.network(p)) is not None})
    text = f"{len(points)} points, {different} different networks"
    return f"{text}: {different * seeds} trainings" + (f" with {seeds} seeds" if seeds > 1 else "")


def run_grid_job(config: DictConfig, output: Path, command: str) -> dict[str, Any]:
    """Make the objects that the configuration names and run :func:`run_grid_search`."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return run_grid_search(
        config.baseline,
        instantiate(config.evaluator, _convert_="all"),
        network=instantiate(config.network, _convert_="all"),
        pruner=instantiate(config.pruner, _convert_="all"),
        output=output,
        job={key: plain[key] for key in ("evaluator", "data", "training", "pruner")},
        command=command,
        **{
            key: plain[key]
            for key in (
                *("alpha", "beta", "gamma", "step", "ratio", "solve", "tolerance", "choose"),
                *("seeds", "seed", "workers", "workers_per_device", "timeout", "storage", "study"),
            )
        },
    )
