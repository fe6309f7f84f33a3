"""The search loop: limits, duplicates, failures, early stops."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from synthetic import BadReport, Synthetic, calls, four_networks, read_csv, search, true_accuracy

from effnas.evaluate.evaluation import Evaluation
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.space.architecture import Architecture
from effnas.space.cost import cost, cost_batch
from effnas.space.errors import UserError
from effnas.space.space import load_space


def open_study(output: Path) -> optuna.Study:
    journal = JournalStorage(JournalFileBackend(str(output / "study.journal")))
    (study,) = optuna.get_all_study_names(journal)
    return optuna.load_study(study_name=study, storage=journal)


def open_trials(output: Path) -> list[optuna.trial.FrozenTrial]:
    return open_study(output).trials


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.txt"


# -- what a search finds -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_trials_are_reached_and_the_best_is_the_best(tmp_path: Path, workers: int) -> None:
    objective = MnasNetReward(target=1e6, w=-0.2)
    summary = search(tmp_path, objective=objective, trials=12, workers=workers)
    rows = read_csv(tmp_path / "trials.csv")
    assert summary["trials"] == summary["complete"] == len(rows) == 12
    space = load_space("tiny")
    for row, trial in zip(rows, open_trials(tmp_path), strict=True):
        network = space.build(trial.params)
        accuracy = true_accuracy(network)
        assert float(row["accuracy"]) == pytest.approx(accuracy, abs=1e-12)
        assert float(row["score"]) == pytest.approx(accuracy * (cost(network).macs / 1e6) ** -0.2, abs=1e-12)
        assert int(row["macs"]) == cost(network).macs
    best = max(rows, key=lambda row: float(row["score"]))
    assert summary["best"]["score"] == float(best["score"])
    assert summary["best"]["number"] == int(best["number"])


@pytest.mark.parametrize("objectives", [("accuracy", "macs"), ("params", "accuracy", "macs")])
def test_several_objectives_give_a_front(tmp_path: Path, objectives: tuple[str, ...]) -> None:
    summary = search(tmp_path, objective=Pareto(metrics=objectives), trials=20, algorithm=RandomSampler)
    rows, front = read_csv(tmp_path / "trials.csv"), read_csv(tmp_path / "pareto.csv")

    def losses(row: dict[str, str]) -> tuple[float, ...]:
        return tuple(-float(row[name]) if name == "accuracy" else float(row[name]) for name in objectives)

    def dominated(row: dict[str, str]) -> bool:
        mine = losses(row)
        return any(all(a <= b for a, b in zip(losses(o), mine, strict=True)) and losses(o) != mine for o in rows)

    originals = [row for row in rows if not row["duplicate_of"]]
    expected = {row["number"] for row in originals if not dominated(row)}
    assert {row["number"] for row in front} == expected
    assert len(front) > 1
    assert [int(row["macs"]) for row in front] == sorted(int(row["macs"]) for row in front)
    for row in rows:
        assert row["score"] == row[f"score.{objectives[0]}"]
        for name in objectives:
            assert float(row[f"score.{name}"]) == float(row[name])
    assert str(summary["best"]["number"]) in expected


# -- limits --------------------------------------------------------------------------------------------


def test_infeasible_candidates_never_reach_the_evaluator(tmp_path: Path, log: Path) -> None:
    objective = Accuracy(max_macs=400e3, max_params=4000)
    summary = search(tmp_path, Synthetic(str(log)), objective=objective, trials=10, algorithm=RandomSampler)
    rows = read_csv(tmp_path / "trials.csv")
    complete = [row for row in rows if row["state"] == "complete"]
    infeasible = [row for row in rows if row["state"] == "infeasible"]
    assert summary["trials"] == len(complete) == 10
    assert summary["infeasible"] == len(infeasible) > 0
    assert all(int(row["macs"]) <= 400_000 and int(row["params"]) <= 4000 for row in complete)
    assert all(int(row["macs"]) > 400_000 or int(row["params"]) > 4000 for row in infeasible)
    assert all(row["score"] == "" and row["accuracy"] == "" for row in infeasible)
    for row in infeasible:
        parts = [
            f"{name} {int(row[name]):,} > {limit}"
            for name, limit in (("macs", "400,000"), ("params", "4,000"))
            if int(row[name]) > int(limit.replace(",", ""))
        ]
        assert row["reason"] == f"infeasible: {', '.join(parts)}"
    assert len(calls(log)) == sum(not row["duplicate_of"] for row in complete)


def test_limits_out_of_reach_are_found_out_before_anything_is_trained(tmp_path: Path, log: Path) -> None:
    with pytest.raises(
        UserError, match=r"no network of the space tiny meets macs ≤ 50,000; the nearest found has"
    ) as e:
        search(tmp_path / "out", Synthetic(str(log)), objective=Accuracy(max_macs=50e3))
    assert calls(log) == []
    assert not (tmp_path / "out").exists()
    nearest = int(str(e.value).rpartition("macs ")[2].replace(",", ""))
    space = load_space("tiny")
    smallest = space.build({name: labels[0] for name, labels in space.choices.items()})
    assert nearest == cost(smallest).macs


@pytest.mark.parametrize("workers", [1, 2])
def test_a_rare_feasible_region_is_searched(tmp_path: Path, log: Path, workers: int) -> None:
    import numpy as np

    space = load_space("tiny")
    macs = np.sort(cost_batch(space.batch(space.sample_indices(20_000, np.random.default_rng(1)))).macs)
    limit = int(macs[60])  # 0.3 % of the space
    options: dict[str, Any] = {"objective": Accuracy(max_macs=limit), "algorithm": RandomSampler, "workers": workers}
    summary = search(tmp_path, Synthetic(str(log)), trials=12, **options)
    assert summary["complete"] == 12
    rows = [row for row in read_csv(tmp_path / "trials.csv") if row["state"] == "complete"]
    assert all(int(row["macs"]) <= limit for row in rows)
    assert len(set(calls(log))) >= 8  # different ones, not one again and again


def test_a_latency_limit_is_checked_after_evaluation(tmp_path: Path) -> None:
    objective = Accuracy(max_latency=0.5)  # 0.5 million MACs at 1 s a million
    summary = search(tmp_path, Synthetic(latency=1.0), objective=objective, trials=15, algorithm=RandomSampler)
    rows = read_csv(tmp_path / "trials.csv")
    slow = [row for row in rows if float(row["latency"]) > 0.5]
    assert summary["complete"] == 15
    assert 0 < len(slow) < 15
    assert summary["best"]["latency"] <= 0.5
    assert all(float(row["latency"]) <= 0.5 for row in read_csv(tmp_path / "pareto.csv"))
    excess = float(slow[0]["latency"]) / 0.5 - 1
    assert slow[0]["reason"] == f"latency exceeds its limit by {excess:.1%}"


def test_nothing_within_the_latency_limit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trial produced a network to keep.*latency exceeds its limit by"):
        search(tmp_path, Synthetic(latency=1.0), objective=Accuracy(max_latency=1e-6), trials=3)
    assert len(read_csv(tmp_path / "trials.csv")) == 3


def test_latency_that_was_not_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs latency, which the evaluator did not measure"):
        search(tmp_path, objective=Accuracy(max_latency=1.0))
    assert all(trial.state.is_finished() for trial in open_trials(tmp_path))


# -- duplicates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_no_network_is_evaluated_twice(tmp_path: Path, log: Path, workers: int) -> None:
    evaluator = Synthetic(str(log), delay=0.02)
    summary = search(tmp_path, evaluator, four_networks(), trials=20, workers=workers, algorithm=RandomSampler)
    rows = read_csv(tmp_path / "trials.csv")
    assert summary["complete"] == 20
    assert len(calls(log)) == len(set(calls(log))) == 4
    assert summary["duplicates"] == 16
    by_number = {row["number"]: row for row in rows}
    for row in rows:
        if row["duplicate_of"]:
            first = by_number[row["duplicate_of"]]
            assert row["reason"] == f"the same network as trial {first['number']}: its value is reused"
            assert first["duplicate_of"] == ""
            assert [row[k] for k in ("score", "accuracy", "macs")] == [first[k] for k in ("score", "accuracy", "macs")]
            assert float(row["seconds"]) == 0
    assert {row["number"] for row in read_csv(tmp_path / "pareto.csv")} <= {
        row["number"] for row in rows if not row["duplicate_of"]
    }


def test_a_duplicate_of_a_network_that_fails(tmp_path: Path, log: Path) -> None:
    evaluator = Synthetic(str(log), delay=0.05, trouble="exception", share=1.0)
    with pytest.raises(UserError, match="ValueError: a bug of this network"):
        search(tmp_path, evaluator, four_networks(), trials=6, workers=2, algorithm=RandomSampler)
    rows = read_csv(tmp_path / "trials.csv")
    assert [row["state"] for row in rows] == ["failed"] * 6
    again = [row for row in rows if row["duplicate_of"]]
    assert all(row["reason"] == f"the same network failed as trial {row['duplicate_of']}" for row in again)


# -- failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "workers", "reason"),
    [
        ("exception", 1, "ValueError: a bug of this network"),
        ("exception", 2, "ValueError: a bug of this network"),
        ("evaluation error", 1, "EvaluationError: loss is not finite"),
        ("nan", 1, "EvaluationError: accuracy must be a fraction between 0 and 1, got nan"),
        ("exit", 2, "the worker process ended with status 3"),
        ("kill", 2, "the worker process was ended by SIGKILL (the system may have run out of memory)"),
        ("unpicklable", 2, "EvaluationError: metrics: loss must be a number, or what JSON holds"),
    ],
)
def test_failures_are_recorded_and_the_search_goes_on(tmp_path: Path, trouble: str, workers: int, reason: str) -> None:
    summary = search(tmp_path, Synthetic(trouble=trouble), trials=12, workers=workers, algorithm=RandomSampler)
    rows = read_csv(tmp_path / "trials.csv")
    assert summary["trials"] == len(rows) == 12
    failed = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(failed) == summary["failed"] < 12
    assert summary["complete"] + summary["failed"] == 12
    for row in failed:
        assert row["reason"].startswith(reason)
        assert row["score"] == row["accuracy"] == ""
        assert int(row["macs"]) > 0
    assert summary["reasons"] == [row["reason"] for row in failed]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_of_the_users_stops_the_search(tmp_path: Path, log: Path, workers: int) -> None:
    with pytest.raises(UserError, match=r"^data.path: no such folder$"):
        search(tmp_path, Synthetic(str(log), trouble="user error", share=1.0), workers=workers)
    assert len(calls(log)) <= workers
    assert {trial.state for trial in open_trials(tmp_path)} == {TrialState.FAIL}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluator_must_return_an_evaluation(tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError, match="evaluator Synthetic must return an Evaluation, got float"):
        search(tmp_path, Synthetic(trouble="float", share=1.0), workers=workers)


def test_all_trials_failed(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no trial produced a network to keep \(8 of 8 failed\).*ValueError: a bug of this"
    ):
        search(tmp_path, Synthetic(trouble="exception", share=1.0))
    assert {row["state"] for row in read_csv(tmp_path / "trials.csv")} == {"failed"}
    assert read_csv(tmp_path / "pareto.csv") == []
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["best"] is None
    assert summary["failed"] == 8
    assert not (tmp_path / "baseline.yaml").exists()


class Own:
    """An objective of one's own that goes wrong for small networks."""

    names = ("own",)
    directions = ("maximize",)

    def __init__(self, wrong: Any) -> None:
        self.wrong = wrong

    def __call__(self, evaluation: Any) -> Any:
        if evaluation.cost.macs > 600_000:
            return evaluation.accuracy
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong

    def violations(self, cost: Any) -> dict[str, float]:
        return {}

    def violations_after(self, evaluation: Any) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (ZeroDivisionError("division by zero"), "objective: ZeroDivisionError: division by zero"),
        (float("nan"), "objective: the value must be a number, got nan"),
        (None, "objective: the value must be a number, got None"),
        ((1.0, 2.0), "objective: 1 value expected, got (1.0, 2.0)"),
    ],
)
def test_objectives_of_ones_own_that_go_wrong(tmp_path: Path, wrong: Any, reason: str) -> None:
    summary = search(tmp_path, objective=Own(wrong), trials=12, algorithm=RandomSampler)
    assert 0 < summary["failed"] < 12
    assert summary["trials"] == 12
    assert set(summary["reasons"]) == {reason}


