from __future__ import annotations

import random
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from effnas.search.algorithms.nni import NNI, NNITPE, REPLACED, NNIEvolution, NNIRegularizedEvolution
from effnas.search.algorithms.nni_library import TESTED_VERSIONS, add_random_individual, load_nni
from effnas.search.seeded import Seeded
from effnas.space.errors import UserError

needs_nni = pytest.mark.skipif(find_spec("nni") is None, reason="NNI is not installed: pip install 'effnas[nni]'")
SIX: dict[str, BaseDistribution] = {name: CategoricalDistribution([0, 1, 2, 3]) for name in "abcdef"}
ALL = [NNIRegularizedEvolution, NNIEvolution, NNITPE]


def add(study: optuna.Study, level: int, state: TrialState = TrialState.COMPLETE, **result: Any) -> None:
    params = dict.fromkeys(SIX, level)
    study.add_trial(optuna.trial.create_trial(state=state, params=params, distributions=dict(SIX), **result))


def from_parent(params: dict[str, int], level: int) -> bool:
    """Whether at most two decisions differ from those of the vector of this value."""
    return sum(value != level for value in params.values()) <= 2


@pytest.mark.parametrize("sampler", ALL)
def test_without_nni_the_message_says_what_to_install(sampler: type[NNI], monkeypatch: pytest.MonkeyPatch):
    load_nni.cache_clear()
    monkeypatch.setitem(sys.modules, "nni", None)
    with pytest.raises(UserError, match=r"NNI's algorithms need the package nni: pip install 'effnas\[nni\]'"):
        Seeded(sampler, 0)
    load_nni.cache_clear()


@needs_nni
def test_nni_still_has_its_private_names():
    tuner = load_nni().EvolutionTuner("maximize", population_size=1)
    tuner.update_search_space({"a": {"_type": "choice", "_value": [0, 1]}})
    before = len(tuner.population)
    try:
        add_random_individual(tuner)
        assert len(tuner.population) == before + 1
        assert tuner.population[-1].result is None
    except Exception as error:
        pytest.fail(
            f"NNI {version('nni')} has moved EvolutionTuner._random_generate_individual ({type(error).__name__}: "
            f"{error}): mend search/algorithms/nni_library.py, which was tested with NNI {', '.join(TESTED_VERSIONS)}",
            pytrace=False,
        )


@needs_nni
@pytest.mark.parametrize("sampler", ALL)
def test_generators_of_the_process_are_left_alone(sampler: type[NNI]):
    study = optuna.create_study(sampler=sampler(seed=0))
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    for value in range(45):
        study.tell(study.ask(SIX), float(value))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[union-attr]


@needs_nni
def test_regularised_evolution_mutates_the_best_of_the_youngest():
    sampler = partial(NNIRegularizedEvolution, population_size=3, sample_size=3, mutation_prob=0.2)
    study = optuna.create_study(direction="maximize", sampler=Seeded(sampler, 0))
    for value, score in ((0, 9.0), (1, 1.0), (2, 3.0), (3, 2.0)):  # the best is too old
        add(study, value, value=score)
    trials = [study.ask(SIX) for _ in range(8)]
    assert sum(from_parent(trial.params, 2) for trial in trials) >= 6
    assert len({tuple(trial.params.values()) for trial in trials}) == 8


@needs_nni
def test_naive_evolution_replaces_the_worse_of_a_pair():
    study = optuna.create_study(direction="minimize", sampler=NNIEvolution(population_size=2, seed=0))
    add(study, 1, value=5.0)
    add(study, 2, value=1.0)
    child = study.ask(SIX)
    assert from_parent(child.params, 2)
    assert study.trials[-1].system_attrs[REPLACED] == 0
    study.tell(child, 3.0)
    other = study.ask(SIX)
    assert study.trials[-1].system_attrs[REPLACED] == child.number  # trial 0 is dead
    study.tell(other, state=TrialState.FAIL)
    number = study.ask(SIX).number
    assert REPLACED not in study.trials[number].system_attrs  # a random one takes its place


@needs_nni
def test_tpe_prefers_what_is_good():
    study = optuna.create_study(sampler=Seeded(partial(NNITPE, n_startup_jobs=10), 1))
    for _ in range(30):
        trial = study.ask(SIX)
        study.tell(trial, float(sum(trial.params.values())))
    sums = [sum(trial.params.values()) for trial in study.trials]
    assert np.mean(sums[10:]) < np.mean(sums[:10]) - 1


@needs_nni
@pytest.mark.parametrize(
    "sampler",
    [
        partial(NNIRegularizedEvolution, population_size=10, sample_size=5, mutation_prob=0.2),
        partial(NNIEvolution, population_size=10),
        partial(NNITPE, n_startup_jobs=10),
    ],
)
def test_the_lesser_violation_goes_first(sampler: Any):
    study = optuna.create_study(direction="maximize", sampler=Seeded(sampler, 0))
    sums = []
    for _ in range(80):
        trial = study.ask(SIX)
        sums.append(sum(trial.params.values()))  # 9 where they are random
        trial.set_constraint("sum", sums[-1])
        study.tell(trial, state=TrialState.PRUNED)
    assert np.mean(sums[50:]) < 6.5


@needs_nni
def test_a_space_that_is_searched_up_goes_on():
    for sampler in (NNIRegularizedEvolution, NNITPE):
        study = optuna.create_study(sampler=sampler(seed=0))
        space = {"a": CategoricalDistribution([0, 1]), "b": IntDistribution(2, 4)}
        values = []
        for value in range(8):
            trial = study.ask(space)
            values.append(tuple(trial.params.values()))
            study.tell(trial, float(value))
        assert len(set(values)) == 6


@needs_nni
def test_its_noise_stays_inside():
    code = """
import logging, sys, warnings
from effnas.search.algorithms.nni_library import load_nni
filters, handlers = list(warnings.filters), list(logging.getLogger().handlers)
assert "nni" not in sys.modules
assert load_nni() is load_nni()
assert (list(warnings.filters), logging.getLogger().handlers) == (filters, handlers)
logging.basicConfig(level=logging.INFO)
logging.getLogger("nni.x").info("noise")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_nni
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NNIRegularizedEvolution(population_size=0), "population_size must be at least 1, got 0"),
        (lambda: NNIRegularizedEvolution(5, 6), "sample_size must be between 1 and 5, got 6"),
        (lambda: NNIRegularizedEvolution(mutation_prob=0), r"mutation_prob must be in \(0, 1\], got 0"),
        (lambda: NNIEvolution(population_size=1), "population_size must be at least 2, got 1"),
        (lambda: NNITPE(gamma=0), r"gamma must be in \(0, inf\], got 0"),
        (lambda: NNITPE(seed=-1), "seed must be between 0 and 4294967295, got -1"),
    ],
)
def test_mistakes(make: Any, message: str):
    with pytest.raises(UserError, match=message):
        make()
