"""``effnas latency``: what it learns, what is measured, what scaling does with it, and every mistake."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import Figures, check_laws

from effnas import cost, load_architecture, load_latency, load_space, run_latency, run_scale
from effnas.cli import main
from effnas.evaluate.accel_archive import benchmark_space, read_archive
from effnas.evaluate.latency import measuring
from effnas.evaluate.latency.model import fit_latency, judge
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError


def truth(network: Any) -> float:
    total = cost(network)
    return float(1e-9 * total.activations**1.1 * (1 + 0.3 * math.log(total.macs)) + 2e-4 * network.blocks)


def table(folder: Path, count: int = 60, column: str = "seconds", factor: float = 1.0, **changes: Any) -> str:
    """Measurements of random members of the space ``tiny``."""
    space, rng = load_space("tiny"), np.random.default_rng(0)
    rows = []
    for _ in range(count):
        decisions = space.sample(rng)
        second = truth(space.build(decisions))
        rows.append({**decisions, column: 1 / second if column == "throughput" else factor * second})
    rows[0] |= changes
    file = folder / "measured.csv"
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def fit(folder: Path, file: str, space: str = "tiny", **options: Any) -> dict[str, Any]:
    return run_latency(["fit", file], space=space, output=folder / "out", quiet=True, **options)


@pytest.mark.parametrize(
    ("column", "factor", "unit"), [("seconds", 1, None), ("throughput", 1, None), ("seconds", 1e3, "ms")]
)
def test_a_model_says_what_was_measured(column: str, factor: float, unit: str | None, tmp_path: Path) -> None:
    summary = fit(tmp_path, table(tmp_path, column=column, factor=factor), unit=unit)
    assert summary["kendall_tau"] > 0.8
    assert summary["median_error"] < 0.1
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    model, space = load_latency(tmp_path / "out" / "latency.json"), load_space("tiny")
    rng = np.random.default_rng(1)
    ratios = [model(network) / truth(network) for network in (space.build(space.sample(rng)) for _ in range(20))]
    assert np.median(np.abs(np.log(ratios))) < 0.1


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["latency", "fit", table(tmp_path), "--space", "tiny", "-o", str(tmp_path / "out")]
    assert main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kendall_tau"] > 0.8
    assert main(line) == 0
    assert "by cross-validation: Kendall's tau 0." in capsys.readouterr().out


def test_extrapolation_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, table(tmp_path))
    model, space = load_latency(tmp_path / "out" / "latency.json"), load_space("tiny")
    member = space.build(space.sample(np.random.default_rng(3)))
    assert model.extrapolates(member) == ""
    large = member.with_(resolution=4 * member.resolution)
    assert "measured networks have" in model.extrapolates(large)
    for _ in range(2):
        model(large)
    assert [record.message for record in caplog.records if "latency is extrapolated" in record.message][1:] == []
    assert "latency is extrapolated" in caplog.text


def test_scaling_to_a_latency_needs_no_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path, table(tmp_path))
    file = tmp_path / "out" / "latency.json"
    model, space = load_latency(file), load_space("tiny")
    base = space.build(space.sample(np.random.default_rng(3)))
    target = 1.5 * model(base)
    row = run_scale(baseline=base, target_latency=target, latency_model=file, output=tmp_path / "scale")
    assert isinstance(row, dict)
    made = Architecture.from_dict(row["architecture"])
    assert row["latency"] == pytest.approx(model(made))
    assert row["latency"] <= target


def test_measuring_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def timed(networks: Any, **options: Any) -> list[list[float]]:
        asked.append(len(networks))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [[truth(network)] * 3 for network in networks]

    monkeypatch.setattr(measuring, "paired_latency", timed)
    options: dict[str, Any] = {"space": "tiny", "members": 12, "output": tmp_path / "out", "quiet": True}
    with pytest.raises(KeyboardInterrupt):
        run_latency("measure", **options)
    summary = run_latency("measure", **options)
    assert asked == [8, 4, 4]
    assert summary["rows"] == 12
    with pytest.raises(UserError, match=r"was measured otherwise .batch_size.*another -o DIR"):
        run_latency("measure", **options, batch_size=2)
    fitted = fit(tmp_path / "fit", str(tmp_path / "out" / "measurements.csv"))
    assert fitted["rows"] == 12


@pytest.mark.slow
def test_members_are_measured_here(tmp_path: Path) -> None:
    summary = run_latency("measure", space="tiny", members=2, rounds=2, output=tmp_path / "out", quiet=True)
    assert 0 < summary["seconds_low"] <= summary["seconds_high"] < 1
    with pytest.raises(UserError, match="precision=fp16 needs a GPU; on a CPU choose fp32 or bf16"):
        run_latency(
            "measure", space="tiny", members=2, rounds=2, precision="fp16", output=tmp_path / "half", quiet=True
        )


@pytest.mark.parametrize(("device", "tau"), [("throughput_a100", 0.80), ("throughput_zcu102", 0.6)])
def test_devices_of_accel_nasbench_from_fifty_networks(device: str, tau: float, shared_data: Path) -> None:
    archive, space = read_archive(shared_data / "accel_nasbench"), benchmark_space()
    names = list(space.distributions)
    choices = [list(space.distributions[name].choices) for name in names]
    seconds = archive.devices[device]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(seconds)))[:250]
    networks = [
        space.build({n: c[k] for n, c, k in zip(names, choices, archive.indices[i], strict=True)}) for i in rows
    ]
    model, _ = fit_latency(networks[:50], seconds[rows[:50]].tolist(), "accel_nasbench")
    said = np.array([model(network) for network in networks[50:]])
    assert judge(said, seconds[rows[50:]].tolist())["kendall_tau"] > tau


def test_the_figure_keeps_the_laws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures(monkeypatch)
    fit(tmp_path, table(tmp_path))
    check_laws(figures.only)


# -- mistakes --------------------------------------------------------------------------------------------


def test_milliseconds_are_asked_for(tmp_path: Path) -> None:
    file = table(tmp_path, factor=1e6)
    with pytest.raises(UserError, match=r"are these milliseconds. Give unit=ms, or unit=s"):
        fit(tmp_path, file)
    assert fit(tmp_path, file, unit="us")["seconds_low"] < 1
    with pytest.raises(UserError, match=r"0\.\d+, .* MACs a second: are these milliseconds"):
        fit(tmp_path, table(tmp_path, factor=100))  # below a second, and yet too slow for networks so small
    assert fit(tmp_path, table(tmp_path, factor=100), unit="s")["seconds_high"] > 0.02


def test_the_precision_is_part_of_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def timed(networks: Any, **options: Any) -> list[list[float]]:
        asked.append(options["precision"])
        return [[truth(network)] * 3 for network in networks]

    monkeypatch.setattr(measuring, "paired_latency", timed)
    options: dict[str, Any] = {"space": "tiny", "members": 3, "output": tmp_path, "quiet": True}
    summary = run_latency("measure", precision="bfloat16", **options)
    assert asked == ["bf16"]
    assert summary["measured"].endswith(", bf16")
    with (tmp_path / "measurements.csv").open(encoding="utf-8", newline="") as lines:
        assert {row["precision"] for row in csv.DictReader(lines)} == {"bf16"}
    with pytest.raises(UserError, match=r"was measured otherwise .precision.; choose another -o DIR"):
        run_latency("measure", **options)
    with pytest.raises(UserError, match=r"precision: unknown 'int8'. Choose one of: fp32, bf16, fp16"):
        run_latency("measure", precision="int8", **options)


@pytest.mark.parametrize("value", [0, -1, "nan", "", "fast"])
def test_wrong_times(value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1: seconds must be a number above 0"):
        fit(tmp_path, table(tmp_path, seconds=value))


def test_wrong_tables(tmp_path: Path) -> None:
    first = next(iter(load_space("tiny").distributions))
    with pytest.raises(UserError, match=f"row 1: {first}: unknown '77'"):
        fit(tmp_path, table(tmp_path, **{first: 77}))
    with pytest.raises(UserError, match=r"no column for .*, which space mobile_cifar decides"):
        fit(tmp_path, table(tmp_path), space="mobile_cifar")
    with pytest.raises(UserError, match="needs one column of seconds and throughput, got none"):
        fit(tmp_path, table(tmp_path, column="time"))
    with pytest.raises(UserError, match="needs at least 10 different networks"):
        fit(tmp_path, table(tmp_path, count=5))
    with pytest.raises(UserError, match="unit: unknown 'minutes'"):
        fit(tmp_path, table(tmp_path), unit="minutes")
    with pytest.raises(UserError, match="unit=ms is of a column seconds"):
        fit(tmp_path, table(tmp_path, column="throughput"), unit="ms")
    with pytest.raises(UserError, match="latency: no such file"):
        fit(tmp_path, str(tmp_path / "nowhere.csv"))


def test_wrong_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"latency: unknown 'guess'. Choose one of: measure, fit"):
        run_latency("guess", space="tiny", output=tmp_path)
    with pytest.raises(UserError, match="space: none given"):
        run_latency("measure", output=tmp_path)
    with pytest.raises(UserError, match="latency fit takes one file of measurements, got none"):
        run_latency("fit", space="tiny", output=tmp_path)
    with pytest.raises(UserError, match="latency measure takes no file"):
        run_latency(["measure", "a.csv"], space="tiny", output=tmp_path)


def test_wrong_models(tmp_path: Path) -> None:
    fit(tmp_path, table(tmp_path))
    file = tmp_path / "out" / "latency.json"
    model = load_latency(file)
    with pytest.raises(UserError, match="a model of latency needs the stages of an Architecture"):
        model(load_architecture("resnet18"))
    whole = json.loads(file.read_text())
    for broken, words in (
        ({**whole, "effnas_latency": 9}, "format 9 is unknown"),
        ({**whole, "weights": whole["weights"][1:]}, "not a latency model"),
        ({"a": 1}, "not a latency model"),
        ([], "not a latency model"),
    ):
        file.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=words):
            load_latency(file)
    with pytest.raises(UserError, match="latency model: no such file"):
        load_latency(tmp_path / "nowhere.json")
