"""Searching by the scores of untrained networks: merits, which are never called accuracies."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from synthetic import Synthetic, read_csv

from effnas import UserError, cost, load_space, run_grid_search, run_search
from effnas.cli import main
from effnas.evaluate.evaluation import Evaluation, EvaluationError
from effnas.evaluate.zero_cost.zero_cost import ZeroCost
from effnas.search.objective import Accuracy, MnasNetReward, Objective, Pareto, read_metric
from effnas.search.report import summary_text

SPACE = load_space("tiny")
BEST = {"depth": ("depth",), "both": ("expansion_layers", "log_params")}


def search(output: Path, objective: Objective | None = None, **options: Any) -> Any:
    evaluator = ZeroCost(SPACE, options.pop("proxies", ("depth", "log_params")), reference=16)
    return run_search(SPACE, evaluator, objective, output=output, **{"trials": 12, "quiet": True, **options})


@pytest.mark.parametrize(
    ("objective", "score"),
    [
        (MnasNetReward(target="1M"), lambda row: row["merit"] * (row["macs"] / 1e6) ** -0.07),
        (Accuracy(max_macs="1M"), lambda row: row["merit"]),
        (Pareto(max_params=50_000), lambda row: row["merit"]),
    ],
)
def test_every_objective_ranks_by_the_merit_within_the_limits(tmp_path: Path, objective: Any, score: Any) -> None:
    result = search(tmp_path, objective)
    assert result["complete"] == 12
    best = result["best"]
    assert best["accuracy"] is None
    assert 0 < best["merit"] < 1
    assert best["score"] == pytest.approx(score(best))
    assert objective.max_macs is None or best["macs"] <= 1e6
    assert objective.max_params is None or best["params"] <= 50_000
    assert result.front["merit"].is_monotonic_increasing
    rows = [row for row in read_csv(tmp_path / "trials.csv") if row["state"] == "complete"]
    assert {row["accuracy"] for row in rows} == {""}
    assert {float(row["metric.depth"]) for row in rows} <= {3, 4, 5, 6, 7, 8}
    assert not any("accuracy" in name for name in rows[0] if name != "accuracy")
    best_row = max(rows, key=lambda row: float(row["score"]))
    assert float(best_row["score"]) == best["score"]


def test_what_is_printed_calls_nothing_an_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "space=tiny", "evaluator=zero_cost", "evaluator.reference=8", "trials=6", "objective=pareto"]
    assert main([*words, f"hydra.run.dir={tmp_path}"]) == 0
    out, err = capsys.readouterr()
    assert "merit (share of 8 random networks of the space outscored by snip) against MACs" in out
    assert "nothing was trained, and a merit is no accuracy" in out
    assert "accuracy" not in out.replace("a merit is no accuracy", "")
    assert "merit" in err
    assert "accuracy" not in err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "metrics=('merit', 'macs')" in summary["objective"]
    assert summary["study"]["directions"] == ["maximize", "minimize"]
    assert main([*words, f"hydra.run.dir={tmp_path}"]) == 0  # the same command resumes


@pytest.mark.pictures
def test_the_figure_says_merit(tmp_path: Path) -> None:
    search(tmp_path, Pareto())
    text = (tmp_path / "search.svg").read_text()
    assert "merit: share of 16 random networks of the" in text
    assert ">accuracy" not in text


def test_workers_get_the_reference_with_the_evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = ZeroCost(SPACE, ["depth"], reference=8)
    evaluator.prepare()
    other = pickle.loads(pickle.dumps(evaluator))
    monkeypatch.setattr("effnas.evaluate.zero_cost.zero_cost.measure_members", None)
    network = SPACE.build(SPACE.sample(np.random.default_rng(3)))
    one, two = (e(network, seed=seed, report=lambda *_: None) for e, seed in ((evaluator, 0), (other, 7)))
    assert one.merit == two.merit
    assert one.metrics == two.metrics == {"depth": one.metrics["depth"]}
    assert one.accuracy is None


def test_jobs_that_compare_accuracies_refuse_merits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluator: grid compares accuracies, but ZeroCost gives merits, which only"):
        run_grid_search("efficientnet_b0", ZeroCost(SPACE), output=tmp_path / "grid", quiet=True)
    assert not (tmp_path / "grid").exists()


@dataclass(frozen=True)
class Undeclared:
    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
        return Evaluation(None, cost(architecture), merit=0.5)


@dataclass(frozen=True)
class Own:
    """A user's evaluator of merits."""

    gives: ClassVar[str] = "merit"

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
        return Evaluation(None, cost(architecture), merit=0.25)


