"""The evaluator that looks networks up in a table: what it finds, what it refuses, and searches with it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from optuna.distributions import CategoricalDistribution
from pyarrow import parquet
from synthetic import four_networks, read_csv, search

from effnas import Architecture, cost, load_space
from effnas.cli import main
from effnas.evaluate.evaluation import Evaluation, EvaluationError
from effnas.evaluate.table_files import READERS, read_columns
from effnas.evaluate.tabular import Tabular
from effnas.space.errors import UserError
from effnas.space.space import SearchSpace

CONF = Path(__file__).resolve().parents[2] / "conf"
K, R = "block0_kernel_size", "block0_repeats"
#: All of :func:`four_networks`, the third one twice.
ROWS: list[dict[str, Any]] = [
    {K: 3, R: 1, "accuracy": 0.5, "ms": 10.0, "loss": 1.5, "note": "first"},
    {K: 5, R: 1, "accuracy": 0.6, "ms": 20.0, "loss": 1.25, "note": ""},
    {K: 3, R: 2, "accuracy": 0.7, "ms": 30.0, "loss": 1.0, "note": ""},
    {K: 3, R: 2, "accuracy": 0.75, "ms": 32.0, "loss": 0.5, "note": "again"},
    {K: 5, R: 2, "accuracy": 0.8, "ms": 40.0, "loss": 0.25, "note": ""},
]
FOUR = four_networks()
#: Choices of every kind, and decisions without effect: a convolution has no expansion.
MIXED = SearchSpace(
    "mixed",
    [
        {
            "block": ["conv", "mbconv"],
            "channels": {"base": 16, "times": [1.0, 1.66]},
            "expand_ratio": [3, 6],
            "se_ratio": {"choices": {False: 0.0, True: 0.25}},
        }
    ],
    names={"expand_ratio": "e", "se_ratio": "se", "channels": "c", "block": "b"},
    resolution=16,
)


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows in the format that the name says."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def look_up(table: Tabular, space: SearchSpace = FOUR, seed: int = 0, **decisions: Any) -> Evaluation:
    return table(space.build(decisions), seed=seed, report=lambda step, accuracy: None)


# -- what it finds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", READERS)
def test_every_format(suffix: str, tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / f"k=3{suffix}"), FOUR, latency="ms", metrics=["loss"])
    result = look_up(table, **{K: 5, R: 1})
    assert (result.accuracy, result.latency, dict(result.metrics)) == (0.6, 20.0, {"loss": 1.25})
    assert result.cost == cost(FOUR.build({K: 5, R: 1}))
    assert {len(rows) for rows in table.rows.values()} == {1, 2}


def test_without_latency_and_metrics(tmp_path: Path) -> None:
    result = look_up(Tabular(str(write(tmp_path / "t.csv")), FOUR), **{K: 5, R: 2})
    assert (result.accuracy, result.latency, result.metrics) == (0.8, None, {})


def test_percent_and_a_column_of_another_name(tmp_path: Path) -> None:
    rows = [{K: 3, R: 1, "top-1": 76.5}, {K: 5, R: 1, "top-1": 0.5}]
    table = Tabular(write(tmp_path / "t.csv", rows), FOUR, accuracy="top-1", accuracy_unit="percent")
    assert look_up(table, **{K: 3, R: 1}).accuracy == 0.765
    assert look_up(table, **{K: 5, R: 1}).accuracy == 0.005


@pytest.mark.parametrize("space", ["tiny", str(CONF / "space" / "tiny.yaml")])
def test_a_space_by_name_or_file(space: str, tmp_path: Path) -> None:
    tiny = load_space("tiny")
    decisions = tiny.sample(np.random.default_rng(0))
    table = Tabular(write(tmp_path / "t.json", [{**decisions, "accuracy": 0.25}]), space)
    assert look_up(table, tiny, **decisions).accuracy == 0.25


def test_the_mean_of_repeats(tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / "t.csv"), FOUR, latency="ms", metrics=("loss",))
    result = look_up(table, **{K: 3, R: 2})
    assert (result.accuracy, result.latency, result.metrics["loss"]) == (0.725, 31.0, 0.75)


def test_a_drawn_repeat_is_a_whole_row_that_seed_and_network_choose(tmp_path: Path) -> None:
    def draws() -> list[tuple[float, Any, float]]:
        table = Tabular(write(tmp_path / "t.csv"), FOUR, latency="ms", metrics=["loss"], repeats="draw")
        results = [look_up(table, seed=seed, **{K: 3, R: 2}) for seed in range(20)]
        return [(r.accuracy, r.latency, r.metrics["loss"]) for r in results]

    assert draws() == draws()
    assert set(draws()) == {(0.7, 30.0, 1.0), (0.75, 32.0, 0.5)}


def test_rows_that_differ_in_decisions_without_effect_are_repeats(tmp_path: Path) -> None:
    conv = {"block0_b": "conv", "block0_c": 1.0, "block0_se": True}
    rows = [{**conv, "block0_e": 3, "accuracy": 0.5}, {**conv, "block0_e": 6, "accuracy": 0.75}]
    path = write(tmp_path / "t.csv", rows)
    assert look_up(Tabular(path, MIXED), MIXED, **conv, block0_e=6).accuracy == 0.625
    with pytest.raises(UserError, match=r"rows 1 and 2 are the same network \(.*block0_e=6.*\).*repeats=error"):
        look_up(Tabular(path, MIXED, repeats="error"), MIXED, **conv, block0_e=3)


@pytest.mark.parametrize("true", ["True", "true", "TRUE", " true ", "1", "1.0", True, 1, 1.0])
@pytest.mark.parametrize("six", ["6", "6.0", " 6 ", 6, 6.0, Decimal("6.0")])
def test_cells_mean_the_choices_they_equal(true: object, six: object, tmp_path: Path) -> None:
    text = isinstance(true, str) and isinstance(six, str)
    wide = "1.66" if text else float(np.float32(1.66))
    row = {"block0_b": "mbconv", "block0_c": wide, "block0_e": six, "block0_se": true, "accuracy": 0.5}
    path = write(tmp_path / ("t.csv" if text else "t.parquet"), [row, {**row, "block0_b": "conv"}])
    result = look_up(Tabular(path, MIXED), MIXED, block0_b="mbconv", block0_c=1.66, block0_e=6, block0_se=True)
    assert result.accuracy == 0.5


def test_spreadsheets_begin_with_a_mark_and_end_with_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f"\ufeff{K}, {R},accuracy\r\n3,1,0.5\r\n\r\n".encode())
    assert look_up(Tabular(path, FOUR), **{K: 3, R: 1}).accuracy == 0.5


def test_cells_of_a_csv_file_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\nNA,\n007,true\nNone,1e3\n" x\n",nan\n', encoding="utf-8")
    assert read_columns(path) == {"a": ["NA", "007", "None", " x\n"], "b": ["", "true", "1e3", "nan"]}


def test_cells_of_a_parquet_file_keep_their_kind(tmp_path: Path) -> None:
    columns = {
        "i": [2**60 + 1, None],
        "b": [None, True],
        "s": ["NA", None],
        "d": [None, Decimal("1.5")],
        "n": [None] * 2,
    }
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table(columns), path)
    assert read_columns(path) == columns
    assert [type(row) for row in read_columns(path)["i"]] == [int, type(None)]


def test_a_data_frame_s_index_is_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame(ROWS).set_index([K, R]).to_parquet(path)
    assert look_up(Tabular(path, FOUR), **{K: 5, R: 2}).accuracy == 0.8
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(UserError, match=r"t.parquet: two columns have the name 'a'"):
        read_columns(path)


def test_a_line_break_of_unicode_is_none_of_the_file(tmp_path: Path) -> None:
    rows = [{K: 3, R: 1, "accuracy": 0.5, "note": "a\u2028b"}]
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(rows[0], ensure_ascii=False) + "\r\n\n", encoding="utf-8")
    assert look_up(Tabular(path, FOUR), **{K: 3, R: 1}).accuracy == 0.5


class Pair:
    """A space of a user's own: what a search needs and no more."""

    name = "pair"
    distributions: Mapping[str, CategoricalDistribution] = {"big": CategoricalDistribution([False, True])}

    def build(self, decisions: Mapping[str, Any]) -> Architecture:
        return FOUR.build({K: 5 if decisions["big"] else 3, R: 1})


