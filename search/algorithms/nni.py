"""Algorithms of Microsoft's NNI 3.0 as Optuna samplers: they see choice numbers and values, never a network.

Each trial gets an algorithm made afresh and fed with the history, through the interfaces that NNI itself resumes by.
"""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...space.errors import check_int, check_number
from ..optuna_private import set_system_attr
from ..remembered import remember
from ..seeded import derive_seed, trial_rank
from .history import make_sort_keys, read_history
from .history_table import HistoryTable
from .nni_library import add_random_individual, load_nni
from .ranked_sampler import SharedSpaceSampler

#: System attribute: the number of the trial that lost its place to this one (naive evolution).
REPLACED = "effnas:nni:replaced"

Levels = dict[str, int]
_LOCK = threading.Lock()


@dataclass(frozen=True)
class NNIHistory:
    """What an algorithm of NNI receives.

    Args:
        sizes: number of choices of each parameter.
        numbers: of the evaluated trials, oldest first.
        levels: their choices.
        values: larger is better: minus the place among them.
        running: choices of the trials that run.
        closed: choices of those that ended without a value.
        seed: of this trial.
    """

    sizes: Levels
    numbers: list[int]
    levels: list[Levels]
    values: list[float]
    running: list[Levels]
    closed: list[Levels]
    seed: int


class NNI(SharedSpaceSampler, ABC):
    """What the adapters share: the way between Optuna and NNI.

    NNI's algorithms handle one value, and those used here only compare values. So they get minus the place
    of a trial: by violation of Optuna's constraints, then by value or, of several objectives, by front and crowding
    distance. Failed, pruned and running trials have no value; but as long as no trial has completed, the pruned ones
    that violate constraints do. Numeric parameters are searched on 33 levels at most.

    Raises:
        UserError: NNI is not installed, or a setting is outside its range.
    """

    def __init__(self, seed: int | None) -> None:
        load_nni()
        super().__init__(seed)

    @abstractmethod
    def choose_levels(self, study: Study, trial: FrozenTrial, past: NNIHistory) -> Levels | None:
        """The choices that NNI's algorithm makes; None: it has no more."""

    def propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """What NNI's algorithm proposes after the history."""
        table = self._cache.get(
            (*search_space.items(), *study.directions), lambda: HistoryTable(search_space, study.directions)
        )
        seed = derive_seed(self._seed, trial_rank(study, trial))
        trials = read_history(study, trial)
        columns = table.read(trials)
        parents = columns.find_parents()
        legal = columns.legal
        closed = legal & columns.finished
        closed[parents] = False
        keys = make_sort_keys([trials[i] for i in parents], study.directions)
        places = {key: place for place, key in enumerate(sorted(set(keys)))}
        names = table.encoding.names

        def levels(which: NDArray[Any]) -> list[Levels]:
            return [dict(zip(names, row, strict=True)) for row in columns.rows[which].tolist()]

        past = NNIHistory(
            sizes=dict(zip(names, table.encoding.sizes.tolist(), strict=True)),
            numbers=[trials[i].number for i in parents],
            levels=levels(parents),
            values=[-float(places[key]) for key in keys],
            running=levels(legal & ~columns.finished),
            closed=levels(closed),
            seed=seed % 2**31,
        )
        with _LOCK:
            chosen = self.choose_levels(study, trial, past)
        if chosen is None:
            row = table.encoding.random(1, np.random.default_rng(seed))[0]
        else:
            row = np.array([chosen[name] for name in names])
        return table.encoding.params(row)