def test_an_evaluator_of_merits_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluator Undeclared must give each network accuracy, got merit; one of meri"):
        run_search(SPACE, Undeclared(), output=tmp_path / "no", trials=2, quiet=True)
    result = run_search(SPACE, Own(), algorithm=RandomSampler, output=tmp_path / "yes", trials=2, quiet=True)
    assert result["best"]["merit"] == 0.25
    assert "merit (among networks of the space) against MACs, the front:" in summary_text(result)


def test_an_objective_that_asks_for_the_other(tmp_path: Path) -> None:
    message = "the objective needs merit, but the evaluator gives the other of accuracy and merit"
    with pytest.raises(UserError, match=message):
        run_search(SPACE, Synthetic(), Pareto(metrics=["merit", "macs"]), output=tmp_path, trials=2, quiet=True)
    network = SPACE.build(SPACE.sample(np.random.default_rng(3)))
    with pytest.raises(UserError, match="the objective needs accuracy, but the evaluator gives the other"):
        read_metric(Evaluation(None, cost(network), merit=0.5), "accuracy")


@pytest.mark.parametrize(
    ("accuracy", "merit", "message"),
    [
        (0.5, 0.5, "an evaluation has an accuracy or a merit, got 0.5 and 0.5"),
        (None, 1.5, "merit must be a fraction between 0 and 1, got 1.5"),
        (None, float("nan"), "merit must be a fraction between 0 and 1, got nan"),
        (None, "much", "merit must be a fraction between 0 and 1, got 'much'"),
        (None, None, "accuracy must be a fraction between 0 and 1, got None"),
    ],
)
def test_an_evaluation_has_one_of_the_two(accuracy: Any, merit: Any, message: str) -> None:
    network = SPACE.build({name: labels[0] for name, labels in SPACE.choices.items()})
    with pytest.raises(EvaluationError, match=message):
        Evaluation(accuracy, cost(network), merit=merit)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proxies": ["synflwo"]}, "evaluator.proxies"),
        ({"proxies": []}, "evaluator.proxies must be one or more of"),
        ({"reference": 1}, "evaluator.reference must be .* got 1"),
        ({"space": 5}, "evaluator.space must be a space, its name or its file, got int"),
        ({"space": "tinny"}, "tinny"),
    ],
)
def test_settings(settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ZeroCost(**{"space": SPACE, **settings})


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["evolution", "gp", "nsga2", "predictor", "random", "reinforce", "tpe"])
def test_the_shipped_algorithms(tmp_path: Path, algorithm: str) -> None:
    words = f"search space=tiny evaluator=zero_cost evaluator.proxies=[synflow,az_nas] algorithm={algorithm} trials=8"
    assert main([*words.split(), "objective.max_macs=1.5M", f"hydra.run.dir={tmp_path}", "quiet=true"]) == 0
    best = json.loads((tmp_path / "summary.json").read_text())["best"]
    assert best["accuracy"] is None
    assert best["macs"] <= 1.5e6


def test_the_seed_changes_the_search_alone(tmp_path: Path) -> None:
    first = search(tmp_path / "a", algorithm=partial(RandomSampler), seed=0, trials=6)
    other = search(tmp_path / "b", algorithm=partial(RandomSampler), seed=1, trials=6)
    assert first["evaluator_details"] == other["evaluator_details"]
    assert list(first.trials["merit"]) != list(other.trials["merit"])


def test_what_is_confirmed_is_a_merit_too(tmp_path: Path) -> None:
    result = search(tmp_path, Accuracy(), confirm=3)
    assert result["confirmed_on"]["accuracy"] is None
    assert result["confirmed_on"]["merit"] == pytest.approx(result["best"]["merit"])
    assert result["optimism"] == 0
    assert "accuracy" not in summary_text(result).replace("a merit is no accuracy", "")
    several = search(tmp_path / "pareto", Pareto(), confirm=3)
    assert "accuracy" not in summary_text(several).replace("a merit is no accuracy", "")
    assert {row["confirmed_accuracy"] for row in several["front"]} == {None}
