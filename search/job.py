"""``effnas search``: the settings, the run, the output folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study

from ..evaluate.evaluation import Evaluator
from ..space.errors import UserError, check_int
from ..space.space import load_space
from .algorithms.member_facts import inform_algorithm
from .algorithms.predictor import Predictor
from .feasible import Space, find_feasible_member
from .objective import MnasNetReward, Objective
from .problem import SpaceProblem
from .report import write_search
from .seeded import Seeded
from .trials import run_trials

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Settings that may change between two runs of one search.
FREE = ("trials", "confirm", "workers", "workers_per_device", "timeout", "storage", "study", "json", "hydra")


@dataclass
class SearchJob:
    """The settings of a search that are not a choice of YAML; the groups are checked by what they construct."""

    trials: int = 30
    confirm: int = 0
    seed: int = 0
    workers: Any = 1
    workers_per_device: int = 1
    timeout: float | None = None
    storage: str | None = None
    study: str | None = None
    json: bool = False
    space: Any = None
    evaluator: Any = None
    data: Any = None
    training: Any = None
    objective: Any = None
    algorithm: Any = None
    pruner: Any = None


def run_search(
    space: Space | str,
    evaluator: Evaluator,
    objective: Objective | None = None,
    algorithm: Callable[..., BaseSampler] = Predictor,
    *,
    pruner: BasePruner | None = None,
    trials: int = 30,
    confirm: int = 0,
    seed: int = 0,
    workers: int | str = 1,
    workers_per_device: int = 1,
    timeout: float | None = None,
    output: str | Path = "outputs/search",
    storage: str | None = None,
    study: str | None = None,
    job: Mapping[str, Any] | None = None,
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Search ``space`` for the network that ``objective`` likes best, or go on with the search in ``output``.

    Args:
        space: where to search: anything with a name, distributions and build; a string names a shipped one or a file.
        evaluator: trains or looks up candidates; with several workers it must pickle.
        objective: score or scores of an evaluation, and hard limits; None: the MnasNet reward, T = 400 M, w = −0.07.
        algorithm: called as ``algorithm(seed=…)``, gives an Optuna sampler: the class itself, or a partial of it.
        pruner: Optuna's; None: every candidate is evaluated to its end.
        trials: finished trials to reach, those of earlier runs included.
        confirm: how many of them, the last ones, evaluate the best networks so far again, with other seeds; the winner
            is then named by the sampler's model, where it has one, or by the mean of a network's scores. For
            evaluations that are noisy and an objective that is one number.
        seed: of the sampler's choices and of every training.
        workers: processes that evaluate at the same time, sharing this machine's cores; 1: this process; ``auto``: as
            :func:`~effnas.search.worker_count.count_workers`. Where the evaluator's ``device`` is ``auto``, they take
            turns with the GPUs.
        workers_per_device: with ``workers="auto"``, processes that share a GPU.
        timeout: seconds after which no new trial starts.
        output: folder of ``baseline.yaml``, ``trials.csv``, ``pareto.csv``, ``summary.json``, figures and, without
            ``storage``, the study.
        storage: URL of an Optuna storage, for several machines.
        study: its name there.
        job: what identifies the search; a folder that holds another one is refused. By default made of the arguments.
        command: as the user typed it, for the record.
        quiet: no progress on standard error.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: a setting is wrong, the limits are out of reach, another search is in the folder, or no trial gave
            a network.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    check_int("seed", seed, 0, 2**32 - 1)
    output = Path(output)
    members = load_space(space) if isinstance(space, str) else space
    objective = MnasNetReward() if objective is None else objective
    find_feasible_member(members, objective, np.random.default_rng(seed))  # limits out of reach are found out now
    if job is None:
        job = {"space": members.name, "evaluator": repr(evaluator), "objective": repr(objective), "seed": seed}
    algorithm = inform_algorithm(algorithm, members, objective)
    _rehearse(algorithm, members, objective)
    getattr(evaluator, "prepare", lambda: None)()
    sampler = Seeded(algorithm, seed)

    def write(optuna_study: Study, seconds: float) -> dict[str, Any]:
        facts = {"algorithm": str(sampler), "evaluator": type(evaluator).__name__, "command": command}
        details: dict[str, Any] = getattr(evaluator, "describe", dict)()
        return write_search(
            optuna_study,
            members,
            objective,
            output,
            seed=seed,
            seconds=seconds,
            details=details,
            estimates=sampler.estimates(optuna_study) if confirm else {},
            **facts,
        )

    summary = run_trials(
        SpaceProblem(members, objective, seed),
        evaluator,
        objective,
        sampler,
        pruner,
        write,
        name=study or "search",
        job=job,
        trials=trials,
        confirm=confirm,
        workers=workers,
        workers_per_device=workers_per_device,
        timeout=timeout,
        output=output,
        storage=storage,
        quiet=quiet,
    )
    if summary["best"] is None:
        reasons = summary["reasons"]
        first = f"; the first reason: {reasons[0]}" if reasons else ""
        counts = f"{summary['failed']} of {summary['trials']} failed"
        raise UserError(f"{output}: no trial produced a network to keep ({counts}){first}")
    return summary


def _rehearse(algorithm: Callable[..., BaseSampler], space: Space, objective: Objective) -> None:
    """Ask once, in memory: an algorithm that cannot deal with the space or the objectives says so before all else."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in objective.directions]
    study = optuna.create_study(directions=directions, sampler=Seeded(algorithm, 0))
    study.ask(dict(space.distributions))


def run_search_job(config: DictConfig, output: Path, command: str) -> dict[str, Any]:
    """Make the objects that the configuration names and run :func:`run_search`."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return run_search(
        instantiate(config.space, _convert_="all"),
        instantiate(config.evaluator, _convert_="all"),
        instantiate(config.objective, _convert_="all"),
        instantiate(config.algorithm, _partial_=True, _convert_="all"),
        pruner=instantiate(config.pruner, _convert_="all"),
        trials=config.trials,
        confirm=config.confirm,
        seed=config.seed,
        workers=config.workers,
        workers_per_device=config.workers_per_device,
        timeout=config.timeout,
        output=output,
        storage=config.storage,
        study=config.study,
        job={key: value for key, value in plain.items() if key not in FREE},
        command=command,
    )
