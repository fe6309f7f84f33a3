"""The grid search of the compound coefficients (Tan & Le 2019, section 3.3, step 1).

The points of the grid are enqueued in a study and go through the same loop, evaluator and workers as a search: they
resume and run in parallel as its trials do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from ..evaluate.evaluation import EvaluationError, Evaluator
from ..search.job import run_trials
from ..search.objective import Accuracy
from ..search.record import is_counted
from ..search.study import Candidate
from ..space.architecture import Architecture
from ..space.errors import UserError, check_int, check_number
from ..space.zoo import load_architecture
from .coefficients import Coefficients
from .compound import scale
from .grid_report import write_grid

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass
class GridJob:
    """The settings of a grid search that are not a choice of YAML; the groups are checked by what they construct."""

    baseline: str = "outputs/search/baseline.yaml"
    alpha: Any = (1.0, 1.4)
    beta: Any = (1.0, 1.2)
    gamma: Any = (1.0, 1.3)
    step: float = 0.05
    tolerance: float = 0.1
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


def grid_points(
    alpha: Sequence[float] = (1.0, 1.4),
    beta: Sequence[float] = (1.0, 1.2),
    gamma: Sequence[float] = (1.0, 1.3),
    *,
    step: float = 0.05,
    tolerance: float = 0.1,
) -> list[Coefficients]:
    """The points of the grid with |α·β²·γ² − 2| ≤ tolerance, in lexical order.

    The defaults give 51 points, the paper's (1.2, 1.1, 1.15) among them: its product is 1.920, so a tolerance of 0.05
    would leave it out.

    Args:
        alpha, beta, gamma: lowest and highest value of each.
        step: between neighbours.
        tolerance: of the nominal MACs ratio, before rounding.

    Raises:
        UserError: a range is not two numbers from 1 upwards, or no point is left.
    """
    check_number("step", step, 0, 1, open_low=True)
    check_number("tolerance", tolerance, 0)
    axes = [_axis(name, span, step) for name, span in (("alpha", alpha), ("beta", beta), ("gamma", gamma))]
    count = math.prod(map(len, axes))
    if count > 1_000_000:
        raise UserError(
            f"step {step:g} makes {count:,} combinations; at most 1,000,000 are looked at: use a larger step"
        )
    combinations = list(itertools.product(*axes))
    points = [p for p in combinations if abs(_ratio(p) - 2) <= tolerance + 1e-9]
    if not points:
        nearest = min(combinations, key=lambda p: abs(_ratio(p) - 2))
        raise UserError(
            f"no point of the grid has alpha·beta²·gamma² within {tolerance:g} of 2; the nearest, "
            f"({', '.join(f'{v:g}' for v in nearest)}), has {_ratio(nearest):.6g}: use a larger tolerance, a smaller "
            "step or wider ranges"
        )
    return [Coefficients(*point) for point in points]


def _ratio(point: tuple[float, ...]) -> float:
    return point[0] * point[1] ** 2 * point[2] ** 2


def _axis(name: str, span: Any, step: float) -> list[float]:
    if not isinstance(span, Sequence) or isinstance(span, str) or len(span) != 2:
        raise UserError(f"{name} must be a range of two numbers such as [1.0, 1.4], got {span!r}")
    low, high = span
    check_number(f"{name}: lowest value", low, 1, 10)
    check_number(f"{name}: highest value", high, 1, 10)
    if high < low:
        raise UserError(f"{name} must be a range from low to high, got [{low:g}, {high:g}]")
    return [round(low + i * step, 9) for i in range(math.floor((high - low) / step + 1e-9) + 1)]


@dataclass(frozen=True)
class GridProblem:
    """The grid as the search loop sees it: a point and a seed are the parameters of a trial."""

    baseline: Architecture
    points: tuple[Coefficients, ...]
    seeds: tuple[int, ...]

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """One categorical distribution for each coefficient, and the seeds."""
        found: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(sorted({getattr(p, name) for p in self.points}))
            for name in ("alpha", "beta", "gamma")
        }
        # a wide range: more seeds may be asked for later, and Optuna keeps a study's distributions
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
    baseline: Architecture | str,
    evaluator: Evaluator,
    *,
    alpha: Sequence[float] = (1.0, 1.4),
    beta: Sequence[float] = (1.0, 1.2),
    gamma: Sequence[float] = (1.0, 1.3),
    step: float = 0.05,
    tolerance: float = 0.1,
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
        baseline: the network of φ = 0; a text is a file or a zoo name.
        evaluator: trains the scaled networks.
        alpha, beta, gamma, step, tolerance: the grid (:func:`grid_points`).
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
    check_int("seeds", seeds, 1, 100)
    check_int("seed", seed, 0, 2**32 - 1)
    output = Path(output)
    architecture = load_architecture(baseline) if isinstance(baseline, str) else baseline
    points = tuple(grid_points(alpha, beta, gamma, step=step, tolerance=tolerance))
    problem = GridProblem(architecture, points, tuple(range(seed, seed + seeds)))
    settings = {"alpha": list(alpha), "beta": list(beta), "gamma": list(gamma), "step": step, "tolerance": tolerance}
    job = {**(job or {"evaluator": repr(evaluator)}), **settings, "baseline": architecture.digest, "seed": seed}

    getattr(evaluator, "prepare", lambda: None)()

    def write(optuna_study: Study, seconds: float) -> dict[str, Any]:
        facts = {"evaluator": type(evaluator).__name__, "command": command}
        return write_grid(optuna_study, architecture, points, output, seed=seed, seconds=seconds, **facts)

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


def run_grid_job(config: DictConfig, output: Path, command: str) -> dict[str, Any]:
    """Make the objects that the configuration names and run :func:`run_grid_search`."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return run_grid_search(
        config.baseline,
        instantiate(config.evaluator, _convert_="all"),
        pruner=instantiate(config.pruner, _convert_="all"),
        output=output,
        job={key: plain[key] for key in ("evaluator", "data", "training", "pruner")},
        command=command,
        **{
            key: plain[key]
            for key in (
                *("alpha", "beta", "gamma", "step", "tolerance"),
                *("seeds", "seed", "workers", "workers_per_device", "timeout", "storage", "study"),
            )
        },
    )