# -- early stops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_the_pruner_stops_hopeless_candidates(tmp_path: Path, workers: int) -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    options: dict[str, Any] = {"objective": Accuracy(), "algorithm": RandomSampler, "workers": workers}
    summary = search(tmp_path, Synthetic(epochs=4), pruner=pruner, trials=16, **options)
    rows = read_csv(tmp_path / "trials.csv")
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert summary["trials"] == len(rows) == 16
    assert 0 < len(pruned) == summary["pruned"]
    accuracies = {row["number"]: float(row["accuracy"]) for row in rows}
    # of several at once the first may be past step 2 before four others have finished for them to be compared with
    steps = [2] if workers == 1 else [2, 3, 4]
    for row in pruned:
        assert row["reason"] in [f"stopped by the pruner after step {step}" for step in steps]
        assert row["score"] == ""
    assert max(accuracies, key=accuracies.__getitem__) not in {row["number"] for row in pruned}
    assert summary["best"]["accuracy"] == max(accuracies.values())


def test_a_pruner_with_two_objectives_is_refused(tmp_path: Path, log: Path) -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    match = r"pruner must be none with several objectives \(accuracy, macs\), got MedianPruner"
    with pytest.raises(UserError, match=match):
        search(tmp_path, Synthetic(str(log), epochs=4), objective=Pareto(), pruner=pruner)
    assert calls(log) == []
    pruner = optuna.pruners.NopPruner()
    assert search(tmp_path, Synthetic(epochs=4), objective=Pareto(), pruner=pruner)["complete"] == 8


