"""The settings that are chosen by timed steps, and kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from effnas import build, load_architecture
from effnas.evaluate.machine.settings import Settings
from effnas.evaluate.train import choosing
from effnas.evaluate.train.choosing import choice_key, choose_settings, native_bf16
from effnas.evaluate.train.recipe import Training

CPU = torch.device("cpu")
SHAPE = (8, 3, 8, 8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFNAS_CACHE", str(tmp_path))
    monkeypatch.setattr(choosing, "_read", {})
    return tmp_path / "engine-v2.json"


class Picky(nn.Module):
    """Slow, or impossible, in the way that a test says."""

    def __init__(self, *, slow: str = "", breaks: str = "") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.slow, self.breaks = slow, breaks
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        now = {
            "channels_last": x.is_contiguous(memory_format=torch.channels_last),
            "contiguous": x.is_contiguous(),
            "bf16": torch.is_autocast_enabled("cpu"),
            "fp32": not torch.is_autocast_enabled("cpu"),
        }
        if now.get(self.breaks):
            raise RuntimeError(f"no {self.breaks} here")
        if now.get(self.slow):
            time.sleep(0.05)
        return self.conv(x).mean((2, 3))  # type: ignore[no-any-return]


def chosen(model: nn.Module, training: Training | None = None, threads: int | None = 1, steps: int = 10) -> Settings:
    return choose_settings(model, SHAPE, CPU, training or Training(), threads=threads, steps=steps)[0]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Picky(slow="channels_last"), "contiguous"),
        (Picky(slow="contiguous"), "channels_last"),
        (Picky(breaks="contiguous"), "channels_last"),
    ],
)
def test_the_faster_memory_format(model: Picky, expected: str) -> None:
    assert chosen(model).memory_format == expected


def test_the_faster_precision_where_the_hardware_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(choosing, "_read", {})
        monkeypatch.setenv("EFFNAS_CACHE", str(tmp_path / str(native)))
        monkeypatch.setattr("effnas.evaluate.train.choosing.native_bf16", lambda device, native=native: native)
        assert chosen(Picky(slow="fp32")).precision == expected
    assert isinstance(native_bf16(CPU), bool)


def test_what_is_fixed_by_hand_is_kept_and_nothing_else_is_timed(cache: Path) -> None:
    model = Picky(slow="contiguous")
    fixed = Training(memory_format="contiguous", precision="bf16", compile=False)
    settings, note = choose_settings(model, SHAPE, CPU, fixed, threads=1, steps=10)
    assert settings == Settings("contiguous", "bf16", False, 1)
    assert note == "engine: contiguous, bf16, 1 thread (as set)"
    assert not cache.exists()


def test_the_choice_is_kept_for_networks_of_a_kind_and_size(cache: Path) -> None:
    first, note = choose_settings(Picky(slow="channels_last"), SHAPE, CPU, Training(), threads=1, steps=10)
    assert "by timed steps" in note
    choosing._read.clear()  # as another process
    other, note = choose_settings(Picky(slow="contiguous"), SHAPE, CPU, Training(), threads=1, steps=10)
    assert other == first
    assert "as timed before on this machine" in note
    assert chosen(Picky(slow="contiguous"), Training(precision="fp32")).memory_format == "channels_last"
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"KEY": {"memory_format": "nhwc", "images_per_second": 1}}', '{"KEY": 3}']
)
def test_a_damaged_file_is_written_anew(damage: str, cache: Path) -> None:
    model = Picky(slow="channels_last")
    fixed = "auto", "auto", "auto", 1, 1
    cache.write_text(damage.replace("KEY", choice_key(model, SHAPE, CPU, fixed)))
    assert chosen(model).memory_format == "contiguous"
    choosing._read.clear()
    assert chosen(Picky(slow="contiguous")).memory_format == "contiguous"


def test_a_folder_that_cannot_be_written_keeps_nothing_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFNAS_CACHE", "/dev/null/effnas")
    assert chosen(Picky(slow="channels_last")).memory_format == "contiguous"


def test_the_model_and_the_callers_state_are_left_alone() -> None:
    torch.manual_seed(3)
    model = build(load_architecture("efficientnet_lite0").with_(num_classes=3, resolution=32))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    choose_settings(model, (4, 3, 32, 32), CPU, Training(), threads=None, steps=10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_where_nothing_runs_the_training_is_left_to_say_why() -> None:
    class Never(Picky):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert chosen(Never()) == Settings("channels_last", "fp32", False, 1)


def test_compiling_is_tried_only_where_it_can_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    chosen(Picky(), steps=10)
    assert not compiled
    choosing._read.clear()
    chosen(Picky(), steps=100_000_000)
    assert len(compiled) == 1


def test_networks_of_other_kinds_and_sizes_choose_for_themselves() -> None:
    fixed = ("auto",)
    b0, lite, b4 = (build(load_architecture(f"efficientnet_{name}")) for name in ("b0", "lite0", "b4"))
    keys = {choice_key(model, SHAPE, CPU, fixed) for model in (b0, lite, b4)}
    assert len(keys) == 3
    assert len({*keys, choice_key(b0, (16, 3, 8, 8), CPU, fixed), choice_key(b0, (8, 3, 16, 16), CPU, fixed)}) == 5
    begin = time.perf_counter()
    assert choice_key(build(load_architecture("efficientnet_b0")), SHAPE, CPU, fixed) in keys
    assert time.perf_counter() - begin < 5
