"""The contract that every algorithm in conf/algorithm keeps, whoever wrote it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra.utils
import optuna
import pytest
from algorithms import ALGORITHMS, SLOW, factory
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from effnas.search.optuna_private import get_storage, get_study_id, read_trial, set_user_attr
from effnas.search.remembered import INTERRUPTED
from effnas.search.seeded import RANK, HistoryCache, Seeded, derive_seed, trial_rank
from effnas.space.errors import UserError

CONF = Path(__file__).resolve().parents[3] / "conf"
PRUNERS = sorted(file.stem for file in (CONF / "pruner").glob("*.yaml"))
SPACE: dict[str, BaseDistribution] = {
    "kernel": CategoricalDistribution([3, 5, 7]),
    "se_ratio": CategoricalDistribution([0.0, 0.25]),
    "skip": CategoricalDistribution(["none", "identity", "pool"]),
    "wide": CategoricalDistribution([False, True]),
    "block": CategoricalDistribution(["mbconv"]),
    "layers": CategoricalDistribution([1, 2, 3, 4]),
    "expand_ratio": CategoricalDistribution([1, 3, 6]),
    "filters": CategoricalDistribution([0.75, 1.0, 1.25]),
}
#: Algorithms for one objective.
SINGLE = {"cmaes": "CMA-ES handles one objective: tests/search/algorithms/test_ordinal.py matches its message"}
#: Enough for every algorithm to have left its random start.
TRIALS = 36


@pytest.fixture(params=[pytest.param(a, marks=pytest.mark.slow) if a in SLOW else a for a in ALGORITHMS])
def algorithm(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("nni_") and find_spec("nni") is None:
        pytest.skip("NNI is not installed: pip install 'effnas[nni]'")
    if request.param in SINGLE and request.node.callspec.params.get("objectives", 1) > 1:
        pytest.skip(SINGLE[request.param])
    return request.param


def new_study(algorithm: str, seed: int = 0, storage: Any = None, objectives: int = 1) -> optuna.Study:
    return optuna.create_study(
        study_name="search",
        storage=storage,
        sampler=Seeded(factory(algorithm), seed),
        directions=["maximize", "minimize"][:objectives],
        load_if_exists=True,
    )


def tell(study: optuna.Study, trial: optuna.Trial) -> None:
    """An evaluation's end: some decisions fail, some are stopped, some break a limit, the rest have values."""
    p = trial.params
    trial.set_constraint("macs", p["layers"] * p["expand_ratio"] / 18 - 1)
    if p["kernel"] == 7 and p["wide"]:
        study.tell(trial, state=TrialState.FAIL)
    elif p["layers"] * p["expand_ratio"] > 18 or (p["skip"] == "pool" and p["kernel"] == 5):
        study.tell(trial, state=TrialState.PRUNED)
    else:
        accuracy = p["kernel"] + p["se_ratio"] + p["layers"] * p["filters"] - p["expand_ratio"] / 4
        cost = float(p["layers"] * p["expand_ratio"])
        study.tell(trial, [accuracy, cost][: len(study.directions)])


def advance(study: optuna.Study, trials: int) -> None:
    for _ in range(trials):
        tell(study, study.ask(SPACE))


def choices(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials if INTERRUPTED not in trial.user_attrs]


def assert_legal(study: optuna.Study) -> None:
    for params in choices(study):
        assert params.keys() == SPACE.keys()
        for name, value in params.items():
            options = SPACE[name].choices  # type: ignore[attr-defined]
            assert [(type(o), o) for o in options].count((type(value), value)) == 1, (name, value)


@pytest.mark.parametrize("objectives", [1, 2])
def test_decisions_are_legal_and_a_search_survives_what_happens_to_its_trials(algorithm: str, objectives: int):
    study = new_study(algorithm, objectives=objectives)
    advance(study, TRIALS)
    assert_legal(study)
    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED}
    assert len({tuple(params.values()) for params in choices(study)}) > TRIALS // 2


def test_a_search_of_nothing_but_failures_goes_on(algorithm: str):
    study = new_study(algorithm)
    for _ in range(TRIALS):
        study.tell(study.ask(SPACE), state=TrialState.FAIL)
    assert_legal(study)
    assert len({tuple(params.values()) for params in choices(study)}) > TRIALS // 2


def test_the_seed_decides(algorithm: str):
    first, again, other = (new_study(algorithm, seed) for seed in (7, 7, 8))
    for study in (first, again, other):
        advance(study, TRIALS)
    assert choices(first) == choices(again)
    assert choices(first) != choices(other)
    assert choices(first)[0] != choices(other)[0] or choices(first)[1] != choices(other)[1]


@pytest.mark.parametrize("objectives", [1, 2])
def test_stopped_and_resumed_is_never_stopped(algorithm: str, objectives: int, tmp_path: Path):
    whole = new_study(algorithm, objectives=objectives)
    advance(whole, TRIALS)
    for part in (1, 12, TRIALS - 13):  # a new storage object, study and sampler each time, as in a new process
        journal = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
        advance(new_study(algorithm, storage=journal, objectives=objectives), part)
    resumed = optuna.load_study(study_name="search", storage=journal)
    assert choices(resumed) == choices(whole)


