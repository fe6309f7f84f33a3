"""Whose a folder is: no command writes into another one's, and none before it has decided that it may."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effnas import Architecture, run_compare, run_reproduce, run_scale, run_train
from effnas.cli import main
from effnas.commandline.commands import COMMANDS
from effnas.evaluate.data import ImageData
from effnas.evaluate.folder import MARK, RECORDS, check_owner, folder_lock
from effnas.evaluate.train.recipe import Training
from effnas.space.errors import UserError
from effnas.space.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
NET = Architecture((Stage("mbconv", 8),), stem=8, head=16, in_channels=1, resolution=8, num_classes=10, name="tiny")
SMALL = "training.epochs=1 training.warmup_epochs=0 data=digits data.limit=100"
#: Of each command, a line that does little; what is not here is looked for in the source.
LINES = {
    "search": "algorithm=random trials=1 data.limit=100",
    "grid-alpha-beta-gamma": "--baseline net.yaml alpha=[1.2,1.2] beta=[1,1.2] gamma=[1,1.2] step=0.1",
    "train": f"--architecture net.yaml {SMALL}",
    "scale": "--phi 1",
    "evaluate": "--weights w.safetensors latency_batch=null data.limit=100",
    "export": "w.safetensors to=[python] latency=false",
    "cam": "--weights w.safetensors --images 0",
    "profile": "net.yaml fvcore=false repeats=2",
    "reproduce": "table2",
    "compare": "--members efficientnet",
    "transfer": f"--architecture net.yaml {SMALL.replace('data=digits data.limit', '+data.digits.limit')}",
    "report": "w",
    "ablate": "--baseline net.yaml rules=[width,depth] factors=[2] latency=false tolerance=0.4",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    recipe = Training(epochs=1, batch_size=32, warmup_epochs=0, precision="fp32", compile=False)
    run_train(NET, ImageData(limit=100), recipe, test=False, tensorboard=False, threads=1, output=folder, quiet=True)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    NET.save(tmp_path / "net.yaml")
    (tmp_path / "w").mkdir()
    (tmp_path / "w.safetensors").symlink_to(trained / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def claim(folder: Path, command: str) -> None:
    """Leave a folder as that command does."""
    folder.mkdir()
    with folder_lock(folder, command):
        (folder / f"{command}.json").write_text("{}")


def content(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != ".lock"}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_writes_into_the_folder_of_another(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name not in LINES:
        assert name in claiming(name), f"effnas {name} does not claim its folder with folder_lock or check_owner"
        return
    other = "train" if name != "train" else "evaluate"
    claim(here / "out", other)
    (here / "out" / "summary.json").write_text("{}")
    before = content(here / "out")
    assert main([name, *LINES[name].split(), "-o", "out"]) == 2
    assert content(here / "out") == before
    error = capsys.readouterr().err
    assert f"error: out: holds the results of effnas {other}, which those of effnas {name} would replace" in error
    assert f"choose another folder for effnas {name} with -o DIR" in error


def claiming(name: str) -> set[str]:
    """The names of commands under which the modules of a command take a folder."""
    folder = (ROOT / COMMANDS[name].run.replace(".", "/")).parents[1]
    calls = [
        node
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("folder_lock", "check_owner", "run_trials", "run_enqueued")
    ]
    values = [value for call in calls for value in (*call.args, *(word.value for word in call.keywords))]
    return {str(value.value) for value in values if isinstance(value, ast.Constant)}


def test_evaluate_in_a_folder_of_train(trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(trained)
    assert main(["evaluate", *LINES["evaluate"].split(), "-o", str(trained)]) == 2
    assert "holds the results of effnas train" in capsys.readouterr().err
    assert content(trained) == before


def test_of_a_folder_without_a_mark_its_files_say_whose_it_is(here: Path) -> None:
    (here / "summary.json").write_text('{"command": "effnas search --seed 1"}')
    with pytest.raises(UserError, match=r"holds the results of effnas search, which those of effnas scale would"):
        check_owner(here, "scale")
    check_owner(here, "search")
    for text in ("", "[]", '{"command": 1}', '{"command": ""}', "\0", "[" * 100_000, '{"command": "other x"}'):
        (here / "summary.json").write_text(text)
        check_owner(here, "scale")
    for record in RECORDS:
        (here / record).write_text("")
        with pytest.raises(UserError, match=f"holds the results of effnas {Path(record).stem}, which"):
            check_owner(here, "train")
        (here / record).unlink()


@pytest.mark.parametrize("name", ["x" * 300, "a_file", "a_file/below"])
def test_a_folder_that_cannot_be_made(name: str, here: Path) -> None:
    (here / "a_file").write_text("")
    for command, kwargs in (
        (run_scale, {"phi": 1}),
        (run_reproduce, {"table": "table3"}),
        (run_compare, {"members": "efficientnet"}),
    ):
        with pytest.raises(
            UserError, match=r": cannot be used \(.*\), but results are to be written to .* with -o DIR"
        ):
            command(output=name, **kwargs)
    with pytest.raises(UserError, match=r": cannot be used \("), folder_lock(Path(name), "train"):
        pass


def test_a_folder_in_which_nothing_was_written_is_nobodys(here: Path) -> None:
    with folder_lock(here, "train"):
        assert (here / MARK).read_text() == "train\n"
    assert not (here / MARK).exists()
    with folder_lock(here, "evaluate"):
        (here / "new").write_text("")
    with pytest.raises(UserError, match="holds the results of effnas evaluate"), folder_lock(here, "train"):
        pass
    assert (here / MARK).read_text() == "evaluate\n"


def test_the_same_command_in_its_own_folder(here: Path) -> None:
    for words in (["reproduce", "table2"], ["scale", "--phi", "1"], ["evaluate", *LINES["evaluate"].split()]):
        for _ in range(2):
            assert main([*words, "--quiet", "-o", words[0]]) == 0


def files_below(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.name != ".lock")


@pytest.mark.parametrize("name", ["search", "train", "evaluate", "scale"])
def test_a_run_that_is_refused_leaves_no_record(name: str, here: Path) -> None:
    wrong = {"search": "trials=0", "train": "checkpoint_every=0", "evaluate": "batch_size=0", "scale": "rule=none"}
    assert main([name, *LINES[name].split(), wrong[name], "-o", "out"]) == 2
    assert files_below(here / "out") == []
    claim(here / "theirs", "cam")
    before = files_below(here / "theirs")
    assert main([name, *LINES[name].split(), "-o", "theirs"]) == 2
    assert files_below(here / "theirs") == before


# -- to begin anew, and to go on with that ------------------------------------------------------------------


def interrupting(at: int) -> Callable[..., Any]:
    """A function that is Ctrl-C when it is called for the so-manieth time."""
    calls = []

    def called(*_: Any, **__: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    return called


@pytest.mark.parametrize("name", ["train", pytest.param("transfer", marks=pytest.mark.slow)])
def test_restart_keeps_the_old_files_and_after_ctrl_c_the_flag_is_left_out(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [name, *LINES[name].split(), "training.epochs=2", "test=false" if name == "train" else "seed=0", "-o", "out"]
    assert main([*line, "--quiet"]) == 0
    left = {file.name for file in (here / "out").iterdir() if not file.name.startswith(".")}
    old = content(here / "out")
    other = [*line, "training.lr=0.01"]
    assert main(other) == 2
    assert "begin anew with restart=true, which keeps the old files" in capsys.readouterr().err
    assert content(here / "out") == old
    with monkeypatch.context() as patch:
        patch.setattr("effnas.evaluate.train.log.TrainingLog.epoch", interrupting(1))
        assert main([*other, "--restart"]) == 130
    again = "interrupted; run the same command again without --restart to continue\n"
    assert capsys.readouterr().err.endswith(again)
    with monkeypatch.context() as patch:
        patch.setattr("effnas.evaluate.train.job.find_starting_point", interrupting(1))
        patch.setattr("effnas.evaluate.transfer.job.find_table", interrupting(1))
        assert main(other) == 130
    assert capsys.readouterr().err.endswith("interrupted; run the same command again to continue\n")
    assert main([*other, "--json"]) == 0
    twins = {f"{Path(file).stem}.1{Path(file).suffix}" for file in left}
    assert {file.name for file in (here / "out").iterdir() if not file.name.startswith(".")} == left | twins
    first = "checkpoint.pt" if name == "train" else "transfer.csv"
    assert (here / "out" / f"{Path(first).stem}.1{Path(first).suffix}").read_bytes() == old[str(here / "out" / first)]


def test_after_a_refusal_of_the_system_the_flag_is_left_out_too(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "log.csv")

    monkeypatch.setattr("effnas.evaluate.train.job.write_training", full)
    line = ["train", *LINES["train"].split(), "test=false", "--quiet", "-o", "out"]
    assert main([*line, "--restart"]) == 2
    assert "(ENOSPC); make room or raise the limit (ulimit -a), then run the same command again without --restart" in (
        capsys.readouterr().err
    )
    assert main(line) == 2
    assert "then run the same command again to continue" in capsys.readouterr().err
