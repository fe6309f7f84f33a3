"""``effnas predict``: what it reads, what it answers, its figure, and every mistake."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from drawn import Figures, check_laws, told
from synthetic import Synthetic

from effnas import Architecture, Coefficients, Stage, cost, run_predict, scale
from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.evaluate.transfer.report import Run, write_transfer
from effnas.scaling.ablate.job import run_ablation
from effnas.scaling.grid.job import run_grid_search
from effnas.scaling.predict.law import Equation
from effnas.scaling.predict.report import show_cost, summary_text
from effnas.space.errors import UserError

LAW = Equation(0.15, 0.12 * 0.4e9**0.7, 0.7)
MACS = [0.4e9, 0.7e9, 1.0e9, 1.9e9, 4.5e9, 10e9]
BASE = Architecture(
    (Stage("mbconv", 24, 2, expand_ratio=3), Stage("mbconv", 48, 3, stride=2, expand_ratio=3)),
    stem=16,
    head=64,
    resolution=32,
    in_channels=1,
    num_classes=10,
    name="base",
)
GROWTH = Coefficients(1.2, 1.1, 1.15)


def table(file: Path, rows: Sequence[Sequence[Any]], header: str = "name,accuracy,macs") -> str:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def family(file: Path, count: int = 6, **changed: float) -> str:
    rows = [(f"b{i}", changed.get(f"b{i}", LAW.accuracy(macs)), macs) for i, macs in enumerate(MACS[:count])]
    return table(file, rows)


def predict(*runs: str, folder: Path, **options: Any) -> dict[str, Any]:
    return run_predict(runs, output=folder / "out", **options)


# -- answers ---------------------------------------------------------------------------------------------


def test_the_command_line_as_scripts_are_written_against_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = family(tmp_path / "f.csv")
    line = ["predict", "--from", file, "--at-macs", "20G,3.8e10", "--json", "-o", str(tmp_path / "out")]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["macs"] for row in found["predictions"]] == [20_000_000_000, 38_000_000_000]
    for row in found["predictions"]:
        assert row["accuracy"] == pytest.approx(LAW.accuracy(row["macs"]), abs=0.003)
        assert row["low"] < row["accuracy"] < row["high"]
    law = Equation(**found["law"])
    assert law.accuracy(20e9) == pytest.approx(found["predictions"][0]["accuracy"])
    assert law.c == pytest.approx(LAW.c, abs=0.02)
    assert {*found["backtest"][0]} >= {"from", "macs", "predicted", "low", "high", "actual"}
    assert [(row["from"], row["macs"]) for row in found["backtest"]] == [
        (1.9e9, 4.5e9),
        (1.9e9, 10e9),
        (4.5e9, 10e9),
    ]
    assert json.loads((tmp_path / "out" / "predict.json").read_text()) == found
    with (tmp_path / "out" / "predict.csv").open(encoding="utf-8") as rows:
        assert [float(row["accuracy"]) for row in csv.DictReader(rows)] == [
            row["accuracy"] for row in found["predictions"]
        ]


@pytest.mark.parametrize("words", [["--from", "{a}", "{b}"], ["{a}", "{b}"], ["from={a},{b}"], ["runs=[{a},{b}]"]])
def test_runs_are_given_in_any_of_these_ways(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = table(tmp_path / "a.csv", [(f"b{i}", LAW.accuracy(macs), macs) for i, macs in enumerate(MACS[:3])])
    b = table(tmp_path / "b.csv", [(f"c{i}", LAW.accuracy(macs), macs) for i, macs in enumerate(MACS[3:])])
    given = [word.format(a=a, b=b) for word in words]
    assert main(["predict", *given, "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "law of 6 members" in out
    assert "had you stopped at" in out


def test_what_is_said_of_the_doubling_and_the_target(tmp_path: Path) -> None:
    file = family(tmp_path / "f.csv")
    found = predict(file, folder=tmp_path, target_accuracy=0.84, doubling=0.004)
    at = found["doubling"]["macs"]
    law = Equation(**found["law"])
    assert law.accuracy(2 * at) - law.accuracy(at) == pytest.approx(0.004)
    assert found["doubling"]["low"] < at < found["doubling"]["high"]
    assert law.accuracy(found["target"]["macs"]) == pytest.approx(0.84)
    text = summary_text(found)
    assert "doubling gains less than 0.4 points" in text
    assert "84.00% needs" in text
    found = predict(file, folder=tmp_path, target_accuracy=0.95)
    assert found["target"]["macs"] is None
    assert "95.00% is out of reach: the law ends at 8" in summary_text(found)
    assert [row["macs"] for row in found["predictions"]] == [20e9, 40e9, 80e9]  # where nothing is asked


def test_members_of_a_phi_and_the_phi_of_a_target(tmp_path: Path) -> None:
    made = [scale(BASE, GROWTH, phi) for phi in range(5)]
    law = Equation(0.1, 0.3 * cost(BASE).macs ** 0.5, 0.5)
    file = table(tmp_path / "f.csv", [(n.name, law.accuracy(cost(n).macs), cost(n).macs) for n in made])
    found = predict(file, folder=tmp_path, family="5..7", baseline=BASE, target_accuracy=0.75)
    for phi, row in zip((5, 6, 7), found["predictions"], strict=True):
        network = scale(BASE, GROWTH, phi)
        total = cost(network)
        assert (row["phi"], row["name"]) == (phi, network.name)
        assert (row["macs"], row["params"], row["activations"]) == (total.macs, total.params, total.activations)
    phi = found["target"]["phi"]
    assert cost(scale(BASE, GROWTH, phi)).macs >= found["target"]["macs"]
    assert cost(scale(BASE, GROWTH, phi - 0.01)).macs < found["target"]["macs"]
    assert f"phi = {phi:g}" in summary_text(found)


@pytest.mark.parametrize("axis", ["activations", "params", "latency"])
def test_a_law_over_something_else(axis: str, tmp_path: Path) -> None:
    file = table(
        tmp_path / "f.csv", [(f"b{i}", LAW.accuracy(m), m / 1e9) for i, m in enumerate(MACS)], f"name,accuracy,{axis}"
    )
    found = predict(file, folder=tmp_path, **{f"at_{axis}": 20})
    assert found["x"] == axis
    assert found["predictions"][0][axis] == 20
    assert found["predictions"][0]["accuracy"] == pytest.approx(LAW.accuracy(20e9), abs=0.004)


def test_units() -> None:
    assert show_cost("macs", 4.5e9) == "4.5 G MACs"
    assert show_cost("params", 7.8e6) == "7.8 M parameters"
    assert show_cost("latency", 0.0123) == "12.3 ms"
    assert show_cost("latency", None) == "–"


# -- how sure it is --------------------------------------------------------------------------------------


def test_four_members_are_few(tmp_path: Path) -> None:
    found = predict(family(tmp_path / "f.csv", 4), folder=tmp_path, at_macs=4e9)
    assert any("4 members are the fewest that give a law" in note for note in found["notes"])
    assert found["backtest"] == []
    assert "no backtest: it needs a fifth member" in summary_text(found)
    five = predict(family(tmp_path / "f.csv", 5), folder=tmp_path, at_macs=8e9)
    assert not any("fewest" in note for note in five["notes"])
    row, other = found["predictions"][0], five["predictions"][0]
    assert row["high"] - row["low"] > other["high"] - other["low"]


def test_a_member_off_the_law_is_named(tmp_path: Path) -> None:
    clean = predict(family(tmp_path / "f.csv"), folder=tmp_path, at_macs=20e9)
    found = predict(family(tmp_path / "g.csv", b2=LAW.accuracy(MACS[2]) + 0.03), folder=tmp_path, at_macs=20e9)
    assert [row["name"] for row in found["off_law"]] == ["b2"]
    assert [m["name"] for m in found["members"] if not m["on_law"]] == ["b2"]
    assert any(note.startswith("OFF THE LAW, and left out of it: b2 has") for note in found["notes"])
    assert found["predictions"][0]["accuracy"] == pytest.approx(clean["predictions"][0]["accuracy"], abs=0.002)
    assert "OFF THE LAW" in summary_text(found)


def test_accuracy_that_falls_at_the_end_is_named(tmp_path: Path) -> None:
    found = predict(family(tmp_path / "f.csv", b5=0.80), folder=tmp_path)
    assert found["off_law"][0]["name"] == "b5"
    assert "falls below that of a smaller member" in found["off_law"][0]["reason"]
    assert any("larger ones need not either" in note for note in found["notes"])
    assert any("lie outside" in note for note in found["notes"])
    close = predict(family(tmp_path / "g.csv", b5=LAW.accuracy(MACS[4]) - 0.0005), folder=tmp_path)
    assert any("b5" in note and "less accurate than the smaller b4" in note for note in close["notes"]) or any(
        row["name"] == "b5" for row in close["off_law"]
    )


def test_far_predictions_say_so(tmp_path: Path) -> None:
    found = predict(family(tmp_path / "f.csv"), folder=tmp_path, at_macs=["20G", "1T"])
    assert any("1 of 2 predictions are more than 15 times the largest" in note for note in found["notes"])


def test_seeds_are_one_point_with_their_noise(tmp_path: Path) -> None:
    rows = [
        (f"b{i}", LAW.accuracy(m) + 0.01 * d, m, seed)
        for i, m in enumerate(MACS)
        for seed, d in ((0, -1), (1, 0), (2, 1))
    ]
    found = predict(table(tmp_path / "f.csv", rows, "name,accuracy,macs,seed"), folder=tmp_path, at_macs=20e9)
    assert [m["runs"] for m in found["members"]] == [3] * 6
    assert found["members"][0]["sd"] == pytest.approx(0.01)
    assert found["noise"] == pytest.approx(0.01 / 0.19, rel=0.2)
    single = predict(family(tmp_path / "g.csv"), folder=tmp_path, at_macs=20e9)["predictions"][0]
    row = found["predictions"][0]
    assert row["high"] - row["low"] > single["high"] - single["low"]
    assert row["accuracy"] == pytest.approx(single["accuracy"], abs=0.004)


# -- what it reads ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real folder of effnas train."""
    folder = tmp_path_factory.mktemp("train") / "one"
    small = scale(BASE, GROWTH, -1).with_(resolution=8)
    recipe = Training(epochs=1, batch_size=64, precision="fp32", memory_format="channels_last", compile=False)
    run_train(small, ImageData(limit=200), recipe, threads=1, tensorboard=False, output=folder, quiet=True)
    return folder


