"""The subjects of ``search.py``: our samplers and the peers, each called as its documentation shows.

Every setting is the library's default unless a method's name or its comment says otherwise. Optuna's samplers and ours
run in a plain in-memory study by ``ask`` and ``tell``, on the space's categorical distributions (CMA-ES, which has no
categories, on the choices' numbers). NNI's tuners are driven by the calls that its dispatcher makes, its NAS strategy
``RegularizedEvolution`` by an execution engine that evaluates on the spot (NNI's own sleeps and starts processes); its
evolution tuner takes no seed, so its generators are replaced after its search space is set. pymoo's NSGA-II has the
integer operators of its page on discrete variables.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study

if TYPE_CHECKING:
    from search import Run


class Spent(Exception):
    """The budget is used up."""


@dataclass(frozen=True)
class Method:
    """One subject.

    Args:
        run: proposes networks to a run until that raises :class:`Spent`.
        group: ``ours``, ``peer`` or ``baseline``.
        needs: modules without which it is skipped.
        on: the tasks it is for: those of one objective (``reward``), of two (``front``), or ``both``.
        slow: limited to ``--slow-budget`` evaluations.
    """

    run: Callable[[Run], None]
    group: str = "peer"
    needs: tuple[str, ...] = ()
    on: str = "both"
    slow: bool = False

    def serves(self, task: str) -> bool:
        """Whether it is for a task."""
        return self.on in ("both", "front" if task.endswith("front") else "reward")

    def missing(self) -> str:
        """The first module that is not installed; empty: none."""
        for name in self.needs:
            try:
                if importlib.util.find_spec(name) is None:
                    return name
            except ModuleNotFoundError:
                return name
        return ""


# -- ours ---------------------------------------------------------------------------------------------------


def ours(run: Run, where: str, informed: bool = False) -> None:
    """One of our samplers, its settings untouched; ``informed``: told what the space and the objective know."""
    from effnas.search.seeded import Seeded

    module, name = where.split(":")
    factory = getattr(importlib.import_module(module), name)
    if informed:
        from effnas.search.algorithms.member_facts import SpaceKnown

        factory = functools.partial(factory, known=SpaceKnown(run.task.space, run.task.objective))
    sampler = Seeded(factory, run.seed)

    def named(study: Study) -> int | None:
        """The trial that the sampler's model takes to be the best; None: it has no model."""
        estimates = sampler.estimates(study)
        return max(estimates, key=estimates.__getitem__) if estimates else None

    in_study(run, sampler, run.task.space.distributions, named=named if informed else None)


# -- Optuna -------------------------------------------------------------------------------------------------


def in_study(
    run: Run,
    sampler: BaseSampler,
    distributions: dict[str, Any],
    decode: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    named: Callable[[Study], int | None] | None = None,
) -> None:
    """Ask and tell; the trial named best is ``study.best_trial``, where the method has no opinion of its own."""
    study = optuna.create_study(sampler=sampler, directions=run.task.objective.directions)
    while True:
        trial = study.ask(distributions)
        try:
            values = run(decode(trial.params))
        except Spent:
            return
        study.tell(trial, values)
        if named is not None and run.is_checkpoint and len(values) == 1:
            run.name(functools.partial(named, study))


def by_optuna(run: Run, sampler: str, **settings: Any) -> None:
    """One of Optuna's samplers."""
    made = getattr(optuna.samplers, sampler)(seed=run.seed, **settings)
    in_study(run, made, run.task.space.distributions)


def by_cmaes(run: Run, **settings: Any) -> None:
    """CMA-ES on the numbers of the choices."""
    choices = run.task.space.choices
    numbers: dict[str, BaseDistribution] = {name: IntDistribution(0, len(c) - 1) for name, c in choices.items()}
    in_study(
        run,
        optuna.samplers.CmaEsSampler(seed=run.seed, **settings),
        numbers,
        lambda params: {name: choices[name][i] for name, i in params.items()},
    )


# -- NNI ----------------------------------------------------------------------------------------------------


