"""What MySQL and MariaDB hold and refuse otherwise than PostgreSQL, in a real MariaDB."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from servers import MariaDB, Server, serve
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError
from synthetic import Synthetic, search, wait_for

from effnas.search.optuna_private import get_storage, get_study_id
from effnas.search.sharing import outages
from effnas.search.sharing.outages import describe_fault, is_outage
from effnas.search.storage import close_study, open_study
from effnas.space.errors import UserError

SPACE: dict[str, BaseDistribution] = {
    "k": CategoricalDistribution([1, 2]),
    "rate": FloatDistribution(1e-4, 1, log=True),
}


# -- errors ------------------------------------------------------------------------------------------------


def failed(number: int, words: str, params: Any = None, statement: str = "INSERT INTO trials") -> StorageInternalError:
    """What a transaction raises when the driver has raised that."""
    error = StorageInternalError("a transaction has failed")
    error.__cause__ = OperationalError(statement, params, Exception(number, words))
    return error


@pytest.mark.parametrize("number", [1020, 1040, 1053, 1205, 1213, 2006, 2013])
def test_what_is_tried_again(number: int) -> None:
    assert is_outage(failed(number, "words"))


@pytest.mark.parametrize("number", [1062, 1064, 1146, 1366, 1406])
def test_what_is_not_tried_again(number: int) -> None:
    assert not is_outage(failed(number, "words"))


@pytest.mark.parametrize("number", [1153, 2006, 2013])
def test_a_statement_that_is_too_long_is_not_tried_again(number: int) -> None:
    error = failed(number, "gone away", [{"value_json": "x" * 2**20}])
    assert not is_outage(error)
    assert "; 1,048,596 characters are to be written, and the server's max_allowed_packet" in describe_fault(error, "")


# -- a server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    yield from serve(MariaDB)


def ask(url: str, *statements: str) -> Any:
    """What the server answers to the last one."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for statement in statements:
            found = connection.execute(text(statement))
        return found.all() if found.returns_rows else None


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    """An empty data base."""
    name = request.node.originalname[5:60]
    ask(server.url, f"CREATE DATABASE {name}")
    return server.url.removesuffix(server.name) + name


@contextlib.contextmanager
def opened(url: str, name: str, folder: Path, job: Any = None) -> Iterator[Study]:
    study = open_study(url, name, folder, ["maximize"], job or {})
    yield study
    close_study(study)


def stored(url: str, name: str) -> list[FrozenTrial]:
    """By Optuna's own storage."""
    storage = RDBStorage(url, {"poolclass": NullPool})
    trials = optuna.load_study(study_name=name, storage=storage).trials
    storage.remove_session()
    return trials


def write_by_optuna(url: str, name: str) -> None:
    storage = RDBStorage(url, {"poolclass": NullPool})
    study = optuna.load_study(study_name=name, storage=storage)
    trial = study.ask(SPACE)
    trial.set_user_attr("by", "nobody")
    trial.set_user_attr("by", "Optuna 🚀")
    study.tell(trial, 0.25)
    storage.remove_session()


def make_by_optuna(url: str) -> None:
    """Tables in the data base's own letters, which are latin1, with a study ``mine``."""
    storage = RDBStorage(url, {"poolclass": NullPool})
    optuna.create_study(storage=storage, study_name="mine")
    storage.remove_session()


@pytest.mark.slow
def test_tables_hold_what_others_hold(tmp_path: Path, url: str) -> None:
    names = ["mine", "Mine", "模型 🚀"]
    for name in names:
        with opened(url, name, tmp_path, {"name": name, "long": "🚀" * 20_000}) as study:
            trial = study.ask({**SPACE, "K": CategoricalDistribution([3, 4])})
            trial.set_user_attr("result", {"reason": "🚀", "long": "x" * 200_000})
            trial.set_user_attr("Result", [name])
            trial.set_user_attr("🚀", 1)
            study.tell(trial, 0.1 + 0.2)
    assert optuna.get_all_study_names(url) == names
    for name in names:
        (found,) = stored(url, name)
        assert found.params.keys() == {"k", "K", "rate"}
        assert found.value == 0.1 + 0.2
        assert found.user_attrs["Result"] == [name]
        assert len(found.user_attrs["result"]["long"]) == 200_000
    assert found.params["rate"] == trial.params["rate"]
    assert found.datetime_start is not None
    assert found.datetime_start.microsecond
    write_by_optuna(url, name)
    with opened(url, name, tmp_path, {"name": name, "long": "🚀" * 20_000}) as study:
        assert [(t.number, t.value, t.user_attrs.get("by")) for t in study.trials[1:]] == [(1, 0.25, "Optuna 🚀")]
    with pytest.raises(UserError, match=r"study 'mine ': this data base takes the name for that of 'mine', .*study="):
        open_study(url, "mine ", tmp_path, ["maximize"], {})


