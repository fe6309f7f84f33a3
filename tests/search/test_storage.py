"""The record of a search: one folder one search, damaged files, addresses."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from synthetic import Synthetic, calls, decisions_and_scores, search

from effnas.search import storage as storages
from effnas.search.objective import Accuracy, Pareto
from effnas.search.storage import open_study
from effnas.space.errors import UserError


def content(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "study.journal").read_text().splitlines()]


# -- the journal ---------------------------------------------------------------------------------------


def test_optuna_reads_the_journal(tmp_path: Path) -> None:
    search(tmp_path, trials=5)
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    study = optuna.load_study(study_name="search", storage=journal)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 5
    assert study.user_attrs["job"]["space"]["name"] == "tiny"


def test_the_parameters_of_a_trial_are_there_when_anything_else_is(tmp_path: Path) -> None:
    space = {name: CategoricalDistribution([0, 1, 2]) for name in "abc"}
    study = open_study(None, "search", tmp_path, ["maximize"], {}, sampler=RandomSampler(0))
    trial = study.ask(dict(space))
    before = len(content(tmp_path))
    assert study.trials[0].params == trial.params  # reading writes what was held back
    assert len(content(tmp_path)) == before + 3
    second = study.ask(dict(space))
    study.tell(second, 1.0)
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    again = optuna.load_study(study_name=None, storage=journal)
    assert again.trials[1].params == second.params
    assert again.trials[1].value == 1.0


def test_a_record_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for output, trials in ((whole, 8), (cut, 5)):
        search(output, trials=trials)
    journal = cut / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines) + lines[-1][:17])
    search(cut, trials=8)
    assert decisions_and_scores(cut) == decisions_and_scores(whole)
    assert all(isinstance(record, dict) for record in content(cut))


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00", b"not json", b"[1, 2]", b'{"op_code": 4, "tri'])
def test_garbage_inside_the_journal(tmp_path: Path, garbage: bytes) -> None:
    search(tmp_path, trials=2)
    journal = tmp_path / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[6] = garbage + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=r"study.journal: line 7 is not a record of a study: .*The file is damaged"):
        search(tmp_path, trials=3)
    assert journal.read_bytes() == b"".join(lines)


def test_records_of_something_else(tmp_path: Path) -> None:
    tmp_path.joinpath("study.journal").write_text('{"name": "a file of mine"}\n')
    with pytest.raises(UserError, match=r"storage .*study.journal: cannot be opened as an Optuna storage: .*op_code"):
        search(tmp_path)


# -- one folder, one search ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ({"seed": 0}, {"seed": 1}, "seed: 0 → 1"),
        ({}, {"objective": Accuracy()}, r"objective\._target_: .*MnasNetReward' → .*Accuracy'"),
        ({}, {"space": "mobile_cifar"}, r"space\.name: 'tiny' → 'mobile_cifar'"),
        ({}, {"evaluator": Synthetic(delay=0.001)}, r"evaluator\.delay: 0\.0 → 0\.001"),
        (
            {"job": {"data": {"path": "a", "limit": 5}}},
            {"job": {"data": {"path": "b"}}},
            r"data.path: 'a' → 'b', data.limit: 5 → None",
        ),
    ],
)
def test_another_search_in_the_same_folder(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], difference: str
) -> None:
    search(tmp_path, trials=2, **first)
    before = (tmp_path / "study.journal").read_bytes()
    with pytest.raises(UserError, match=rf"holds another search \({difference}.*\)\. Continue it .*-o DIR"):
        search(tmp_path, trials=2, **second)
    assert (tmp_path / "study.journal").read_bytes() == before


@pytest.mark.parametrize("free", [{"trials": 3}, {"workers": 2}, {"timeout": 100.0}, {"quiet": True}])
def test_what_may_change_between_two_runs(tmp_path: Path, free: dict[str, Any]) -> None:
    search(tmp_path, trials=2)
    assert search(tmp_path, **{"trials": 2, **free})["complete"] == free.get("trials", 2)


def test_a_folder_without_a_result_may_begin_another_search(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        search(tmp_path, Synthetic(trouble="user error", share=1.0))
    summary = search(tmp_path, Synthetic(), objective=Pareto(), trials=3)  # other directions, too
    assert summary["complete"] == 3
    assert summary["study"]["directions"] == ["maximize", "minimize"]


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    with FileLock(str(tmp_path / ".lock")), pytest.raises(UserError, match="another effnas process is running in"):
        search(tmp_path, Synthetic(str(log)))
    assert calls(log) == []
    assert search(tmp_path, Synthetic(str(log)), trials=2)["complete"] == 2


# -- addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://nobody@localhost:1/nothing",
        "oracle9://here",
        "sqlite:////no/such/folder/study.db",
        "redis://localhost:1",
    ],
)
def test_addresses_that_cannot_be_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=rf"storage {url}: cannot be opened as an Optuna storage: .+"):
        search(tmp_path, storage=url)


@pytest.mark.parametrize(
    ("url", "missing", "begins"),
    [
        ("postgresql+psycopg://bob:s3cret@host/data", "psycopg", "postgresql+psycopg"),
        ("postgresql+psycopg2://bob:s3cret@host/data", "psycopg2", "postgresql+psycopg"),
        ("mysql+pymysql://bob:s3cret@host/data", "pymysql", "mysql+pymysql"),
        ("mysql://bob:s3cret@host/data", "MySQLdb", "mysql+pymysql"),
        ("mariadb+pymysql://bob:s3cret@host/data", "pymysql", "mysql+pymysql"),
        ("mssql+pymssql://bob:s3cret@host/data", "pymssql", None),
    ],
)
def test_a_driver_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, missing: str, begins: str | None
) -> None:
    monkeypatch.setattr(storages, "_PAUSES", (0.0, 0.0))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f": its driver {missing} is not installed") as caught:
        search(tmp_path, storage=url)
    advice = begins and f': pip install "effnas[{begins.split("+")[0]}]", and let it begin with {begins}://'
    assert str(caught.value).endswith(advice or "not installed")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    pytest.importorskip(driver.split("+")[1])
    pauses: list[float] = []
    monkeypatch.setattr(storages.time, "sleep", pauses.append)
    with pytest.raises(UserError, match=r"://bob:\*\*\*@127.0.0.1:1/data: cannot be opened .*(?i:connection refused)"):
        search(tmp_path, storage=f"{driver}://bob:s3cret@127.0.0.1:1/data")
    assert len(pauses) == 3  # it might have been starting again


def test_a_path_and_other_addresses_are_told_what_addresses_are(tmp_path: Path) -> None:
    for storage, told in (
        (str(tmp_path), "; it is no path but an address, like sqlite:///FILE, postgresql"),
        ("study.journal", "; it is no path but an address, like sqlite:///FILE, postgresql"),
        ("", "; it is no path but an address, like sqlite:///FILE, postgresql"),
        ("postgres://me@there/data", "dialects:postgres; addresses are sqlite:///FILE, postgresql[+]psycopg:"),
    ):
        with pytest.raises(UserError, match=rf"cannot be opened as an Optuna storage: .*{told}"):
            search(tmp_path / "out", storage=storage)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///?x=1"])
def test_a_data_base_in_memory_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"is in memory, and gone when this process ends\. Leave storage out for"):
        search(tmp_path, storage=url)


def test_a_name_that_no_data_base_holds(tmp_path: Path) -> None:
    rule = r"^study must be a name of at most 512 characters in a data base, got 513$"
    with pytest.raises(UserError, match=rule):
        search(tmp_path, storage="sqlite:///x.db", study="x" * 513)
    with pytest.raises(UserError, match=r"^study must be a name, got 'a\\x00b'$"):
        search(tmp_path, study="a\0b")


def test_a_host_that_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setattr(storages, "CONNECT", 2)  # libpq waits no less
    monkeypatch.setattr(storages, "_PAUSES", (0.0,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/data"
        start = time.monotonic()
        with pytest.raises(UserError, match=r"cannot be opened as an Optuna storage: .*time"):
            search(tmp_path, storage=address)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("url", ["grpc://host:13000", "GRPC://bob:s3cret@host:13000"])
def test_optunas_grpc_proxy_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        UserError, match=r"^storage \S+: Optuna's gRPC proxy passes on no heartbeats, .*postg"
    ) as caught:
        search(tmp_path, storage=url)
    assert "s3cret" not in str(caught.value)


def test_a_data_base_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("this is not a data base" * 100)
    with pytest.raises(UserError, match=r"cannot be opened as an Optuna storage: .*not a database"):
        search(tmp_path, storage=f"sqlite:///{tmp_path}/study.db")


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("v3.0.0.d", r"Please execute `\$ optuna storage upgrade --storage \$STORAGE_URL` for upgrading"),
        ("v9.0.0.a", r"Please try updating optuna to the latest version"),
    ],
)
def test_a_data_base_of_another_optuna(tmp_path: Path, version: str, advice: str) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(tmp_path / "a", storage=url, trials=1)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as data, data:
        data.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(UserError, match=rf"cannot be opened as an Optuna storage: .*no longer compatible.*{advice}"):
        search(tmp_path / "a", storage=url, trials=2)


def test_studies_of_one_data_base_have_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(tmp_path / "a", storage=url, trials=3)
    summary = search(tmp_path / "b", storage=url, study="other", seed=1, trials=2)
    assert summary["study"]["name"] == "other"
    assert sorted(optuna.get_all_study_names(url)) == ["other", "search"]
    with pytest.raises(UserError, match=r"study.db: holds another search \(seed: 0 → 1\)"):
        search(tmp_path / "c", storage=url, seed=1, trials=3)
    assert not (tmp_path / "a" / "study.journal").exists()
    assert search(tmp_path / "elsewhere", storage=url, trials=3)["complete"] == 3  # found, and finished before


def test_a_running_search_of_another_machine_is_not_taken_away(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = open_study(url, "search", tmp_path, ["maximize"], {"seed": 0})
    study.ask({"a": CategoricalDistribution([1, 2])})  # its first trial
    with pytest.raises(UserError, match=r"holds another search \(seed: 0 → 1\)"):
        open_study(url, "search", tmp_path / "other", ["maximize"], {"seed": 1})
    study.tell(0, state=TrialState.FAIL)
    assert len(optuna.load_study(study_name="search", storage=url).trials) == 1