# -- the record ----------------------------------------------------------------------------------------


def test_optunas_data_frame_has_a_column_for_each_fact(tmp_path: Path) -> None:
    search(tmp_path / "one", Synthetic(trouble="exception", latency=0.1), trials=12, algorithm=RandomSampler)
    frame = open_study(tmp_path / "one").trials_dataframe()
    rows = read_csv(tmp_path / "one" / "trials.csv")
    for name in ("accuracy", "macs", "params", "activations", "peak_memory", "latency", "seconds"):
        shown = ["" if value != value else f"{value:.6g}" for value in frame[f"user_attrs_{name}"]]
        assert shown == [row[name] and f"{float(row[name]):.6g}" for row in rows]
    assert list(frame["user_attrs_reason"].fillna("")) == [row["reason"] for row in rows]
    assert frame["user_attrs_threads"].notna().sum() == 12 - (frame["state"] == "FAIL").sum()  # the evaluator's own
    assert "value_reward" in frame
    assert open_study(tmp_path / "one").metric_names == ["reward"]
    search(tmp_path / "two", objective=Pareto(), trials=6)
    assert open_study(tmp_path / "two").metric_names == ["accuracy", "macs"]
    assert {"values_accuracy", "values_macs"} <= set(open_study(tmp_path / "two").trials_dataframe())


