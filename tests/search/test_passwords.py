"""The password of a storage stands nowhere: not in results, not in what Hydra records, not in messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from synthetic import own_folder, search

from effnas.cli import main
from effnas.search import storage
from effnas.search.sharing.owned_storage import OwnedStorage
from effnas.space.errors import UserError, hide_passwords

URL = "postgresql+psycopg://bob:s3cr%40tpw@db.example:5432/data?sslmode=require&sslpassword=0therpw"
HIDDEN = "postgresql+psycopg://bob:***@db.example:5432/data?sslmode=require&sslpassword=***"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (URL, HIDDEN),
        (f"storage={URL}, twice: '{URL}'.", f"storage={HIDDEN}, twice: '{HIDDEN}'."),
        ("mysql://root:a:b/c@localhost/x", "mysql://root:***@localhost/x"),
        ("mysql://root:with@at@localhost/x", "mysql://root:***@localhost/x"),
        ("mysql://:only@localhost", "mysql://:***@localhost"),
        ("redis://host/0?password=x&db=1", "redis://host/0?password=***&db=1"),
        ("mssql://h/d?Trusted=no;PWD=x;a=1", "mssql://h/d?Trusted=no;PWD=***;a=1"),
        ("postgresql://bob@host/data", "postgresql://bob@host/data"),
        ("sqlite:////tmp/a:b/study.db", "sqlite:////tmp/a:b/study.db"),
        ("see https://example.org:80/page", "see https://example.org:80/page"),
    ],
)
def test_passwords_of_addresses(text: str, hidden: str) -> None:
    assert hide_passwords(text) == hidden


def test_passwords_that_a_driver_names() -> None:
    told = "connection failed: role bob, s3cr@tpw or s3cr%40tpw, not s3cr@tpwx, key 0therpw"
    assert hide_passwords(told, URL) == "connection failed: role bob, *** or ***, not s3cr@tpwx, key ***"


@pytest.fixture
def data_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A file that stands in for the server; the addresses that were opened."""
    opened: list[str] = []

    def connect(url: str, owner: Any) -> OwnedStorage:
        opened.append(url)
        return OwnedStorage(f"sqlite:///{tmp_path}/study.db", owner, 20, 120)

    monkeypatch.setattr(storage, "_connect", connect)
    return opened


def written(folder: Path) -> str:
    """All that is in the folder, names included."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return "\n".join(f"{file}\n{file.read_bytes().decode(errors='replace')}" for file in files)


def words(folder: Path, *more: str) -> list[str]:
    own = own_folder(folder / "own")
    given = ["--config-dir", str(own), "evaluator=synthetic", "algorithm=random", "trials=1"]
    return ["search", *given, *more]


FORMS: list[Any] = [
    [f"storage={URL}"],
    ["--storage", URL],
    [f"--storage={URL}"],
    [f"storage='{URL}'"],
    [f"storage={URL}", "-m", "seed=0,1"],
    ["storage=postgresql://bob:s3cr@db.example/a,postgresql://bob:0therpw@db.example/b", "-m"],
]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_the_command_line_writes_no_password(
    tmp_path: Path, data_base: list[str], form: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(words(tmp_path, f"hydra.run.dir={out}", f"hydra.sweep.dir={out}", *form)) in (0, 2)
    asked = form[0].partition("=")[2].split(",") if "," in form[0] else [URL]
    assert set(data_base) == set(asked)
    told = capfd.readouterr()
    text = written(out) + written(tmp_path / "out") + told.out + told.err + (tmp_path / "study.db").read_text("latin-1")
    assert not re.search("s3cr|0therpw", text)
    assert "bob:***@db.example" in written(out)


def test_a_file_of_the_users_keeps_it_to_itself(tmp_path: Path, data_base: list[str]) -> None:
    given = words(tmp_path, f"hydra.run.dir={tmp_path}/out")
    (tmp_path / "own" / "mine.yaml").write_text(f"defaults:\n  - search\n  - _self_\nstorage: {URL}\n")
    assert main([*given, "--config-name", "mine"]) == 0
    assert data_base == [URL]
    assert not re.search("s3cr|0therpw", written(tmp_path / "out"))


@pytest.mark.parametrize("full", [False, True])
def test_messages_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], full: bool
) -> None:
    def refuse(url: str, owner: Any) -> OwnedStorage:
        raise RuntimeError(f"cannot log in with password=s3cr@tpw at {url}")

    monkeypatch.setattr(storage, "_connect", refuse)
    if full:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(words(tmp_path, f"hydra.run.dir={tmp_path}/out", f"storage={URL}")) == 2
    told = capfd.readouterr().err
    assert f"storage {HIDDEN}: cannot be opened as an Optuna storage: cannot log in with password=***" in told
    assert not re.search("s3cr|0therpw", told + written(tmp_path / "out"))
    with pytest.raises(UserError, match=r"bob:\*\*\*@db") as refused:
        search(tmp_path / "python", storage=URL)
    assert refused.value.__cause__ is None


def test_a_study_that_is_another_one(tmp_path: Path, data_base: list[str]) -> None:
    search(tmp_path / "a", storage=URL, trials=1)
    with pytest.raises(UserError, match=r"bob:\*\*\*@db.*: holds another search"):
        search(tmp_path / "b", storage=URL, trials=1, seed=1)


def test_a_mistyped_word_is_told_without_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["search", f"storag={URL}"]) == 2
    assert main(["search", "--storag", URL]) == 2
    assert main(["search", URL]) == 2
    told = capfd.readouterr().err
    assert "storag" in told
    assert not re.search("s3cr|0therpw", told)
