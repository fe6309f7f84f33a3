"""Candidates that are stopped, promoted, and gone on with: counted once, resumed, never compared as if complete."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from synthetic import Learner, Synthetic, calls, decisions_and_scores, read_csv, search, true_accuracy

from effnas.evaluate.evaluation import Evaluation, Report
from effnas.search.algorithms.predictor import Predictor
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.search.record import CONTINUES, shown_trials, trace_first
from effnas.search.stopping.halving import AsynchronousHalving
from effnas.search.storage import JOURNAL, open_study
from effnas.space.architecture import Architecture
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.space import load_space


def halving(**options: Any) -> AsynchronousHalving:
    return AsynchronousHalving(**{"min_epochs": 1, "reduction_factor": 3, **options})


def stopped_search(output: Path, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    options = {"pruner": halving(), "algorithm": RandomSampler, "objective": Pareto(), "trials": 24, **options}
    return search(output, evaluator or Learner(), **options)


def stored(output: Path) -> list[optuna.trial.FrozenTrial]:
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(output / JOURNAL)))
    return optuna.load_study(study_name="search", storage=journal).get_trials(deepcopy=False)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("objective", [Pareto(), MnasNetReward()], ids=["front", "reward"])
def test_each_candidate_counts_once_with_the_budget_it_had(objective: Any, workers: int, tmp_path: Path) -> None:
    summary = stopped_search(tmp_path, objective=objective, workers=workers)
    rows = read_csv(tmp_path / "trials.csv")
    assert summary["trials"] == len(rows) == 24 == summary["complete"] + summary["pruned"]
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    assert summary["complete"] < 12
    own = [row for row in rows if not row["duplicate_of"]]
    assert sum(int(row["epochs"]) for row in own) == summary["epochs"]
    for row in own:
        if row["state"] == "complete":
            assert row["epochs"] == "9"
            assert row["score"]
        else:
            assert int(row["epochs"]) in (1, 3)
            assert row["reason"] == f"stopped by the pruner after step {row['epochs']}"
            assert row["score"] == ""
    complete = {int(row["number"]) for row in rows if row["state"] == "complete"}
    assert {row["number"] for row in summary["front"]} <= complete
    assert summary["best"]["number"] in complete
    trials = stored(tmp_path)
    assert any(CONTINUES in trial.user_attrs for trial in trials)  # or nothing was promoted
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == summary["complete"]


def test_a_promotion_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stopped_search(tmp_path / "out", Learner(log=str(log)))
    assert max(Counter(calls(log)).values()) == 1  # no epoch is trained twice
    trials = stored(tmp_path / "out")
    later = [trial for trial in trials if CONTINUES in trial.user_attrs]
    assert later
    for trial in later:
        first = trials[trial.user_attrs[CONTINUES]["of"]]
        assert trial.params == first.params
        assert trial.user_attrs[CONTINUES]["epochs"] in (1, 3)
        assert list(trial.intermediate_values)[: len(first.intermediate_values)] == list(first.intermediate_values)
        assert trial.user_attrs["result"]["epochs"] > trial.user_attrs[CONTINUES]["epochs"]


@pytest.mark.parametrize("measure", ["accuracy", "curve"])
def test_who_is_promoted_is_among_the_best_of_the_rung(measure: str, tmp_path: Path) -> None:
    summary = stopped_search(tmp_path, objective=Accuracy(), pruner=halving(measure=measure), trials=27)
    rows = [row for row in read_csv(tmp_path / "trials.csv") if not row["duplicate_of"]]
    first, second = (sum(int(row["epochs"]) > rung for row in rows) for rung in (1, 3))
    # asynchronous decisions let some go on that a synchronous one would not
    assert len(rows) // 3 <= first <= 2 * len(rows) // 3
    assert first // 3 <= second < first
    assert summary["epochs"] < 0.5 * 9 * len(rows)


@pytest.mark.slow
def test_a_search_that_was_stopped_is_the_search_that_was_not(tmp_path: Path) -> None:
    options: dict[str, Any] = {"algorithm": Predictor, "pruner": halving(measure="curve")}
    stopped_search(tmp_path / "once", trials=30, **options)
    for trials in (7, 19, 30):
        stopped_search(tmp_path / "parts", trials=trials, **{**options, "pruner": halving(measure="curve")})
    assert decisions_and_scores(tmp_path / "parts") == decisions_and_scores(tmp_path / "once")


@pytest.mark.parametrize("at", [1, 12, 13, 30, 47])
def test_ctrl_c_at_any_epoch_changes_nothing(at: int, tmp_path: Path) -> None:
    stopped_search(tmp_path / "once", Learner(log=str(tmp_path / "once.txt")))
    log = str(tmp_path / "log.txt")
    with pytest.raises(KeyboardInterrupt):
        stopped_search(tmp_path / "parts", Learner(log=log, interrupt_at=at))
    # the same content, as far as a folder is concerned
    stopped_search(tmp_path / "parts", Learner(log=log, interrupt_at=at))
    assert decisions_and_scores(tmp_path / "parts") == decisions_and_scores(tmp_path / "once")
    assert sorted(set(calls(log))) == sorted(calls(tmp_path / "once.txt"))


def test_a_promotion_that_was_enqueued_before_a_kill_is_taken(tmp_path: Path) -> None:
    summary = stopped_search(tmp_path)
    study = open_study(None, "search", tmp_path, Pareto().directions, stored_job(tmp_path))
    stopped = next(t for t in shown_trials(study) if t.state == TrialState.PRUNED and "key" in t.user_attrs["result"])
    first, epochs = trace_first(stopped), stopped.user_attrs["result"]["epochs"]
    study.enqueue_trial(stopped.params, user_attrs={CONTINUES: {"of": first, "epochs": epochs}})
    again = stopped_search(tmp_path)
    assert again["trials"] == summary["trials"]
    assert not [t for t in stored(tmp_path) if t.state == TrialState.WAITING]
    after = [t for t in stored(tmp_path) if trace_first(t) == first][-1]
    assert after.user_attrs["result"]["epochs"] > epochs


def stored_job(output: Path) -> dict[str, Any]:
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(output / JOURNAL)))
    return dict(optuna.load_study(study_name="search", storage=journal).user_attrs["job"])


# -- checkpoints -----------------------------------------------------------------------------------------


def files(output: Path) -> list[Path]:
    return sorted((output / "checkpoints").glob("*")) if (output / "checkpoints").exists() else []


def test_checkpoints_are_those_of_the_stopped(tmp_path: Path) -> None:
    stopped_search(tmp_path)
    rows = [row for row in read_csv(tmp_path / "trials.csv") if not row["duplicate_of"]]
    stopped = [trial for trial in stored(tmp_path) if str(trial.number) in {r["number"] for r in rows}]
    keys = {t.user_attrs["result"]["key"].replace(":", "-") for t in stopped if t.state == TrialState.PRUNED}
    assert {file.stem for file in files(tmp_path)} == keys != set()
    (tmp_path / "checkpoints" / "of-nobody.pt").write_text("3")
    stopped_search(tmp_path)
    assert {file.stem for file in files(tmp_path)} == keys


@pytest.mark.parametrize(
    ("limits", "left"), [({"max_checkpoints": 3}, 3), ({"max_checkpoints": 0}, 0), ({"max_megabytes": 0}, 0)]
)
def test_the_disk_limit_keeps_the_most_promising(limits: dict[str, int], left: int, tmp_path: Path) -> None:
    summary = stopped_search(tmp_path, objective=Accuracy(), pruner=halving(**limits))
    assert len(files(tmp_path)) == left
    assert summary["trials"] == 24
    if left:
        kept = {file.stem for file in files(tmp_path)}
        stopped = [t for t in stored(tmp_path) if t.state == TrialState.PRUNED and "key" in t.user_attrs["result"]]
        best = max(stopped, key=lambda t: (t.user_attrs["result"]["epochs"], t.user_attrs["result"]["accuracy"]))
        assert best.user_attrs["result"]["key"].replace(":", "-") in kept
    else:
        assert not any(CONTINUES in trial.user_attrs for trial in stored(tmp_path))


def test_an_evaluator_that_cannot_go_on_is_stopped_for_good(tmp_path: Path) -> None:
    summary = stopped_search(tmp_path, Synthetic(epochs=9))
    assert summary["pruned"]
    assert not any(CONTINUES in trial.user_attrs for trial in stored(tmp_path))


def test_a_network_that_was_stopped_is_not_trained_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stage = {"block": "mbconv", "channels": 8, "kernel_size": [3, 5], "repeats": [1, 2, 3]}
    from effnas.space.space import SearchSpace

    space = SearchSpace("six", [stage], resolution=16, in_channels=1, num_classes=10, stem=8, head=16)
    summary = stopped_search(tmp_path / "out", Learner(log=str(log)), space=space, objective=Accuracy(), trials=20)
    assert max(Counter(calls(log)).values()) == 1
    rows = [row for row in read_csv(tmp_path / "out" / "trials.csv") if row["duplicate_of"]]
    assert summary["duplicates"] == len(rows) >= 14
    assert any("which was stopped" in row["reason"] and row["state"] == "pruned" for row in rows)


# -- what is compared ------------------------------------------------------------------------------------


def test_the_value_of_the_objective_is_compared_and_not_the_accuracy(tmp_path: Path) -> None:
    """With the hard reward a large network is worth little, however accurate it is."""
    objective = MnasNetReward(target=300e3, alpha=0, beta=-1)
    stopped_search(
        tmp_path, Learner(silent=True), objective=objective, pruner=optuna.pruners.SuccessiveHalvingPruner(1)
    )
    for trial in stored(tmp_path):
        macs = trial.user_attrs["result"]["macs"]
        factor = 1.0 if macs <= 300e3 else 300e3 / macs
        if 3 in trial.intermediate_values:
            assert trial.intermediate_values[3] < factor


def test_nobody_is_stopped_after_the_last_epoch(tmp_path: Path) -> None:
    """The fourth rung is at the end, where the training is done anyway."""
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    summary = stopped_search(tmp_path, Learner(epochs=9), objective=Accuracy(), pruner=pruner, trials=60)
    epochs = Counter(row["epochs"] for row in read_csv(tmp_path / "trials.csv") if row["state"] == "pruned")
    assert summary["pruned"]
    assert "9" not in epochs


def test_repetitions_of_the_best_are_not_stopped(tmp_path: Path) -> None:
    summary = stopped_search(tmp_path, objective=Accuracy(), trials=30, confirm=6)
    assert len(summary["best"]["scores"]) >= 2
    repeats = [trial for trial in stored(tmp_path) if "repeat" in trial.user_attrs]
    assert [trial.state for trial in repeats] == [TrialState.COMPLETE] * 6


def test_samplers_see_what_curves_promise_and_the_study_does_not(tmp_path: Path) -> None:
    seen: list[int] = []

    class Looking(RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, space: Any) -> Any:
            complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            seen.append(len(complete))
            assert len({t.number for t in complete}) == len(complete)
            assert all(0 <= t.values[0] <= 1 and t.values[1] > 0 for t in complete)
            return super().sample_independent(study, trial, name, space)

    summary = stopped_search(tmp_path, algorithm=Looking)
    assert max(seen) > summary["complete"]
    assert sum(trial.state == TrialState.COMPLETE for trial in stored(tmp_path)) == summary["complete"]


# -- user's own evaluators, and mistakes -----------------------------------------------------------------


class Old:
    """Written before training accuracies were asked for."""

    def __call__(self, architecture: Architecture, *, seed: int, report: Report) -> Evaluation:
        for epoch in range(1, 5):
            report(epoch, true_accuracy(architecture) * epoch / 4)
        return Evaluation(true_accuracy(architecture), cost(architecture))


@pytest.mark.parametrize("measure", ["accuracy", "curve"])
def test_reports_without_training_accuracy_serve(measure: str, tmp_path: Path) -> None:
    summary = stopped_search(tmp_path, Old(), pruner=halving(measure=measure))
    assert summary["pruned"]


@pytest.mark.parametrize(
    ("pruner", "name", "first"),
    [
        (halving(min_epochs=5), "AsynchronousHalving", 5),
        (halving(min_epochs=9), "AsynchronousHalving", 9),
        (optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3, min_early_stopping_rate=1), "S", 6),
        (optuna.pruners.HyperbandPruner(min_resource=7, max_resource=81), "HyperbandPruner", 7),
        (optuna.pruners.MedianPruner(n_warmup_steps=8), "MedianPruner", 8),
    ],
)
def test_fewer_epochs_than_the_first_rung(pruner: Any, name: str, first: int, tmp_path: Path) -> None:
    match = rf"pruner {name}\w*: its first rung is at epoch {first}, and candidates have 5 epochs: it must come before"
    with pytest.raises(UserError, match=match):
        stopped_search(tmp_path, Learner(epochs=5), objective=Accuracy(), pruner=pruner)
    assert not (tmp_path / JOURNAL).exists()


def test_a_latency_that_is_not_known_yet(tmp_path: Path) -> None:
    match = r"pruner must be none where objectives are known only at the end \(accuracy, latency\)"
    with pytest.raises(UserError, match=match):
        stopped_search(tmp_path, objective=Pareto(metrics=("accuracy", "latency")))


def test_settings_out_of_range() -> None:
    for options, match in (
        ({"min_epochs": 0}, "pruner.min_epochs must be at least 1, got 0"),
        ({"reduction_factor": 1}, "pruner.reduction_factor must be at least 2, got 1"),
        ({"measure": "loss"}, "pruner.measure"),
        ({"max_checkpoints": -1}, "pruner.max_checkpoints"),
    ):
        with pytest.raises(UserError, match=match):
            AsynchronousHalving(**options)  # type: ignore[arg-type]


def test_summary_says_how_many_epochs(tmp_path: Path) -> None:
    from effnas.search.report import summary_text

    stopped_search(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert f"{summary['epochs']:,} epochs" in summary_text(summary)
    assert load_space("tiny").name == summary["space"]


# -- several processes, real trainings -------------------------------------------------------------------


@pytest.mark.slow
def test_two_machines_share_a_study_and_promote_their_own(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    for name, trials in (("a", 12), ("b", 24), ("a", 30)):
        options: dict[str, Any] = {"storage": storage, "trials": trials}
        summary = stopped_search(tmp_path / name, Learner(), **options)
    assert summary["trials"] == 30 == summary["complete"] + summary["pruned"]
    trials_of_all = optuna.load_study(study_name="search", storage=storage).get_trials(deepcopy=False)
    owners = {t.number: t.user_attrs["result"]["owner"] for t in trials_of_all if "result" in t.user_attrs}
    later = [t for t in trials_of_all if CONTINUES in t.user_attrs]
    assert later
    assert all(owners[t.number] == owners[t.user_attrs[CONTINUES]["of"]] for t in later)


@pytest.mark.slow
def test_a_promoted_network_has_learned_what_an_unstopped_one_has(tmp_path: Path) -> None:
    from effnas.evaluate.data import ImageData
    from effnas.evaluate.proxy import Proxy
    from effnas.evaluate.train.recipe import Training

    recipe = Training(epochs=3, precision="fp32", memory_format="contiguous")
    proxy = Proxy(ImageData(source="digits", limit=300), recipe, device="cpu", threads=1)
    summary = stopped_search(tmp_path, proxy, trials=9)
    promoted = [t for t in stored(tmp_path) if CONTINUES in t.user_attrs and t.state == TrialState.COMPLETE]
    assert summary["pruned"]
    assert promoted
    space = load_space("tiny")
    for trial in promoted[:2]:
        whole = proxy(space.build(trial.params), seed=0, report=lambda step, accuracy: None)
        assert whole.accuracy == trial.user_attrs["result"]["accuracy"]
        assert trial.user_attrs["result"]["epochs"] == 3
