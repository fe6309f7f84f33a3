"""Evaluating the best again: which, how often, with which seed, and who is named."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from synthetic import calls, chance, read_csv

from effnas import load_space, run_search
from effnas.evaluate.evaluation import Evaluation, Report
from effnas.search.algorithms.evolution import Evolution
from effnas.search.confirm import choose_repeat, choose_winner, rank_networks
from effnas.search.objective import Accuracy, Pareto
from effnas.search.record import RESULT
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError


@dataclass(frozen=True)
class Noisy:
    """A true accuracy, and luck that the seed decides."""

    log: str
    noise: float = 0.1

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        with open(self.log, "a") as file:
            file.write(f"{architecture.digest} {seed}\n")
        luck = np.random.default_rng((seed, int(architecture.digest[:8], 16))).standard_normal()
        return Evaluation(
            float(np.clip(0.5 + 0.1 * chance(architecture) + self.noise * luck, 0, 1)), cost(architecture)
        )


def trial(number: int, digest: str, value: float | None, **result: Any) -> FrozenTrial:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    found = create_trial(state=state, value=value, user_attrs={RESULT: {"digest": digest, **result}})
    found.number = number
    return found


MAXIMIZE = StudyDirection.MAXIMIZE


def test_networks_stand_by_the_mean_of_their_scores() -> None:
    trials = [
        trial(0, "a", 0.9),
        trial(1, "b", 0.8),
        trial(2, "a", 0.5),
        trial(3, "c", None),
        trial(4, "d", 0.95, feasible=False),
        trial(5, "b", 0.8, duplicate_of=1),
    ]
    ranking = rank_networks(trials, MAXIMIZE, {})
    assert [(s.trial.number, s.scores) for s in ranking] == [(1, (0.8,)), (0, (0.9, 0.5))]
    assert [s.trial.number for s in rank_networks(trials, StudyDirection.MINIMIZE, {})] == [0, 1]
    assert [s.trial.number for s in rank_networks(trials, MAXIMIZE, {0: 0.85, 1: 0.7})] == [0, 1]
    assert choose_winner(ranking).trial.number == 0  # type: ignore[union-attr]
    assert choose_winner(rank_networks(trials[:2], MAXIMIZE, {})) is None


def test_of_the_finalists_the_one_evaluated_least_is_next() -> None:
    trials = [trial(i, name, value) for i, (name, value) in enumerate(zip("abcd", (0.9, 0.8, 0.7, 0.6), strict=True))]
    ranking = rank_networks(trials, MAXIMIZE, {})
    assert choose_repeat(ranking, {}).trial.number == 0  # type: ignore[union-attr]
    assert choose_repeat(ranking, {0: 1}).trial.number == 1  # type: ignore[union-attr]
    assert choose_repeat(ranking, {0: 1, 1: 1, 2: 1}).trial.number == 0  # type: ignore[union-attr]
    assert choose_repeat([], {}) is None


@pytest.mark.parametrize("algorithm", [partial(Evolution, population=4, tournament=2), None])
def test_the_last_trials_evaluate_the_best_again_with_other_seeds(tmp_path: Path, algorithm: Any) -> None:
    options = {} if algorithm is None else {"algorithm": algorithm}
    summary = run_search(
        "tiny",
        Noisy(str(tmp_path / "calls")),
        Accuracy(),
        trials=24,
        confirm=9,
        output=tmp_path / "o",
        quiet=True,
        **options,
    )
    lines = [line.split() for line in calls(tmp_path / "calls")]
    assert len({tuple(line) for line in lines}) == len(lines)  # no evaluation was done twice
    assert summary["trials"] == 24
    counts: dict[str, int] = {}
    for digest, _ in lines[: 24 - 9 - summary["duplicates"]]:
        counts[digest] = counts.get(digest, 0) + 1
    assert set(counts.values()) == {1}
    again = [digest for digest, _ in lines[-9:]]
    assert set(again) <= set(counts)
    best = summary["best"]
    assert len(best["scores"]) >= 2
    assert best["mean_score"] == pytest.approx(np.mean(best["scores"]))
    architecture = load_space("tiny").build(best["decisions"])
    assert again.count(architecture.digest) == len(best["scores"]) - 1
    if algorithm is not None:
        assert best["estimate"] == best["mean_score"]


def test_repeats_survive_a_resume_and_are_the_same(tmp_path: Path) -> None:
    def scores(folder: str, *steps: int) -> list[Any]:
        for trials in steps:
            run_search(
                "tiny",
                Noisy(str(tmp_path / "calls")),
                Accuracy(),
                trials=trials,
                confirm=trials - 12,
                output=tmp_path / folder,
                quiet=True,
            )
        return [row["score"] for row in read_csv(tmp_path / folder / "trials.csv")]

    assert scores("once", 20) == scores("twice", 16, 20)


def test_confirming_finds_better_ones_than_luck(tmp_path: Path) -> None:
    def truth(confirm: int, seed: int) -> float:
        summary = run_search(
            "tiny",
            Noisy(str(tmp_path / "calls")),
            Accuracy(),
            partial(Evolution, population=30),
            trials=60,
            confirm=confirm,
            seed=seed,
            output=tmp_path / f"{confirm}-{seed}",
            quiet=True,
        )
        return chance(load_space("tiny").build(summary["best"]["decisions"]))

    assert np.mean([truth(30, s) for s in range(6)]) > np.mean([truth(0, s) for s in range(6)])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"confirm": 10}, r"confirm \(less than trials\) must be"),
        ({"confirm": -1}, r"confirm \(less than trials\) must be"),
        ({"confirm": 2, "objective": Pareto()}, r"confirm must be 0 with several objectives \(accuracy, macs\), got 2"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        run_search("tiny", Noisy("calls"), trials=10, output=tmp_path / "o", quiet=True, **options)
    assert not (tmp_path / "o").exists()
