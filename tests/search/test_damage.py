"""What happens to a search whose journal was damaged, cut, emptied or exchanged: nothing is lost without a word."""

from __future__ import annotations

import errno
import random
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from synthetic import Synthetic, decisions_and_scores, search

from effnas import run_grid_search
from effnas.cli import main
from effnas.scaling.ablate.job import run_ablation
from effnas.search.journal import Journal, JournalFile, check_journal
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.stage import Stage

SMALL = Architecture((Stage("mbconv", 16, 3, expand_ratio=3),), stem=16, head=96, resolution=32, num_classes=10)
BEGIN_ANEW = r"begin anew with restart=true, which keeps the old files beside the new ones"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    search(folder, trials=6)
    return folder


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    """A folder with a finished search of six trials."""
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != ".lock"}


# -- less than the folder says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda journal: journal.unlink(), "study.journal: holds 0 finished trials, but .* tell of 6"),
        (lambda journal: journal.write_bytes(b""), "study.journal: holds 0 finished trials, but .* tell of 6"),
        (lambda journal: journal.write_bytes(b"\0" * 5000), "holds 0 finished trials, but .* tell of 6"),
        (lambda journal: journal.write_bytes(b"\0" * 5000 + b"\n"), "line 1 is not a record.* tell of 6 finished"),
        (lambda journal: journal.write_bytes(journal.read_bytes()[:30]), "holds 0 finished trials, but .* tell of 6"),
        (lambda journal: cut_after(journal, 2), "holds 2 finished trials, but .* tell of 6"),
        (lambda journal: cut_after(journal, 1), "holds 1 finished trial, but .* tell of 6"),
        (lambda journal: cut_after(journal, 5, more=40), "holds 5 finished trials, but .* tell of 6"),
    ],
)
@pytest.mark.parametrize("witness", ["summary.json", "trials.csv"])
def test_a_journal_that_holds_less_than_its_folder_says(output: Path, damage: Any, message: str, witness: str) -> None:
    (output / ({"summary.json", "trials.csv"} - {witness}).pop()).unlink()
    damage(output / "study.journal")
    before = content(output)
    with pytest.raises(UserError, match=rf"{message}.*") as refused:
        search(output, trials=8)
    assert re.search(BEGIN_ANEW, str(refused.value))
    assert content(output) == before


def cut_after(journal: Path, trials: int, more: int = 0) -> None:
    """Keep the records of so many finished trials, and some bytes of the next record."""
    text = journal.read_bytes()
    ends = [match.end() for match in re.finditer(rb'"state":1,.*\n', text)]
    journal.write_bytes(text[: ends[trials - 1] + more])


def test_a_shared_study_that_holds_less_than_the_folder_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(tmp_path / "a", storage=url, trials=4)
    (tmp_path / "study.db").unlink()
    with pytest.raises(UserError, match=r"study.db: holds 0 finished trials, but .* tell of 4"):
        search(tmp_path / "a", storage=url, trials=4)
    assert search(tmp_path / "b", storage=url, trials=2)["complete"] == 2  # this folder tells of none


def test_summaries_of_other_commands_tell_of_no_trials(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"trials": 50, "accuracy": 0.5}')
    (tmp_path / "trials.csv").write_bytes(b"\xff\xfe\x00 not a table")
    assert search(tmp_path, trials=2)["complete"] == 2


# -- what is no journal, and what is one but for its end ---------------------------------------------------------


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("text", [b"precious", b"\0" * 100, b'{"op_code":0,"worker_id":"a', b"{", b"one\ntwo"])
def test_what_is_no_journal_is_left_alone(tmp_path: Path, text: bytes, link: bool) -> None:
    file = tmp_path / "study.journal"
    if link:
        file.symlink_to(tmp_path / "victim.txt")
    file.write_bytes(text)
    with pytest.raises(UserError, match=r"study.journal: (is not the journal of a study|line 1 is not a record)"):
        search(tmp_path, trials=2)
    assert file.read_bytes() == text
    assert file.is_symlink() == link


@pytest.mark.parametrize("rest", [b"precious", b"\0\0x", b'{"name": 1'])
def test_what_follows_a_journal_and_is_no_record_is_left_alone(output: Path, rest: bytes) -> None:
    journal = output / "study.journal"
    journal.write_bytes(journal.read_bytes() + rest)
    before = journal.read_bytes()
    with pytest.raises(UserError, match=rf"it ends in {len(rest)} bytes that are no record"):
        search(output, trials=8)
    assert journal.read_bytes() == before


@pytest.mark.parametrize("kept", [1, 11, 60, 100])
@pytest.mark.parametrize("nul", [0, 512])
def test_a_half_written_record_is_removed_with_a_word(
    output: Path, capfd: pytest.CaptureFixture[str], kept: int, nul: int
) -> None:
    journal = output / "study.journal"
    last = b'{"op_code":6,"worker_id":"00000000-0000-0000-0000-000000000000-1","trial_id":5,"state":1,"values":[0.5],'
    part = last[:kept] + b"\0" * nul
    journal.write_bytes(journal.read_bytes() + part)
    assert search(output, trials=8)["complete"] == 8
    where = "of trial 5" if kept == 100 else "of no trial"
    assert (
        f"the last record was only half written ({len(part)} bytes, {where}) and is removed" in capfd.readouterr().err
    )
    check_journal(journal)


# -- checksums -----------------------------------------------------------------------------------------------


