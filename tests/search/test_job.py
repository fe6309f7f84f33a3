"""effnas search as it is typed: one's own folder, sweeps, the arguments of run_search, a real training."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.samplers import NSGAIISampler, RandomSampler
from synthetic import TESTS, Synthetic, calls, four_networks, own_folder, read_csv, search, true_accuracy

from effnas import cost, load_architecture, load_space, run_search
from effnas.cli import main
from effnas.evaluate.accel_nasbench import AccelNASBench
from effnas.evaluate.data import ImageData
from effnas.evaluate.evaluation import Evaluation, Report
from effnas.evaluate.identity import describe_changes, describe_content
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.tabular import Tabular
from effnas.evaluate.train.recipe import Training
from effnas.search.algorithms.evolution import Evolution
from effnas.search.algorithms.infeasible import CMAES
from effnas.search.algorithms.ordinal import Ordinal
from effnas.search.objective import Accuracy, Pareto
from effnas.space.errors import UserError


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, entered: ``mine`` has their configurations."""
    monkeypatch.chdir(tmp_path)
    return own_folder(tmp_path / "mine")


# -- one's own folder ----------------------------------------------------------------------------------


def test_an_evaluator_and_a_space_of_ones_own(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "space").mkdir()
    shipped = (TESTS.parent / "conf" / "space" / "tiny.yaml").read_text()
    (own / "space" / "narrow.yaml").write_text(shipped.replace("name: tiny", "name: narrow").replace("1.66", "2.0"))
    words = ["search", "--config-dir", "mine", "--evaluator", "synthetic", "--space", "narrow", "--trials", "6"]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["space"] == "narrow"
    assert summary["evaluator"] == "Synthetic"
    assert (
        summary["command"] == "effnas search --config-dir mine --evaluator synthetic --space narrow --trials 6 --json"
    )
    assert len(calls(own / "calls.txt")) == 6 - summary["duplicates"]
    output = Path("outputs/search")
    assert json.loads((output / "summary.json").read_text()) == summary
    assert load_architecture(output / "baseline.yaml").name.startswith("narrow_")
    assert captured.err.splitlines()[-1].startswith("[6/6] trial 5 complete: accuracy ")
    assert main(words) == 0  # nothing to do
    assert "<- baseline" in capsys.readouterr().out
    assert len(calls(own / "calls.txt")) == 6 - summary["duplicates"]


def test_the_same_from_python_and_from_the_command_line(own: Path, tmp_path: Path) -> None:
    line = ["search", "--config-dir", "mine", "evaluator=synthetic", "trials=10", "objective=accuracy"]
    line += ["algorithm=evolution"]
    assert main([*line, "objective.max_macs=900k", "algorithm.population=4", "algorithm.tournament=2", "seed=3"]) == 0
    algorithm = partial(Evolution, population=4, tournament=2)
    search(tmp_path / "python", objective=Accuracy(max_macs=900e3), algorithm=algorithm, trials=10, seed=3)
    assert [row["score"] for row in read_csv(Path("outputs/search/trials.csv"))] == [
        row["score"] for row in read_csv(tmp_path / "python" / "trials.csv")
    ]