@pytest.mark.slow
def test_limits_of_tables_that_optuna_has_made(tmp_path: Path, url: str) -> None:
    make_by_optuna(url)
    with pytest.raises(
        UserError, match=r"study 'Mine': this data base takes the name for that of 'mine', which is there"
    ):
        open_study(url, "Mine", tmp_path, ["minimize"], {})
    with pytest.raises(UserError, match=r"1366, .*; where Optuna has made this table it lacks letters: give effnas an"):
        open_study(url, "模型", tmp_path, ["maximize"], {})
    with pytest.raises(UserError, match=r"1406, .*; where Optuna .* ALTER TABLE study_user_attributes MODIFY "):
        open_study(url, "long", tmp_path, ["maximize"], {"long": "x" * 70_000})
    assert optuna.get_all_study_names(url) == ["mine", "long"]
    with opened(url, "short", tmp_path) as study:
        trial = study.ask({**SPACE, "K": CategoricalDistribution([3, 4])})
        with pytest.raises(StorageInternalError, match="a transaction has failed") as caught:
            study.tell(trial, 0.5)
    assert "it takes A for a: give effnas an empty data base" in describe_fault(caught.value, url)
    assert search(tmp_path / "search", storage=url, trials=3)["complete"] == 3


@pytest.mark.slow
def test_a_server_that_is_set_otherwise(tmp_path: Path, server: Server, url: str) -> None:
    make_by_optuna(url)
    names = ("sql_mode", "time_zone", "wait_timeout", "innodb_lock_wait_timeout", "innodb_snapshot_isolation")
    (old,) = ask(url, f"SELECT {', '.join(f'@@global.{name}' for name in names)}")
    with opened(url, "zones", tmp_path) as early:
        early.ask(SPACE)
        values = ("''", "'+09:00'", "1", "1", "1")
        ask(url, *(f"SET GLOBAL {name} = {value}" for name, value in zip(names, values, strict=True)))
        try:
            with pytest.raises(UserError, match=r"1406, .*Data too long for column 'value_json'"):  # and is not cut
                open_study(url, "long", tmp_path, ["maximize"], {"long": "x" * 70_000})
            with opened(url, "zones", tmp_path / "late") as late:
                late.ask(SPACE)
                for study in (early, late):
                    storage: Any = get_storage(study)
                    assert storage.list_stale_trials(get_study_id(study)) == []
                assert search(tmp_path / "search", Synthetic(delay=1.3), storage=url, trials=2)["complete"] == 2
                wait_for_a_lock(url, late)
        finally:
            ask(url, *(f"SET GLOBAL {name} = {value!r}" for name, value in zip(names, old, strict=True)))


def wait_for_a_lock(url: str, study: Study) -> None:
    """Somebody has locked the study for longer than the server lets others wait."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SET SESSION wait_timeout = 60"))
        connection.execute(text("SELECT study_id FROM studies FOR UPDATE"))
        timer = threading.Timer(1.5, connection.commit)
        timer.start()
        assert study.ask(SPACE).number == 2
        timer.join()


@pytest.mark.slow
def test_connections_that_are_cut(tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str]) -> None:
    end, cut, log = threading.Event(), [], tmp_path / "log"

    def kill() -> None:
        wait_for(log.exists, 60)
        its = f"WHERE db = '{url.rpartition('/')[2]}' AND id <> connection_id()"
        while not end.wait(0.15):
            for (number,) in ask(url, f"SELECT id FROM information_schema.processlist {its}"):
                with contextlib.suppress(OperationalError):  # it has ended
                    ask(url, f"KILL {number}")
                    cut.append(number)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert search(tmp_path, Synthetic(str(log), delay=0.05), storage=url, trials=15)["complete"] == 15
    finally:
        end.set()
        thread.join()
    assert len(cut) > 5
    assert [(t.number, t.state) for t in stored(url, "search")] == [(n, TrialState.COMPLETE) for n in range(15)]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_packet_that_is_too_large(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pause(seconds: float) -> None:
        raise AssertionError("it is tried again")

    monkeypatch.setattr(outages.time, "sleep", pause)
    with opened(url, "large", tmp_path) as study:
        trial = study.ask(SPACE)
        with pytest.raises(StorageInternalError, match="a transaction has failed") as caught:
            trial.set_user_attr("result", "x" * 2**24)
    assert "characters are to be written, and the server's max_allowed_packet" in describe_fault(caught.value, url)


@pytest.mark.slow
def test_addresses_of_mariadb(tmp_path: Path, server: Server, url: str) -> None:
    assert search(tmp_path, storage=url.replace("mysql+", "mariadb+"), trials=2)["complete"] == 2
    assert search(tmp_path, storage=url, trials=3)["complete"] == 3
    assert search(tmp_path, storage=url, trials=2, restart=True)["complete"] == 2
    assert optuna.get_all_study_names(url) == ["search.1", "search"]
    with pytest.raises(UserError, match=r"the address names no data base, as in mysql\+pymysql://USER@HOST/NAME"):
        search(tmp_path / "none", storage=server.url.removesuffix(f"/{server.name}"))