def altered(lines: list[bytes], how: str, rng: random.Random) -> int:
    """Damage a journal; the first line, from 1, at which that shows."""
    at = rng.randrange(1, len(lines) - 1)
    if how == "lost":
        del lines[at]
    elif how == "doubled":
        lines.insert(at, lines[at])
        return at + 2
    elif how == "swapped":
        lines[at], lines[at - 1] = lines[at - 1], lines[at]
        return at
    elif how == "stripped":
        lines[at] = re.sub(rb',"sum":"[0-9a-f]{8}"', b"", lines[at])
    else:  # one character
        line = bytearray(lines[at])
        place = rng.choice([i for i in range(12, len(line) - 1) if chr(line[i]).isalnum()])
        line[place] = ord("7") if line[place] != ord("7") else ord("3")
        lines[at] = bytes(line)
    return at + 1


@pytest.mark.parametrize("how", ["lost", "doubled", "swapped", "stripped", "altered"])
def test_a_record_that_was_altered_is_found(output: Path, how: str) -> None:
    journal = output / "study.journal"
    original = journal.read_bytes().splitlines(keepends=True)
    for seed in range(10):
        lines = list(original)
        number = altered(lines, how, random.Random(seed))
        journal.write_bytes(b"".join(lines))
        with pytest.raises(UserError, match=rf"line {number} (does not follow|is not a record|has lost its checksum)"):
            search(output, trials=8)
        assert journal.read_bytes() == b"".join(lines)


def without_sums(journal: Path) -> None:
    journal.write_bytes(re.sub(rb',"sum":"[0-9a-f]{8}"', b"", journal.read_bytes()))


def test_a_journal_without_checksums_goes_on_with_them(output: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    journal = output / "study.journal"
    without_sums(journal)
    assert search(output, trials=9)["complete"] == 9
    once = tmp_path_factory.mktemp("once")
    search(once, trials=9)
    assert decisions_and_scores(output) == decisions_and_scores(once)
    assert b'"sum"' in journal.read_bytes().splitlines()[-1]
    assert search(output, trials=10)["complete"] == 10


def test_optuna_and_others_write_between_ours(output: Path) -> None:
    journal = output / "study.journal"
    theirs = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(journal))))
    theirs.set_user_attr("note", "good")  # a dashboard
    assert search(output, trials=7)["complete"] == 7
    again = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(journal))))
    assert len(again.trials) == 7
    assert again.user_attrs["note"] == "good"


# -- a full disk ---------------------------------------------------------------------------------------------


def test_a_write_that_fails_half_way_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=Journal(JournalFile(path)), study_name="search")
    study.tell(study.ask(), 1.0)
    before = path.read_bytes()
    real = open

    class Full:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._file = real(*args, **kwargs)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: bytes) -> int:
            if len(data) < 40:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self._file.write(data[: len(data) - 20]))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", Full)
        with pytest.raises(OSError, match="No space left on device"):
            study.ask()
    assert path.read_bytes() == before
    study.tell(study.ask(), 2.0)
    check_journal(path)
    assert [t.value for t in optuna.load_study(study_name="search", storage=Journal(JournalFile(path))).trials] == [
        1,
        2,
    ]


# -- to begin anew ---------------------------------------------------------------------------------------------


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


def test_restart_keeps_the_old_files_beside(output: Path) -> None:
    old, left = content(output), names(output)
    (output / "mine.txt").write_text("a file of mine")
    (output / "trials.1.csv").write_text("not to be overwritten")
    (output / "study.journal").write_bytes(b"\0" * 100)
    summary = search(output, trials=3, restart=True)
    assert summary["trials"] == 3
    twins = {re.sub(r"(\.\w+)$", r".2\1", name) for name in left}
    assert names(output) == left | twins | {"mine.txt", "trials.1.csv"}
    assert (output / "trials.2.csv").read_bytes() == old["trials.csv"]
    assert (output / "study.2.journal").read_bytes() == b"\0" * 100
    assert (output / "trials.1.csv").read_text() == "not to be overwritten"
    assert search(output, trials=4)["trials"] == 4


def test_restart_in_an_empty_folder_is_a_start(tmp_path: Path) -> None:
    assert search(tmp_path / "new", trials=2, restart=True)["trials"] == 2


def run_grid(folder: Path, **options: Any) -> dict[str, Any]:
    span = {"alpha": (1.1, 1.3), "beta": (1.0, 1.2), "gamma": (1.0, 1.3), "step": 0.1, "tolerance": 0.15}
    return run_grid_search(SMALL, Synthetic(), output=folder, refine=1, quiet=True, **span, **options)


def run_rules(folder: Path, **options: Any) -> dict[str, Any]:
    rules = ("depth", "width")
    return run_ablation(SMALL, Synthetic(), output=folder, rules=rules, factors=(2,), seeds=2, quiet=True, **options)


@pytest.mark.parametrize("run", [run_grid, run_rules])
def test_restart_of_a_grid_and_of_an_ablation(tmp_path: Path, run: Any) -> None:
    first = run(tmp_path)
    left = names(tmp_path)
    again = run(tmp_path, restart=True)
    assert again["trials"] == first["trials"]
    assert again["seconds"] < first["seconds"] * 20  # of this run alone
    twins = {re.sub(r"(\.\w+)?$", r".1\1", name, count=1) for name in left}
    assert names(tmp_path) == left | twins


def test_restart_in_a_shared_storage_keeps_the_old_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(tmp_path / "a", storage=url, trials=4)
    for trials in (2, 3):
        assert search(tmp_path / "a", storage=url, seed=1, trials=trials, restart=True)["trials"] == trials
    kept = {
        name: len(optuna.load_study(study_name=name, storage=url).trials) for name in optuna.get_all_study_names(url)
    }
    assert kept == {"search": 3, "search.1": 4, "search.2": 2}


def test_the_flag_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", f"hydra.run.dir={tmp_path}/out", "--restart", "--cfg", "job"]) == 0
    assert "restart: true" in capsys.readouterr().out
