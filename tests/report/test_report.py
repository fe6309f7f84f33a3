"""The page of runs: what it says, that names are text, and what it makes of folders that are not whole."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from other_folders import OTHERS, make_compression
from run_folders import HOSTILE, MAKERS, make_search, make_training, write_csv, write_summary

from effnas import UserError, run_report
from effnas.cli import main
from effnas.report import library
from effnas.report.folders import Run, find_folders, read_run, read_runs
from effnas.report.job import write_report
from effnas.report.journal import read_journal
from effnas.report.markup import data_script, text
from effnas.report.pieces.decisions import find_importances
from effnas.report.pieces.drawing import show_network
from effnas.report.trials import find_front, thin_out
from effnas.space.zoo import zoo

pytestmark = pytest.mark.pictures


@pytest.fixture(autouse=True)
def small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega's megabyte, which takes seconds to put together, is what the browser's tests need."""
    monkeypatch.setattr("effnas.report.page.load_library", lambda: "window.vegaEmbed = null;")


class Page(HTMLParser):
    """Elements, their attributes, and the text that is shown."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words, self.scripts, self._within = "", list[str](), ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.words += data

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def show(*folders: Path, output: Path) -> Page:
    run_report([str(folder) for folder in folders], output=output)
    return Page(output.read_text(encoding="utf-8"))


# -- what it says ----------------------------------------------------------------------------------------


def test_every_kind_of_run_on_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [make(tmp_path / name) for name, make in MAKERS.items()]
    file = tmp_path / "all.html"
    assert main(["report", *map(str, folders), "-o", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["command"] for run in told["runs"]] == [
        *("search", "grid-alpha-beta-gamma", "ablate", "train", "rank", "predict")
    ]
    assert told["bytes"] == file.stat().st_size < 5e6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["all.html", *MAKERS])
    page = Page(file.read_text(encoding="utf-8"))
    assert "cannot be shown" not in page.words
    for words in (
        *("6 runs", "The runs compared", "Accuracy against MACs", "Best so far", "Importance of the decisions"),
        *("Choices among the best tenth", "found, stage by stage", "Failures", "loss is not finite", "effnas search"),
        *("The grid", "leads by 1.00%", "Rules of scaling", "no difference: p 0.5", "Learning curves", "synflow"),
        *("The family, and its prediction", "Backtest: 1 of 1 inside", "python", "space: tiny"),
    ):
        assert words in page.words, words
    titles = [figure["title"] for figure in page.data["figures"]]
    assert len(titles) == page.tags.count("figure") >= 10
    assert "confirmed_on: accuracy 54.10% ± 0.20% on 2 seeds that chose nothing" in page.words
    assert "(selected_on) it was 56.00%" in page.words


@pytest.mark.parametrize("kind", OTHERS)
def test_every_other_command_has_a_page_of_its_numbers(kind: str, tmp_path: Path) -> None:
    make, words = OTHERS[kind]
    page = show(make(tmp_path / "run"), output=tmp_path / "x.html")
    assert f"effnas {kind.partition('-')[0]}" in page.words
    shown = page.words + json.dumps(page.data, ensure_ascii=False)
    for one in words:
        assert one in shown, one
    assert "cannot be shown" not in page.words
    hostile = show(make(tmp_path / "hostile", hostile=True), output=tmp_path / "y.html")
    assert "cannot be shown" not in hostile.words
    assert hostile.tags.count("script") == 3
    assert hostile.tags.count("img") == page.tags.count("img") == (kind in ("cam", "latency-model"))
    assert HOSTILE[0] in hostile.words or HOSTILE[1] in hostile.words


def test_a_compression_beside_its_training(tmp_path: Path) -> None:
    make_compression(tmp_path / "small")
    alone = show(tmp_path / "small", make_training(tmp_path / "large"), output=tmp_path / "x.html")
    assert "87.00%" in alone.words.partition("What was cut")[0]  # in the table of all runs
    write_summary(tmp_path / "small" / "trained", "train", {"test_accuracy": 0.87})
    page = show(tmp_path / "small", tmp_path / "small" / "trained", output=tmp_path / "y.html")
    (curves,) = (figure for figure in page.data["figures"] if figure["title"] == "Accuracy by epoch")
    assert {mark["run"] for mark in curves["spec"]["data"]["values"]} == {"trained"}  # not drawn twice


def test_a_command_that_has_no_part_of_its_own_shows_its_numbers(tmp_path: Path) -> None:
    write_summary(tmp_path / "run", "novel --x 1", {"wonder": 42, "name": "it"})
    page = show(tmp_path / "run", output=tmp_path / "x.html")
    assert "effnas novel" in page.words
    assert "wonder" in page.words
    assert "42" in page.words


def test_a_picture_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effnas.report.pieces.pictures.MAX_PICTURE", 10)
    page = show(OTHERS["cam"][0](tmp_path / "run"), output=tmp_path / "x.html")
    assert "cam.png has the picture, for which the page has no room" in page.words
    assert "img" not in page.tags


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = show(make_search(tmp_path / "run", hostile=True), output=tmp_path / "x.html")
    loading = [a for a in page.attributes if a[1] in ("src", "srcset", "data", "poster", "action")]
    assert loading == []
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href")
    assert {"link", "iframe", "object", "embed", "base"}.isdisjoint(page.tags)
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes
    (policy,) = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_hostile_names_are_text(tmp_path: Path) -> None:
    usual = show(make_search(tmp_path / "usual"), output=tmp_path / "usual.html")
    page = show(make_search(tmp_path / "hostile", hostile=True), output=tmp_path / "hostile.html")
    assert page.tags.count("script") == usual.tags.count("script") == 3
    assert "img" not in page.tags
    assert {name for _, name, _ in page.attributes} <= {name for _, name, _ in usual.attributes}
    for name in HOSTILE[:4]:
        assert name in page.words
    told = {name for row in page.data["networks"] for pair in row["facts"] for name in pair}
    assert {*HOSTILE} <= told
    raw = (tmp_path / "hostile.html").read_text(encoding="utf-8")
    assert raw.count("</script") == 3
    assert raw.count("<!--") == 0
    assert "cannot be shown" not in page.words


def test_data_and_text_end_no_element() -> None:
    written = data_script("x", {"a": "</script><!-- & \u2028", "b": math.nan, "c": [math.inf, True, None]})
    assert written.count("<") == 2
    inner = written.partition(">")[2].rpartition("<")[0]
    assert json.loads(inner) == {"a": "</script><!-- & \u2028", "b": None, "c": [None, True, None]}
    assert text("é\x00<") == "<bdi>é\\x00&lt;</bdi>"
    assert text("x" * 5000).endswith("… (5,000 characters)</bdi>")


def test_where_nothing_has_confirmed_the_choice_it_says_so(tmp_path: Path) -> None:
    page = show(make_search(tmp_path / "run", confirmed=False), output=tmp_path / "x.html")
    assert "No seed has confirmed it: accuracy 56.00% is of 1 seed that chose it (selected_on)" in page.words


def test_points_carry_their_networks_and_the_front(tmp_path: Path) -> None:
    page = show(make_search(tmp_path / "run"), output=tmp_path / "x.html")
    figure = next(f for f in page.data["figures"] if f["title"] == "Accuracy against MACs")
    points = figure["spec"]["data"]["values"]
    assert len(points) == 27
    front = [point for point in points if point["front"]]
    assert [point["y"] for point in sorted(front, key=lambda p: p["x"])] == sorted({p["y"] for p in front})
    assert sum(point["best"] for point in points) == 1
    facts = dict(page.data["networks"][points[0]["network"]]["facts"])
    assert facts["accuracy"] == "50.00%"
    assert facts["MACs"] == "1 M"
    assert facts["parameters"] == "10 K"
    assert len(facts) >= 10


def test_fields_of_figures_are_names_of_ours(tmp_path: Path) -> None:
    """A name such as a.b[0] would be read as a path."""
    page = show(make_search(tmp_path / "run", hostile=True), output=tmp_path / "x.html")
    for figure in page.data["figures"]:
        fields = set(re.findall(r'"field": "([^"]*)"', json.dumps(figure["spec"])))
        assert all(re.fullmatch(r"\w+", field) for field in fields), fields


def test_the_page_stays_below_five_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effnas.report.page.MAX_PAGE", 150_000)
    monkeypatch.setattr("effnas.report.pieces.decisions.find_importances", lambda *_: {})
    page = show(make_search(tmp_path / "run", trials=600), output=tmp_path / "x.html")
    assert (tmp_path / "x.html").stat().st_size <= 150_000
    assert re.search(r"; \d+ of 540 are drawn, all of the front among them", page.words)
    monkeypatch.setattr("effnas.report.page.MAX_PAGE", 10_000)
    with pytest.raises(UserError, match="do not fit on one page of"):
        run_report([str(tmp_path / "run")], output=tmp_path / "y.html")


def test_the_drawing_tells_fused_blocks_and_their_expansion() -> None:
    data = zoo("efficientnet_v2_b0").to_dict()
    piece = show_network(Run(Path("run"), "run", "scale", {"architecture": data}))
    assert piece is not None
    for block in ("conv 3×3", "fused_mbconv 3×3, expand 4, stride 2", "mbconv 3×3, expand 6, SE 0.25, stride 2"):
        assert f">{block}<" in re.sub("</?bdi>", "", piece.body)
    kinds = ["stem and head", "conv 3×3", "fused_mbconv 3×3", "mbconv 3×3"]
    (figure,) = piece.figures
    assert figure.spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == kinds


def test_importances_are_optunas() -> None:
    rows = [{"a": i % 2, "b": i % 3, "score": i % 2 + 0.001 * (i * 37 % 120)} for i in range(120)]
    found = find_importances(rows, ["a", "b"], maximize=True)
    assert found["a"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert find_importances([{**row, "score": 1.0} for row in rows], ["a", "b"], maximize=True) == {}


def test_front_and_thinning() -> None:
    rows = [{"accuracy": a, "macs": m} for a, m in ((0.5, 1), (0.4, 2), (0.6, 2), (0.6, 3), (0.7, 9))]
    assert find_front(rows, "macs") == {0, 2, 4}
    assert thin_out(rows, {0, 2, 4}, 4) == [0, 1, 2, 4]
    assert thin_out(rows, {0}, 9) == [0, 1, 2, 3, 4]


# -- folders that are not whole, and those that are none -------------------------------------------------


def test_a_run_that_has_not_ended(tmp_path: Path) -> None:
    folder = make_training(tmp_path / "run")
    (folder / "summary.json").unlink()
    page = show(folder, output=tmp_path / "x.html")
    assert "this run has not ended: it has no summary yet; 4 epochs are logged" in page.words
    assert "Accuracy by epoch" in page.words
    (tmp_path / "going").mkdir()
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "going" / "study.journal")))
    study = optuna.create_study(study_name="search", storage=storage, direction="minimize")
    for i in range(12):
        trial = study.ask({"a": CategoricalDistribution([1, 2])})
        trial.set_user_attr("accuracy", 0.5 + 0.01 * i)
        trial.set_user_attr("macs", 1000 + i)
        study.tell(trial, 0.1 * i)
    study.ask()
    with (tmp_path / "going" / "study.journal").open("a") as file:
        file.write('{"op_code": 4, "worker')  # a process is writing it, or was killed then
    page = show(tmp_path / "going", output=tmp_path / "going.html")
    assert "it has no summary yet; 12 trials have ended" in page.words
    assert "Accuracy against MACs" in page.words
    assert "cannot be shown" not in page.words
    (tmp_path / "going" / "study.journal").write_text("no journal\nat all\n")
    assert "Nothing can be shown yet" in show(tmp_path / "going", output=tmp_path / "going.html").words
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "study.journal").write_text("")
    page = show(tmp_path / "new", output=tmp_path / "y.html")
    assert "this run has not ended" in page.words


def test_the_rows_of_a_journal_are_what_optuna_reads_of_it(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    optuna.create_study(study_name="old", storage=storage).ask({"a": CategoricalDistribution([1, 2])})
    optuna.delete_study(study_name="old", storage=storage)
    study = optuna.create_study(study_name="search", storage=storage, directions=["minimize", "maximize"])
    optuna.create_study(study_name="other", storage=storage).add_trial(optuna.trial.create_trial(value=1.0))
    with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):  # the record of it is there
        optuna.create_study(study_name="search", storage=storage)
    space = {"a": CategoricalDistribution(["x", False, None, 2]), "b": optuna.distributions.IntDistribution(1, 9)}
    study.enqueue_trial({"a": "x", "b": 3}, user_attrs={"macs": 7})
    study.add_trial(
        optuna.trial.create_trial(params={"a": 2, "b": 4}, distributions=space, values=[1.0, 2.0], user_attrs={"x": 1})
    )
    for number in range(20):
        trial = study.ask(space)
        trial.set_user_attr("accuracy", number / 20)
        trial.set_user_attr("result", {"infeasible": number % 5 == 4})
        trial.set_constraint("macs", 1.0)
        if number % 6 == 1:
            trial.set_user_attr("interrupted", True)
        if number % 5 == 3:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number % 5 == 4:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif number % 5 == 2:
            study.tell(trial, [float(number), 0.5])
    rows, directions = read_journal(tmp_path)
    again = optuna.load_study(
        study_name="search", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    )
    ended = [t for t in again.trials if t.state.is_finished() and not t.user_attrs.get("interrupted")]
    assert directions == ["minimize", "maximize"]
    assert [row["number"] for row in rows] == [trial.number for trial in ended]
    assert {row["state"] for row in rows} == {"complete", "failed", "infeasible"}
    for row, trial in zip(rows, ended, strict=True):
        assert {n: row[f"decision.{n}"] for n in trial.params} == trial.params
        assert row["score"] == (trial.values[0] if trial.values else None)
        assert row["accuracy"] == trial.user_attrs.get("accuracy")
        assert (row["state"] == "complete") == (trial.state == optuna.trial.TrialState.COMPLETE)


def test_files_that_are_cut_off_or_of_another_version(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "run")
    summary, trials = (folder / "summary.json").read_bytes(), (folder / "trials.csv").read_bytes()
    (folder / "summary.json").write_bytes(summary[:200])
    (folder / "trials.csv").write_bytes(trials[:-40])
    page = show(folder, output=tmp_path / "x.html")
    assert "summary.json is cut off, or no JSON" in page.words
    assert "1 of 30 lines are cut off and left out" in page.words
    assert "Accuracy against MACs" in page.words
    changed = json.loads(summary) | {"study": 5, "versions": [], "selected_on": "x", "best": {"number": 1}}
    (folder / "summary.json").write_text(json.dumps(changed))
    page = show(folder, output=tmp_path / "y.html")
    assert "This part cannot be shown: the files are of another version of effnas" in page.words
    assert "Failures" in page.words
    for broken in (b"[]", b"[1]", b"{}", b"\xff\xfe", b"[" * 100_000, b"null", b""):
        (folder / "summary.json").write_bytes(broken)
        assert read_run(folder, "run").summary == {}


def test_odd_tables(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "run")
    for content in (b"", b"number\n", b"\xff\xfe,\x00\n1,2\n", b'a,"b\n1,2', b"number,state\n1,complete\n2,complete\n"):
        (folder / "trials.csv").write_bytes(content)
        assert "cannot be shown" not in show(folder, output=tmp_path / "x.html").words
    write_csv(folder / "trials.csv", [{"number": "nan", "state": "complete", "accuracy": "inf", "macs": 1, "score": 1}])
    assert "cannot be shown" not in show(folder, output=tmp_path / "x.html").words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"runs: name one or several folders of runs: effnas report outputs/search"),
        (["nowhere"], r"runs: no such folder: nowhere; name the folder that a command wrote \(its -o DIR\)"),
        (["no*"], r"runs: no such folder: no\*"),
        (["empty"], r"runs: empty has no results of effnas, nor has a folder in it"),
        (["runs=null"], r"runs: name one or several folders of runs"),
        (["runs=5"], r"runs: no such folder: 5;"),
        (["runs=[5,{a:1}]"], r"runs: must be folders, one or a list of them, got"),
        (["x" * 5000], r"runs: no such folder: x"),
        (["run/summary.json"], r"runs: run/summary.json is a file; name the folder of the run: run"),
    ],
)
def test_a_wrong_folder_is_one_message(
    given: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make_training(tmp_path / "run")
    assert main(["report", *given, "-o", "x.html"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("error: ") == error.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_where_the_page_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_training(tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert main(["report", "run", "--quiet"]) == 0
    assert "written to outputs/report/report.html" in capsys.readouterr().out
    for words in (["-o", "new/a.html"], ["--output=new/b.HTM"], ["hydra.run.dir=new/c.html"], ["-o", "new/a.html"]):
        assert main(["report", "run", *words]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.html", "b.HTM", "c.html"]
    assert main(["report", "run", "-o", "run"]) == 2
    assert (
        "run: holds the results of effnas train, which those of effnas report would replace" in capsys.readouterr().err
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    assert main(["report", "run", "-o", "run/report.html"]) == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted([*before, "report.html"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"output: file is a file, and no HTML; name one: -o FILE\.html"):
        run_report("run", output="file")
    (tmp_path / "d.html").mkdir()
    with pytest.raises(UserError, match=r"output: d\.html is a folder; name a file: -o FILE\.html"):
        run_report("run", output="d.html")


def test_patterns_and_sweeps(tmp_path: Path) -> None:
    for name in ("seed=0", "seed=1"):
        make_training(tmp_path / "sweep" / name)
        make_training(tmp_path / "other" / name)
    rows = [{"job": i, "seed": i, "folder": f"seed={i}", "accuracy": 0.5, "error": ""} for i in range(2)]
    write_csv(tmp_path / "sweep" / "sweep.csv", [*rows, {"job": 2, "seed": HOSTILE[0], "error": "too large"}])
    words = show(tmp_path / "sweep", output=tmp_path / "x.html").words
    assert "The sweep: what was varied, and what came out" in words
    assert "too large" in words
    assert HOSTILE[0] in words
    folders = find_folders([str(tmp_path / "sweep"), str(tmp_path / "sweep" / "seed=*")])
    assert [folder.name for folder in folders] == ["seed=0", "seed=1"]
    assert [run.name for run in read_runs(folders)] == ["seed=0", "seed=1"]
    both = read_runs(find_folders([str(tmp_path / "sweep"), str(tmp_path / "other")]))
    assert [run.name for run in both] == ["sweep/seed=0", "sweep/seed=1", "other/seed=0", "other/seed=1"]


def test_the_library_is_cached_and_asked_for_where_it_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    vl_convert = pytest.importorskip("vl_convert")
    monkeypatch.setenv("EFFNAS_CACHE", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: f"'</script>'; {snippet}")
    first = library.load_library()
    assert "</script" not in first
    monkeypatch.setattr(vl_convert, "javascript_bundle", None)
    assert library.load_library() == first
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match="vl-convert-python carries, and it is not installed: pip install vl-convert"):
        library.load_library()


# -- at the end of a run ---------------------------------------------------------------------------------


def test_a_search_writes_its_page_unless_told_not_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["search", "--space", "tiny", "evaluator=zero_cost", "objective=pareto", "algorithm=random", "--quiet"]
    line += ["evaluator.proxies=[log_params]", "trials=3"]
    assert main([*line, "-o", "out"]) == 0
    assert "on one page: out/report.html" in capsys.readouterr().out
    assert "What was asked, and found" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert main([*line, "-o", "none", "report=false"]) == 0
    assert "report.html" not in capsys.readouterr().out
    assert not (tmp_path / "none" / "report.html").exists()


def test_what_goes_wrong_with_the_page_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_training(tmp_path / "run")

    def refuse() -> str:
        raise UserError("vl-convert-python is not installed")

    monkeypatch.setattr("effnas.report.page.load_library", refuse)
    write_report(folder)
    assert "no report.html is written (vl-convert-python is not installed); report=false asks for none" in caplog.text
    monkeypatch.setattr("effnas.report.page.load_library", lambda: 1 / 0)
    write_report(folder)
    assert "(ZeroDivisionError: division by zero)" in caplog.text
    assert not (folder / "report.html").exists()


def test_a_star_and_what_it_decided(tmp_path: Path) -> None:
    point = {
        "accuracy": 0.5,
        "sd": 0.01,
        "seeds": 2,
        "nominal_macs_ratio": 2.0,
        "macs_ratio": 2.0,
        "macs": 1,
        "params": 1,
    }
    rows = [
        {"alpha": 2.0, "beta": 1.0, "gamma": 1.0, "candidate": True, "resolution": 32, **point},
        {"alpha": 4.0, "beta": 1.0, "gamma": 1.0, "candidate": False, "resolution": 32, **point},
    ]
    until = {"decided": True, "text": "decided after 20 trainings: no other candidate may be better"}
    summary = {"points": rows, "best": rows[0], "verdict": {"text": "leads by 1%"}, "until": until}
    write_summary(tmp_path / "star", "grid-alpha-beta-gamma", summary)
    run_report([str(tmp_path / "star")], output=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "decided after 20 trainings: no other candidate may be better." in page
    assert "networks of four times the cost are in the table alone" in page
    assert page.count("α 4, β 1, γ 1") == 1  # in the table, not in the triangle
