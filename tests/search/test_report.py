"""The output folder of a search."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from PIL import Image
from synthetic import Synthetic, four_networks, read_csv, search

from effnas import cost, load_architecture, load_space, run_search
from effnas.evaluate.drawing.axes import log_ticks
from effnas.evaluate.evaluation import Evaluation
from effnas.search.objective import Accuracy, MnasNetReward, Pareto
from effnas.search.record import write_rows
from effnas.search.report import summary_text
from effnas.space.tables import text_table

BASE = ["number", "state", "score", "accuracy", "params", "macs", "activations", "seconds"]


def picture(path: Path) -> None:
    """A picture with something on it."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            assert image.width > 600
            assert len(image.convert("RGB").resize((64, 64)).getcolors(4096) or ()) > 5
    else:
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        assert len(list(root.iter())) > 50


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    options: dict[str, Any] = {"trials": 20, "algorithm": RandomSampler, "command": "effnas search trials=20"}
    search(folder, Synthetic(trouble="exception", share=0.15), objective=MnasNetReward(max_macs=1.2e6), **options)
    return folder


def test_summary(output: Path) -> None:
    summary = json.loads((output / "summary.json").read_text())
    best = summary["best"]
    network = load_space("tiny").build(best["decisions"])
    assert best["architecture"] == network.to_dict()
    costs = cost(network)
    assert [best["params"], best["macs"], best["activations"]] == [costs.params, costs.macs, costs.activations]
    assert best["score"] == pytest.approx(best["accuracy"] * (costs.macs / 400e6) ** -0.07)
    assert isinstance(best["number"], int)
    job = ["trials", "complete", "failed", "pruned", "duplicates", "seconds", "seed", "algorithm", "space"]
    assert {*job, "evaluator", "objective", "study", "versions", "command"} <= summary.keys()
    assert summary["trials"] == 20 == summary["complete"] + summary["failed"] + summary["pruned"]
    assert summary["seed"] == 0
    assert summary["algorithm"] == "RandomSampler"
    assert summary["space"] == "tiny"
    assert summary["evaluator"] == "Synthetic"
    assert "MnasNetReward(max_macs=1200000" in summary["objective"]
    assert summary["study"] == {"name": "search", "directions": ["maximize"]}
    assert {"python", "torch", "optuna", "effnas"} <= summary["versions"].keys()
    assert summary["command"] == "effnas search trials=20"
    assert summary["seconds"] > 0


def test_the_result_is_the_summary_with_data_frames(tmp_path: Path) -> None:
    result = run_search("tiny", Synthetic(trouble="exception", share=0.2), output=tmp_path, trials=10, quiet=True)
    assert result == json.loads((tmp_path / "summary.json").read_text())
    assert json.loads(json.dumps(result)) == result
    for name, file in (("trials", "trials.csv"), ("front", "pareto.csv")):
        rows, frame = read_csv(tmp_path / file), getattr(result, name)
        assert list(frame["number"]) == [int(row["number"]) for row in rows]
        assert list(frame["accuracy"].dropna()) == [float(row["accuracy"]) for row in rows if row["accuracy"]]
        assert set(rows[0]) == set(frame)
    assert result.front["macs"].is_monotonic_increasing
    assert result["best"]["score"] == result.trials["score"].max()


def test_baseline(output: Path) -> None:
    best = json.loads((output / "summary.json").read_text())["best"]
    baseline = load_architecture(output / "baseline.yaml")
    assert baseline.to_dict() == best["architecture"]
    assert cost(baseline).macs == best["macs"] <= 1.2e6


def test_tables(output: Path) -> None:
    summary = json.loads((output / "summary.json").read_text())
    rows = read_csv(output / "trials.csv")
    with open(output / "trials.csv", newline="") as file, open(output / "pareto.csv", newline="") as front:
        columns, front_columns = next(csv.reader(file)), next(csv.reader(front))
    assert columns == front_columns
    assert [name for name in columns if name in BASE] == BASE
    space = load_space("tiny")
    assert [name for name in columns if name.startswith("decision.")] == [f"decision.{n}" for n in space.choices]
    assert columns[-1] == "reason"
    assert [int(row["number"]) for row in rows] == list(range(len(rows)))
    for state in ("complete", "failed", "infeasible"):
        assert sum(row["state"] == state for row in rows) == summary[state] > 0
    for row in rows:
        assert bool(row["reason"]) == (row["state"] != "complete" or bool(row["duplicate_of"]))
    best = rows[summary["best"]["number"]]
    assert {n: str(v) for n, v in summary["best"]["decisions"].items()} == {
        n: best[f"decision.{n}"] for n in space.choices
    }


def test_the_front_is_what_nothing_beats(output: Path) -> None:
    points = {
        row["number"]: (float(row["accuracy"]), int(row["macs"]))
        for row in read_csv(output / "trials.csv")
        if row["state"] == "complete" and not row["duplicate_of"]
    }
    expected = {
        number
        for number, (accuracy, macs) in points.items()
        if not any(a >= accuracy and m <= macs and (a, m) != (accuracy, macs) for a, m in points.values())
    }
    assert {row["number"] for row in read_csv(output / "pareto.csv")} == expected


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figure(output: Path, kind: str) -> None:
    picture(output / f"search.{kind}")


