"""The weights of the best candidates, kept in the folder of a search."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from optuna.samplers import RandomSampler
from synthetic import Leaving, Synthetic, four_networks, read_csv, search, true_accuracy

from effnas import load_space, run_ablation, run_grid_search
from effnas.evaluate import kept_weights
from effnas.evaluate.data import ImageData
from effnas.evaluate.measure.job import run_evaluate
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.scaling.ablate.report import summary_text as ablation_text
from effnas.scaling.grid.report import summary_text as grid_text
from effnas.search.objective import Accuracy, Pareto
from effnas.search.report import summary_text
from effnas.search.winner.keeper import Keeper
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.stage import Stage
from effnas.space.weights.weights import read_weights

SMALL = Architecture((Stage("mbconv", 16), Stage("mbconv", 24)), stem=16, head=32, resolution=32, num_classes=10)


def kept(output: Path) -> dict[str, str]:
    """The files and what they hold."""
    folder = output / "weights"
    return {file.name: file.read_text() for file in folder.iterdir()} if folder.is_dir() else {}


def run(output: Path, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    options = {"algorithm": RandomSampler, "objective": Accuracy(), "trials": 12, **options}
    return search(output, evaluator or Leaving(), **options)


def expected(summary: dict[str, Any], output: Path, count: int) -> dict[str, str]:
    """Those of the best networks, worked out from the table of trials."""
    rows = [row for row in read_csv(output / "trials.csv") if row["state"] == "complete" and not row["duplicate_of"]]
    space, seed, found = load_space("tiny"), summary["seed"], {}
    for row in sorted(rows, key=lambda row: -float(row["score"]))[:count]:
        decisions = {name.removeprefix("decision."): value for name, value in row.items() if "decision." in name}
        params = {name: _choice(space.distributions[name], value) for name, value in decisions.items()}
        network = space.build(params)
        assert float(row["accuracy"]) == pytest.approx(true_accuracy(network, seed))
        found[f"trial-{row['number']}.safetensors"] = f"{network.digest}:{seed}"
    return found


def _choice(distribution: Any, text: str) -> Any:
    return next(choice for choice in distribution.choices if str(choice) == text)


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (3, 1), (3, 2)])
def test_the_weights_of_the_best_are_kept(count: int, workers: int, tmp_path: Path) -> None:
    summary = run(tmp_path, keep=count, workers=workers)
    assert kept(tmp_path) == expected(summary, tmp_path, count)
    assert summary["weights"][0]["number"] == summary["best"]["number"]
    scores = [one["score"] for one in summary["weights"]]
    assert scores == sorted(scores, reverse=True)
    for one in summary["weights"]:
        assert Path(one["file"]) == tmp_path / "weights" / f"trial-{one['number']}.safetensors"
    assert f"weights of the best: {summary['weights'][0]['file']}" in summary_text(summary)


def test_one_is_kept_unless_none_is_wanted_or_there_is_none(tmp_path: Path) -> None:
    assert len(run(tmp_path / "a")["weights"]) == 1
    assert run(tmp_path / "b", keep=0)["weights"] == []
    summary = run(tmp_path / "c", Synthetic())
    assert summary["weights"] == []
    assert "weights of the best" not in summary_text(summary)
    assert not (tmp_path / "b" / "weights").exists()
    assert not (tmp_path / "c" / "weights").exists()


def test_a_search_that_is_stopped_and_resumed_keeps_them(tmp_path: Path) -> None:
    evaluator = Leaving(log=str(tmp_path / "calls"), interrupt_at=6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", evaluator, keep=3)
    halfway = kept(tmp_path / "parts")
    assert 0 < len([name for name in halfway if name.startswith("trial-")]) <= 3
    summary = run(tmp_path / "parts", evaluator, keep=3)
    assert kept(tmp_path / "parts") == expected(summary, tmp_path / "parts", 3)


def test_a_kill_between_the_telling_and_the_naming_is_made_good(tmp_path: Path) -> None:
    summary = run(tmp_path, keep=2)
    before = kept(tmp_path)
    best, folder = summary["weights"][0], tmp_path / "weights"
    file = Path(best["file"])
    file.rename(folder / f".{file.read_text().replace(':', '-')}.safetensors")
    (folder / ".abc-0.safetensors").write_text("of a trial that was running")
    (folder / ".trial-1.safetensors.12345.tmp").write_text("half")
    (folder / "mine.safetensors").write_text("the user's")
    assert run(tmp_path, keep=2)["weights"] == summary["weights"]
    assert kept(tmp_path) == {**before, "mine.safetensors": "the user's"}
    run(tmp_path, keep=1)
    assert len(kept(tmp_path)) == 2


def test_a_search_that_begins_anew_sets_them_aside(tmp_path: Path) -> None:
    run(tmp_path, keep=2)
    before = kept(tmp_path)
    summary = run(tmp_path, keep=2, seed=5, restart=True)
    assert kept(tmp_path) == expected(summary, tmp_path, 2)
    assert {file.name: file.read_text() for file in (tmp_path / "weights.1").iterdir()} == before


def test_the_winner_of_repeated_evaluations_is_among_them(tmp_path: Path) -> None:
    for seed in range(4):
        output = tmp_path / str(seed)
        summary = run(output, space=four_networks(), trials=10, confirm=6, seed=seed)
        (one,) = summary["weights"]
        assert kept(output)[Path(one["file"]).name].startswith(f"{digest_of(summary)}:")


def digest_of(summary: dict[str, Any]) -> str:
    return Architecture.from_dict(summary["best"]["architecture"]).digest


def test_of_a_long_study_not_all_trials_are_ranked_at_each(tmp_path: Path) -> None:
    ranked: list[int] = []
    study = optuna.create_study()
    keeper = Keeper(tmp_path, 1, lambda _: ranked.append(1) or [], Leaving())  # type: ignore[func-returns-value]
    watcher = keeper.watch(Mock(), study)
    (tmp_path / "weights").mkdir()
    for number, expected in ((0, 22), (499, 22), (1000, 7), (20_000, 2)):
        ranked.clear()
        for _ in range(22):
            (tmp_path / "weights" / ".abc-0.safetensors").write_text("")
            trial = optuna.trial.create_trial(value=1.0, user_attrs={"result": {"key": "abc:0"}})
            trial.number = number
            watcher.finished(trial)
        assert len(ranked) == expected


def test_of_a_front_those_best_in_the_first_objective(tmp_path: Path) -> None:
    summary = run(tmp_path, keep=2, objective=Pareto())
    front = sorted(summary["front"], key=lambda row: -row["accuracy"])
    assert [one["number"] for one in summary["weights"]] == [row["number"] for row in front[:2]]


def test_several_of_an_evaluator_that_trains_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^keep must be 0 or 1, because Synthetic trains no network, got 2$"):
        run(tmp_path, Synthetic(), keep=2)
    with pytest.raises(UserError, match=r"^keep must be between 0 and"):
        run(tmp_path, keep=-1)


# -- of a grid and of an ablation ------------------------------------------------------------------------------


def run_grid(output: Path, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    span = {"alpha": (1.0, 1.4), "beta": (1.0, 1.3), "gamma": (1.0, 1.3), "step": 0.1, "tolerance": 0.2}
    return run_grid_search(SMALL, evaluator or Leaving(), output=output, quiet=True, **span, **options)


def run_rules(output: Path, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    given = {"rules": ("depth", "width"), "factors": (2, 3), "latency": False, "quiet": True, **options}
    return run_ablation(SMALL, evaluator or Leaving(), output=output, **given)


def by_mean(summary: dict[str, Any]) -> list[str]:
    """The networks' digests, the highest mean accuracy first."""
    rows = summary["points"] if "points" in summary else [summary["base"], *summary["rows"]]
    return list(dict.fromkeys(row["digest"] for row in sorted(rows, key=lambda row: -row["accuracy"])))


