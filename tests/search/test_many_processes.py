"""Many processes on one study in a real server: whoever is killed, and while the server is away."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from servers import PASSWORD, SERVERS, Server, serve
from sqlalchemy import NullPool, create_engine, inspect, text
from synthetic import Synthetic, read_csv, search, wait_for

from effnas import Architecture
from effnas.space.errors import UserError
from effnas.space.stage import Stage

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=SERVERS, ids=lambda kind: kind.kind)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from serve(request.param)


def stored(url: str, name: str) -> list[FrozenTrial]:
    """The trials by Optuna's own storage, which is not to make the tables."""
    engine = create_engine(url, poolclass=NullPool)
    if not inspect(engine).has_table("alembic_version"):
        return []
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    except KeyError:
        return []
    finally:
        storage.remove_session()
        storage.engine.dispose()


def begin(run: Callable[[Path], Any], folder: Path) -> Any:
    """A process that runs it, with its messages in a file beside the folder."""

    def work() -> None:
        sys.stderr = open(f"{folder}.log", "a", buffering=1)  # noqa: SIM115
        run(folder)

    process = FORK.Process(target=work)
    process.start()
    return process


def run_with_losses(
    run: Callable[[Path], Any], folders: list[Path], every: float, kills: int, study: str, server: Server, away: bool
) -> None:
    """Run it in as many processes, one of which is killed now and then, and begun again; the server may be away once.

    This begins when some trials have been.
    """
    processes = [begin(run, folder) for folder in folders]
    wait_for(lambda: len(stored(server.url, study)) > 4 * len(folders) or not away, 60)
    for number in range(kills):
        time.sleep(every)
        victim = number * 3 % len(processes)
        if processes[victim].is_alive():
            os.kill(processes[victim].pid, signal.SIGKILL)
            processes[victim].join()
            processes[victim] = begin(run, folders[victim])
        if away and number == kills // 2:
            server.stop()
            time.sleep(1.5)
            server.start()
    try:
        for process, folder in zip(processes, folders, strict=True):
            process.join(60)
            assert process.exitcode == 0, Path(f"{folder}.log").read_text()
    finally:
        for process in processes:
            process.kill()


def test_eight_processes(tmp_path: Path, server: Server) -> None:
    def run(folder: Path) -> None:
        evaluator = Synthetic(delay=0.2)
        search(folder, evaluator, "mobile_cifar", storage=server.url, study="eight", trials=120, quiet=False)

    folders = [tmp_path / name for name in "abcdefgh"]
    run_with_losses(run, folders, 0.7, 4, "eight", server, away=True)
    trials = stored(server.url, "eight")
    assert [t.number for t in trials] == list(range(len(trials)))
    assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.FAIL}
    assert all(t.user_attrs.get("interrupted") for t in trials if t.state == TrialState.FAIL)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(complete) == 120
    assert all(t.params and t.user_attrs["result"]["accuracy"] for t in complete)
    tables = [read_csv(folder / "trials.csv") for folder in folders]
    assert len(tables[0]) == 120
    assert all(table == tables[0] for table in tables)
    for folder in folders:
        assert json.loads((folder / "summary.json").read_text())["complete"] == 120
        assert PASSWORD not in Path(f"{folder}.log").read_text()
    lines = [line for line in Path(f"{folders[0]}.log").read_text().splitlines() if line.startswith("[")]
    assert int(lines[-1][1:].partition("/")[0]) > len(lines)  # those of the others count, too
    assert any("answers again, after" in Path(f"{folder}.log").read_text() for folder in folders)


LAYERS: dict[str, Any] = {"stride": 2, "expand_ratio": 1, "repeats": 20}
BASELINE = Architecture(
    (Stage("mbconv", channels=200, **LAYERS), Stage("mbconv", channels=400, **LAYERS)),
    name="base",
    resolution=200,
    num_classes=10,
    stem=200,
    head=400,
)
SMALL = Architecture((Stage("mbconv", 16, 3, expand_ratio=3),), stem=16, head=96, resolution=32, num_classes=10)
GRID: dict[str, Any] = {"alpha": (1.1, 1.3), "beta": (1.0, 1.1), "gamma": (1.0, 1.3), "step": 0.1, "tolerance": 0.15}


@pytest.mark.parametrize("command", ["grid", "ablate", "rank"])
def test_other_commands_join_one_storage(tmp_path: Path, server: Server, command: str) -> None:
    from effnas import run_grid_search
    from effnas.scaling.ablate.job import run_ablation
    from effnas.search.rank.job import run_rank

    url: str | None

    def run(folder: Path) -> None:
        options: dict[str, Any] = {"storage": url, "output": folder, "quiet": False}
        if command == "grid":
            run_grid_search(BASELINE, Synthetic(delay=0.1), seeds=3, **GRID, **options)
        elif command == "ablate":
            run_ablation(SMALL, Synthetic(delay=0.1), rules=("depth", "width"), factors=(2,), seeds=3, **options)
        else:
            run_rank("tiny", Synthetic(delay=0.1), shortcuts=(), members=10, **options)

    url = None
    run(tmp_path / "alone")  # what it imports is there before the processes begin
    url = server.url
    folders = [tmp_path / name for name in "abc"]
    run_with_losses(run, folders, 0.4, 3, "", server, away=False)
    trials = stored(server.url, {"ablate": "ablation"}.get(command, command))
    points = [str(sorted(t.params.items())) for t in trials if t.state == TrialState.COMPLETE]
    assert len(points) == len(set(points)) >= 8
    assert TrialState.RUNNING not in {t.state for t in trials}
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert {s["complete"] for s in summaries} == {len(points)}


# -- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["wrong_password", "unknown_user", "unknown_data_base"])
def test_a_server_that_refuses(tmp_path: Path, server: Server, wrong: str) -> None:
    old, new = {"wrong_password": (PASSWORD, "wr0ng"), "unknown_user": ("effnas:", "nobody:")}.get(
        wrong, (f"/{server.name}", "/nothing")
    )
    head, _, tail = server.url.rpartition(old)
    reason = getattr(server, wrong)
    with pytest.raises(UserError, match=rf"storage \S+: cannot be opened as an Optuna storage: .*{reason}") as caught:
        search(tmp_path, storage=f"{head}{new}{tail}")
    assert "wr0ng" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_data_base_of_another_optuna(tmp_path: Path, server: Server) -> None:
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE older"))
    url = server.url.removesuffix(server.name) + "older"
    search(tmp_path, storage=url, trials=1)
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    with pytest.raises(UserError, match=r"cannot be opened as an Optuna storage: .*no longer compatible.*upgrade"):
        search(tmp_path, storage=url, trials=2)


def test_clients_in_other_time_zones(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat is compared in one zone, whatever the clients' machines say."""
    from effnas.search.sharing import ownership
    from effnas.search.storage import close_study, open_study

    studies = []
    for zone in ("Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("PGTZ", zone)
        monkeypatch.setattr(ownership, "_machine", lambda zone=zone: zone)
        studies.append(open_study(server.url, "zones", tmp_path / zone, ["maximize"], {}))
    for study in studies:
        study.ask()
        for folder in ("Asia/Tokyo", "America/New_York"):
            ownership.close_orphans(study, ownership.make_owner(tmp_path / folder))
    assert [t.state for t in studies[0].trials] == [TrialState.RUNNING] * 2
    for study in studies:
        close_study(study)