@pytest.mark.parametrize(
    "options",
    [
        {"objective": Pareto(metrics=("accuracy", "latency")), "evaluator": Synthetic(latency=1.0)},
        {"objective": MnasNetReward(metric="params", target="5k")},
        {"objective": Accuracy(), "trials": 1},
        {"space": four_networks(), "trials": 6, "algorithm": RandomSampler},
    ],
    ids=["pareto", "params", "one", "four"],
)
@pytest.mark.pictures
def test_figures_of_other_searches(tmp_path: Path, options: dict[str, Any]) -> None:
    summary = search(tmp_path, **options)
    picture(tmp_path / "search.png")
    picture(tmp_path / "search.svg")
    assert str(summary["best"]["number"]) in {row["number"] for row in read_csv(tmp_path / "pareto.csv")} or (
        "pareto" not in str(options)
    )


def test_text(output: Path) -> None:
    summary = json.loads((output / "summary.json").read_text())
    text = summary_text(summary)
    best = summary["best"]
    assert f"tiny: 20 trials ({summary['complete']} complete, {summary['failed']} failed, " in text
    assert "M MACs at 16²" in text
    (line,) = [line for line in text.splitlines() if line.endswith("<- baseline")]
    assert line.split()[:3] == [str(best["number"]), f"{best['accuracy']:.2%}", f"{best['macs'] / 1e6:,.3f}"]
    assert f"next: effnas grid-alpha-beta-gamma --baseline {output}/baseline.yaml" in text
    assert f"(median of all candidates {summary['median_score']:.4f})" in text


def test_text_of_several_objectives(tmp_path: Path) -> None:
    text = summary_text(search(tmp_path, objective=Pareto()))
    assert "<- baseline" in text


def test_tables_of_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "empty.csv", [])
    assert (tmp_path / "empty.csv").read_text().strip().split(",") == [
        *BASE[:6],
        *BASE[6:7],
        "peak_memory",
        "latency",
        "seconds",
        "reason",
    ]
    write_rows(tmp_path / "some.csv", [{"a": 1, "reason": "x"}, {"a": 2, "b": "with, comma"}])
    assert read_csv(tmp_path / "some.csv") == [
        {"a": "1", "b": "", "reason": "x"},
        {"a": "2", "b": "with, comma", "reason": ""},
    ]
    assert text_table(["x", "yy"], [["abc", "1"]]) == "x    yy\n-------\nabc   1"


@pytest.mark.parametrize(
    ("low", "high"), [(0.1, 3.0), (5.5, 11.0), (1.2, 1.55), (386.0, 390.0), (0.02, 4000.0), (7.001, 7.002)]
)
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= high for tick in ticks)
    assert 1 <= len(ticks) <= 14


def test_a_long_front_is_thinned_out_where_it_is_printed(output: Path) -> None:
    summary = json.loads((output / "summary.json").read_text())
    row = summary["front"][0]
    summary["front"] = [{**row, "number": 100 + i, "macs": 1e6 + i} for i in range(60)]
    summary["best"] = {**summary["best"], "number": 107}
    lines = summary_text(summary).splitlines()
    numbers = [int(line.split()[0]) for line in lines if line[:1].isdigit()]
    assert numbers == sorted(numbers, reverse=True)
    assert {100, 107, 159} <= set(numbers)
    assert len(numbers) in (16, 17)
    assert f"... and {60 - len(numbers)} more in pareto.csv" in lines


@dataclass(frozen=True)
class OnImages:
    """So many held-out images."""

    images: int

    def __call__(self, architecture: Any, *, seed: int, report: Any) -> Evaluation:
        accuracy = 0.5 + int(architecture.digest[:4], 16) / 2**16 / 10
        return Evaluation(accuracy, cost(architecture), metrics={"heldout_images": self.images})


def test_a_winner_within_the_noise_of_few_images_is_told(tmp_path: Path) -> None:
    few = search(tmp_path / "few", OnImages(100), objective=Accuracy(), algorithm=RandomSampler)
    accuracy = few["best"]["accuracy"]
    assert few["noise"]["standard_error"] == pytest.approx((accuracy * (1 - accuracy) / 100) ** 0.5)
    assert few["noise"]["as_good"] == len({row["accuracy"] for row in read_csv(tmp_path / "few" / "trials.csv")}) - 1
    assert "on 100 held-out images an accuracy is sure to ± 4.9" in summary_text(few)
    assert "other networks may be as good as the baseline: confirm=N" in summary_text(few)
    many = search(tmp_path / "many", OnImages(10**9), objective=Accuracy(), algorithm=RandomSampler)
    assert many["noise"]["as_good"] == 0
    assert "confirm=N" not in summary_text(many)
    assert search(tmp_path / "unknown")["noise"] is None