@pytest.mark.parametrize("job", [run_grid, run_rules])
@pytest.mark.parametrize(("count", "seeds", "workers"), [(1, 1, 1), (3, 3, 1), (2, 2, 2)])
def test_of_several_seeds_those_of_the_highest_mean(
    job: Any, count: int, seeds: int, workers: int, tmp_path: Path
) -> None:
    summary = job(tmp_path, keep=count, seeds=seeds, workers=workers)
    found = kept(tmp_path)
    assert [found[Path(one["file"]).name].partition(":")[0] for one in summary["weights"]] == by_mean(summary)[:count]
    assert len(found) == count
    rows = {row["number"]: float(row["accuracy"]) for row in read_csv(tmp_path / "trials.csv") if row["accuracy"]}
    for one in summary["weights"]:
        assert one["score"] == pytest.approx(rows[str(one["number"])])


@pytest.mark.parametrize(("job", "text"), [(run_grid, grid_text), (run_rules, ablation_text)])
def test_a_grid_and_an_ablation_say_where_they_lie(job: Any, text: Any, tmp_path: Path) -> None:
    summary = job(tmp_path)
    assert f"weights of the best: {summary['weights'][0]['file']}\n" in f"{text(summary)}\n"
    assert job(tmp_path, keep=0)["weights"] == []
    assert kept(tmp_path) == {}
    without = job(tmp_path / "other", Synthetic())
    assert without["weights"] == []
    assert "weights of" not in text(without)
    with pytest.raises(UserError, match=r"^keep must be 0 or 1, because Synthetic trains no network, got 2$"):
        job(tmp_path / "third", Synthetic(), keep=2)
    assert not (tmp_path / "third").exists()