class NNIRegularizedEvolution(NNI):
    """``nni.nas.strategy.RegularizedEvolution``: Real et al. 2019, with mutations of every decision.

    Args:
        population_size: the youngest evaluated trials, which may be parents; the first ones are random.
        sample_size: how many of them compete to be the parent.
        mutation_prob: with which each decision is drawn again.
        crossover: whether a child has two parents.
        dedup: whether to draw again what was proposed before.
        seed: None: another search each time.
    """

    def __init__(
        self,
        population_size: int = 20,
        sample_size: int = 10,
        mutation_prob: float = 0.05,
        crossover: bool = False,
        dedup: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        check_int("population_size", population_size, 1)
        check_int("sample_size", sample_size, 1, population_size)
        check_number("mutation_prob", mutation_prob, 0, 1, open_low=True)
        self._population_size = population_size
        self._settings = {
            "population_size": population_size,
            "sample_size": sample_size,
            "mutation_prob": mutation_prob,
            "crossover": crossover,
            "dedup": dedup,
        }

    def choose_levels(self, study: Study, trial: FrozenTrial, past: NNIHistory) -> Levels | None:
        """A random sample, until the population is complete, then a child."""
        nni = load_nni()
        strategy = nni.evolution.RegularizedEvolution(**self._settings, seed=past.seed)
        space = nni.MutableDict({n: nni.Categorical(list(range(k)), label=n) for n, k in past.sizes.items()})
        strategy.initialize(space, SimpleNamespace(register_model_event_callback=lambda *_: None))
        young = slice(-self._population_size, None)
        population = [
            nni.evolution.Individual(x, y) for x, y in zip(past.levels[young], past.values[young], strict=True)
        ]
        seen = [frozenset(levels.items()) for levels in (*past.levels, *past.running, *past.closed)]
        strategy.load_state_dict(strategy.state_dict() | {"population": population, "dedup_history": seen})
        complete = len(population) + len(past.running) >= self._population_size and population
        chosen: Levels | None = nni.retry(strategy.new_individual if complete else strategy.random)
        return chosen


class NNIEvolution(NNI):
    """``nni.algorithms.hpo.EvolutionTuner``: of a random pair the worse dies, the better has a mutated child.

    The tuner resumes nothing itself: which trial died for which is recorded with the trials, and it is given the
    others as its population. It takes no seed either: its generator is replaced, Python's is seeded while it chooses.

    Args:
        population_size: the first so many trials are random.
        seed: None: another search each time.
    """

    def __init__(self, population_size: int = 32, seed: int | None = None) -> None:
        super().__init__(seed)
        check_int("population_size", population_size, 2)
        self._population_size = population_size

    def choose_levels(self, study: Study, trial: FrozenTrial, past: NNIHistory) -> Levels | None:
        """One decision of the better of a pair is drawn again; a random vector, as long as there are too few."""
        nni = load_nni()
        # of all trials: of a long study those that replaced others need not be shown
        dead = remember(study).collect(REPLACED, lambda other: other.system_attrs.get(REPLACED), trial.number)
        told = zip(past.numbers, past.levels, past.values, strict=True)
        alive = [(number, levels, value) for number, levels, value in told if number not in dead]
        tuner = nni.EvolutionTuner("maximize", population_size=1)
        tuner.update_search_space({n: {"_type": "choice", "_value": list(range(k))} for n, k in past.sizes.items()})
        tuner.random_state = np.random.RandomState(past.seed)
        tuner.population = [
            nni.Individual({name: {"_index": i, "_value": i} for name, i in levels.items()}, number, value)
            for number, levels, value in alive
        ]
        if len(alive) < 2 or len(alive) + len(past.running) < self._population_size:
            add_random_individual(tuner)  # what the tuner begins with, and replaces failed trials by
        before, state = list(tuner.population), random.getstate()
        random.seed(past.seed)
        try:
            chosen: Levels = tuner.generate_parameters(trial.number)
        finally:
            random.setstate(state)
        left = {one.info for one in tuner.population}
        for number in {one.info for one in before} - left - {None}:
            set_system_attr(study, trial, REPLACED, number)
        return chosen


class NNITPE(NNI):
    """``nni.algorithms.hpo.TpeTuner``: Bergstra et al. 2011, each decision for itself.

    Args:
        n_startup_jobs: trials drawn at random first.
        n_ei_candidates: candidates compared for each decision.
        linear_forgetting: trials after which old ones lose weight.
        prior_weight: of the uniform distribution.
        gamma: ``gamma × sqrt(trials)`` are the good ones.
        seed: None: another search each time.
    """

    def __init__(
        self,
        n_startup_jobs: int = 20,
        n_ei_candidates: int = 24,
        linear_forgetting: int = 25,
        prior_weight: float = 1.0,
        gamma: float = 0.25,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        check_int("n_startup_jobs", n_startup_jobs, 1)
        check_int("n_ei_candidates", n_ei_candidates, 1)
        check_int("linear_forgetting", linear_forgetting, 1)
        check_number("prior_weight", prior_weight, 0, open_low=True)
        check_number("gamma", gamma, 0, open_low=True)
        self._settings = {
            "n_startup_jobs": n_startup_jobs,
            "n_ei_candidates": n_ei_candidates,
            "linear_forgetting": linear_forgetting,
            "prior_weight": prior_weight,
            "gamma": gamma,
        }

    def choose_levels(self, study: Study, trial: FrozenTrial, past: NNIHistory) -> Levels | None:
        """What is likelier among the good trials than among the others."""
        nni = load_nni()
        tuner = nni.TpeTuner("maximize", seed=past.seed, tpe_args=self._settings)
        tuner.update_search_space({n: {"_type": "choice", "_value": list(range(k))} for n, k in past.sizes.items()})
        lie = max(past.values, default=0.0)  # the tuner's own rule for what runs, "best"
        known = [*zip(past.levels, past.values, strict=True), *((levels, lie) for levels in past.running)]
        dedup = tuner.dedup
        tuner.dedup = SimpleNamespace(add_history=lambda _: None)  # it is told each trial once per decision, in 0.3 ms
        tuner.import_data([{"parameter": levels, "value": value} for levels, value in known])
        tuner.dedup = dedup
        for levels in (*past.levels, *past.running, *past.closed):
            dedup.add_history(nni.format_parameters(levels, tuner.space))
        try:
            chosen: Levels = tuner.generate_parameters(trial.number)
        except nni.NoMoreTrialError:
            return None
        return chosen
