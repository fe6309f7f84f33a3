"""``effnas reproduce``: the paper's tables beside ours, and what it says where they differ."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from effnas.cli import main
from effnas.commandline.commands import COMMANDS
from effnas.scaling.reproduce.job import find_interval, reproduce, run_reproduce, scale_zoo_network
from effnas.scaling.reproduce.report import summary_text
from effnas.scaling.reproduce.tables import TABLES
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.zoo import zoo


@cache
def by_name(table: str) -> dict[str, dict]:
    return {row["name"]: row for row in reproduce(table)}


def test_table_2_has_the_published_networks() -> None:
    rows = reproduce("table2")
    assert [row["params"] for row in rows[:3]] == [5_288_548, 7_794_184, 9_109_994]  # as torchvision's and the authors'
    assert rows[3]["macs"] == 1_827_141_392
    assert [row["macs_agree"] for row in rows] == [True, False, True, True, False, False, True, False]
    assert [row["params_agree"] for row in rows] == [True, True, False, True, True, True, True, True]
    b4 = rows[4]
    assert (b4["depth"], b4["width"], b4["resolution"], b4["coefficients"]) == (1.8, 1.4, 380, "code")
    assert (b4["paper_macs"], b4["paper_params"]) == ("4.2B", "19M")
    assert b4["macs_difference"] == pytest.approx(100 * (4_393_771_024 / 4.2e9 - 1), abs=0.01)
    assert b4["note"] == "MACs: unexplained"
    assert rows[7]["note"] == "MACs: 37.75B cut off instead of rounded is 37B"
    assert rows[2]["note"] == "parameters: unexplained"


def test_table_7_is_explained_by_rounded_coefficients() -> None:
    rows = by_name("table7")
    assert [row["macs_agree"] for row in rows.values()] == [True, False, False, False, True]
    b0 = zoo("efficientnet_b0")
    assert rows["B0 by depth"]["macs"] == cost(b0.scaled(1, 4, 224)).macs
    assert rows["B0 by depth"]["macs_difference"] == pytest.approx(-12.5, abs=0.1)
    assert rows["B0 by depth"]["note"] == "MACs: d from 4.01 to 4.49, which rounds to 4, gives 1.8B"
    assert rows["B0 by width"]["note"] == "MACs: w from 2.19 to 2.24, which rounds to 2, gives 1.8B"
    assert rows["B0 by resolution"]["note"] == "MACs: r from 2.15 to 2.21, which rounds to 2, gives 1.9B"
    for width, inside in ((2.18, False), (2.19, True), (2.24, True), (2.25, False)):
        assert (1.75e9 <= cost(b0.scaled(width, 1, 224)).macs < 1.85e9) is inside
    compound = rows["B0 compound"]
    assert (compound["depth"], compound["width"], compound["resolution"]) == (1.4, 1.2, 291)  # 1.3 · 224 = 291.2
    assert compound["note"] == ""
    assert all(row["params_agree"] is None and row["paper_params"] is None for row in rows.values())


def test_table_3_mobilenets() -> None:
    rows = by_name("table3")
    agree = {name: row["macs_agree"] for name, row in rows.items() if name.startswith("MobileNet")}
    assert [name for name, same in agree.items() if not same] == ["MobileNetV1 by resolution", "MobileNetV1 compound"]
    assert rows["MobileNetV1"]["macs"] == 568_740_352  # 569 million in its own paper
    assert rows["MobileNetV2"]["macs"] == 300_774_272  # 300 million in its own paper
    assert rows["MobileNetV1 by resolution"]["note"] == (
        "MACs: r from 1.94 to 1.96, which rounds to 2, gives 2.2B; or 2.272B cut off instead of rounded is 2.2B"
    )
    note = rows["MobileNetV1 compound"]["note"]
    assert note == "MACs: coefficients that round to the printed ones give 2.3B, such as d=1.4, w=1.21, r=1.28"
    assert 2.25e9 <= cost(zoo("mobilenet_v1").scaled(1.21, 1.4, round(1.28 * 224))).macs < 2.35e9


def test_table_3_resnet50() -> None:
    rows = by_name("table3")
    names = ("ResNet-50", "ResNet-50 by depth", "ResNet-50 by width", "ResNet-50 by resolution", "ResNet-50 compound")
    base, depth, width, resolution, compound = (rows[name] for name in names)
    assert (base["params"], base["macs"]) == (25_557_032, 4_089_184_256)  # torchvision's
    assert [row["macs_agree"] for row in (base, depth, width, resolution, compound)] == [True, False, False, True, True]
    assert depth["note"] == width["note"]
    assert depth["note"].endswith("the two rows look exchanged in the paper")
    assert depth["macs"] == pytest.approx(14.7e9, rel=0.01)  # printed for the width
    assert width["macs"] == pytest.approx(16.2e9, rel=0.01)  # printed for the depth
    # ⌈d·n⌉ of 3, 4, 6, 3 blocks steps over 16.2B
    low, high = (cost(scale_zoo_network("resnet50", d, 1, 1)).macs for d in (4.333, 4.334))
    assert (low < 15.9e9, high > 16.5e9) == (True, True)


def test_fitted_coefficients_are_said_to_be() -> None:
    rows = by_name("table3")
    assert [name for name, row in rows.items() if row["coefficients"] == "fitted"] == [
        "MobileNetV2 compound",
        "ResNet-50 compound",
    ]
    row = rows["MobileNetV2 compound"]
    assert row["macs_agree"]
    assert row["note"].startswith("coefficients not printed; shown are those nearest to the other compound rows'")
    assert row["note"].endswith("of the 3,375 triples of 1.1, 1.2, .. 2.5, 26")
    axis = [i / 10 for i in range(11, 26)]
    triples = itertools.product(axis, axis, axis)
    assert sum(1.25e9 <= cost(scale_zoo_network("mobilenet_v2", *triple)).macs < 1.35e9 for triple in triples) == 26
    assert cost(scale_zoo_network("mobilenet_v2", 1.4, 1.2, 1.29)).macs >= 1.35e9  # a hundredth nearer is too much
    assert cost(scale_zoo_network("resnet50", 1.4, 1.21, 1.3)).macs < 16.65e9
    assert cost(scale_zoo_network("resnet50", 1.1, 1.5, 1.2)).macs == pytest.approx(16.7e9, rel=0.003)


@pytest.mark.parametrize(
    ("printed", "low", "high"),
    [
        ("0.39B", 0.385e9, 0.395e9),
        ("0.70B", 0.695e9, 0.705e9),
        ("37B", 36.5e9, 37.5e9),
        ("5.3M", 5.25e6, 5.35e6),
        ("4", 3.5, 4.5),
        ("1.3", 1.25, 1.35),
    ],
)
def test_interval_of_a_printed_number(printed: str, low: float, high: float) -> None:
    assert find_interval(printed) == pytest.approx((low, high))


def test_files_and_text(tmp_path: Path) -> None:
    rows = run_reproduce("table2", output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "reproduce.json").read_text()) == rows
    with (tmp_path / "out" / "reproduce.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(line["name"], int(line["macs"])) for line in read] == [(row["name"], row["macs"]) for row in rows]
    text = summary_text(rows, "table2")
    assert "EfficientNet-B4  1.8  1.4  1.6964     380         4.2B   4.394B      +4.6 %      no" in text
    assert "- EfficientNet-B4 and EfficientNet-B5: MACs: unexplained" in text
    assert "Figure 4" not in text  # table 2 prints no coefficients
    assert json.loads(json.dumps(rows)) == rows  # what --json prints
    shared = summary_text(list(by_name("table3").values()), "table3")
    assert shared.count("look exchanged") == 1
    assert "- ResNet-50 by depth and ResNet-50 by width: no d" in shared
    assert "params" not in summary_text(run_reproduce("table7", output=tmp_path), "table7")


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"table: unknown 'table33'\. Did you mean 'table3'\? Choose one of: table2, table3"
    ):
        run_reproduce("table33", output=tmp_path / "a")
    with pytest.raises(UserError, match="name a table of the EfficientNet paper: table2, table3, table7, as in effnas"):
        run_reproduce(output=tmp_path / "a")
    assert not (tmp_path / "a").exists()


# -- the command: its table may stand alone ----------------------------------------------------------


@pytest.mark.parametrize("words", [["table7"], ["table=table7"], ["--table", "table7"], ["--table=table7"]])
def test_the_table_may_stand_alone(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "--json", *words]) == 0
    assert [row["paper_macs"] for row in json.loads(capsys.readouterr().out)] == [
        "0.4B",
        "1.8B",
        "1.8B",
        "1.9B",
        "1.8B",
    ]
    assert (tmp_path / "outputs" / "reproduce" / "reproduce.csv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a table of the EfficientNet paper: table2, table3, table7"),
        (["tabel7"], "table: unknown 'tabel7'. Did you mean 'table7'? Choose one of: table2, table3, table7"),
        (["table7", "table3"], "table is given more than once: table7 and table3"),
        (["table=table7", "table3"], "table is given more than once: table7 and table3"),
        (["table3", "--table", "table7"], "table is given more than once: table3 and table7"),
        (["table7", "json"], "'json' has no value: write --json VALUE or json=VALUE"),
    ],
)
def test_wrong_words(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *words, f"hydra.run.dir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err


def test_help_names_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--help"]) == 0
    assert "usage: effnas reproduce {table2|table3|table7} [--flag VALUE ...]" in capsys.readouterr().out
    positional = COMMANDS["reproduce"].positional
    assert positional is not None
    assert positional.choices == tuple(TABLES)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("effnas reproduce tab", ["table2", "table3", "table7", "table="]),
        ("effnas reproduce table7", ["table7"]),
        ("effnas reproduce --table ", ["table2", "table3", "table7"]),
        ("effnas reproduce table=table2", ["table=table2"]),
        ("effnas reproduce table3 tab", ["table="]),
        ("effnas reproduce table3 --js", ["--json"]),
    ],
)
def test_completion(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.delenv("COMP_POINT", raising=False)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == expected


@pytest.mark.parametrize("table", ["table2", "table7"])
def test_needs_no_torch(table: str, tmp_path: Path) -> None:
    code = (
        "import sys; from effnas.cli import main\n"
        f"assert main(['reproduce', '{table}', 'hydra.run.dir={tmp_path}']) == 0\n"
        "heavy = {'torch', 'optuna', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
