"""Searches on a Ray cluster of several nodes, all on this machine: what is equal, what is lost, what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler
from ray_nodes import Nodes, Where
from synthetic import (
    Learner,
    Synthetic,
    TorchThreads,
    alive,
    calls,
    decisions_and_scores,
    four_networks,
    gone,
    python,
    read_csv,
    search,
    wait_for,
)

from effnas.evaluate.data import ImageData
from effnas.evaluate.interrupt import Interrupts
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.search.workers.base import Outcome, Task
from effnas.search.workers.ray_cluster import RayCluster
from effnas.space.errors import UserError

pytestmark = pytest.mark.slow
TINY = four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    with Nodes() as nodes:
        nodes.add(num_cpus=2, num_gpus=1)
        nodes.add(num_cpus=1)
        yield nodes


@pytest.fixture
def executor(cluster: Nodes) -> RayCluster:
    return RayCluster(cluster.address)


# -- the same search -----------------------------------------------------------------------------------------


def test_one_trial_at_a_time_is_the_search_of_this_process(tmp_path: Path, executor: RayCluster) -> None:
    for name, options in (("here", {}), ("there", {"executor": executor})):
        search(tmp_path / name, Synthetic(trouble="exception"), trials=12, **options)
    assert decisions_and_scores(tmp_path / "here") == decisions_and_scores(tmp_path / "there")
    reasons = [{row["reason"] for row in read_csv(tmp_path / name / "trials.csv")} for name in ("here", "there")]
    assert reasons[0] == reasons[1] >= {"ValueError: a bug of this network"}


def test_early_stopping_is_the_same(tmp_path: Path, executor: RayCluster) -> None:
    for name, options in (("here", {}), ("there", {"executor": executor})):
        pruner = MedianPruner(n_startup_trials=2, n_warmup_steps=1)
        found = search(tmp_path / name, Learner(), pruner=pruner, trials=8, seed=1, **options)
    assert decisions_and_scores(tmp_path / "here") == decisions_and_scores(tmp_path / "there")
    assert found["pruned"] > 0


def test_bf16_trainings_are_the_same(tmp_path: Path, executor: RayCluster) -> None:
    training = Training(epochs=1, batch_size=128, precision="bf16")
    proxy = Proxy(ImageData(source="digits"), training, device="cpu", threads=1)
    for name, options in (("here", {}), ("there", {"executor": executor})):
        search(tmp_path / name, proxy, trials=2, algorithm=RandomSampler, **options)
    assert decisions_and_scores(tmp_path / "here") == decisions_and_scores(tmp_path / "there")
    assert list((tmp_path / "there" / "weights").glob("*.safetensors"))


# -- what a trial takes --------------------------------------------------------------------------------------


def run_one(executor: RayCluster, evaluator: Any, on_report: Any = lambda *_: False, timeout: Any = None) -> Outcome:
    with executor.hold(1, 1, evaluator) as site, site.make_workers(evaluator, Interrupts(), timeout) as workers:
        workers.submit(Task(4, TINY, 0))
        return workers.wait(on_report)


def test_a_trial_has_as_many_threads_as_cpus(cluster: Nodes) -> None:
    outcome = run_one(RayCluster(cluster.address, cpus=2), TorchThreads())
    assert outcome.evaluation is not None
    assert outcome.evaluation.metrics == {"torch": 2, "OMP_NUM_THREADS": 2, "MKL_NUM_THREADS": 2}


def test_trials_share_a_gpu(tmp_path: Path, cluster: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    executor = RayCluster(cluster.address, cpus=1, gpus=0.5)
    search(
        tmp_path / "out",
        Where(str(tmp_path / "log"), delay=0.3),
        trials=4,
        workers="auto",
        executor=executor,
        quiet=False,
    )
    told = capsys.readouterr().err.splitlines()[0]
    assert told.startswith("executor=ray: 2 trials at a time on 3 nodes with 3 CPUs and 1 GPU, 1 CPU and 0.5 GPUs each")
    assert {line.split()[3] for line in calls(tmp_path / "log")} == {"0"}


def test_more_than_any_node_has(tmp_path: Path, cluster: Nodes) -> None:
    with pytest.raises(UserError, match=r"a trial takes 3 CPUs, and no node .*the largest of 3 has 2 CPUs and 1 GPU"):
        search(tmp_path / "out", executor=RayCluster(cluster.address, cpus=3))
    assert not (tmp_path / "out").exists()


# -- candidates that fail ------------------------------------------------------------------------------------


def test_reports_are_answered(executor: RayCluster) -> None:
    seen: list[tuple[int, int]] = []

    def stop_at_three(number: int, step: int, accuracy: float) -> bool:
        seen.append((number, step))
        return step == 3

    assert run_one(executor, Synthetic(epochs=5), stop_at_three) == Outcome(4, stopped=True)
    assert seen == [(4, 1), (4, 2), (4, 3)]


def test_a_trial_that_takes_too_long(executor: RayCluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcome = run_one(executor, Where(str(log), first=60), timeout=0.5)
    assert outcome == Outcome(4, reason="trial_timeout: not done after 0.5 s, so its process was ended")
    assert gone([int(calls(log)[0].split()[2])])


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("user error", "^data.path: no such folder$"),
        ("foreign", "^evaluator Synthetic must return an Evaluation, got float$"),
    ],
)
def test_what_no_candidate_can_pass(trouble: str, message: str, tmp_path: Path, executor: RayCluster) -> None:
    with pytest.raises(UserError, match=message):
        search(tmp_path, Synthetic(trouble=trouble, share=1), executor=executor)


def test_an_evaluator_that_the_nodes_cannot_import(tmp_path: Path, executor: RayCluster) -> None:
    module = types.ModuleType("of_this_session")
    exec("class Mine:\n    def __call__(self, architecture, *, seed, report): ...\n", module.__dict__)
    sys.modules["of_this_session"] = module
    try:
        with pytest.raises(
            UserError, match=r"^evaluator: a Ray worker on \S+ cannot load it: ModuleNotFou.*executor=lo"
        ):
            search(tmp_path, module.Mine(), executor=executor)
    finally:
        del sys.modules["of_this_session"]


# -- what is lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["kill", "exit"])
def test_a_worker_that_dies_is_tried_once_more(
    trouble: str, tmp_path: Path, executor: RayCluster, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator = Synthetic(str(tmp_path / "log"), trouble=trouble, share=0.3)
    found = search(tmp_path / "out", evaluator, trials=6, algorithm=RandomSampler, workers=2, executor=executor)
    assert found["complete"] + found["failed"] + found["pruned"] == 6
    failed = [row for row in read_csv(tmp_path / "out" / "trials.csv") if row["state"] == "failed"]
    assert failed
    for row in failed:
        assert re.search(r"^it was tried twice: its worker .* on \S+; then its worker", row["reason"]), row["reason"]
    logged = calls(tmp_path / "log")
    assert {logged.count(line) for line in logged} == {1, 2}
    assert "is tried once more" in caplog.text


SCRIPT = """
    import sys
    from pathlib import Path
    from ray_nodes import Where
    from synthetic import search
    from optuna.samplers import RandomSampler
    from effnas.search.workers.ray_cluster import RayCluster
    search(Path("out"), Where("log", first=60, count=2), trials=4, workers=2, algorithm=RandomSampler,
           executor=RayCluster(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_driver_is_ended_and_begun_again(how: signal.Signals, tmp_path: Path, cluster: Nodes) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    process = python(["script.py", cluster.address], tmp_path)
    wait_for(lambda: len(calls(tmp_path / "log")) == 2)
    pids = [int(line.split()[2]) for line in calls(tmp_path / "log")]
    assert all(map(alive, pids))
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert gone(pids, 15)
    process = python(["script.py", cluster.address], tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"] == 4
    rows = read_csv(tmp_path / "out" / "trials.csv")
    assert {row["state"] for row in rows} == {"complete"}


# -- connections ---------------------------------------------------------------------------------------------


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def client_server(cluster: Nodes, patience: int) -> Iterator[str]:
    """Its address; so many seconds are given to the server of each client, which it begins.

    Without gRPC's handlers of forks, which end some of these servers with a fault of segmentation (Ray 2.60).
    """
    port = find_port()
    words = ["-m", "ray.util.client.server", f"--address={cluster.address}", f"--port={port}", "--mode=proxy"]
    settings = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": str(patience), "GRPC_ENABLE_FORK_SUPPORT": "0"}
    process = subprocess.Popen([sys.executable, *words], env={**os.environ, **settings})
    try:
        wait_for(lambda: answers(port))
        yield f"ray://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_through_rays_client(tmp_path: Path, cluster: Nodes) -> None:
    with client_server(cluster, 60) as address:
        found = search(tmp_path, Synthetic(epochs=2), trials=3, workers=2, executor=RayCluster(address))
    assert found["complete"] == 3


def test_after_a_client_server_that_fails_others_are_connected(tmp_path: Path, cluster: Nodes) -> None:
    with (
        client_server(cluster, 0) as address,
        pytest.raises(UserError, match=r"no connection to this Ray cluster .*RuntimeError: Proxy failed to Con"),
    ):
        search(tmp_path, trials=2, executor=RayCluster(address))
    assert search(tmp_path, trials=2, executor=RayCluster(cluster.address))["complete"] == 2


def test_a_connection_that_the_program_has_is_left_to_it(tmp_path: Path, cluster: Nodes) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert search(tmp_path, trials=2, executor=RayCluster())["complete"] == 2
        assert ray.is_initialized()
    finally:
        ray.shutdown()


# -- last: the nodes are gone, and for some seconds Ray takes them for living ones ---------------------------


def test_a_node_falls_silent_in_mid_trial(tmp_path: Path, cluster: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    """None of its connections ends, and Ray itself would say for many minutes that the trial runs."""
    silent = cluster.add(num_cpus=3)
    executor, log = RayCluster(cluster.address, cpus=3), tmp_path / "log"

    def stop() -> None:
        wait_for(lambda: calls(log))
        cluster.add(num_cpus=3)
        cluster.stop(silent)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        found = search(tmp_path / "out", Where(str(log), first=600), trials=2, executor=executor)
    finally:
        stopper.join()
    assert (found["complete"], found["failed"]) == (2, 0)
    assert len({line.split()[1] for line in calls(log)[:2]}) == 2
    assert re.search(r"trial 0: its node \S+ was lost; it is tried once more", caplog.text)


def test_every_node_but_the_searchs_is_killed_in_mid_trial(
    tmp_path: Path, cluster: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial has room on one alone, until another one joins; nothing that the search needs may be on the others."""
    cluster.add(num_cpus=4)
    executor, log = RayCluster(cluster.address, cpus=4), tmp_path / "log"

    def kill() -> None:
        wait_for(lambda: calls(log))
        victims = list(cluster.names)
        cluster.add(num_cpus=4)
        for victim in victims:
            cluster.kill(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = search(
            tmp_path / "out", Where(str(log), first=60), trials=3, algorithm=RandomSampler, executor=executor
        )
    finally:
        killer.join()
    assert (found["complete"], found["failed"]) == (3, 0)
    first, second = (line.split() for line in calls(log)[:2])
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert re.search(r"trial 0: its node \S+ was lost; it is tried once more", caplog.text)