def test_a_grid_that_is_stopped_refined_and_gets_more_seeds_keeps_them(tmp_path: Path) -> None:
    evaluator = Leaving(log=str(tmp_path / "calls"), interrupt_at=5)
    with pytest.raises(KeyboardInterrupt):
        run_grid(tmp_path / "out", evaluator, keep=2)
    for options in ({}, {"refine": 1}, {"refine": 1, "seeds": 2}):
        summary = run_grid(tmp_path / "out", evaluator, keep=2, **options)
        digests = [kept(tmp_path / "out")[Path(one["file"]).name].partition(":")[0] for one in summary["weights"]]
        assert digests == by_mean(summary)[: len(digests)]
        assert len(digests) == 2
    anew = run_grid(tmp_path / "out", evaluator, keep=1, restart=True)
    assert len(kept(tmp_path / "out")) == len(anew["weights"]) == 1
    assert (tmp_path / "out" / "weights.1").is_dir()


def test_trainings_that_only_report_move_none(tmp_path: Path) -> None:
    before = run_rules(tmp_path, keep=2)["weights"]
    assert run_rules(tmp_path, keep=2, confirm=2)["weights"] == before
    assert sorted(kept(tmp_path)) == sorted(Path(one["file"]).name for one in before)


def test_effnas_evaluate_reads_them(tmp_path: Path) -> None:
    data = ImageData(limit=200)
    training = Training(epochs=2, batch_size=32, precision="fp32", memory_format="channels_last", compile=False)
    summary = run(tmp_path / "search", Proxy(data, training, threads=1), trials=2)
    (one,) = summary["weights"]
    assert read_weights(one["file"]).architecture is not None
    measured = run_evaluate(
        None, one["file"], data, part="heldout", latency_batch=None, device="cpu", output=tmp_path / "out", quiet=True
    )
    assert measured["top1"] == pytest.approx(summary["best"]["accuracy"])


def test_a_node_that_does_not_share_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a Ray cluster: it leaves nothing behind, and the search says that nothing was kept."""
    monkeypatch.setattr(kept_weights, "_on_a_node", False)
    kept_weights.serve_a_node()
    proxy = Proxy(ImageData(source="digits"), Training(epochs=1, batch_size=512), device="cpu", threads=1)
    elsewhere = tmp_path / "not here"
    result = proxy.keeping(str(elsewhere / "weights")).checkpointing(str(elsewhere / "checkpoints"))(
        four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1}), seed=0, report=lambda *_: None
    )
    assert result.accuracy > 0
    assert not elsewhere.exists()

    class Elsewhere(Leaving):
        def keeping(self, folder: str) -> Elsewhere:
            return self

    assert search(tmp_path / "out", Elsewhere(), trials=2)["weights"] == []
    assert re.search(r"keep=1: no weights of the best are in \S+out/weights: they were trained on a m", caplog.text)
    caplog.clear()
    search(tmp_path / "table", Synthetic(), trials=2)
    assert "keep" not in caplog.text