def test_killed_and_resumed_is_never_stopped(algorithm: str, tmp_path: Path):
    whole = new_study(algorithm)
    advance(whole, TRIALS)
    for part in (0, 3, 14, TRIALS - 17):
        journal = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
        study = new_study(algorithm, storage=journal)
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            set_user_attr(study, trial, INTERRUPTED, True)
            study.tell(trial.number, state=TrialState.FAIL)
        advance(study, part)
        study.ask(SPACE)  # never told: the process was killed
    resumed = optuna.load_study(study_name="search", storage=journal)
    assert len(resumed.trials) == TRIALS + 4
    assert choices(resumed)[:-1] == choices(whole)


def test_several_trials_at_once(algorithm: str):
    study = new_study(algorithm)
    for _ in range(9):
        batch = [study.ask(SPACE) for _ in range(4)]
        if algorithm in ("evolution", "local", "reinforce", "tpe"):
            assert len({tuple(trial.params.values()) for trial in batch}) == 4
        for trial in reversed(batch):
            tell(study, trial)
    assert_legal(study)
    if algorithm in ("evolution", "local"):
        assert len({tuple(params.values()) for params in choices(study)}) == 36


def test_workers_that_share_a_study_do_not_repeat_each_other(algorithm: str, tmp_path: Path):
    backend = partial(JournalFileBackend, str(tmp_path / "journal.log"))
    workers = [new_study(algorithm, storage=JournalStorage(backend())) for _ in range(2)]
    for _ in range(4):
        for trial in [worker.ask(SPACE) for worker in workers]:
            trial.study.tell(trial, [1.0])
    assert len({tuple(params.values()) for params in choices(workers[0])}) == 8


def test_an_interrupted_trial_among_several_leaves_its_place_to_the_next_one():
    study = optuna.create_study(sampler=Seeded(RandomSampler, 0))
    trials = [study.ask(SPACE) for _ in range(4)]
    trials[1].set_user_attr(INTERRUPTED, True)
    study.tell(trials[1], state=TrialState.FAIL)
    later = [study.ask(SPACE) for _ in range(2)]
    assert later[0].params == trials[1].params
    assert all(later[1].params != trial.params for trial in trials)
    assert [trial_rank(study, trial) for trial in study.get_trials()] == [0, 1, 2, 3, 1, 4]


def test_trials_created_at_the_same_time_get_different_ranks():
    study = optuna.create_study()
    storage = get_storage(study)
    first, second = (storage.create_new_trial(get_study_id(study)) for _ in range(2))
    assert trial_rank(study, storage.get_trial(second)) == 1
    assert trial_rank(study, storage.get_trial(first)) == 0
    assert trial_rank(study, storage.get_trial(second)) == 1
    storage.set_trial_state_values(second, TrialState.FAIL)  # what has failed by itself keeps its rank
    third = storage.create_new_trial(get_study_id(study))
    assert trial_rank(study, storage.get_trial(third)) == 2


