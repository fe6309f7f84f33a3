"""How many candidates are trained at the same time, and on which GPU: there are none here, so they are made up."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import OnGpus, Synthetic, four_networks, gone, search

from effnas.cli import main
from effnas.evaluate.accel_nasbench import AccelNASBench
from effnas.evaluate.data import ImageData
from effnas.evaluate.interrupt import Interrupts
from effnas.evaluate.machine import cores as machine_cores
from effnas.evaluate.machine.assignment import assign_gpu
from effnas.evaluate.machine.device import find_device
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.recipe import Training
from effnas.search.workers import count
from effnas.search.workers.base import Task
from effnas.search.workers.count import WORKER_MEMORY, count_workers, find_memory
from effnas.search.workers.processes import Processes
from effnas.space.errors import UserError

TINY = four_networks().build({"block0_kernel_size": 3, "block0_repeats": 1})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(gpus: int = 0, cores: int = 4, memory: int | None = 64 * 2**30) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(count, "count_cores", lambda: cores)
        monkeypatch.setattr(machine_cores, "count_cores", lambda: cores)
        machine_cores._tell.cache_clear()
        monkeypatch.setattr(count, "find_memory", lambda: memory)

    return make


# -- how many ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "cores"),
    [
        ({}, 16),
        ({"SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_CPUS_PER_TASK": ""}, 16),
    ],
)
def test_cores_of_a_task_of_slurm(granted: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Slurm that binds nobody to his cores says at least how many they are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(machine_cores, "_QUOTAS", ())
    for name in ("SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in granted.items():
        monkeypatch.setenv(name, value)
    assert machine_cores.count_cores() == cores


@pytest.mark.parametrize(
    ("gpus", "device", "per_device", "count", "note"),
    [
        (2, "auto", 1, 2, "workers=auto: 2 processes on 2 GPUs"),
        (2, "auto", 2, 4, "workers=auto: 4 processes on 2 GPUs"),
        (1, "auto", 1, 1, "workers=auto: 1 process on 1 GPU"),
        (8, "cuda:1", 3, 3, "workers=auto: 3 processes on 1 GPU"),
        (8, "cuda", 1, 1, "workers=auto: 1 process on 1 GPU"),
        (8, "cpu", 1, 4, "workers=auto: 4 processes on 4 cores"),
        (0, "auto", 1, 4, "workers=auto: 4 processes on 4 cores"),
    ],
)
def test_auto(machine: Any, gpus: int, device: str, per_device: int, count: int, note: str) -> None:
    machine(gpus)
    assert count_workers("auto", per_device, OnGpus(device=device)) == (count, note)


def test_auto_of_what_this_package_has(machine: Any) -> None:
    machine(3)
    proxy = Proxy(ImageData(source="digits"), Training(), device="cpu")
    assert count_workers("auto", 1, proxy)[0] == 4
    object.__setattr__(proxy, "device", "auto")
    assert count_workers("auto", 1, proxy)[0] == 3
    table = object.__new__(AccelNASBench)  # its device is one of the benchmark's
    object.__setattr__(table, "device", "latency_zcu102")
    assert count_workers("auto", 1, table)[0] == 4
    assert count_workers("auto", 1, Synthetic())[0] == 4


@pytest.mark.parametrize(
    ("cores", "amount", "count", "where"),
    [
        (1, 64 * 2**30, 1, "1 process on 1 core"),
        (64, 7 * 2**30, 3, "3 processes on 64 cores, limited by memory (2 GiB each)"),
        (2, 2**30, 1, "1 process on 2 cores, limited by memory (2 GiB each)"),
        (64, None, 64, "64 processes on 64 cores"),
    ],
)
def test_without_a_gpu_cores_and_memory_decide(
    machine: Any, cores: int, amount: int | None, count: int, where: str
) -> None:
    machine(0, cores, amount)
    assert count_workers("auto", 1, OnGpus()) == (count, f"workers=auto: {where}")


def test_memory_is_the_machines_or_the_containers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(count, "_LIMITS", ())
    total = find_memory()
    assert total is not None
    lines = Path("/proc/meminfo").read_text().splitlines()
    assert total == int(lines[0].split()[1]) * 1024
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "less").write_text("1000000\n")
    (tmp_path / "huge").write_text("9223372036854771712\n")  # version 1, without a limit
    for name, expected in (("max", total), ("missing", total), ("huge", total), ("less", 1_000_000)):
        monkeypatch.setattr(count, "_LIMITS", (str(tmp_path / name),))
        assert find_memory() == expected
    assert WORKER_MEMORY == 2147483648


def test_a_number_is_taken_as_it_is(machine: Any) -> None:
    machine(2)
    assert count_workers(3, 1, OnGpus()) == (3, "")


def test_no_more_processes_than_the_memory_holds(machine: Any) -> None:
    machine(0, 2, 8 * 2**30)
    assert count_workers(204, 1, Synthetic()) == (204, "")
    assert count_workers(32, 1, OnGpus()) == (32, "")
    rule = r"^workers must be at most {} on this machine, which has 8\.0 GiB of memory \(a process takes {} MiB at "
    with pytest.raises(UserError, match=rule.format(204, 40) + r"least\), got 205; workers=auto chooses$"):
        count_workers(205, 1, Synthetic())
    with pytest.raises(UserError, match=rule.format(32, 256)):
        count_workers(4096, 1, OnGpus())
    machine(0, 1, 2**20)
    assert count_workers(1, 1, OnGpus()) == (1, "")


def test_threads_of_all_workers_together(machine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    machine(0, 2)
    proxy = Proxy(ImageData(source="digits"), Training(), device="cpu", threads=2)
    assert count_workers(4, 1, proxy) == (4, "")
    slow = r"workers={} and evaluator.threads={} are {} threads on 2 cores, which is slow; without "
    slow += "evaluator.threads each worker takes its share"
    assert count_workers(5, 1, proxy)[1] == slow.format(5, 2, 10)
    object.__setattr__(proxy, "threads", 64)
    assert count_workers(1, 1, proxy) == (1, "")
    assert count_workers("auto", 1, proxy)[1] == "workers=auto: 2 processes on 2 cores; " + slow.format(2, 8, 16)
    assert capsys.readouterr().err == "evaluator.threads=64: this process may use 2 cores; 8 threads are used\n"


@pytest.mark.parametrize(
    ("workers", "per_device", "gpus", "message"),
    [
        ("many", 1, 2, r"^workers must be auto or a whole number, got 'many'$"),
        (2.0, 1, 2, r"^workers must be auto or a whole number, got 2\.0$"),
        (True, 1, 2, r"^workers must be auto or a whole number, got True$"),
        (None, 1, 2, r"^workers must be auto or a whole number, got None$"),
        (0, 1, 2, r"^workers must be between 1 and 4096, got 0$"),
        (4097, 1, 2, r"^workers must be between 1 and 4096, got 4097$"),
        ("auto", 0, 2, r"^workers_per_device must be at least 1, got 0$"),
        ("auto", 1.5, 2, r"^workers_per_device must be a whole number, got 1\.5$"),
        (
            4,
            2,
            2,
            r"^workers_per_device applies only with workers=auto, got workers_per_device=2 and workers=4; 4 workers "
            r"take turns with the available GPUs$",
        ),
        (
            "auto",
            2,
            0,
            r"^workers_per_device needs a GPU, got 2; without one, workers=auto starts one process per core$",
        ),
    ],
)
def test_mistakes(machine: Any, workers: Any, per_device: Any, gpus: int, message: str) -> None:
    machine(gpus)
    with pytest.raises(UserError, match=message):
        count_workers(workers, per_device, OnGpus())


# -- where ---------------------------------------------------------------------------------------------


def test_auto_is_the_gpu_that_was_assigned(machine: Any) -> None:
    machine(2)
    try:
        found = []
        for number in range(4):
            assign_gpu(number)
            found.append(str(find_device("auto")))
        assert found == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
        assign_gpu(1)
        assert str(find_device("cuda")) == "cuda:0"  # what has a name is what it says
        assert str(find_device("cpu")) == "cpu"
        machine(0)
        assert find_device("auto").type in ("cpu", "mps")
    finally:
        assign_gpu(0)
    machine(2)
    assert str(find_device("auto")) == "cuda:0"


def gpus_used(outcomes: list[Any]) -> dict[float, float]:
    """The GPU of each process."""
    return {o.evaluation.metrics["pid"]: o.evaluation.metrics["gpu"] for o in outcomes if o.evaluation is not None}


def test_workers_are_dealt_out_over_the_gpus_and_a_new_one_takes_the_place_of_the_dead() -> None:
    with Processes(OnGpus(2), 4, Interrupts()) as workers:

        def work(count: int) -> list[Any]:
            for number in range(count):
                workers.submit(Task(number, TINY, 0))
            return [workers.wait(lambda number, step, accuracy: False) for _ in range(count)]

        first = gpus_used(work(4))
        assert Counter(first.values()) == {0.0: 2, 1.0: 2}
        victim = max(int(pid) for pid, gpu in first.items() if gpu == 1.0)
        os.kill(victim, signal.SIGKILL)
        gone([victim])
        assert [outcome.reason for outcome in work(4) if outcome.evaluation is None] == [
            "the worker process was ended by SIGKILL (the system may have run out of memory)"
        ]
        assert Counter(gpus_used(work(4)).values()) == {0.0: 2, 1.0: 2}


# -- the options ---------------------------------------------------------------------------------------


def test_a_search_counts_and_says_so(machine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine(2)
    options: dict[str, Any] = {"workers": "auto", "workers_per_device": 2, "quiet": False}
    assert search(tmp_path, OnGpus(2), trials=1, **options)["complete"] == 1
    assert capsys.readouterr().err.startswith("workers=auto: 4 processes on 2 GPUs\n")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine" / "evaluator").mkdir(parents=True)
    evaluator = "_target_: synthetic.OnGpus\ngpus: 1\n"
    (tmp_path / "mine" / "evaluator" / "gpus.yaml").write_text(evaluator)
    TINY.save(tmp_path / "base.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


LINES = {
    "search": ["search", "--trials", "2"],
    "grid": ["grid-alpha-beta-gamma", "--baseline", "base.yaml", "--step", "0.2", "--tolerance", "0.4"],
}


@pytest.mark.parametrize("command", LINES)
def test_the_options_of_the_commands(command: str, own: Path, machine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*LINES[command], "--config-dir", "mine", "evaluator=gpus", "json=true"]
    machine(1)
    assert main([*words, "--workers", "auto"]) == 0
    first = capsys.readouterr()
    assert "workers=auto: 1 process on 1 GPU\n" in first.err
    assert main([*words, "--workers-per-device", "2"]) == 2
    assert "workers_per_device applies only with workers=auto" in capsys.readouterr().err
    assert main([*words, "--workers", "few"]) == 2
    assert "workers must be auto or a whole number, got 'few'" in capsys.readouterr().err
    assert main([*words, "--workers", "auto", "--workers-per-device", "2"]) == 0  # the same search goes on
    last = capsys.readouterr()
    assert "workers=auto: 2 processes on 1 GPU\n" in last.err
    assert json.loads(last.out)["best"] == json.loads(first.out)["best"]
