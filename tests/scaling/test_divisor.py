"""Widths in multiples of what the hardware likes: the official rule with other divisors, where widths are rounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import cost, load_architecture, load_space, run_grid_search, run_predict, run_scale, solve_phi
from effnas.cli import main
from effnas.scaling.coefficients import PAPER
from effnas.scaling.compound import scale
from effnas.scaling.grid.points import Grid, Scaled
from effnas.space.architecture import Architecture
from effnas.space.errors import UserError
from effnas.space.multipliers import round_filters
from effnas.space.space import SearchSpace


def official(filters: float, multiplier: float, divisor: int) -> int:
    """``round_filters`` of efficientnet_model.py, tensorflow/tpu, with ``min_depth`` None."""
    filters *= multiplier
    new_filters = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    if new_filters < 0.9 * filters:
        new_filters += divisor
    return int(new_filters)


def widths(network: Any) -> set[int]:
    return {network.stem, network.head, *(stage.channels for stage in network.stages)}


@pytest.mark.parametrize("divisor", [4, 8, 16, 32])
def test_the_official_rule_with_other_divisors(divisor: int) -> None:
    rng = np.random.default_rng(0)
    for channels in (8, 16, 24, 32, 40, 80, 112, 192, 320, 1280):
        for width in (*rng.uniform(0.3, 4.5, 200).round(3).tolist(), 1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 4.3):
            assert round_filters(channels, width, divisor) == official(channels, width, divisor)
        assert round_filters(channels, 1.0, divisor) == official(channels, 1.0, divisor)


def test_scaling_by_nothing_leaves_odd_widths_alone_unless_hardware_asks() -> None:
    assert [round_filters(12, 1.0, divisor) for divisor in (4, 8, 16, 32)] == [12, 12, 16, 32]


@pytest.mark.parametrize("divisor", [4, 16, 32])
def test_scaled_networks_have_such_widths(divisor: int, tmp_path: Path) -> None:
    row = run_scale(phi=2.3, divisor=divisor, output=tmp_path)
    assert isinstance(row, dict)
    made = Architecture.from_dict(row["architecture"])
    assert all(width % divisor == 0 for width in widths(made))
    assert any(width % (2 * divisor) for width in widths(made))
    base = load_architecture("efficientnet_b0")
    assert made.digest == scale(base, PAPER, 2.3, divisor=divisor).digest != scale(base, PAPER, 2.3).digest
    assert row["name"] == made.name == f"efficientnet_b0_div{divisor}_phi2.3"
    assert row["macs"] == cost(made).macs
    assert (tmp_path / f"efficientnet_b0_div{divisor}_phi2.3.yaml").is_file()


def test_the_command_line_knows_the_divisor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["scale", "--family", "0..2", "--divisor", "16", "-o", str(tmp_path), "--json"]
    assert main(line) == 0
    for row in json.loads(capsys.readouterr().out):
        assert all(width % 16 == 0 for width in widths(Architecture.from_dict(row["architecture"])))


@pytest.mark.parametrize("preset", ["b3", "lite2"])
def test_presets_with_another_divisor(preset: str, tmp_path: Path) -> None:
    row = run_scale(preset=preset, divisor=32, output=tmp_path)
    assert isinstance(row, dict)
    made = Architecture.from_dict(row["architecture"])
    usual = load_architecture(f"efficientnet_{preset}")
    assert isinstance(usual, Architecture)
    assert made.name == f"efficientnet_{preset}_div32"
    assert [s.repeats for s in made.stages] == [s.repeats for s in usual.stages]
    assert (made.resolution, made.dropout) == (usual.resolution, usual.dropout)
    assert all(width % 32 == 0 for width in widths(made))


def test_a_budget_is_met_with_the_divisor() -> None:
    base = load_architecture("efficientnet_b0")
    phi = solve_phi(base, PAPER, macs=1e9, divisor=32)
    assert cost(scale(base, PAPER, phi, divisor=32)).macs <= 1e9 < cost(scale(base, PAPER, phi + 1e-4, divisor=32)).macs


def test_a_grid_of_such_networks(tmp_path: Path) -> None:
    from synthetic import Synthetic

    base = load_architecture("efficientnet_b0")
    scaled = Scaled(base, 16)
    for point in Grid(ratio="achieved").points(scaled)[:5]:
        network = scaled.network(point)
        assert isinstance(network, Architecture)
        assert all(width % 16 == 0 for width in widths(network))
    small = load_space("tiny").build(load_space("tiny").sample(np.random.default_rng(0)))
    options: dict[str, Any] = {"step": 0.2, "tolerance": 0.5, "output": tmp_path / "grid", "quiet": True}
    summary = run_grid_search(small, Synthetic(), divisor=16, **options)
    assert summary["grid"]["divisor"] == 16
    with pytest.raises(UserError, match="divisor: 16 → None"):
        run_grid_search(small, Synthetic(), **options)


@pytest.mark.parametrize("divisor", [4, 16, 32])
def test_spaces_of_such_widths(divisor: int) -> None:
    usual, space = load_space("mobile_cifar"), shipped("mobile_cifar", divisor=divisor)
    assert space.choices == usual.choices
    rng = np.random.default_rng(0)
    for _ in range(20):
        made = space.build(space.sample(rng))
        for stage, base in zip(made.stages[1:], (24, 32, 64, 96), strict=False):
            assert stage.channels in {official(base, times, divisor) for times in (0.75, 1.0, 1.25)}
    indices = space.sample_indices(30, rng)
    singles = [space.build(space.decisions(row)) for row in indices]
    assert space.batch(indices).channels.tolist() == [[s.channels for s in n.stages] for n in singles]
    assert space.size <= usual.size or divisor < 8


def shipped(name: str, **changes: Any) -> SearchSpace:
    from effnas.space.files import load_yaml
    from effnas.space.space import SHIPPED

    data = load_yaml((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"), name)
    assert isinstance(data, dict)
    data.pop("_target_")
    return SearchSpace(**{**data, **changes})


def test_a_search_in_such_a_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["search", "space=tiny", "space.divisor=16", "evaluator=zero_cost", "evaluator.proxies=log_macs"]
    line += ["evaluator.reference=4", "objective=accuracy", "trials=4", "-o", str(tmp_path), "--quiet", "--json"]
    assert main(line) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert all(stage["channels"] % 16 == 0 for stage in best["architecture"]["stages"])


def test_a_family_is_predicted_with_its_divisor(tmp_path: Path) -> None:
    base = load_architecture("efficientnet_b0")
    rows = [f"efficientnet_b0_div16_phi{phi},{0.9 - 0.3 * 2**-phi},{cost(scale(base, PAPER, phi, divisor=16)).macs}"
            for phi in range(5)]  # fmt: skip
    file = tmp_path / "family.csv"
    file.write_text("name,accuracy,macs\n" + "\n".join(rows) + "\n")
    found = run_predict([str(file)], phi=5, baseline="efficientnet_b0", divisor=16, output=tmp_path / "out")
    assert found["predictions"][0]["macs"] == cost(scale(base, PAPER, 5, divisor=16)).macs


@pytest.mark.parametrize("divisor", [5, 64, 0, "eight", 8.5, True])
def test_other_divisors_are_refused(divisor: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"divisor: unknown .*Choose one of: 4, 8, 16, 32"):
        run_scale(phi=1, divisor=divisor, output=tmp_path)
    with pytest.raises(UserError, match=r"divisor: unknown .*Choose one of: 4, 8, 16, 32"):
        run_scale(preset="b1", divisor=divisor, output=tmp_path)
    with pytest.raises(UserError, match=r"space tiny: divisor: unknown .*Choose one of: 4, 8, 16, 32"):
        shipped("tiny", divisor=divisor)


def test_builders_round_their_own_widths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="divisor=16 is for Architectures: the builder resnet18 rounds its own widths"):
        run_scale(baseline="resnet18", phi=1, divisor=16, output=tmp_path)