def test_a_space_that_is_a_class_of_ones_own(tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / "t.csv", [{"big": True, "accuracy": 0.5}]), Pair())
    assert look_up(table, **{K: 5, R: 1}).accuracy == 0.5
    with pytest.raises(EvaluationError, match=r"t.csv has no row for the network four_\w{8}$"):
        look_up(table, **{K: 3, R: 1})


# -- what it lacks -----------------------------------------------------------------------------------


def test_a_network_that_the_table_lacks(tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / "t.csv", ROWS[:2]), FOUR)
    with pytest.raises(EvaluationError, match=f"t.csv has no row for {K}=5, {R}=2$"):
        look_up(table, **{K: 5, R: 2})
    rows = [{"block0_b": "conv", "block0_c": 1.0, "block0_e": 3, "block0_se": False, "accuracy": 0.5}]
    mixed = Tabular(write(tmp_path / "m.csv", rows), MIXED)
    wanted = {"block0_b": "conv", "block0_c": 1.66, "block0_e": 6, "block0_se": True}
    text = "block0_b=conv, block0_c=1.66, block0_e=3, block0_se=True"  # the canonical ones
    with pytest.raises(EvaluationError, match=f"has no row for {text}$"):
        look_up(mixed, MIXED, **wanted)


def test_a_network_of_another_space(tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / "t.csv"), FOUR)
    other = FOUR.build({K: 3, R: 1}).with_(resolution=32)
    for network in (other, load_space("tiny").build(load_space("tiny").sample(np.random.default_rng(0)))):
        with pytest.raises(EvaluationError, match=r"no row for the network \w+, which is not in the space four$"):
            table(network, seed=0, report=lambda step, accuracy: None)


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": None}, r"evaluator.path must name the table, .csv, .json, .jsonl, .parquet, got None"),
        ({"path": "t.txt"}, r"evaluator.path: t.txt: suffix: unknown '.txt'. .*Choose one of: .csv, .json, .jsonl"),
        ({"accuracy": None}, "evaluator.accuracy must name a column, got None"),
        ({"latency": 3}, "evaluator.latency must name a column or be null, got 3"),
        ({"metrics": 3}, "evaluator.metrics must be a list of columns, got 3"),
        ({"metrics": [1]}, r"evaluator.metrics must be a list of columns, got \[1\]"),
        ({"accuracy_unit": "%"}, "evaluator.accuracy_unit: unknown '%'. Choose one of: fraction, percent"),
        ({"repeats": "median"}, "evaluator.repeats: unknown 'median'. .*Choose one of: mean, draw, error"),
        ({"space": "huge"}, "space: unknown 'huge'.*Choose one of: .*tiny"),
        ({"space": {"stages": []}}, "evaluator.space must be a space, its name or its file, got dict"),
    ],
)
def test_mistakes_in_the_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tabular(**{"path": "t.csv", "space": FOUR, **arguments})


