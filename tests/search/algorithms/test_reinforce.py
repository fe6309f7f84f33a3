from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from synthetic import best_after

from effnas.search.algorithms import reinforce
from effnas.search.algorithms.decision_policy import PPO, DecisionPolicy, PolicyLearner
from effnas.search.algorithms.reinforce import Reinforce, _compute_advantages
from effnas.search.journal import Journal, JournalFile
from effnas.search.seeded import Seeded
from effnas.space.errors import UserError

SIX: dict[str, BaseDistribution] = {name: CategoricalDistribution([0, 1, 2]) for name in "abcdef"}
SIZES = np.array([3, 2, 4])


def all_vectors() -> torch.Tensor:
    return torch.cartesian_prod(*(torch.arange(int(size)) for size in SIZES))


def probabilities(policy: DecisionPolicy) -> np.ndarray:
    """Of every vector, shape (3, 2, 4)."""
    rows = all_vectors()
    with torch.no_grad():
        logs = policy.log_probs(rows).gather(2, rows[:, :, None]).sum(dim=(1, 2))
    return logs.exp().numpy().reshape(SIZES)


def learner() -> PolicyLearner:
    return PolicyLearner(SIZES, 16, PPO(epochs=5, learning_rate=0.01, clip=0.2, entropy=0.0))


def test_a_new_policy_gives_every_vector_the_same_probability_and_leaves_torchs_generator_alone():
    before = torch.random.get_rng_state()
    assert probabilities(learner().policy) == pytest.approx(1 / 24)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_turns_out_well_becomes_likelier_and_the_clip_bounds_how_much():
    some = learner()
    rows = all_vectors().numpy()[[0, 5, 11, 23]]
    some.learn(rows, np.array([1.0, -1.0, 1.0, -1.0]))
    after = probabilities(some.policy)
    assert after.sum() == pytest.approx(1, abs=1e-5)
    good, bad = after.ravel()[[0, 11]] * 24, after.ravel()[[5, 23]] * 24
    assert good.min() > 1.05 > 0.95 > bad.max()
    assert good.max() < 2


def test_vectors_are_drawn_as_often_as_the_policy_says():
    some = learner()
    for _ in range(4):
        some.learn(all_vectors().numpy()[[3, 4, 9, 10]], np.array([1.0, -1.0, 1.0, -1.0]))
    expected = probabilities(some.policy)
    assert expected.max() > 3 * expected.min()
    draws = some.policy.draw(np.random.default_rng(0).gumbel(size=(20000, 3, 4)))
    counts = np.zeros(SIZES)
    np.add.at(counts, tuple(draws.T), 1)
    assert counts / 20000 == pytest.approx(expected, abs=0.01)


def done(number: int, state: TrialState = TrialState.COMPLETE, **result: Any) -> optuna.trial.FrozenTrial:
    trial = optuna.trial.create_trial(state=state, params={}, distributions={}, **result)
    trial.number = number
    return trial


def test_advantages_are_places():
    study = optuna.create_study(direction="maximize")
    trials = [done(0, value=5.0), done(1, value=-np.inf), done(2, value=5.0), done(3, value=7.0)]
    best, *equal, worst = _compute_advantages([trials[3], trials[0], trials[2], trials[1]], study.directions)
    assert best == -worst > equal[0] == equal[1] == 0
    pruned = done(4, TrialState.PRUNED, constraints={"macs": 0.1})
    late = done(5, value=9.0, constraints={"latency": 0.5, "macs": -1.0})
    order = _compute_advantages([late, pruned, trials[1], trials[0]], study.directions)
    assert list(order) == sorted(order)
    assert order.std() == pytest.approx(1)
    assert list(_compute_advantages([trials[0], trials[2]], study.directions)) == [0, 0]


def test_advantages_of_several_objectives_go_by_front_then_by_crowding():
    study = optuna.create_study(directions=["maximize", "minimize"])
    values = [(3.0, 3.0), (0.0, 9.0), (1.0, 1.0), (2.8, 2.9), (2.0, 2.0)]
    ends, dominated, end, near, middle = _compute_advantages(
        [done(i, values=pair) for i, pair in enumerate(values)], study.directions
    )
    assert ends == end > middle > near > dominated


def test_trials_are_learned_from_in_the_order_in_which_they_ended():
    def last(order: list[int]) -> dict[str, Any]:
        study = optuna.create_study(sampler=Reinforce(batch=4, seed=0))
        trials = [study.ask(SIX) for _ in range(9)]
        for number in order:
            study.tell(trials[number], float(number))
        return study.ask(SIX).params

    asked = list(range(9))
    assert last(asked) == last([1, 0, 3, 2, 7, 6, 5, 4, 8])  # within a batch the order is nothing
    assert last(asked) != last(asked[::-1])