def like(trained: Path, folder: Path, network: Architecture, accuracy: float, **changes: Any) -> str:
    """A folder of another training of the same kind."""
    folder.mkdir(parents=True)
    summary = json.loads((trained / "summary.json").read_text())
    total = cost(network)
    summary |= {"architecture": network.name, "digest": network.digest, "macs": total.macs, "params": total.params}
    summary |= {"test_accuracy": None, "accuracy": accuracy, "resolution": network.resolution, **changes}
    (folder / "summary.json").write_text(json.dumps(summary))
    network.save(folder / "architecture.yaml")
    return str(folder)


def runs_of(trained: Path, folder: Path, phis: Sequence[int] = (-1, 0, 1, 2, 3), seeds: int = 1) -> list[str]:
    law = Equation(0.1, 0.3 * cost(BASE).macs ** 0.5, 0.5)
    found = []
    for phi in phis:
        network = scale(BASE, GROWTH, phi)
        for seed in range(seeds):
            accuracy = law.accuracy(cost(network).macs) + 0.003 * (seed - (seeds - 1) / 2)
            found.append(like(trained, folder / f"phi{phi}-{seed}", network, accuracy, seed=seed))
    return found


def test_a_training_says_its_recipe_and_data(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["training"]["lr"] == 0.8
    assert summary["trained_on"]["limit"] == 200


def test_folders_of_trainings_and_the_next_of_their_family(trained: Path, tmp_path: Path) -> None:
    runs_of(trained, tmp_path / "runs", seeds=2)
    found = predict(str(tmp_path / "runs" / "*"), folder=tmp_path, phi=4)  # base_phi0 is the baseline
    assert [m["name"] for m in found["members"]] == [f"base_phi{phi}" for phi in (-1, 0, 1, 2, 3)]
    assert all(m["runs"] == 2 for m in found["members"])
    assert found["members"][0]["activations"] == cost(scale(BASE, GROWTH, -1)).activations
    assert found["predictions"][0]["macs"] == cost(scale(BASE, GROWTH, 4)).macs
    with pytest.raises(UserError, match=r"base_phi-1 is not what the baseline base_phi0 becomes at phi = -1"):
        predict(str(tmp_path / "runs" / "*"), folder=tmp_path, phi=4, coefficients="1.3,1.05,1.1")


def test_recipes_and_data_are_not_mixed(trained: Path, tmp_path: Path) -> None:
    runs = runs_of(trained, tmp_path / "runs")
    recipe = json.loads((trained / "summary.json").read_text())["training"]
    data = json.loads((trained / "summary.json").read_text())["trained_on"]
    larger = scale(BASE, GROWTH, 4)
    other = like(trained, tmp_path / "lr", larger, 0.8, training={**recipe, "lr": 0.1, "compile": True})
    with pytest.raises(UserError, match=r"runs of different recipes .* differ in training\.lr: 0\.8 and 0\.1"):
        predict(*runs, other, folder=tmp_path)
    assert len(predict(*runs, other, folder=tmp_path, differing="lr")["members"]) == 6
    other = like(trained, tmp_path / "limit", larger, 0.8, trained_on={**data, "limit": 500})
    with pytest.raises(UserError, match=r"runs of different data .* data\.limit: 200 and 500"):
        predict(*runs, other, folder=tmp_path)
    other = like(trained, tmp_path / "test", larger, 0.8, test_accuracy=0.7, test_images=360)
    with pytest.raises(UserError, match="accuracies of different images"):
        predict(*runs, other, folder=tmp_path)
    other = like(trained, tmp_path / "classes", larger, 0.8, trained_on={}, classes=100, heldout_images=None)
    with pytest.raises(UserError, match="accuracies of different images"):
        predict(*runs, other, folder=tmp_path)
    shutil.copytree(runs[0], tmp_path / "again")
    with pytest.raises(UserError, match="base_phi-1 with seed 0 is there twice"):
        predict(*runs, str(tmp_path / "again"), folder=tmp_path)


def test_an_ablation_and_a_grid_of_one_family(tmp_path: Path) -> None:
    run_ablation(
        BASE, Synthetic(), factors=(1.5, 2, 3, 4), rules=("compound", "width"), tolerance=0.1, seeds=2, latency=False,
        output=tmp_path / "ablate", quiet=True,
    )  # fmt: skip
    found = predict(str(tmp_path / "ablate"), folder=tmp_path)
    assert [m["name"] for m in found["members"]][:2] == ["base", "compound_x1.5"]
    assert len(found["members"]) == 5
    assert {m["runs"] for m in found["members"]} == {2}
    wide = predict(str(tmp_path / "ablate" / "summary.json"), folder=tmp_path, rule="width", phi=2.5)
    assert wide["members"][1]["name"] == "width_x1.5"
    with pytest.raises(UserError, match=r"rule: .* unknown 'depth'.* Choose one of: compound, width"):
        predict(str(tmp_path / "ablate"), folder=tmp_path, rule="depth")
    grid = {"alpha": (1.0, 1.2), "beta": (1.0, 1.2), "gamma": (1.0, 1.2), "step": 0.1, "tolerance": 0.3}
    summary = run_grid_search(BASE, Synthetic(), choose="point", output=tmp_path / "grid", quiet=True, **grid)
    rows = [(f"b{i}", LAW.accuracy(m), m) for i, m in enumerate(MACS)]
    both = predict(table(tmp_path / "f.csv", rows), str(tmp_path / "grid"), folder=tmp_path, phi=3)
    best = summary["best"]
    made = scale(BASE, Coefficients(best["alpha"], best["beta"], best["gamma"]), 3)
    assert both["predictions"][0]["macs"] == cost(made).macs
    assert both["members"][0]["accuracy"] == pytest.approx(best["accuracy"])


def test_a_transfer(tmp_path: Path) -> None:
    rows = [
        Run("birds", f"b{i}", seed, LAW.accuracy(m), "test", int(m / 100), int(m), 224, 10, 800, 100, 1, 2.0, "", "o")
        for i, m in enumerate(MACS)
        for seed in (0, 1)
    ]
    other = [Run("cars", "b0", 0, 0.5, "test", 10, 20, 224, 9, 800, 100, 1, 2.0, "", "o")]
    folder = tmp_path / "transfer"
    folder.mkdir()
    write_transfer(rows, folder, "")
    assert [m["runs"] for m in predict(str(folder), folder=tmp_path)["members"]] == [2] * 6
    write_transfer([*rows, *other], folder, "")
    with pytest.raises(UserError, match="has 2 data sets, and a law is of one: give dataset=NAME, of birds, cars"):
        predict(str(folder), folder=tmp_path)
    assert len(predict(str(folder), folder=tmp_path, dataset="birds")["members"]) == 6
    with pytest.raises(UserError, match="unknown 'dogs'"):
        predict(str(folder), folder=tmp_path, dataset="dogs")


# -- the figure ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [{}, {"b5": 0.80}, {"b2": 0.85}])
def test_the_figure_keeps_the_laws(changed: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures(monkeypatch)
    predict(family(tmp_path / "f.csv", **changed), folder=tmp_path)
    check_laws(figures.only)
    assert {"law", "members", "predicted", "from 4 members, up to b3"} <= {*told(figures.only)}
    figures = Figures(monkeypatch)
    predict(family(tmp_path / "f.csv", 4), folder=tmp_path)
    check_laws(figures.only)


def test_a_table_without_names(tmp_path: Path) -> None:
    rows = ["1e6,0.5", "2e6,0.58", "4e6,0.646", "4e6,0.65", "8e6,0.70", "16e6,0.742"]
    (tmp_path / "f.csv").write_text("\n".join(["macs,accuracy", *rows]) + "\n")
    members = predict(str(tmp_path / "f.csv"), folder=tmp_path)["members"]
    assert [m["name"] for m in members] == ["row 1", "row 2", "row 3", "row 5", "row 6"]
    assert members[2]["accuracy"] == pytest.approx(0.648)  # two trainings of one network


# -- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name,accuracy,macs\na,76.9,1\nb,78.8,2\n",
            "fractions above 0 and below 1, got 76.9: these look like per cent",
        ),
        ("name,accuracy,macs\na,nan,1\n", "row 1, column accuracy: must be a fraction above 0 and below 1, got 'nan'"),
        ("name,accuracy,macs\na,,1\n", "row 1, column accuracy: must be a fraction"),
        ("name,accuracy,macs\na,0,1\n", "must be a fraction above 0 and below 1, got 0"),
        ("name,accuracy,macs\na,1.0,1\n", "fractions above 0 and below 1, got 1"),
        ("name,accuracy,macs\na,-0.5,1\n", "must be a fraction above 0 and below 1, got -0.5"),
        ("name,accuracy,macs\na,0.5,nan\n", "row 1, column macs must be a number above 0"),
        ("name,accuracy,macs\na,0.5,0\n", "row 1, column macs must be a number above 0"),
        ("name,accuracy,macs\na,0.5,1\na,0.6,2\n", "'a' is in row 1 already; several trainings of one network"),
        ("name,accuracy,macs,seed\na,0.5,1,0\na,0.6,1,0\n", "'a' with seed 0 is in row 1 already"),
        ("name,accuracy,macs,seed\na,0.5,1,0\na,0.6,2,1\n", "row 2: a costs something else in .*row 1"),
        ("name,accuracy,size\na,0.5,1\n", "no column macs or activations or params or latency; there are: name"),
        ("name,macs\na,1\n", "no column accuracy"),
        ("name,macs\na,1\n", "no column accuracy; there are: name, macs"),
        ("name,accuracy,macs\n,0.5,1\n", "row 1, column name: empty"),
        ("name,accuracy,macs\n", "the table has no rows"),
        ("", "the table has no rows"),
        ("name,accuracy,macs\na,0.5,1\nb,0.6,1\nc,0.7,1\nd,0.71,1\n", "all 4 members have the same macs"),
        (
            "name,accuracy,macs\na,0.5,1\nb,0.6,2\nc,0.7,3\n",
            "at least 4 members of different macs, got 3 .a, b, c.",
        ),
        ("name,accuracy,macs\na,0.5,1\nb,0.6,\nc,0.7,3\nd,0.71,4\n", "x=macs: not known of b"),
        ("name,accuracy,macs,recipe\na,0.5,1,x\nb,0.6,2,y\n", "runs of different recipes do not lie on one law: a "),
        ("name,accuracy,macs,data\na,0.5,1,x\nb,0.6,2,y\n", "runs of different data do not lie on one law: a "),
    ],
)
def test_what_is_wrong_with_a_table(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        predict(str(tmp_path / "f.csv"), folder=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": "flops"}, "x: unknown 'flops'"),
        ({"x": "params"}, "x=params: not known of b0"),
        ({"x": "params", "at_macs": 1}, "a law is over one cost: got at_macs and x=params"),
        ({"at_macs": 1, "at_params": 1}, "a law is over one cost: got at_macs, at_params"),
        ({"at_macs": "1X"}, "at_macs must be a number above 0"),
        ({"target_accuracy": 95}, r"target_accuracy \(a fraction\) must be in \(0, 1\), got 95"),
        ({"doubling": 0}, r"doubling must be in \(0, 1\)"),
        ({"phi": 3}, "phi and family need what the family grows from: give baseline=FILE"),
        ({"family": "3..1", "baseline": "efficientnet_b0"}, "a range rising"),
        ({"phi": math.nan}, "phi must be a finite number"),
        ({"phi": 1, "baseline": "efficientnet_b0", "rule": "sideways"}, "rule: unknown 'sideways'"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        predict(family(tmp_path / "f.csv"), folder=tmp_path, **options)


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text('{"best": 1}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "summary.json").write_text("{")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "summary.json").write_text('{"architecture": "a", "macs": 5, "accuracy": [1]}')
    for place, words in (
        ("nowhere", "from: no such folder or file: .*nowhere"),
        ("empty", "no run of effnas train, .* has finished here"),
        ("other", "no summary of effnas train.*this one has: best"),
        ("broken", "not a JSON document"),
        ("half", "damaged or of another version"),
        ("no*", "no runs of effnas train, .* among the 0 that fit"),
    ):
        with pytest.raises(UserError, match=words):
            predict(str(tmp_path / place), folder=tmp_path)
    with pytest.raises(UserError, match="from: nothing given"):
        predict(folder=tmp_path)