@pytest.mark.parametrize("workers", [1, 2])
def test_reports_that_are_no_numbers(tmp_path: Path, workers: int) -> None:
    evaluator = BadReport()
    with pytest.raises(UserError, match=r"report\(step, accuracy\): the step must be a whole number from 0, got 'one'"):
        search(tmp_path, evaluator, trials=2, workers=workers)


# -- the cost of the loop ------------------------------------------------------------------------------


class Counting:
    """Counts the functions that are called between two evaluations, for the trials of some windows."""

    def __init__(self, *windows: range) -> None:
        self.counts: list[list[int]] = [[] for _ in windows]
        self._windows = windows
        self._evaluated = self._calls = 0

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Evaluation:
        sys.setprofile(None)
        for window, counts in zip(self._windows, self.counts, strict=True):
            if self._evaluated in window:
                counts.append(self._calls)
        self._evaluated += 1
        self._calls = 0
        if any(self._evaluated in window for window in self._windows):
            sys.setprofile(self._count)
        return Evaluation(true_accuracy(architecture), cost(architecture), seconds=1e-3)

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self._calls += event in ("call", "c_call")

    def __repr__(self) -> str:
        return "Counting()"


@pytest.mark.slow
def test_a_trial_does_not_cost_more_the_more_there_were(tmp_path: Path) -> None:
    evaluator = Counting(range(20, 40), range(360, 380))
    try:
        options: dict[str, Any] = {"objective": Accuracy(max_macs=1e9), "algorithm": RandomSampler, "quiet": False}
        search(tmp_path, evaluator, trials=400, **options)
    finally:
        sys.setprofile(None)
    early, late = (statistics.median(counts) for counts in evaluator.counts)
    assert len(evaluator.counts[1]) == 20
    assert late < 1.02 * early  # in calls of functions, the same on every machine
