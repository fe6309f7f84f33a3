"""Evaluating the best again: which, how often, with which seed, and who is named."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from synthetic import calls, chance, decisions_and_scores, read_csv

from effnas import load_space, run_search
from effnas.evaluate.evaluation import Evaluation, Report
from effnas.search.algorithms.evolution import Evolution
from effnas.search.confirm import choose_repeat, choose_winner, rank_networks
from effnas.search.objective import Accuracy, Pareto
from effnas.search.record import RESULT
from effnas.search.report import summary_text
from effnas.search.winner.optimism import expect_optimism
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError


@dataclass(frozen=True)
class Noisy:
    """A true accuracy, and luck that the seed decides."""

    log: str
    noise: float = 0.1
    interrupt_at: int | None = None

    def identity(self) -> dict[str, Any]:
        return {"noise": self.noise}

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        with open(self.log, "a") as file:
            file.write(f"{architecture.digest} {seed}\n")
        if len(calls(self.log)) == self.interrupt_at:
            raise KeyboardInterrupt
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
    def run(folder: str, interrupt_at: int | None = None) -> list[Any]:
        with pytest.raises(KeyboardInterrupt) if interrupt_at else nullcontext():
            run_search(
                "tiny",
                Noisy(str(tmp_path / folder), interrupt_at=interrupt_at),
                Accuracy(),
                trials=20,
                confirm=8,
                output=tmp_path / f"{folder}.out",
                quiet=True,
            )
        return decisions_and_scores(tmp_path / f"{folder}.out")

    once = run("once")
    for place in (14, 18):  # while choosing, while reporting
        run(f"twice{place}", place)
        assert run(f"twice{place}") == once


def test_what_was_reported_chose_nothing(tmp_path: Path) -> None:
    summary = run_search(
        "tiny",
        Noisy(str(tmp_path / "calls")),
        Accuracy(),
        partial(Evolution, population=4, tournament=2),
        trials=30,
        confirm=14,
        output=tmp_path / "o",
        quiet=True,
    )
    lines = [line.split() for line in calls(tmp_path / "calls")]
    digest = load_space("tiny").build(summary["best"]["decisions"]).digest
    chosen, reported = summary["selected_on"], summary["confirmed_on"]
    assert [seed for name, seed in lines[-8:]] == [str(seed) for seed in reported["seeds"]]  # 14: two rounds of three
    assert {name for name, _ in lines[-8:]} == {digest}
    assert {int(seed) for name, seed in lines[:-8] if name == digest} == set(chosen["seeds"])
    assert not set(chosen["seeds"]) & set(reported["seeds"])
    scores = summary["best"]["scores"]
    assert sorted(scores) == pytest.approx(sorted([*np.array(scores)[: len(chosen["seeds"])], *np.array(scores)[-8:]]))
    assert chosen["score"] == pytest.approx(np.mean(scores[:-8]))
    assert reported["score"] == reported["accuracy"] == pytest.approx(np.mean(scores[-8:]))
    assert reported["standard_error"] == pytest.approx(np.std(scores[-8:], ddof=1) / 8**0.5)
    assert summary["optimism"] == pytest.approx(chosen["score"] - reported["score"])
    line = next(line for line in summary_text(summary).splitlines() if line.startswith("baseline"))
    assert f"score {reported['score']:.4f} ± " in line
    assert "on 8 seeds that chose nothing" in line


def test_a_few_repeats_all_report_the_best(tmp_path: Path) -> None:
    options: dict[str, Any] = {"trials": 16, "output": tmp_path / "o", "quiet": True}
    evaluator = Noisy(str(tmp_path / "calls"))
    alone = run_search("tiny", evaluator, Accuracy(), RandomSampler, **options)
    assert alone["confirmed_on"] is None
    assert alone["selected_on"]["score"] == alone["best"]["score"]
    assert "the best of 16 noisy scores is too high; confirm=N" in summary_text(alone)
    again = run_search("tiny", evaluator, Accuracy(), RandomSampler, **{**options, "trials": 18}, confirm=2)
    assert again["best"]["number"] == alone["best"]["number"]
    assert again["selected_on"] == alone["selected_on"]
    assert len(again["confirmed_on"]["seeds"]) == 2


def test_the_model_says_how_much_too_high_a_score_is(tmp_path: Path) -> None:
    options: dict[str, Any] = {"trials": 40, "output": tmp_path / "o", "quiet": True}
    summary = run_search("tiny", Noisy(str(tmp_path / "calls")), Accuracy(), **options)
    assert 0.05 < summary["optimism"] < 0.3
    expected = summary["best"]["score"] - summary["optimism"]
    assert f"the model expects {expected:.4f} of another seed; confirm=N" in summary_text(summary)


def test_a_front_is_evaluated_again(tmp_path: Path) -> None:
    summary = run_search(
        "tiny",
        Noisy(str(tmp_path / "calls")),
        Pareto(),
        RandomSampler,
        trials=40,
        confirm=24,
        output=tmp_path / "o",
        quiet=True,
    )
    front = summary["front"]
    assert 1 < len(front) <= 16
    share = 24 // len(front)
    assert {row["confirmed_seeds"] for row in front} <= {share, share + 1}
    assert sum(row["confirmed_seeds"] for row in front) == 24
    lines = [line.split() for line in calls(tmp_path / "calls")]
    assert len({tuple(line) for line in lines}) == len(lines) == 40 - summary["duplicates"]
    for row in front:
        others = [o for o in front if o is not row]
        beaten = any(o["macs"] <= row["macs"] and o["confirmed_accuracy"] >= row["confirmed_accuracy"] for o in others)
        assert row["stands"] is not beaten
    assert not all(row["stands"] for row in front)  # luck alone made some of it
    best = next(row for row in front if row["number"] == summary["best"]["number"])
    assert best["accuracy"] == max(row["accuracy"] for row in front) == summary["selected_on"]["accuracy"]
    assert best["confirmed_accuracy"] == summary["confirmed_on"]["accuracy"] == summary["confirmed_on"]["score"]
    assert summary["confirmed_on"]["values"]["macs"] == best["macs"]
    table = read_csv(tmp_path / "o" / "pareto.csv")
    assert [float(row["confirmed_accuracy"]) for row in table] == [row["confirmed_accuracy"] for row in front]
    text = summary_text(summary)
    assert "on other seeds" in text
    assert ", beaten" in text


@pytest.mark.parametrize("objective", [Accuracy(), Pareto()], ids=["accuracy", "front"])
def test_the_confirmed_number_is_true_and_the_selected_one_too_high(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: Any
) -> None:
    """Of 12 searches: by how much each number is above the truth of its network, which no search sees."""
    monkeypatch.setattr("effnas.search.report.search_figure", lambda *_: None)
    selected, confirmed = [], []
    for seed in range(12):
        summary = run_search(
            "tiny",
            Noisy(str(tmp_path / "calls")),
            objective,
            RandomSampler,
            trials=34,
            confirm=14,
            seed=seed,
            output=tmp_path / str(seed),
            quiet=True,
        )
        truth = 0.5 + 0.1 * chance(load_space("tiny").build(summary["best"]["decisions"]))
        selected.append(summary["selected_on"]["accuracy"] - truth)
        confirmed.append(summary["confirmed_on"]["accuracy"] - truth)
    assert np.mean(selected) > 4 * np.std(selected, ddof=1) / 12**0.5
    assert abs(np.mean(confirmed)) < 2.5 * np.std(confirmed, ddof=1) / 12**0.5
    assert np.mean(selected) > 0.04


def test_the_expected_optimism_is_that_of_simulated_choices() -> None:
    """Over many draws of values with known truths the estimate is on average what the choice really gained."""
    rng = np.random.default_rng(0)
    for spread in (0.0, 1.0, 3.0):
        gained, expected = [], []
        for _ in range(200):
            truths, noise = spread * rng.standard_normal(30), rng.standard_normal(30)
            seen = truths + noise
            gained.append(noise[seen.argmax()])
            expected.append(expect_optimism(list(seen), [1.0] * 30))
        assert np.mean(expected) == pytest.approx(np.mean(gained), abs=0.15), spread
    assert expect_optimism([0.5], [0.1]) == 0
    assert expect_optimism([0.5, 0.6, 0.9], [0.0, 0.0, 0.0]) == 0


@pytest.mark.slow
def test_confirming_finds_better_ones_than_luck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effnas.search.report.search_figure", lambda *_: None)

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
        ({"confirm": 10, "objective": Pareto()}, r"confirm \(less than trials\) must be"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        run_search("tiny", Noisy("calls"), trials=10, output=tmp_path / "o", quiet=True, **options)
    assert not (tmp_path / "o").exists()
