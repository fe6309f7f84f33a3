"""``effnas rank``: how far each shortcut may be trusted, on the user's own space and images.

Members of the space are trained by the reference evaluator with several seeds, and judged by each shortcut. All are
studies of enqueued networks, so they resume and run in parallel as a search does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import Study

from ...evaluate.contain import contained
from ...evaluate.evaluation import Evaluator, require_accuracy
from ...evaluate.folder import folder_lock
from ...evaluate.identity import describe_content
from ...evaluate.interrupt import Interrupts
from ...evaluate.study_result import StudyResult
from ...report.job import write_report
from ...space.errors import UserError, advise_without_restart, check_int
from ...space.network_spec import NetworkSpec
from ...space.paths import as_path
from ...space.quantity import as_plain
from ...space.space import load_space
from ..feasible import Space
from ..objective import Accuracy
from ..options import StudyOptions, check_evaluator, complete_options
from ..problem import MAX_SEEDS, Enqueued, check_seeds
from ..record import enqueue_missing, job_facts, result_of, shown_trials, trial_row, write_rows
from ..trials import make_no_result_error, run_trials
from .report import write_rank
from .shortcuts import PASSES, Shortcut, count_beforehand, read_shortcuts
from .table import Judgement

#: Random draws in a row that give no new member, after which the space is taken to have no more.
PATIENCE = 2000
#: Folder of the shortcuts' studies.
SHORTCUTS = "shortcuts"


def run_rank(
    space: Space | str | Path,
    evaluator: Evaluator,
    *,
    shortcuts: Sequence[Any] | Mapping[str, Any] | Evaluator | str = ("synflow", "naswot", "epochs_1", "epochs_2"),
    members: int = 60,
    seeds: int = 2,
    seed: int = 0,
    output: str | Path = "outputs/rank",
    job: Mapping[str, Any] | None = None,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyResult:
    """Train members of a space in full, judge them by each shortcut, and tell how well each ranks them.

    Continues from what ``output`` has; more members, seeds and shortcuts can be asked for later.

    Args:
        space: whose members are drawn, uniformly among the decisions, different networks: a name, a file or itself.
        evaluator: the reference: each member is trained by it with each seed.
        shortcuts: what judges them besides (:func:`~effnas.search.rank.shortcuts.read_shortcuts`); the plain counts
            and the model of as many trainings always do.
        members: how many; all, where the space has no more.
        seeds: trainings of each member, two or more: what they disagree about no shortcut can know.
        seed: of the choice of members, and the first of the trainings'. Shortcuts that train use another one.
        output: folder of ``summary.json``, ``members.csv``, ``trials.csv``, ``rank.png``, ``rank.svg`` and
            ``report.html``; each shortcut's own study is in ``shortcuts/NAME``.
        job, command: as :func:`~effnas.search.job.run_search`.
        options: how the studies are run, :class:`~effnas.search.options.StudyOptions`.

    Returns:
        The content of ``summary.json``, with ``trials``, ``table("members")`` and ``table("rows")`` as data frames.

    Raises:
        UserError: a setting is wrong, other members or shortcuts are in the folder, or too few members have a result.
        KeyboardInterrupt: after Ctrl-C; the same again goes on.
    """
    members, seeds, seed = map(as_plain, (members, seeds, seed))
    check_int("members", members, 10, 1_000_000)
    check_seeds(seed, seeds)
    check_int("seeds (two or more, of which the ceiling is made)", seeds, 2, MAX_SEEDS - 1)
    output, how = as_path("output", output), complete_options(options)
    if not isinstance(how["pruner"], NopPruner | None):
        raise UserError(
            f"pruner must be none: what is compared is trained to its end, got {type(how['pruner']).__name__}"
        )
    known = load_space(space) if isinstance(space, str | Path) else space
    check_evaluator(evaluator)
    require_accuracy(evaluator, "rank")
    asked = read_shortcuts(shortcuts, known, evaluator)
    drawn = draw_members(known, members, seed)
    start = time.monotonic()

    def build(params: Mapping[str, Any]) -> NetworkSpec:
        return known.build({name: params[name] for name in known.distributions})

    def run(what: Shortcut, folder: Path, first: int, count: int) -> StudyResult:
        problem = Enqueued(build, known.distributions, first, count)
        left = None if how["timeout"] is None else max(1e-3, how["timeout"] - (time.monotonic() - start))
        own = {
            **how,
            "timeout": left,
            "study": f"{how['study'] or 'rank'}{'' if folder == output else '-' + what.name}",
        }
        wanted = problem.trials(decisions for decisions, _ in drawn)

        def prepare(study: Study, interrupts: Interrupts) -> None:
            if not how["quiet"]:
                told = f"{what.name}: {len(drawn)} networks" + (f" with {count} seeds" if count > 1 else "")
                print(told, file=sys.stderr, flush=True)
            enqueue_missing(study, wanted)

        def write(study: Study, seconds: float) -> StudyResult:
            trials = shown_trials(study)
            rows = [trial_row(trial, ("accuracy",)) for trial in trials]
            write_rows(folder / "trials.csv", rows)
            facts = job_facts(
                study,
                trials,
                seconds,
                seed=seed,
                evaluator=type(what.evaluator).__name__,
                command=command,
                output=output,
            )
            reasons = [row["reason"] for row in rows if row["state"] == "failed"]
            values = {
                (result_of(t)["digest"], t.params["seed"]): result_of(t) for t in trials if t.state.name == "COMPLETE"
            }
            return StudyResult({**facts, "reasons": reasons, "values": values}, trials=rows)

        found = run_trials(
            problem,
            what.evaluator,
            Accuracy(),
            RandomSampler(0),  # never asked
            write,
            own,  # type: ignore[arg-type]
            name="rank",
            by="rank",
            job=job if folder == output else None,
            facts={"space": describe_content(known), "seed": seed},
            trials=len(wanted),
            output=folder,
            prepare=prepare,
        )
        if not found["complete"]:
            raise make_no_result_error(
                folder, f"{what.name}: no member has a result", f"{found['failed']} failed", found["reasons"]
            )
        return found

    reference = run(Shortcut("reference", evaluator), output, seed, seeds)
    judgements: list[Judgement] = []
    with ExitStack() as begun:
        if how["restart"]:
            begun.enter_context(advise_without_restart())
        for shortcut in asked:
            found = run(shortcut, output / SHORTCUTS / shortcut.name, seed + MAX_SEEDS - 1, 1)
            judgements.append(judge_members(shortcut, found, [network for _, network in drawn], seed + MAX_SEEDS - 1))
    with folder_lock(output, "rank"):
        ranked = write_rank(
            drawn,
            reference,
            judgements,
            output,
            space=known.name,
            seeds=range(seed, seed + seeds),
            seconds=time.monotonic() - start,
        )
        if how["report"]:
            write_report(output)
        return ranked


def draw_members(space: Space, count: int, seed: int) -> list[tuple[dict[str, Any], NetworkSpec]]:
    """Decisions and network of different random members, at most ``count``; more of them begin with the same ones.

    Raises:
        UserError: the space has fewer than ten networks.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[dict[str, Any], NetworkSpec]] = {}
    missed = 0
    while len(found) < count and missed < PATIENCE:
        decisions = {name: d.choices[int(rng.integers(len(d.choices)))] for name, d in space.distributions.items()}
        missed += 1
        try:
            network = space.build(decisions)
        except UserError:  # choices that stand for no network together
            continue
        if network.digest not in found:
            found[network.digest] = decisions, network
            missed = 0
    if len(found) < 10:
        raise UserError(f"space {space.name}: {len(found)} different networks are too few to rank; 10 are needed")
    return list(found.values())


def judge_members(shortcut: Shortcut, found: StudyResult, networks: Sequence[NetworkSpec], seed: int) -> Judgement:
    """What a shortcut says of each network, and what it costs."""
    values, passes, seconds = [], [], []
    for network in networks:
        result = found["values"].get((network.digest, seed))
        metrics = {} if result is None else result.get("metrics", {})
        value = None
        if result is not None:
            value = metrics.get(shortcut.metric) if shortcut.metric else result.get("accuracy")
            value = result.get("merit") if value is None else value
        values.append(float("nan") if value is None else float(value))
        if result is not None:
            seconds.append(float(result.get("seconds") or 0.0))
            passes.append(metrics.get(PASSES, shortcut.passes))
            if "recalibration_images" in metrics:  # of a supernet's member
                passes[-1] = metrics["recalibration_images"] + metrics.get("heldout_images", 0)
    known = [float(one) for one in passes if one is not None]
    return Judgement(
        name=shortcut.name,
        values=np.array(values),
        passes=float(np.mean(known)) if known and len(known) == len(passes) else None,
        seconds=float(np.mean(seconds)),
        beforehand=contained(lambda: count_beforehand(shortcut.evaluator, networks)),
    )