def test_failed_and_stopped_trials_teach_nothing():
    def last(others: int) -> dict[str, Any]:
        study = optuna.create_study(sampler=Reinforce(batch=3, seed=0))
        for value in range(3):
            study.tell(study.ask(SIX), float(value))
        for number in range(6):
            trial = study.ask(SIX)
            study.tell(trial, state=(TrialState.FAIL, TrialState.PRUNED)[number % 2]) if number < others else None
        return study.ask(SIX).params

    assert last(0) == last(3) == last(6)


def test_it_learns_to_keep_a_limit_before_anything_is_evaluated():
    space: dict[str, BaseDistribution] = {name: CategoricalDistribution([1, 2, 3]) for name in "abcdefghij"}
    study = optuna.create_study(direction="maximize", sampler=Seeded(Reinforce, 1))
    broken = []
    for _ in range(150):
        trial = study.ask(space)
        broken.append(sum(trial.params.values()) / 13 - 1)  # random ones are at 20; one in 3,000 is within 13
        trial.set_constraint("sum", broken[-1])
        study.tell(trial, None if broken[-1] > 0 else 1.0, state=TrialState.PRUNED if broken[-1] > 0 else None)
    assert sum(excess <= 0 for excess in broken) > 15


def test_numbers_as_well_as_choices():
    space: dict[str, BaseDistribution] = {
        "kernel": IntDistribution(3, 9, step=2),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "skip": CategoricalDistribution(["none", "pool"]),
        "one": CategoricalDistribution(["only"]),
    }
    study = optuna.create_study(sampler=Reinforce(batch=5, seed=3))
    for _ in range(60):
        trial = study.ask(space)
        assert trial.params["kernel"] in (3, 5, 7, 9)
        assert 1e-4 <= trial.params["lr"] <= 1e-1
        assert trial.params["one"] == "only"
        study.tell(trial, trial.params["lr"] + trial.params["kernel"])
    assert study.best_params["kernel"] == 3


def test_define_by_run_and_threads():
    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("depth", 1, 3)
        return sum(trial.suggest_categorical(f"width{i}", [8, 16, 32]) for i in range(depth))

    study = optuna.create_study(sampler=Reinforce(batch=5, seed=0))
    study.optimize(objective, n_trials=40, n_jobs=2)
    assert study.best_value == 8


# -- long studies ----------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty trials are a long study, in which the policy is recorded every 15 trials."""
    for module in ("remembered", "seeded"):
        monkeypatch.setattr(f"effnas.search.{module}.MOST", 40)
    monkeypatch.setattr(reinforce, "SPACING", 15)


QUICK = partial(Reinforce, batch=5, epochs=2, hidden=8)


def journal(path: Path) -> optuna.Study:
    return optuna.create_study(
        study_name="search",
        storage=Journal(JournalFile(path)),
        sampler=Seeded(QUICK, 0),
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )


def advance(study: optuna.Study, trials: int) -> None:
    for _ in range(trials):
        trial = study.ask(SIX)
        numbers = np.array(list(trial.params.values()))
        if trial.number % 7 == 3:
            trial.set_constraint("sum", float(numbers.sum()))
            study.tell(trial, state=TrialState.PRUNED)
        elif trial.number % 7 == 5:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [float(numbers.sum()), float(numbers[:3].sum())])


