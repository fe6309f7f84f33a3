"""A grid whose points hold twice the baseline's latency, as measured before training."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import Synthetic, calls

from effnas import Architecture, cost, load_architecture, run_grid_search
from effnas.cli import main
from effnas.evaluate.evaluation import EvaluationError
from effnas.scaling.grid.latency import FILE, LatencyRatios
from effnas.scaling.grid.points import Grid, Scaled
from effnas.scaling.grid.report import summary_text
from effnas.space.errors import UserError
from effnas.space.stage import Stage

B0 = load_architecture("efficientnet_b0")
GRID: dict[str, Any] = {"alpha": (1.0, 1.4), "beta": (1.0, 1.2), "gamma": (1.0, 1.3), "step": 0.1, "ratio": "latency"}


def activations(architecture: Architecture) -> int:
    return cost(architecture).activations


@dataclass
class Clock:
    """Measures activations instead of seconds, on a machine that is twice as slow in every other turn."""

    fails: Any = lambda architecture: False
    disturbed: bool = False
    seen: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, architecture: Architecture, **options: Any) -> Any:
        self.seen.append(architecture.digest)
        self.options = options
        if self.fails(architecture):
            raise EvaluationError("not enough memory for a batch of 1")
        first = self.disturbed and architecture.digest != B0.digest and self.seen.count(architecture.digest) == 1
        load = 10 if first else 1 + (len(self.seen) - 1) // 2 % 2
        return SimpleNamespace(latency=activations(architecture) * 1e-9 * load)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("effnas.evaluate.machine.paired_latency.profile", fake)
    return fake


def grid(output: Path, evaluator: Any = None, **options: Any) -> dict[str, Any]:
    options = {**GRID, "quiet": True, **options}
    return run_grid_search(B0, Synthetic() if evaluator is None else evaluator, output=output, **options)


def test_points_hold_latency(tmp_path: Path, clock: Clock) -> None:
    summary = grid(tmp_path, latency_batch=8, latency_threads=1)
    scaled = Scaled(B0)
    every = Grid(**{**GRID, "ratio": "achieved", "tolerance": 10}).points(scaled)
    ratios = {p: activations(scaled.network(p)) / activations(B0) for p in every}  # type: ignore[arg-type]
    expected = {(p.alpha, p.beta, p.gamma): ratio for p, ratio in ratios.items() if abs(ratio - 2) <= 0.2}
    assert expected
    found = {(row["alpha"], row["beta"], row["gamma"]): row["latency_ratio"] for row in summary["points"]}
    assert found == pytest.approx(expected)
    for row in summary["points"]:
        assert round(row["latency"] / (row["activations"] * 1e-9), 6) in (1, 2)
        assert row["macs_ratio"] != row["latency_ratio"]
    assert (clock.options["batch_size"], clock.options["threads"], clock.options["device"]) == (8, 1, "cpu")
    assert clock.seen[::2] == [B0.digest] * (len(clock.seen) // 2)  # in turns
    counts = {digest: clock.seen.count(digest) for digest in set(clock.seen) - {B0.digest}}
    assert set(counts.values()) == {2, 5}  # what is clearly out is measured twice
    assert all(counts[row["digest"]] == 5 for row in summary["points"])
    text = summary_text(summary)
    assert "MACs and latency ratios against the baseline" in text
    assert re.search(r"achieved +latency +M MACs", text)
    assert "times the baseline's MACs" not in text


def test_another_process_in_the_first_turn(tmp_path: Path, clock: Clock) -> None:
    points = [(row["alpha"], row["beta"], row["gamma"]) for row in grid(tmp_path / "calm")["points"]]
    clock.seen.clear()
    clock.disturbed = True
    summary = grid(tmp_path / "busy")
    assert [(row["alpha"], row["beta"], row["gamma"]) for row in summary["points"]] == points


def test_latencies_are_kept(tmp_path: Path, clock: Clock) -> None:
    log = tmp_path / "calls.txt"
    out = tmp_path / "out"
    evaluator = Synthetic(str(log), interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        grid(out, evaluator)
    measured = len(clock.seen)
    kept = json.loads((out / FILE).read_text())
    summary = grid(out, evaluator)
    assert len(clock.seen) == measured
    assert json.loads((out / FILE).read_text()) == kept
    assert summary["complete"] == len(summary["points"])
    assert {row["latency_ratio"] for row in summary["points"]} <= {n.get("ratio") for n in kept["networks"].values()}
    assert len(calls(log)) == len(set(calls(log))) + 1
    refined = grid(out, evaluator, refine=1)
    assert refined["rounds"][1] > 0
    assert all(abs(row["latency_ratio"] - 2) <= 0.2 for row in refined["points"])


def test_an_interrupted_measurement_goes_on(tmp_path: Path, clock: Clock) -> None:
    def stop(architecture: Architecture) -> bool:
        if len(clock.seen) == 40:
            raise KeyboardInterrupt
        return False

    clock.fails = stop
    with pytest.raises(KeyboardInterrupt):
        grid(tmp_path)
    kept = set(json.loads((tmp_path / FILE).read_text())["networks"])
    clock.seen.clear()
    clock.fails = lambda architecture: False
    grid(tmp_path)
    assert kept
    assert not kept & set(clock.seen)


def test_other_settings(tmp_path: Path, clock: Clock) -> None:
    grid(tmp_path)
    before, measured = content(tmp_path), len(clock.seen)
    for other in ({"latency_batch": 2}, {"seed": 3}, {"tolerance": 0.5}):
        with pytest.raises(UserError, match=rf"{tmp_path}: holds another search \({next(iter(other))}: "):
            grid(tmp_path, **other)
    assert content(tmp_path) == before
    assert len(clock.seen) == measured
    for left in ("study.journal", "summary.json", "trials.csv"):
        (tmp_path / left).unlink()
    with pytest.raises(UserError, match=r"latency.json: holds latencies of another search \(latency_batch: 1 → 2\)"):
        grid(tmp_path, latency_batch=2)
    (tmp_path / FILE).write_text("[1, 2]")
    with pytest.raises(UserError, match=r"latency.json: not a record of latencies \(\w+\): remove the file"):
        grid(tmp_path)


def test_begun_anew(tmp_path: Path, clock: Clock) -> None:
    grid(tmp_path)
    old = (tmp_path / FILE).read_bytes()
    grid(tmp_path, restart=True, latency_batch=2)
    assert (tmp_path / "latency.1.json").read_bytes() == old
    assert json.loads((tmp_path / FILE).read_text())["latency_batch"] == 2


def test_a_signal_ends_the_measuring(tmp_path: Path, clock: Clock) -> None:
    def stop(architecture: Architecture) -> bool:
        if len(clock.seen) == 10:
            signal.raise_signal(signal.SIGTERM)
        return False

    clock.fails = stop
    with pytest.raises(KeyboardInterrupt):
        grid(tmp_path)
    assert len(clock.seen) == 10
    assert (tmp_path / FILE).exists()


def test_what_cannot_be_measured(tmp_path: Path, clock: Clock) -> None:
    clock.fails = lambda architecture: architecture.resolution > 240
    summary = grid(tmp_path / "some", alpha=(1.0, 2.0))
    assert all(row["resolution"] <= 240 for row in summary["points"])
    clock.fails = lambda architecture: architecture.digest == B0.digest
    with pytest.raises(UserError, match="the baseline's latency cannot be measured: not enough memory"):
        grid(tmp_path / "base")
    clock.fails = lambda architecture: architecture.digest != B0.digest
    with pytest.raises(UserError, match=r"no point of the grid has a latency ratio within 0\.2 of 2: use"):
        grid(tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency_batch": 0}, "latency_batch must be at least 1|latency_batch must be between 1"),
        ({"latency_threads": 0}, "latency_threads must be between 1 and 4096, got 0"),
        ({"latency_device": "tpu"}, r"device \(of this machine\): unknown 'tpu'.* Choose one of: auto, .*cpu"),
    ],
)
def test_wrong_settings(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid(tmp_path, **options)


def test_a_real_clock(tmp_path: Path) -> None:
    small = Architecture((Stage("mbconv", 16),), stem=16, head=32, resolution=32, num_classes=10)
    large = small.with_(resolution=256)
    found = LatencyRatios(small, tmp_path, within=100.0, threads=1, quiet=True)([small, large])
    assert 0.3 < found[small.digest] < 3
    assert 4 < found[large.digest] < 1000  # 64 times the pixels
    assert json.loads((tmp_path / FILE).read_text())["networks"][large.digest]["turns"] == 5


def test_from_the_command_line(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["grid-alpha-beta-gamma", "--baseline", "efficientnet_b0", "--ratio", "latency", "--step", "0.1"]
    assert main([*words, "--tolerance", "0.00001"]) == 2
    captured = capsys.readouterr()
    assert "no point of the grid has a latency ratio within 1e-05 of 2; the nearest, (" in captured.err
    assert "measuring the latency of " in captured.err
