"""What an executor says without a cluster: settings, room, and messages; Ray itself is made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import OnGpus, Synthetic, four_networks, search

from effnas.cli import main
from effnas.evaluate.data import ImageData
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.search.workers import ray_cluster
from effnas.search.workers.executor import Local
from effnas.search.workers.ray_cluster import RayCluster, connect, count_room, find_paths
from effnas.space.errors import UserError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"address": "cluster"},
            r"^executor\.address must be auto, local, HOST:PORT or ray://HOST:PORT, got 'clu",
        ),
        ({"address": "http://host:80"}, r"^executor\.address must be auto, .*, got 'http://host:80'$"),
        ({"address": "host:0"}, r"^executor\.address must be auto, .*, got 'host:0'$"),
        ({"address": "host:65536"}, r"^executor\.address must be auto, .*, got 'host:65536'$"),
        ({"address": None}, r"^executor\.address must be auto, .*, got None$"),
        ({"cpus": 0}, r"^executor\.cpus must be in \[0\.0001, 1e\+06\], got 0$"),
        ({"cpus": "two"}, r"^executor\.cpus must be a finite number, got 'two'$"),
        ({"cpus": 1.5}, r"^executor\.cpus must be a whole number where it is above 1, got 1\.5$"),
        ({"gpus": -1}, r"^executor\.gpus must be in \[0, 1e\+06\], got -1$"),
        ({"gpus": 2.5}, r"^executor\.gpus must be a whole number where it is above 1, got 2\.5$"),
        ({"gpus": 1e-5}, r"^executor\.gpus must be 0 or at least 0\.0001, got 1e-05$"),
        ({"gpus": True}, r"^executor\.gpus must be a finite number, got True$"),
    ],
)
def test_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RayCluster(**fields)


@pytest.mark.parametrize("address", ["auto", "local", "host:6379", "10.0.0.1:6379", "ray://host:10001", "[::1]:6379"])
def test_addresses(address: str) -> None:
    assert RayCluster(address).address == address


@pytest.mark.parametrize(
    ("cpus", "gpus", "each", "room"),
    [
        (4, 0, (1, 0), 4),
        (4, 0, (3, 0), 1),
        (4, 0, (0.5, 0), 8),
        (4, 0, (0.1, 0), 40),
        (4, 0, (5, 0), 0),
        (4, 0, (1, 1), 0),
        (16, 2, (1, 1), 2),
        (16, 2, (1, 2), 1),
        (16, 2, (1, 0.5), 4),
        (16, 2, (1, 0.4), 4),  # two on each GPU, and a fifth of it is left
        (16, 2, (8, 0.1), 2),
        (0, 2, (1, 1), 0),
    ],
)
def test_room_on_a_node(cpus: float, gpus: float, each: tuple[float, float], room: int) -> None:
    assert count_room({"CPU": cpus, "GPU": gpus, "memory": 1e9}, *each) == room


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lacking(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(ray_cluster, "import_module", lacking)
    with pytest.raises(UserError, match=r"^executor=ray needs the package ray: pip install 'effnas\[ray\]' \(No mo"):
        search(tmp_path / "out", executor=RayCluster())
    assert not (tmp_path / "out").exists()


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library whose cluster has two nodes, and a dead one."""

    def node(host: str, alive: bool = True, **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "NodeManagerHostname": host, "Resources": resources}

    nodes = [node("small", CPU=2.0), node("large", CPU=8.0, GPU=1.0), node("dead", False, CPU=64.0, GPU=8.0)]
    import pickle

    errors = SimpleNamespace(RayError=NoToken)
    library = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: nodes, cloudpickle=pickle, exceptions=errors)
    monkeypatch.setattr(ray_cluster, "load_ray", lambda: library)
    return library


def test_more_than_any_node_has(made_up: Any, tmp_path: Path) -> None:
    for executor, message in (
        (RayCluster(cpus=9), r"^executor=ray: a trial takes 9 CPUs, and no node .* 2 has 8 CPUs and 1 GPU \(large\)"),
        (
            RayCluster(cpus=1, gpus=2),
            r"takes 1 CPU and 2 GPUs, and no node of the cluster \(auto\) has as many: .*l",
        ),
        (RayCluster(cpus=9, gpus=0.5), r"takes 9 CPUs and 0\.5 GPUs, .* Ask for less with executor\.cpus and execu"),
    ):
        with pytest.raises(UserError, match=message):
            search(tmp_path / "out", executor=executor)
    assert not (tmp_path / "out").exists()
    made_up.nodes = list
    with pytest.raises(UserError, match=r"a trial takes 1 CPU, and the cluster \(auto\) has no node$"):
        search(tmp_path / "out", executor=RayCluster())


def note_of(executor: RayCluster, workers: Any = "auto", evaluator: Any = None) -> str:
    with executor.hold(workers, 1, Synthetic() if evaluator is None else evaluator) as site:
        return site.note


def test_what_is_told(made_up: Any, tmp_path: Path) -> None:
    first = "executor=ray: 10 trials at a time on 2 nodes with 10 CPUs and 1 GPU, 1 CPU each"
    assert note_of(RayCluster()) == f"{first}; Synthetic is in the object store (1 kB)"
    assert note_of(RayCluster(gpus=0.5)).startswith("executor=ray: 2 trials at a time on 2 nodes")
    assert "1 trial at a time on 2 nodes with 10 CPUs and 1 GPU, 8 CPUs each;" in note_of(RayCluster(cpus=8), 1)
    assert "3 trials at a time" in (note := note_of(RayCluster(cpus=8), 3))
    assert "(there is room for 1; others wait)" in note
    proxy = Proxy(ImageData(source="folder", path=str(tmp_path)), Training(), device="cpu")
    assert note_of(RayCluster(), 1, proxy).endswith(f", and each node reads {tmp_path} by path")
    assert find_paths(dataclasses.replace(proxy, initial=__file__)) == [str(tmp_path), __file__]