def asked(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    learned = []
    learn = PolicyLearner.learn
    monkeypatch.setattr(PolicyLearner, "learn", lambda self, *args: learned.append(1) or learn(self, *args))
    return learned


def test_a_policy_that_was_saved_goes_on_as_the_one_that_was_not():
    rows, advantages = all_vectors().numpy()[[3, 4, 9, 10]], np.array([1.0, -1.0, 1.0, -1.0])
    some, other = learner(), learner()
    for _ in range(3):
        some.learn(rows, advantages)
    other.load(some.save(), 3)
    for one in (some, other):
        one.learn(rows[::-1].copy(), advantages)
    assert len(some.save()) == some.length
    assert some.save() == other.save()
    assert other.save() != learner_after(4).save()


def learner_after(batches: int) -> PolicyLearner:
    some = learner()
    for _ in range(batches):
        some.learn(all_vectors().numpy()[:4], np.array([1.0, -1.0, 1.0, -1.0]))
    return some


def test_a_long_study_asks_for_what_a_short_one_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    whole = journal(tmp_path / "whole")
    advance(whole, 110)
    for module in ("remembered", "seeded"):
        monkeypatch.setattr(f"effnas.search.{module}.MOST", 40)
    long = journal(tmp_path / "long")
    advance(long, 110)
    assert asked(long) == asked(whole)


@pytest.mark.usefixtures("short")
def test_a_long_study_is_read_and_learned_once_and_goes_on_from_what_was_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    learned = count_batches(monkeypatch)
    whole = journal(tmp_path / "whole")
    advance(whole, 110)
    teaching = sum(trial.state != TrialState.FAIL for trial in whole.trials)
    assert len(learned) == (teaching - 1) // 5
    recorded = [
        trial.system_attrs[reinforce.POLICY][0] for trial in whole.trials if reinforce.POLICY in trial.system_attrs
    ]
    assert len(recorded) >= 3
    assert all(after - before >= 3 for before, after in itertools.pairwise(recorded))
    for part in (35, 40, 20, 15):
        learned.clear()
        study = journal(tmp_path / "parts")
        before = sum(trial.state != TrialState.FAIL for trial in study.trials)
        advance(study, part)
        # at most three batches since the last record, and those of its own
        assert len(learned) <= (0 if before > 40 else before // 5) + 3 + part // 5 + 1
    assert asked(journal(tmp_path / "parts")) == asked(whole)


@pytest.mark.usefixtures("short")
def test_what_is_recorded_of_other_batches_or_was_damaged_is_not_gone_on_from(tmp_path: Path):
    whole = journal(tmp_path / "whole")
    advance(whole, 100)
    expected = whole.ask(SIX).params
    for damage in ("digest", "part", "length"):
        other = optuna.create_study(study_name="search", directions=["maximize", "minimize"], sampler=Seeded(QUICK, 0))
        for trial in whole.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)):
            attributes = dict(trial.system_attrs)
            if reinforce.POLICY in attributes:
                batches, digest, parts = attributes[reinforce.POLICY]
                first = attributes[f"{reinforce.POLICY}:0"]
                changed = {"digest": first, "part": "?" + first[1:], "length": first[:-4]}[damage]
                attributes[f"{reinforce.POLICY}:0"] = changed if damage != "digest" else "A" * len(first)
                digest = digest[::-1] if damage == "digest" else digest
                attributes[reinforce.POLICY] = [batches, digest, parts]
            trial.system_attrs = attributes
            other.add_trial(trial)
        assert other.ask(SIX).params == expected


@pytest.mark.usefixtures("short")
def test_trials_that_are_read_in_another_order_than_they_ended_in_teach_as_if_they_had_not(tmp_path: Path):
    study = journal(tmp_path / "study")
    advance(study, 60)
    open_ = [study.ask(SIX) for _ in range(12)]
    early = optuna.trial.create_trial(
        params=open_[0].params, distributions=SIX, values=[0.0, 0.0], state=TrialState.COMPLETE
    )
    for trial in open_:
        study.tell(trial, [float(trial.number), 0.0])
    study.ask(SIX)
    early.datetime_complete = study.trials[58].datetime_complete  # of a machine whose word comes late
    study.add_trial(early)
    later = study.ask(SIX).params
    afresh = optuna.create_study(study_name="search", directions=["maximize", "minimize"], sampler=Seeded(QUICK, 0))
    afresh.add_trials(study.get_trials()[:-1])
    assert afresh.ask(SIX).params == later


@pytest.mark.usefixtures("short")
def test_a_policy_that_is_sure_of_itself_leaves_what_a_long_study_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DecisionPolicy, "draw", lambda self, noise: np.zeros((len(noise), 6), np.int64))
    study = optuna.create_study(sampler=Seeded(QUICK, 0))
    for _ in range(70):
        study.tell(study.ask(SIX), 0.0)
    assert {tuple(params.values()) for params in asked(study)[1:41]} == {(0,) * 6}
    assert len({tuple(params.values()) for params in asked(study)[41:]}) == 29


@pytest.mark.slow
def test_beats_random_search():
    learned = [best_after(Seeded(Reinforce, seed), seed, 120) for seed in range(3)]
    random = [best_after(Seeded(RandomSampler, seed), seed, 120) for seed in range(3)]
    assert min(learned) > max(random) + 0.1
    assert np.mean(learned) > np.mean(random) + 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 1}, "batch must be at least 2, got 1"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": 0}, r"learning_rate must be in \(0, 1\], got 0"),
        ({"clip": 2.0}, r"clip must be in \(0, 1\], got 2.0"),
        ({"entropy": -1}, r"entropy must be in \[0, 100\], got -1"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
    ],
)
def test_mistakes(settings: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        Reinforce(**settings)
