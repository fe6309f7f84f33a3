"""What several commands take in the same forms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from effnas.evaluate.arguments import as_list, check_threads, describe_device
from effnas.evaluate.compare.job import run_compare
from effnas.evaluate.data import ImageData
from effnas.evaluate.machine import cores
from effnas.evaluate.machine.cores import PER_CORE, count_cores
from effnas.evaluate.machine.device import torch_threads
from effnas.evaluate.machine.profile import profile
from effnas.evaluate.measure.job import run_evaluate
from effnas.evaluate.proxy import Proxy
from effnas.evaluate.train.job import run_train
from effnas.evaluate.train.recipe import Training
from effnas.scaling.grid.latency import LatencyRatios
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.stage import Stage

NET = Architecture(
    (Stage("mbconv", 8, stride=2),), stem=8, head=16, resolution=8, in_channels=1, num_classes=10, name="net"
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("a,b", ["a,b"]),
        (Path("a"), [Path("a")]),
        (NET, [NET]),
        (("a", None), ["a", None]),
        ([], []),
        (3, [3]),
    ],
)
def test_one_or_several(value: Any, expected: list[Any]) -> None:
    assert as_list(value) == expected


@pytest.mark.parametrize(
    "take",
    [
        lambda threads: Proxy(ImageData(), Training(), threads=threads, latency_batch=1),
        lambda threads: profile(NET, threads=threads),
        lambda threads: run_train(NET, ImageData(), Training(), threads=threads),
        lambda threads: run_evaluate(NET, None, ImageData(), threads=threads),
        lambda threads: run_compare("imagenet", threads=threads),
        lambda threads: LatencyRatios(NET, Path(), within=0.1, threads=threads),
    ],
    ids=["proxy", "profile", "train", "evaluate", "compare", "grid"],
)
def test_the_limit_of_threads_is_the_same_everywhere(take: Any) -> None:
    with pytest.raises(UserError, match=r"threads must be between 1 and 4096, got 4097"):
        take(4097)


def test_threads_that_train_a_candidate_time_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    threads = PER_CORE * count_cores()
    proxy = Proxy(ImageData(limit=200), Training(epochs=1), device="cpu", threads=threads, latency_batch=1)
    assert proxy(NET, seed=0, report=lambda *_: None).latency is not None
    assert threads in asked


def test_more_threads_than_the_cores_bear_are_fewer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(cores, "count_cores", lambda: 3)
    check_threads(4096)  # of a larger machine, where the run may have begun
    cores._tell.cache_clear()
    for threads in (None, 1, 12, 13, 4096, 4096):
        with torch_threads(threads):
            pass
    before = torch.get_num_threads()
    assert asked == [before, *(n for fitting in (1, 12, 12, 12, 12) for n in (fitting, before))]
    note = "threads={}: this process may use 3 cores; 12 threads are used\n"
    assert capsys.readouterr().err == note.format(13) + note.format(4096)
    measured = profile(NET, threads=4096, repeats=2, warmup=0, fvcore=False)
    assert measured.threads == before  # what there was, not what was asked for


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"max": "max 100000\n"}, 64),
        ({"max": "150000 100000\n"}, 2),
        ({"max": "9900000 100000\n"}, 64),
        ({"max": "nonsense\n"}, 64),
        ({"quota": "-1\n", "period": "100000\n"}, 64),
        ({"quota": "400000\n", "period": "100000\n"}, 4),
        ({"quota": "400000\n"}, 64),
        ({}, 64),
    ],
)
def test_a_containers_time_limits_its_cores(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    quotas = ((str(tmp_path / "max"),), (str(tmp_path / "quota"), str(tmp_path / "period")))
    monkeypatch.setattr(cores, "_QUOTAS", quotas)
    monkeypatch.setattr(cores, "_GRANTED", ())  # the suite may run in a job of Slurm's
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert cores.count_cores() == expected


def test_where_something_runs() -> None:
    assert describe_device("cpu", 1) == "cpu, 1 thread"
    assert describe_device(torch.device("cpu"), 2) == "cpu, 2 threads"
    assert describe_device("cpu", None) == "cpu"
    assert describe_device("cuda:0 (GPU)", 4) == "cuda:0 (GPU)"
