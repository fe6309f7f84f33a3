"""``effnas search``: the settings, the run, the output folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study

from ..evaluate.contain import contained
from ..evaluate.evaluation import Evaluator, find_kind, make_plain_mapping
from ..evaluate.identity import describe_content
from ..evaluate.latency.known import find_latency, tell_latency
from ..evaluate.reasons import describe_exception
from ..evaluate.study_result import StudyResult
from ..report.job import write_report
from ..space.errors import UserError, check_int
from ..space.network_spec import hash_plain
from ..space.paths import as_path
from ..space.quantity import as_plain
from ..space.space import SearchSpace, load_space
from .algorithms.auto import Auto, Choice, choose_algorithm, keep_choice
from .algorithms.known_network import begin_around
from .algorithms.member_facts import inform_algorithm
from .algorithms.predictor import Predictor
from .feasible import Space, find_feasible_member
from .objective import MnasNetReward, Objective, Pareto
from .options import StudyOptions, check_parts, complete_options
from .problem import SpaceProblem
from .report import write_search
from .seeded import Seeded
from .trials import make_no_result_error, run_trials
from .winner.keeper import Keeper, rank_by_objective
from .workers.count import count_workers


def run_search(
    space: Space | str | Path,
    evaluator: Evaluator,
    objective: Objective | None = None,
    algorithm: Callable[..., BaseSampler] = Predictor,
    *,
    latency: str | Path | None = None,
    trials: int = 30,
    confirm: int = 0,
    keep: int = 1,
    seed: int = 0,
    output: str | Path = "outputs/search",
    job: Mapping[str, Any] | None = None,
    command: str = "",
    **options: Unpack[StudyOptions],
) -> StudyResult:
    """Search ``space`` for the network that ``objective`` likes best; continues the search in ``output``.

    Args:
        space: where to search: anything with a name, distributions and build; a string names a shipped one or a file.
        evaluator: trains or looks up candidates; with several workers it must pickle.
        objective: score or scores of an evaluation, and hard limits; None: the MnasNet reward, T = 400 M, w = −0.07.
        algorithm: called as ``algorithm(seed=…)``, returns an Optuna sampler: the class itself, or a partial of it. A
            partial's ``prior`` may be the name of a network, a file or a network: the nearest member is looked up.
        latency: what says the latency of networks before they are trained, as the evaluator's ``latency_model``: a
            ready law's name (``rtx4090``, …), or a file of ``effnas latency fit``.
        trials: finished trials to reach, those of earlier runs included.
        confirm: how many of them, the last ones, evaluate the best networks so far again, with other seeds, for
            evaluations that are noisy (:mod:`effnas.search.confirm`). The first of them, whole rounds of the three
            best and at most half of all, choose the winner: by the sampler's model, where it has one, or by the mean
            of a network's scores. The others, which no choice sees, say what it reaches. Of several objectives, all
            evaluate the members of the front, in turn.
        keep: networks whose trained weights are kept, the best ones; 0: none. Of evaluators that train
            (:meth:`~effnas.evaluate.proxy.Proxy.keeping`).
        seed: of the sampler's choices and of every training.
        output: folder of ``baseline.yaml``, ``trials.csv``, ``pareto.csv``, ``summary.json``, figures,
            ``report.html``, ``weights/trial-N.safetensors`` and, without ``storage``, the study.
        job: what the user chose, as plain data; a folder that holds another search is refused. By default made of the
            arguments.
        command: as the user typed it, for the record.
        options: how the study is run, :class:`~effnas.search.options.StudyOptions`: ``workers=2``, ``timeout=3600``, …

    Returns:
        The content of ``summary.json``, with ``trials`` and ``front`` as data frames of pandas.

    Raises:
        UserError: a setting is wrong, the limits are out of reach, another search is in the folder, or no trial
            produced a network.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    trials, confirm, keep, seed = map(as_plain, (trials, confirm, keep, seed))
    check_int("seed", seed, 0, 2**32 - 1)
    output, how = as_path("output", output), complete_options(options)
    members = load_space(space) if isinstance(space, str | Path) else space
    objective = MnasNetReward() if objective is None else objective
    check_parts(members, evaluator, objective, algorithm)
    objective = name_worth(objective, evaluator)
    evaluator = tell_latency(evaluator, latency)
    known = find_latency(evaluator, members.name)
    find_feasible_member(members, objective, np.random.default_rng(seed), known)  # limits out of reach are told now
    algorithm, start = begin_around(algorithm, members)
    algorithm = inform_algorithm(algorithm, members, objective, known)
    _rehearse(algorithm, members, objective)
    sampler = Seeded(algorithm, seed)
    chosen: list[Choice] = []
    if start is not None and not how["quiet"]:
        print(start.explain(), file=sys.stderr)
    keeper = Keeper(output, keep, lambda study: rank_by_objective(study, objective), evaluator)

    def choose(optuna_study: Study, _: object) -> None:
        """Of ``algorithm=auto``: what was chosen when the search began."""
        if isinstance(sampler.example, Auto):
            places, _note = count_workers(how["workers"], how["workers_per_device"], evaluator)
            informed = isinstance(members, SearchSpace)
            choice = choose_algorithm(trials, places, len(objective.directions), informed)
            chosen.append(keep_choice(optuna_study, choice))
            if not how["quiet"]:
                print(chosen[0].explain(), file=sys.stderr)

    def write(optuna_study: Study, seconds: float) -> StudyResult:
        facts = {"algorithm": str(sampler), "evaluator": type(evaluator).__name__, "command": command}
        details = _describe(evaluator) | (
            {} if known is None else {"latency_is": getattr(known, "trust", "known before training")}
        )
        found = write_search(
            optuna_study,
            members,
            objective,
            output,
            seed=seed,
            seconds=seconds,
            details=details,
            estimate=sampler.estimates,
            keeper=keeper,
            prior=start,
            chosen=chosen[0] if chosen else None,
            **facts,
        )
        if how["report"]:
            write_report(output)
        return found

    summary = run_trials(
        SpaceProblem(members, objective, seed, known),
        evaluator,
        objective,
        sampler,
        write,
        how,
        name="search",
        by="search",
        job=job,
        facts={
            "space": _describe_space(members),
            "objective": describe_content(objective),
            "seed": seed,
            "prior": None if start is None else start.decisions,
        },
        trials=trials,
        confirm=confirm,
        keeper=keeper,
        output=output,
        prepare=choose,
    )
    if summary["best"] is None:
        counts = f"{summary['failed']} of {summary['trials']} failed"
        raise make_no_result_error(output, "no trial produced a network to keep", counts, summary["reasons"])
    return summary