def test_mistakes_of_the_study(made_up: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^workers_per_device belongs to executor=local, got 2; .*gpus=0\.5$"):
        search(tmp_path, executor=RayCluster(), workers="auto", workers_per_device=2)
    with pytest.raises(UserError, match=r"^workers must be auto or a whole number, got 'all'$"):
        search(tmp_path, executor=RayCluster(), workers="all")
    with pytest.raises(UserError, match=r"^evaluator\.device=cuda needs executor\.gpus above 0"):
        search(tmp_path, OnGpus(device="cuda"), executor=RayCluster())
    with pytest.raises(UserError, match=r"^evaluator Unsendable cannot be sent to a Ray worker: .*executor=local$"):
        search(tmp_path, Unsendable(), executor=RayCluster())


class Unsendable(Synthetic):
    def __reduce__(self) -> Any:
        raise TypeError("it stays here")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_no_cluster_at_an_address(address: str, made_up: Any) -> None:
    made_up.is_initialized = lambda: False
    with (
        pytest.raises(UserError, match=rf"^executor\.address={address}: no Ray cluster answers there \(.*\)\. On a"),
        connect(made_up, address),
    ):
        pass


class NoToken(Exception):
    """Stands for an error of Ray's own."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("Could not find any running Ray instance"),
            "auto: this machine belongs to no Ray cluster",
        ),
        (
            RuntimeError("Version mismatch: Ray: 2.9.0\nRay: 2.60.0"),
            r"auto: no connection .* \(Version mismatch: R",
        ),
        (
            ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"),
            r"auto: no Ray cluster answers there \(Failed to c.*elsewhere ray://HOST:PORT.*needs RAY_AUTH_MODE=token",
        ),
        (
            NoToken("Token authentication is enabled but no authentication token was found"),
            r"auto: no connection .* \(Token authentication is enabled but",
        ),
        (
            ConnectionAbortedError(
                "Initialization failure from server:\nTraceback (most recent call last):\n"
                '  File "/ray/proxier.py", line 772, in Datapath\n    raise RuntimeError(\n'
                "RuntimeError: Proxy failed to Connect to backend! Check the logs."
            ),
            r"auto: no connection to this Ray cluster \(Initialization failure from server: RuntimeError: Proxy .* "
            r"the logs\)$",
        ),
    ],
)
def test_a_cluster_that_refuses(error: Exception, message: str, made_up: Any) -> None:
    def refuse(**options: Any) -> None:
        raise error

    shut: list[str] = []
    made_up.is_initialized, made_up.init, made_up.shutdown = (lambda: False), refuse, lambda: shut.append("again")
    with pytest.raises(UserError, match=rf"^executor\.address={message}"), connect(made_up, "auto"):
        pass
    assert shut == ["again"] * (1 + isinstance(error, ConnectionAbortedError))  # which is tried twice


def test_a_client_server_that_fails_to_begin_is_asked_once_more(made_up: Any, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def fail(**options: Any) -> None:
        calls.append("init")
        if calls.count("init") <= failures:
            raise ConnectionAbortedError(
                "Initialization failure from server:\nStarting Ray client server failed. See it."
            )

    made_up.is_initialized, made_up.init, made_up.shutdown = (lambda: False), fail, lambda: calls.append("shutdown")
    failures = 1
    with connect(made_up, "auto"):
        assert calls == ["init", "shutdown", "init"]
    assert "client server failed. See it; it is tried once more" in caplog.text
    failures = 4
    with pytest.raises(UserError, match=r"no connection .*Starting Ray client server failed"), connect(made_up, "auto"):
        pass
    assert calls == ["init", "shutdown"] * 4


def test_the_command_line(
    made_up: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.is_initialized = lambda: False
    monkeypatch.chdir(tmp_path)
    four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1}).save(tmp_path / "base.yaml")
    base = ["baseline=base.yaml"]
    where = ["--executor", "ray", "--executor.address"]
    for command in (["search"], ["grid-alpha-beta-gamma", *base], ["ablate", *base, "tolerance=0.5"], ["rank"]):
        assert main([*command, *where, "127.0.0.1:1"]) == 2
        assert "error: executor.address=127.0.0.1:1: no Ray cluster answers there" in capsys.readouterr().err
    assert main(["search", "executor=ray", "executor.cpus=none"]) == 2
    assert "executor.cpus must be a number, got 'none'" in capsys.readouterr().err
    assert main(["search", "executor=slurm"]) == 2
    assert "executor: unknown 'slurm'. Choose one of: local, ray" in capsys.readouterr().err
    assert main(["search", "executor.cpus=2"]) == 2
    assert "executor.cpus" in capsys.readouterr().err
    assert not list(tmp_path.rglob("trials.csv"))


def test_another_executor_is_the_same_search(tmp_path: Path) -> None:
    assert search(tmp_path, trials=2)["complete"] == 2
    assert search(tmp_path, trials=3, executor=Local())["complete"] == 3