def changed(row: int, **cells: Any) -> list[dict[str, Any]]:
    return [{**cells_of, **(cells if i == row else {})} for i, cells_of in enumerate(ROWS, start=1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "t.{}: the table has no rows"),
        ([{"accuracy": 0.5, K: 3}], f"t.{{}}: no column for {R}, which the space four decides; the columns are "),
        ([{K: 3, R: 1}], f"t.{{}}: evaluator.accuracy: column: unknown 'accuracy'.*Choose one of: {K}, {R}"),
        (changed(2, **{K: 4}), f"t.{{}}: row 2: {K}: unknown '4(.0)?'.*Choose one of: 3, 5"),
        (changed(2, **{K: None}), f"t.{{}}: row 2: {K}( is missing; choose one of: 3, 5|: unknown 'nan')"),
        (changed(3, accuracy=None), "t.{}: row 3: accuracy (is missing|must be a finite number, got nan)"),
        (changed(3, accuracy=float("inf")), "t.{}: row 3: accuracy must be a finite number, got '?(inf|Infinity)"),
        (changed(3, accuracy=-0.5), "t.{}: row 3: accuracy must be a fraction between 0 and 1, got -0.5$"),
        (
            changed(3, accuracy=70.0),
            "t.{}: row 3: accuracy must be a fraction between 0 and 1, got 70; "
            "set evaluator.accuracy_unit=percent if the column holds percentages$",
        ),
        (changed(4, ms=None), "t.{}: row 4: ms (is missing|must be a finite number, got nan)"),
        (changed(4, ms=0), "t.{}: row 4: ms must be above 0 seconds, got 0$"),
        (changed(5, loss=None), "t.{}: row 5: loss (is missing|must be a finite number, got nan)"),
    ],
)
@pytest.mark.parametrize("suffix", READERS)
def test_mistakes_in_a_table(rows: list[dict[str, Any]], message: str, suffix: str, tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / f"t{suffix}", rows), FOUR, latency="ms", metrics=["loss"])
    with pytest.raises(UserError, match=message.format(suffix[1:])):
        look_up(table, **{K: 3, R: 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accuracy": "acuracy"}, "evaluator.accuracy: column: unknown 'acuracy'. Did you mean 'accuracy'"),
        ({"latency": "s"}, f"evaluator.latency: column: unknown 's'.*Choose one of: {K}, {R}, accuracy, ms"),
        ({"metrics": ["loss", "f1"]}, "evaluator.metrics: column: unknown 'f1'"),
        ({"metrics": ["note"]}, "row 1: note must be a finite number, got 'first'"),
        ({"accuracy_unit": "percent"}, "no accuracy is above 1 percent: set evaluator.accuracy_unit=fraction"),
        ({"repeats": "error"}, rf"rows 3 and 4 are the same network \({K}=3, {R}=2\), which evaluator.repeats=error"),
    ],
)
def test_settings_that_do_not_fit_the_table(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"t.csv: {message}"):
        look_up(Tabular(**{"path": write(tmp_path / "t.csv"), "space": FOUR, **arguments}), **{K: 3, R: 1})