def _nni(module: str) -> Any:
    """A module of NNI, without its log, and without PyTorch Lightning, which only its own networks need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nni

        nni.set_default_framework("none")
        found = importlib.import_module(module)
    for name in list(logging.root.manager.loggerDict):
        if name == "nni" or name.startswith("nni."):
            logging.getLogger(name).setLevel(logging.ERROR)
    return found


def by_nni_tuner(run: Run, module: str, name: str, seeded: bool) -> None:
    """A tuner of ``nni.algorithms.hpo``; the choices are given as their numbers."""
    choices = run.task.space.choices
    space = {name: {"_type": "choice", "_value": list(range(len(c)))} for name, c in choices.items()}
    kind = getattr(_nni(f"nni.algorithms.hpo.{module}"), name)
    tuner = kind(optimize_mode="maximize", **({"seed": run.seed} if seeded else {}))
    tuner.update_search_space(space)
    if not seeded:  # EvolutionTuner: its generator and its first population are made from the clock
        random.seed(run.seed)
        tuner.random_state, tuner.population = np.random.RandomState(run.seed), []
        for _ in range(tuner.population_size):
            tuner._random_generate_individual()
    number = 0
    while True:
        (params,) = tuner.generate_multiple_parameters([number], st_callback=lambda *_: None)
        try:
            (value,) = run({name: choices[name][i] for name, i in params.items()})
        except Spent:
            return
        tuner.receive_trial_result(number, params, value)
        tuner.trial_end(number, True)
        number += 1


def by_nni_strategy(run: Run, name: str) -> None:
    """A strategy of ``nni.nas.strategy`` over a space of one categorical mutable a decision."""
    strategies, mutable = _nni("nni.nas.strategy"), _nni("nni.mutable")
    execution, spaces = _nni("nni.nas.execution"), _nni("nni.nas.space")
    events = _nni("nni.nas.execution.event")
    choices = run.task.space.choices

    class Engine(execution.ExecutionEngine):  # type: ignore[misc]
        """Evaluates what is submitted before it returns."""

        def submit_models(self, *models: Any) -> None:
            for model in models:
                (value,) = run({name: choices[name][i] for name, i in model.sample.items()})
                self.dispatch_model_event(events.FinalMetricEvent(model, value))
                self.dispatch_model_event(events.TrainingEndEvent(model, spaces.ModelStatus.Trained))

        def list_models(self, status: Any = None) -> list[Any]:
            return []

        def idle_worker_available(self) -> bool:
            return True

        def budget_available(self) -> bool:
            return len(run.rows) < run.budget

    mutables = {name: mutable.Categorical(list(range(len(c))), label=name) for name, c in choices.items()}
    space = spaces.RawFormatModelSpace(mutable.MutableDict(mutables), None)
    getattr(strategies, name)(seed=run.seed)(space, Engine())


# -- pymoo --------------------------------------------------------------------------------------------------


def by_pymoo(run: Run, population: int) -> None:
    """NSGA-II with pymoo's integer sampling, crossover and mutation."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.problems.static import StaticProblem

    choices = run.task.space.choices
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in run.task.objective.directions])
    problem = Problem(
        n_var=len(choices), n_obj=len(signs), xl=0, xu=np.array([len(c) - 1 for c in choices.values()]), vtype=int
    )
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=NoTermination(), seed=run.seed, verbose=False)
    while True:
        asked = algorithm.ask()
        if asked is None or not len(asked):
            return  # all offspring are duplicates: it stops
        losses = []
        for row in asked.get("X"):
            try:
                values = run({name: c[int(i)] for (name, c), i in zip(choices.items(), row, strict=True)})
            except Spent:
                return
            losses.append(signs * np.array(values))
        Evaluator().eval(StaticProblem(problem, F=np.array(losses)), asked)
        algorithm.tell(infills=asked)


p = functools.partial
METHODS: dict[str, Method] = {
    "predictor": Method(
        p(ours, where="effnas.search.algorithms.predictor:Predictor", informed=True),
        "ours",
        ("effnas.search.algorithms.predictor", "effnas.search.algorithms.member_facts"),
    ),
    "local": Method(
        p(ours, where="effnas.search.algorithms.local:LocalSearch"), "ours", ("effnas.search.algorithms.local",)
    ),
    "evolution": Method(p(ours, where="effnas.search.algorithms.evolution:Evolution"), "ours"),
    "reinforce": Method(
        p(ours, where="effnas.search.algorithms.reinforce:Reinforce"), "ours", ("effnas.search.algorithms.reinforce",)
    ),
    "random": Method(p(by_optuna, sampler="RandomSampler"), "baseline"),
    # Optuna 5's default is the multivariate one for one objective, the other for several
    "optuna_tpe": Method(p(by_optuna, sampler="TPESampler")),
    "optuna_tpe_univariate": Method(p(by_optuna, sampler="TPESampler", multivariate=False), on="reward"),
    "optuna_tpe_multivariate": Method(p(by_optuna, sampler="TPESampler", multivariate=True), on="front"),
    "optuna_gp": Method(p(by_optuna, sampler="GPSampler"), needs=("scipy", "torch"), slow=True),
    "optuna_cmaes": Method(by_cmaes, needs=("cmaes",), on="reward"),
    "optuna_cmaes_margin": Method(p(by_cmaes, with_margin=True), needs=("cmaes",), on="reward"),
    "optuna_nsga2": Method(p(by_optuna, sampler="NSGAIISampler")),
    "optuna_nsga3": Method(p(by_optuna, sampler="NSGAIIISampler"), on="front"),
    "nni_regularized_evolution": Method(p(by_nni_strategy, name="RegularizedEvolution"), needs=("nni",), on="reward"),
    "nni_evolution": Method(
        p(by_nni_tuner, module="evolution_tuner", name="EvolutionTuner", seeded=False), needs=("nni",), on="reward"
    ),
    "nni_tpe": Method(p(by_nni_tuner, module="tpe_tuner", name="TpeTuner", seeded=True), needs=("nni",), on="reward"),
    "pymoo_nsga2": Method(p(by_pymoo, population=100), needs=("pymoo",)),
    "pymoo_nsga2_pop20": Method(p(by_pymoo, population=20), needs=("pymoo",)),
}
