"""Rules of scaling side by side (Tan & Le 2019, Figure 8, Tables 3 and 7): the trainings.

One base, grown by each rule to the same *achieved* MACs (:mod:`~effnas.scaling.meet`) and trained with the same recipe
and seeds. The trainings are enqueued in a study and go through the same loop, evaluator and workers as a search.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

from optuna.study import Study

from ...evaluate.arguments import check_threads
from ...evaluate.evaluation import Evaluator
from ...evaluate.interrupt import Interrupts
from ...evaluate.machine.cores import fit_threads
from ...evaluate.machine.paired_latency import paired_latency
from ...evaluate.study_result import StudyResult
from ...report.job import write_report
from ...search.options import StudyOptions, complete_options
from ...search.problem import CONFIRMS, check_seeds
from ...search.record import enqueue_missing, is_done
from ...search.trials import run_enqueued
from ...search.winner.keeper import Keeper, rank_by_mean
from ...space.built import BuiltNetwork
from ...space.errors import advise_without_restart, check_choice, check_int, check_number
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ..compound import SEARCHED, base_network
from ..rules import load_shares
from .report import find_finalists, member_rows, write_ablation
from .study import Member, checked_factors, checked_rules, make_ablation_problem, make_members

#: Study attribute: seconds per batch by network and round.
LATENCY = "latency"


def run_ablation(
    baseline: NetworkSpec | str | None,
    evaluator: Evaluator,
    *,
    network: BuiltNetwork | None = None,
    in_channels: int | None = None,
    factors: Sequence[float] = (2, 4),
    rules: Sequence[str] = ("compound", "depth", "width", "resolution"),
    reference: str | None = None,
    coefficients: Any = None,
    shares: Sequence[float] | None = None,
    tolerance: float = 0.02,
    depth_rounding: str = "up",
    seeds: int = 3,
    seed: int = 0,
    confirm: int = 0,
    keep: int = 1,
    latency: bool = True,
    latency_rounds: int = 5,
    latency_batch: int = 1,
    latency_device: str = "cpu",
    latency_threads: int | None = 1,
    output: str | Path = "outputs/ablate",
    job: Mapping[str, Any] | None = None,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyResult:
    """Train a base and what each rule makes of it at each budget, and tell which differences stand.

    Continues from what ``output`` has; ``seeds`` can be raised later.

    Args:
        baseline: the base; a string is a file or the name of a zoo network; None: ``network``, or else
            ``outputs/search/baseline.yaml``.
        evaluator: trains the networks.
        network: a network of the user's own builder; files of its networks need it.
        in_channels: of the images; None: the baseline's own.
        factors: budgets, as multiples of the base's MACs.
        rules: at least two of :data:`~effnas.scaling.rules.RULES`.
        reference: the rule to test the others against; None: ``compound`` if it is among the rules, else the first.
        coefficients: of ``compound`` (``lacs`` keeps its own): "paper", three numbers or a file; None: the paper's.
        shares: of ``dwr``; None: 0.1, 0.8, 0.1.
        tolerance: how far achieved MACs / budget may be from 1.
        depth_rounding: how depth · repeats becomes whole: "up", as in the official code, or "nearest".
        seeds: trainings of each network; one allows no test, five or more a useful one.
        seed: the first of them.
        confirm: trainings of each budget's best rule and of the reference, when all else is done, with seeds that had
            no part in the choice: what they reach there is reported beside what was chosen.
        keep: networks whose trained weights are kept, those of the highest mean accuracy; 0: none.
        latency: measure it here, in alternation (:func:`~effnas.evaluate.machine.paired_latency.paired_latency`), once,
            before training.
        latency_rounds, latency_batch, latency_device, latency_threads: of that measurement.
        output: folder of ``summary.json``, ``ablation.csv``, ``comparisons.csv``, ``trials.csv``, ``ablation.png``,
            ``ablation.svg``, ``report.html``, ``networks/`` and ``weights/trial-N.safetensors``.
        job, command: as :func:`~effnas.search.job.run_search`.
        options: how the study is run, :class:`~effnas.search.options.StudyOptions`.

    Returns:
        The content of ``summary.json``, with ``trials``, ``front``, ``table("networks")`` and ``table("comparisons")``
        as data frames of pandas.

    Raises:
        UserError: a setting is wrong, a rule cannot meet a budget, another ablation is in the folder, or no training
            gave a result.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    names, budgets = checked_rules(rules), checked_factors(factors)
    reference = reference or ("compound" if "compound" in names else names[0])
    check_choice("reference", reference, names)
    check_number("tolerance", tolerance, 0, 0.5)
    check_seeds(seed, seeds, confirm)
    if latency:
        check_int("latency_rounds", latency_rounds, 2, 1000)
        check_int("latency_batch", latency_batch, 1, 1_000_000)
        check_threads(latency_threads, "latency_threads")
        latency_threads = fit_threads(latency_threads, "latency_threads")
    output, how = as_path("output", output), complete_options(options)
    base = base_network(baseline, network, SEARCHED, in_channels)
    members = make_members(base, names, budgets, coefficients, load_shares(shares), tolerance, depth_rounding)
    problem = make_ablation_problem(members, seed, seeds)

    wanted = problem.trials({"rule": m.rule, "factor": m.factor} for m in members)
    confirming = [0]  # trainings, once it is known of which networks

    def find_confirming(optuna_study: Study) -> list[dict[str, Any]]:
        if not confirm or not is_done(optuna_study, wanted):
            return []
        found = find_finalists(member_rows(optuna_study, members, {}), reference)
        return [
            trial for row in found for trial in problem.confirming({k: row[k] for k in ("rule", "factor")}, confirm)
        ]

    keeper = Keeper(output, keep, rank_by_mean, evaluator, seeds)

    def prepare(optuna_study: Study, interrupts: Interrupts) -> None:
        if not how["quiet"] and not confirming[0]:
            print(_announcement(members, seeds), file=sys.stderr, flush=True)
        enqueue_missing(optuna_study, wanted)
        enqueue_missing(optuna_study, find_confirming(optuna_study), {CONFIRMS: True})
        if latency and LATENCY not in optuna_study.user_attrs:
            distinct = {m.network.digest: m.network for m in members}
            with interrupts.allowed():
                seconds = paired_latency(
                    list(distinct.values()),
                    rounds=latency_rounds,
                    batch_size=latency_batch,
                    threads=latency_threads,
                    device=latency_device,
                )
            optuna_study.set_user_attr(LATENCY, dict(zip(distinct, seconds, strict=True)))

    def write(optuna_study: Study, seconds: float) -> StudyResult:
        found = find_confirming(optuna_study)
        confirming[0] = 0 if is_done(optuna_study, found) else len(found)
        latency_of = f"batch {latency_batch}, {latency_device}"
        latency_of += f", {latency_threads} thread{'s' * (latency_threads > 1)}" if latency_threads else ""
        written = write_ablation(
            optuna_study,
            members,
            output,
            keeper,
            reference=reference,
            tolerance=tolerance,
            seconds_a_batch=optuna_study.user_attrs.get(LATENCY, {}),
            latency_of=latency_of,
            seed=seed,
            seconds=seconds,
            evaluator=type(evaluator).__name__,
            command=command,
        )
        if how["report"]:
            write_report(output)
        return written

    deadline = None if how["timeout"] is None else time.monotonic() + how["timeout"]
    with ExitStack() as begun:
        while True:  # all networks, then the best ones again
            summary = run_enqueued(
                problem,
                evaluator,
                write,
                how,
                name="ablation",
                by="ablate",
                job=job,
                # not the rules alone: other coefficients, or another tolerance, make other networks
                facts={
                    "baseline": members[0].network.digest,
                    "networks": {f"{m.rule} {m.factor:g}": m.network.digest for m in members},
                    "seed": seed,
                },
                trials=len(members) * seeds + 2 * len(budgets) * confirm,
                output=output,
                prepare=prepare,
                keeper=keeper,
                lacking="no training has a result",
            )
            left = None if deadline is None else deadline - time.monotonic()
            if not confirming[0] or (left is not None and left <= 0):
                return summary
            if how["restart"]:  # that was the first time
                begun.enter_context(advise_without_restart())
            how = {**how, "restart": False, "timeout": left}


def _announcement(members: Sequence[Member], seeds: int) -> str:
    """How much there is to train."""
    different = len({m.network.digest for m in members})
    text = f"the base and {len(members) - 1} scaled networks"
    text += f" ({different} different ones)" if different < len(members) else ""
    return f"{text}: {different * seeds} trainings" + (f" with {seeds} seeds" if seeds > 1 else "")