def test_percentages_have_an_end_too(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [{K: 3, R: 1, "accuracy": 101}])
    with pytest.raises(UserError, match=r"row 1: accuracy must be a percentage between 0 and 100, got 101$"):
        look_up(Tabular(path, FOUR, accuracy_unit="percent"), **{K: 3, R: 1})


HEADER = f"{K},{R},accuracy\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "evaluator.path: no such file: .*none.csv"),
        ("t.csv", b"", "t.csv: the table has no rows"),
        ("t.csv", HEADER.encode(), "t.csv: the table has no rows"),
        ("t.csv", b"\xff\xfe\x00", "t.csv: not readable as csv: .*utf-8"),
        ("t.csv", f'{HEADER}3,1,"0.5\n'.encode(), "t.csv: not readable as csv: unexpected end of data"),
        ("t.csv", f"{HEADER}3,1,0.5\n3,1\n".encode(), "t.csv: row 2 has 2 cells; the header has 3"),
        ("t.csv", f"{HEADER}3,1,0.5\n\n3,1,0.5,7\n".encode(), "t.csv: row 2 has 4 cells; the header has 3"),
        ("t.csv", f'{HEADER}3,1,"0.5"7\n'.encode(), "t.csv: not readable as csv: ',' expected after"),
        ("t.csv", f"{HEADER}3,1,NA\n".encode(), "row 1: accuracy must be a finite number, got 'NA'"),
        ("t.csv", HEADER.replace(",", ";").encode() + b"3;1;0.5\n", f"no column for {K}, {R}, .*the columns are {K};"),
        ("t.csv", f"accuracy,{HEADER}0,3,1,0.5\n".encode(), "t.csv: two columns have the name 'accuracy'"),
        ("t.csv", f"{HEADER}3,1,true\n".encode(), "row 1: accuracy must be a finite number, got 'true'"),
        ("t.json", b'{"a": [1]}', "t.json: must be a list of records, one per row, got dict"),
        ("t.json", b"[1, 2]", "t.json: row 1 must map columns to values, got 1"),
        ("t.json", b'[{"a": 1}', "t.json: not readable as json: Expecting"),
        ("t.json", b"[" * 100_000, "t.json: not readable as json: .*recursion"),
        ("t.json", f'[{{"{K}": [3], "{R}": 1, "accuracy": 1}}]'.encode(), rf"row 1: {K}: unknown '\[3\]'"),
        ("t.json", f'[{{"{K}": true, "{R}": 1, "accuracy": 1}}]'.encode(), f"row 1: {K}: unknown 'True'"),
        ("t.json", f'[{{"{K}": 3, "{R}": 1, "accuracy": true}}]'.encode(), "accuracy must be a finite .*got True"),
        ("t.json", f'[{{"{K}": 3, "{R}": 1}}, {{"accuracy": 1}}]'.encode(), "row 1: accuracy is missing"),
        ("t.jsonl", b'{"a": 1}\n\n{"a": ', "t.jsonl: row 2 is not JSON: Expecting"),
        ("t.jsonl", b"3\n", "t.jsonl: row 1 must map columns to values, got 3"),
        ("t.parquet", b"", "t.parquet: not readable as parquet: "),
        ("t.parquet", b"PAR1 and no more PAR1", "t.parquet: not readable as parquet: "),
    ],
)
def test_files_that_are_no_tables(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        look_up(Tabular(tmp_path / name, FOUR), **{K: 3, R: 1})


class Unbuildable(Pair):
    def build(self, decisions: Mapping[str, Any]) -> Architecture:
        raise UserError("channels must be at least 1, got 0")


def test_a_row_that_describes_no_network(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [{"big": True, "accuracy": 0.5}])
    with pytest.raises(UserError, match=r"t.csv: row 1: channels must be at least 1, got 0"):
        look_up(Tabular(path, Unbuildable()), **{K: 3, R: 1})


# -- searches ----------------------------------------------------------------------------------------


def test_making_it_reads_nothing_and_it_pickles(tmp_path: Path) -> None:
    table = Tabular(tmp_path / "t.csv", FOUR, latency="ms", metrics=["loss"])
    sent = pickle.dumps(table)
    write(tmp_path / "t.csv")
    other = pickle.loads(sent)
    assert look_up(other, **{K: 5, R: 1}) == look_up(table, **{K: 5, R: 1})
    assert pickle.loads(pickle.dumps(table)).rows == table.rows
    assert "0x" not in repr(table)  # a search's record, which a resumed search must equal


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_finds_the_best_row_and_records_what_is_missing(workers: int, tmp_path: Path) -> None:
    table = Tabular(write(tmp_path / "t.csv", ROWS[:4]), FOUR)
    summary = search(tmp_path / "out", table, FOUR, trials=12, workers=workers)
    assert summary["best"]["decisions"] == {K: 3, R: 2}
    assert summary["best"]["accuracy"] == 0.725
    assert summary["failed"] >= 1
    reasons = [row["reason"] for row in read_csv(tmp_path / "out" / "trials.csv") if row["state"] == "failed"]
    assert reasons[0] == f"EvaluationError: {tmp_path}/t.csv has no row for {K}=5, {R}=2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's: a space of four networks and a table."""
    stage = {"block": "mbconv", "channels": 8, "kernel_size": [3, 5], "repeats": [1, 2]}
    space = {"_target_": "effnas.space.space.SearchSpace", "name": "four", "stages": [stage], "resolution": 16}
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "four.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    write(tmp_path / "t.csv", [{**row, "accuracy": 100 * row["accuracy"]} for row in ROWS])
    monkeypatch.chdir(tmp_path)
    return tmp_path


TYPED = ["search", "--config-dir", ".", "--space", "four", "evaluator=tabular"]


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TYPED, "evaluator.path=t.csv", "--evaluator.accuracy-unit", "percent", "--evaluator.latency", "ms"]
    words += ["--evaluator.metrics", "loss", "objective.metric=latency", "objective.target=20", "trials=10"]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["evaluator"] == "Tabular"
    assert summary["evaluator_details"]["networks"] >= 1
    assert summary["best"]["latency"] == 40.0
    assert summary["best"]["score"] == pytest.approx(0.8 * (40 / 20) ** -0.07)
    assert main([*words, "trials=12", "--json"]) == 0  # goes on
    assert json.loads(capsys.readouterr().out)["trials"] == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "evaluator.path must name the table, .csv, .json, .jsonl, .parquet, got None"),
        (["evaluator.path=t.csv"], "t.csv: row 1: accuracy must be a fraction between 0 and 1, got 50; set evaluator."),
        (["evaluator.path=u.csv"], "evaluator.path: no such file: u.csv"),
    ],
)
def test_mistakes_on_the_command_line(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TYPED, *words]) == 2
    assert f"effnas search: error: {message}" in capsys.readouterr().err


def test_the_configuration_names_every_setting_and_explains_it() -> None:
    text = (CONF / "evaluator" / "tabular.yaml").read_text(encoding="utf-8")
    settings = {name for name in Tabular.__dataclass_fields__ if name[0] != "_"}
    assert set(yaml.safe_load(text)) == {"_target_", *settings}
    assert text.startswith("# ")
    assert all("  # " in line for line in text.splitlines()[2:])