def name_worth(objective: Objective, evaluator: Evaluator) -> Objective:
    """The objective with ``merit`` in the place of ``accuracy``, where that is what the evaluator gives."""
    if isinstance(objective, Pareto) and find_kind(evaluator) == "merit":
        return replace(
            objective, metrics=tuple(dict.fromkeys(m.replace("accuracy", "merit") for m in objective.metrics))
        )
    return objective


def _describe_space(space: Space) -> dict[str, Any]:
    """Its content: the decisions, and members that show every choice of each, whatever the space is called."""
    choices = {name: distribution.choices for name, distribution in space.distributions.items()}
    networks = []
    for turn in range(max(map(len, choices.values()), default=1)):
        try:
            member = space.build({name: values[min(turn, len(values) - 1)] for name, values in choices.items()})
            networks.append(member.digest)
        except UserError as error:  # choices that stand for no network together
            networks.append(str(error))
    return {
        "name": space.name,
        "decisions": {name: [str(value) for value in values] for name, values in choices.items()},
        "networks": hash_plain({"members": networks}),
    }


def _describe(evaluator: Evaluator) -> dict[str, Any]:
    """What the evaluator says of itself; where it cannot, that, and not the end of a search that is done."""
    try:
        return make_plain_mapping(contained(getattr(evaluator, "describe", dict)))
    except Exception as error:
        return {"note": f"note: describe() of the evaluator failed: {describe_exception(error)}"}


def _rehearse(algorithm: Callable[..., BaseSampler], space: Space, objective: Objective) -> None:
    """Ask once, in memory: an algorithm that cannot deal with the space or the objectives says so before all else."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in objective.directions]
    study = optuna.create_study(directions=directions, sampler=Seeded(algorithm, 0))
    study.ask(dict(space.distributions))