def slow_rank(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> int:
    """The definition of a rank, without any memory."""
    others = [t for t in study.get_trials() if INTERRUPTED not in t.user_attrs]
    taken = {t.system_attrs[RANK] for t in others if RANK in t.system_attrs}
    free = [rank for rank in range(len(study.trials) + 1) if rank not in taken]
    earlier = [t for t in others if RANK not in t.system_attrs and t.state == TrialState.RUNNING]
    return free[sum(t.number < trial.number for t in earlier)]


@pytest.mark.parametrize("kind", ["memory", "journal", "sqlite"])
def test_what_is_remembered_of_ranks_changes_none(kind: str, tmp_path: Path):
    rng = random.Random(1)
    if kind == "memory":
        storages: list[Any] = [optuna.storages.InMemoryStorage()]
    elif kind == "sqlite":
        storages = [optuna.storages.get_storage(f"sqlite:///{tmp_path}/study.db") for _ in range(2)]
    else:
        storages = [JournalStorage(JournalFileBackend(str(tmp_path / "journal.log"))) for _ in range(2)]
    studies = [optuna.create_study(storage=s, study_name="search", load_if_exists=True) for s in storages]
    checked = 0
    for _ in range(150):
        study = rng.choice(studies)
        running = study.get_trials(states=[TrialState.RUNNING])
        unranked = [t for t in running if RANK not in t.system_attrs]
        what = rng.choice(["create", "create", "rank", "rank", "interrupt", "fail", "enqueue"])
        if what == "create" or not running:
            study._pop_waiting_trial_id() or get_storage(study).create_new_trial(get_study_id(study))
        elif what == "enqueue":
            study.enqueue_trial({})
        elif what == "rank" and unranked:
            trial = rng.choice(unranked)
            expected = slow_rank(study, trial)
            assert trial_rank(study, trial) == trial_rank(rng.choice(studies), trial) == expected
            checked += 1
        else:
            trial = rng.choice(running)
            if what == "interrupt":
                set_user_attr(study, trial, INTERRUPTED, True)
            study.tell(trial.number, state=TrialState.FAIL)
    assert checked > 20


def test_ranks_of_a_study_that_takes_the_place_of_a_deleted_one(tmp_path: Path):
    storage = optuna.storages.get_storage(f"sqlite:///{tmp_path}/study.db")
    for trials in (1, 3, 2):
        study = optuna.create_study(storage=storage, study_name="search", sampler=Seeded(RandomSampler, 0))
        for _ in range(trials):
            study.tell(study.ask(SPACE), 0.0)
        assert [trial.system_attrs[RANK] for trial in study.trials] == list(range(trials))
        optuna.delete_study(study_name="search", storage=storage)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_finished_trial_is_looked_at_once(interrupted: bool, monkeypatch: pytest.MonkeyPatch):
    study = optuna.create_study()
    seen: list[int] = []
    real = get_storage(study).get_all_trials

    class Seen(list[Any]):
        def __getitem__(self, number: Any) -> Any:
            seen.append(number)
            return super().__getitem__(number)

    monkeypatch.setattr(get_storage(study), "get_all_trials", lambda *args, **kwargs: Seen(real(*args, **kwargs)))
    counts = []
    for _ in range(60):
        seen.clear()
        trial = study.ask()
        trial_rank(study, read_trial(study, trial))
        if interrupted:
            trial.set_user_attr(INTERRUPTED, True)
        study.tell(trial, state=TrialState.FAIL)
        counts.append(len(seen))
    assert counts[-1] == counts[1] <= 8


def test_ranks_of_trials_under_hyperband():
    study = optuna.create_study(sampler=Seeded(RandomSampler, 0), pruner=optuna.pruners.HyperbandPruner(1, 27, 3))
    for _ in range(12):  # spread over the brackets, each of which sees its own trials only
        study.tell(study.ask(SPACE), 0.0)
    assert [trial_rank(study, trial) for trial in study.get_trials()] == list(range(12))
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 12


def test_enqueued_trials_are_tried_first():
    study = optuna.create_study(sampler=Seeded(RandomSampler, 0))
    wanted = {name: space.choices[0] for name, space in SPACE.items()}  # type: ignore[attr-defined]
    study.enqueue_trial(wanted)
    assert study.ask(SPACE).params == wanted
    assert study.ask(SPACE).params != wanted


def test_seeds_derived_from_neighbours_differ():
    assert len({derive_seed(seed, rank) for seed in range(30) for rank in range(30)}) == 900


def test_memory_is_handed_on_and_keeps_what_was_last_asked_for():
    class Counting(RandomSampler):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self._cache = HistoryCache(size=2)

        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            for key in ("a", "b", "a", "c", "a"):
                self._cache.get(key, lambda key=key: made.append(key))  # type: ignore[misc]

    made: list[str] = []
    study = optuna.create_study(sampler=Seeded(Counting, 0))
    advance(study, 3)
    assert "".join(made) == "abc" + "bc" * 2
    advance(optuna.create_study(sampler=Seeded(Counting, 0)), 1)
    assert "".join(made) == "abc" + "bc" * 2 + "abc"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Seeded(RandomSampler, -1), "seed must be between 0 and 4294967295, got -1"),
        (lambda: Seeded(RandomSampler, 0.5), "seed must be a whole number, got 0.5"),  # type: ignore[arg-type]
        (
            lambda: Seeded(partial(factory("nsga2"), population_size=1), 0),
            "algorithm: `population_size` must be greater",
        ),
        (lambda: Seeded(partial(factory("random"), population=1), 0), "algorithm: .*unexpected keyword.*'population'"),
        (lambda: Seeded(partial(factory("evolution"), population=0), 0), "^population must be at least 1"),
    ],
)
def test_mistakes(make: Callable[[], Seeded], message: str):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_stop_what_is_hopeless_and_nothing_else(name: str):
    pruner = hydra.utils.instantiate(OmegaConf.load(CONF / "pruner" / f"{name}.yaml"))
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(0), pruner=pruner, study_name="search")
    stopped = []
    for number in range(24):
        trial = study.ask(SPACE)
        hopeless = number >= 16 and number % 2 == 0
        pruned = False
        for epoch in range(1, 10):
            trial.report(0.01 * epoch if hopeless else 0.1 * epoch + number / 1000, epoch)
            if trial.should_prune():
                pruned = True
                break
        study.tell(trial, state=TrialState.PRUNED) if pruned else study.tell(trial, 0.9)
        if number >= 16:
            stopped.append(pruned)
    if name == "none":
        assert not any(stopped)
    else:
        assert any(stopped[0::2])
        assert not any(stopped[1::2])
