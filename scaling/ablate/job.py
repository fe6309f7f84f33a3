"""Rules of scaling side by side (Tan & Le 2019, Figure 8, Tables 3 and 7): the trainings.

One base, grown by each rule to the same *achieved* MACs (:mod:`~effnas.scaling.meet`) and trained with the same recipe
and seeds. The trainings are enqueued in a study and go through the same loop, evaluator and workers as a search.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from ...evaluate.evaluation import Evaluator
from ...evaluate.machine.paired_latency import paired_latency
from ...search.objective import Accuracy
from ...search.trials import run_trials
from ...space.built import BuiltNetwork, configured_network
from ...space.errors import UserError, check_choice, check_int, check_number
from ...space.network_spec import NetworkSpec
from ..rules import load_shares
from ..scale.job import base_network
from .report import write_ablation
from .study import AblationProblem, Member, checked_factors, checked_rules, make_members

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: The network where none is given: what a search wrote.
BASELINE = "outputs/search/baseline.yaml"
#: Study attribute: seconds per batch by network and round.
LATENCY = "latency"


@dataclass
class AblateJob:
    """The settings of an ablation that are not a choice of YAML; the groups are checked by what they construct."""

    baseline: str | None = None
    factors: Any = (2, 4)
    rules: Any = ("compound", "depth", "width", "resolution")
    reference: str | None = None
    coefficients: Any = None
    shares: Any = None
    tolerance: float = 0.02
    depth_rounding: str = "up"
    seeds: int = 3
    seed: int = 0
    latency: bool = True
    latency_rounds: int = 5
    latency_batch: int = 1
    latency_device: str = "cpu"
    latency_threads: int | None = 1
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
    network: Any = None


def run_ablation(
    baseline: NetworkSpec | str | None,
    evaluator: Evaluator,
    *,
    network: BuiltNetwork | None = None,
    factors: Sequence[float] = (2, 4),
    rules: Sequence[str] = ("compound", "depth", "width", "resolution"),
    reference: str | None = None,
    coefficients: Any = None,
    shares: Sequence[float] | None = None,
    tolerance: float = 0.02,
    depth_rounding: str = "up",
    seeds: int = 3,
    seed: int = 0,
    latency: bool = True,
    latency_rounds: int = 5,
    latency_batch: int = 1,
    latency_device: str = "cpu",
    latency_threads: int | None = 1,
    workers: int | str = 1,
    workers_per_device: int = 1,
    timeout: float | None = None,
    pruner: BasePruner | None = None,
    output: str | Path = "outputs/ablate",
    storage: str | None = None,
    study: str | None = None,
    job: Mapping[str, Any] | None = None,
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a base and what each rule makes of it at each budget, and tell which differences stand.

    Continues from what ``output`` has; more seeds may be asked for later.

    Args:
        baseline: the base; a string is a file or the name of a zoo network; None: ``network``, or else
            ``outputs/search/baseline.yaml``.
        evaluator: trains the networks.
        network: a network of the user's own builder; files of its networks need it.
        factors: budgets, as multiples of the base's MACs.
        rules: at least two of :data:`~effnas.scaling.rules.RULES`.
        reference: the rule that the others are tested against; None: ``compound``, or else the first.
        coefficients: of ``compound`` (``lacs`` keeps its own): "paper", three numbers or a file; None: the paper's.
        shares: of ``dwr``; None: 0.1, 0.8, 0.1.
        tolerance: how far from 1 achieved MACs / budget may be.
        depth_rounding: how depth · repeats becomes whole: "up" as the official code, or "nearest".
        seeds: trainings of each network; one allows no test, five or more a useful one.
        seed: the first of them.
        latency: measure it here, in alternation (:func:`~effnas.evaluate.machine.paired_latency.paired_latency`), once
            and before the trainings.
        latency_rounds, latency_batch, latency_device, latency_threads: of that measurement.
        workers, workers_per_device, timeout, pruner, storage, study, job, command, quiet: as for
            :func:`~effnas.search.job.run_search`.
        output: folder of ``summary.json``, ``ablation.csv``, ``comparisons.csv``, ``trials.csv``, ``ablation.png``,
            ``ablation.svg`` and ``networks/``.

    Returns:
        The content of ``summary.json``.

    Raises:
        UserError: a setting is wrong, a rule cannot meet a budget, another ablation is in the folder, or no training
            gave a result.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    names, budgets = checked_rules(rules), checked_factors(factors)
    reference = reference or ("compound" if "compound" in names else names[0])
    check_choice("reference", reference, names)
    check_number("tolerance", tolerance, 0, 0.5)
    check_int("seeds", seeds, 1, 100)
    check_int("seed", seed, 0, 2**32 - 1)
    if latency:
        check_int("latency_rounds", latency_rounds, 2, 1000)
        check_int("latency_batch", latency_batch, 1, 1_000_000)
    output = Path(output)
    base = base_network(baseline, network, BASELINE)
    members = make_members(base, names, budgets, coefficients, load_shares(shares), tolerance, depth_rounding)
    problem = AblationProblem(members, tuple(range(seed, seed + seeds)))
    job = {**(job or {"evaluator": repr(evaluator)}), "baseline": members[0].network.digest}
    # not the rules alone: other coefficients, or another tolerance, make other networks
    job |= {"networks": {f"{m.rule} {m.factor:g}": m.network.digest for m in members}, "seed": seed}
    getattr(evaluator, "prepare", lambda: None)()

    def prepare(optuna_study: Study) -> None:
        if not quiet:
            print(_announcement(members, seeds), file=sys.stderr, flush=True)
        problem.enqueue(optuna_study)
        if latency and LATENCY not in optuna_study.user_attrs:
            distinct = {m.network.digest: m.network for m in members}
            seconds = paired_latency(
                list(distinct.values()),
                rounds=latency_rounds,
                batch_size=latency_batch,
                threads=latency_threads,
                device=latency_device,
            )
            optuna_study.set_user_attr(LATENCY, dict(zip(distinct, seconds, strict=True)))

    def write(optuna_study: Study, seconds: float) -> dict[str, Any]:
        how = f"batch {latency_batch}, {latency_device}"
        how += f", {latency_threads} thread{'s' * (latency_threads > 1)}" if latency_threads else ""
        return write_ablation(
            optuna_study,
            members,
            output,
            reference=reference,
            tolerance=tolerance,
            seconds_a_batch=optuna_study.user_attrs.get(LATENCY, {}),
            latency_of=how,
            seed=seed,
            seconds=seconds,
            evaluator=type(evaluator).__name__,
            command=command,
        )

    summary = run_trials(
        problem,
        evaluator,
        Accuracy(),
        RandomSampler(seed),  # never asked: every trial was enqueued
        pruner,
        write,
        name=study or "ablation",
        job=job,
        trials=len(members) * seeds,
        workers=workers,
        workers_per_device=workers_per_device,
        timeout=timeout,
        output=output,
        storage=storage,
        quiet=quiet,
        prepare=prepare,
    )
    if not summary["complete"]:
        first = f"; the first reason: {summary['reasons'][0]}" if summary["reasons"] else ""
        raise UserError(f"{output}: no training has a result ({summary['failed']} failed){first}")
    return summary


def _announcement(members: Sequence[Member], seeds: int) -> str:
    """How much there is to train."""
    different = len({m.network.digest for m in members})
    text = f"the base and {len(members) - 1} scaled networks"
    text += f" ({different} different ones)" if different < len(members) else ""
    return f"{text}: {different * seeds} trainings" + (f" with {seeds} seeds" if seeds > 1 else "")


def run_ablate_job(config: DictConfig, output: Path, command: str) -> dict[str, Any]:
    """Make the objects that the configuration names and run :func:`run_ablation`."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    groups = ("evaluator", "data", "training", "pruner")
    return run_ablation(
        evaluator=instantiate(config.evaluator, _convert_="all"),
        network=configured_network(config.network),
        pruner=instantiate(config.pruner, _convert_="all"),
        output=output,
        job={key: plain[key] for key in groups},
        command=command,
        **{key: value for key, value in plain.items() if key not in (*groups, "network", "json", "hydra")},
    )