def test_another_setting_in_the_same_folder(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["search", "--config-dir", "mine", "evaluator=synthetic", "trials=2"]
    assert main(line) == 0
    capsys.readouterr()
    assert main([*line, "objective.w=-0.5"]) == 2
    assert "outputs/search: holds another search (objective.w: -0.07 → -0.5)" in capsys.readouterr().err
    assert main([*line, "trials=4", "workers=2", "timeout=100", "json=true"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 4


# -- sweeps --------------------------------------------------------------------------------------------


def test_a_sweep_of_searches(own: Path) -> None:
    line = ["search", "--config-dir", "mine", "evaluator=synthetic", "trials=3", "-m"]
    assert main([*line, "objective.w=-0.05,-0.07", "seed=0,1"]) == 0
    folders = sorted(path.parent for path in Path("outputs/search-sweep").rglob("summary.json"))
    assert len(folders) == 4
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    found = {(s["objective"].partition("w=")[2].partition(",")[0], s["seed"]) for s in summaries}
    assert found == {("-0.05", 0), ("-0.05", 1), ("-0.07", 0), ("-0.07", 1)}
    for folder, summary in zip(folders, summaries, strict=True):
        assert f"seed={summary['seed']}" in folder.name
        assert summary["trials"] == 3
        assert {"baseline.yaml", "trials.csv", "pareto.csv", "search.png", "study.journal"} <= {
            path.name for path in folder.iterdir()
        }
    before = len(calls(own / "calls.txt"))
    assert main([*line, "objective.w=-0.05,-0.07", "seed=0,1"]) == 0  # each job resumes its own
    assert len(calls(own / "calls.txt")) == before


def test_a_sweep_of_grids(own: Path) -> None:
    space = load_space("tiny")
    space.build({name: labels[-1] for name, labels in space.choices.items()}).save(Path("base.yaml"))
    line = ["grid-alpha-beta-gamma", "--config-dir", "mine", "evaluator=synthetic", "baseline=base.yaml", "step=0.1"]
    assert main([*line, "-m", "seed=0,1"]) == 0
    summaries = [json.loads(path.read_text()) for path in Path("outputs/grid-sweep").rglob("summary.json")]
    assert sorted(summary["seed"] for summary in summaries) == [0, 1]
    assert len(list(Path("outputs/grid-sweep").rglob("coefficients.yaml"))) == 2


def test_a_sweep_of_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scale", "-m", "phi=1,2", "--json"]) == 0
    found = [document["phi"] for document in json.loads(capsys.readouterr().out)]
    assert found == [1, 2]
    folders = [path for path in Path("outputs/scale-sweep").iterdir() if path.is_dir()]
    assert sorted(folder.name for folder in folders) == ["phi=1", "phi=2"]
    assert all(list(folder.glob("*.yaml")) for folder in folders)


# -- the arguments of run_search -----------------------------------------------------------------------


def test_defaults(tmp_path: Path) -> None:
    summary = run_search("tiny", Synthetic(), trials=3, output=tmp_path, quiet=True)
    assert summary["algorithm"] == "Predictor"
    assert "target=400000000" in summary["objective"]
    assert summary["output"] == str(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials must be between 1 and 100000000, got 0"),
        ({"trials": 2.5}, "trials must be a whole number, got 2.5"),
        ({"workers": 0}, r"workers must be .*got 0"),
        ({"seed": -1}, r"seed must be .*got -1"),
        ({"timeout": 0}, r"timeout \(seconds\) must be .*got 0"),
        ({"space": "tinny"}, "space: unknown 'tinny'. Did you mean 'tiny'"),
        ({"algorithm": partial(Evolution, population=0)}, "population must be at least 1"),
        ({"algorithm": partial(NSGAIISampler, population_size=1)}, "algorithm: `population_size` must be greater"),
        ({"algorithm": partial(RandomSampler, colour=1)}, "algorithm: .*unexpected keyword argument 'colour'"),
    ],
)
def test_mistakes(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    log = tmp_path / "calls.txt"
    with pytest.raises(UserError, match=message):
        search(tmp_path / "out", Synthetic(str(log)), **options)
    assert calls(log) == []


class OwnSpace:
    """A class with distributions and build, as the smallest space of one's own."""

    name = "own"

    def __init__(self) -> None:
        self._tiny = load_space("tiny")
        self.distributions = dict(list(self._tiny.distributions.items())[:4])
        self._rest = {name: labels[0] for name, labels in list(self._tiny.choices.items())[4:]}

    def build(self, decisions: Any) -> Any:
        network = self._tiny.build({**self._rest, **decisions})
        if len(network.stages) == 3 and decisions["block0_kernel_size"] == 5 and decisions["block0_repeats"] == 2:
            raise UserError("5 × 5 twice is too much")
        return network


def test_a_space_that_is_a_class(tmp_path: Path) -> None:
    space: Any = OwnSpace()
    summary = search(tmp_path / "a", space=space, trials=16, algorithm=RandomSampler)
    assert summary["space"] == "own"
    assert 0 < summary["failed"] < 16
    assert set(summary["reasons"]) == {"5 × 5 twice is too much"}
    limit = cost(load_architecture(tmp_path / "a" / "baseline.yaml")).macs
    summary = search(tmp_path / "b", space=space, trials=5, objective=Accuracy(max_macs=limit))
    assert summary["best"]["macs"] <= limit
    with pytest.raises(UserError, match=r"no network of the space own meets macs ≤ 10; the nearest found has macs \d"):
        search(tmp_path / "c", space=space, objective=Accuracy(max_macs=10))


# -- for real ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_on_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "training.epochs=2", "trials=4", "workers=2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"] == 4
    assert summary["evaluator"] == "Proxy"
    assert summary["best"]["accuracy"] > 0.15  # one class of ten by chance
    assert summary["best"]["seconds"] > 0
    words = ["grid-alpha-beta-gamma", "training.epochs=1", "step=0.2", "tolerance=0.4", "seeds=1", "--json"]
    assert main(words) == 0
    grid = json.loads(capsys.readouterr().out)
    assert grid["baseline"]["macs"] == summary["best"]["macs"]
    words = ["scale", "baseline=outputs/search/baseline.yaml", "coefficients=outputs/grid/coefficients.yaml"]
    assert main([*words, "family=0..1", "--json"]) == 0
    family = json.loads(capsys.readouterr().out)
    assert [member["macs"] for member in family] == [summary["best"]["macs"], grid["best"]["macs"]]


def test_what_cannot_work_is_found_out_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CMA-ES handles one objective, but the study has 2"):
        search(tmp_path / "o", algorithm=partial(Ordinal, CMAES), objective=Pareto())
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty\.csv"):
        search(tmp_path / "o", Tabular(str(tmp_path / "empty.csv"), "tiny"))
    with pytest.raises(UserError, match="no such file"):
        search(tmp_path / "o", AccelNASBench(str(tmp_path / "missing")))
    assert not (tmp_path / "o").exists()


# -- what makes two searches the same one --------------------------------------------------------------


def edited(own: Path, old: str, new: str) -> str:
    """The tiny space under its own name, with a change in its file."""
    path = own / "tiny.yaml"
    text = (TESTS.parent / "conf" / "space" / "tiny.yaml").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_classes: 10", "num_classes: 7"),
        ("stem: 8", "stem: 16"),
        ("kernel_size: [3, 5], stride: 1", "kernel_size: [3, 5, 7], stride: 1"),
        ("times: [1.0, 1.5]", "times: [1.0, 2.5]"),
    ],
)
def test_a_space_edited_under_its_name_is_another_search(own: Path, old: str, new: str) -> None:
    search(Path("out"), space=edited(own, old, old), trials=3)
    with pytest.raises(UserError, match=r"out: holds another search \(space\.(decisions\.\w+|networks): .* → "):
        search(Path("out"), space=edited(own, old, new), trials=4)
    assert search(Path("out"), space=edited(own, old, old), trials=4)["trials"] == 4


def test_what_changes_no_result_may_change(own: Path) -> None:
    Path("photos").mkdir()
    data = [ImageData(source="folder", path=path, workers=n) for path, n in (("photos", 1), ("./photos", 2))]
    training = Training(epochs=1, lr=0.1)
    first, again = (describe_content(Proxy(d, training, threads=n)) for d, n in zip(data, (1, None), strict=True))
    assert first == again
    assert first["data"]["path"] == str(Path("photos").resolve())
    assert describe_changes(first, describe_content(Proxy(replace(data[0], limit=9), training))) == (
        "data.limit: None → 9"
    )


@pytest.mark.parametrize("typed", [False, True])
def test_a_table_edited_under_its_name_is_another_search(tmp_path: Path, typed: bool) -> None:
    space = four_networks()
    rows = [{"block0_kernel_size": k, "block0_repeats": r, "accuracy": (k + r) / 10} for k in (3, 5) for r in (1, 2)]
    table = pd.DataFrame(rows)
    job = {"evaluator": {"path": str(tmp_path / "t.csv")}} if typed else None  # as the command line gives it

    def run(trials: int) -> Any:
        table.to_csv(tmp_path / "t.csv", index=False)
        return search(tmp_path, Tabular(tmp_path / "t.csv", space), space=space, job=job, trials=trials)

    run(2)
    assert run(3)["trials"] == 3
    table.loc[3, "accuracy"] = 0.1
    with pytest.raises(UserError, match=r"holds another search \(files\.t\.csv: '\w{16}' → '\w{16}'\)"):
        run(4)


def test_an_evaluator_that_counts_its_calls_is_the_same_one(tmp_path: Path) -> None:
    class Counting:
        def __init__(self, offset: float) -> None:
            self.offset, self.calls = offset, 0

        def __call__(self, architecture: Any, *, seed: int, report: Report) -> Evaluation:
            self.calls += 1
            return Evaluation(true_accuracy(architecture) - self.offset, cost(architecture))

    counting = Counting(0.1)
    search(tmp_path, counting, trials=2)
    assert search(tmp_path, counting, trials=3)["trials"] == 3
    assert search(tmp_path, Counting(0.1), trials=4)["trials"] == 4
    with pytest.raises(UserError, match=r"evaluator.offset: 0.1 → 0.2"):
        search(tmp_path, Counting(0.2), trials=5)


def test_the_command_line_goes_on_with_other_workers_and_spellings(own: Path) -> None:
    line = ["search", "--config-dir", "mine", "evaluator=synthetic", "trials=2"]
    assert main([*line, "data=folder", "data.path=mine", "data.workers=1"]) == 0
    assert main([*line, "data=folder", "data.path=./mine", "data.workers=0", "trials=3"]) == 0
    assert len(read_csv(Path("outputs/search/trials.csv"))) == 3


@pytest.mark.parametrize("evaluator", ["proxy", "supernet"])
def test_a_study_of_an_earlier_version_goes_on(evaluator: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``jobs_before_divisor.json`` has what that version recorded of these lines; spaces have had one more field since.

    A field that is added since then with a default that changes nothing must not part a study from its command.
    """
    recorded = json.loads((TESTS / "golden" / "jobs_before_divisor.json").read_text(encoding="utf-8"))[evaluator]
    found: list[dict[str, Any]] = []

    def note(storage: object, name: str, folder: Path, directions: object, identity: dict[str, Any], **_: Any) -> None:
        found.append(json.loads(json.dumps(identity)))
        raise UserError("enough")

    monkeypatch.setattr("effnas.search.trials.open_study", note)
    monkeypatch.setattr("effnas.evaluate.supernet.evaluator.Supernet.prepare", lambda self: None)
    line = ["search", f"evaluator={evaluator}", "data.limit=100", "training.epochs=1", "evaluator.device=cpu"]
    assert main(line) == 2
    assert "divisor" in found[0]["space"]
    assert "divisor" not in recorded["space"]
    assert describe_changes(recorded, found[0]) == ""
    other = json.loads(json.dumps(recorded).replace('"stem": 8', '"stem": 16'))
    assert describe_changes(other, found[0]) == "space.stem: 16 → 8"
    found[0]["space"]["divisor"] = 4
    assert describe_changes(recorded, found[0]) == "space.divisor: 8 → 4"
