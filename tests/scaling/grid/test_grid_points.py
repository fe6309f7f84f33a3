"""Which points belong to the α-β-γ grid: by the nominal, the achieved or the measured ratio, or by solving for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from own_networks import plain
from synthetic import Synthetic, own_folder

from effnas import Architecture, Coefficients, cost, load_architecture, run_grid_search, scale
from effnas.cli import main
from effnas.scaling.grid.points import Grid, Scaled, grid_points, solve
from effnas.scaling.grid.report import summary_text
from effnas.space.built import BuiltNetwork
from effnas.space.errors import UserError
from effnas.space.stage import Stage

B0 = load_architecture("efficientnet_b0")
#: One block: its depth is 1 or 2, and its 24 pixels are coarse.
COARSE = Architecture((Stage("mbconv", 16),), stem=16, head=32, resolution=24, num_classes=10)


def macs_ratio(point: Coefficients, baseline: Architecture = B0) -> float:
    return cost(scale(baseline, point, 1)).macs / cost(baseline).macs


@pytest.mark.parametrize("tolerance", [0.05, 0.1, 0.2])
def test_points_of_an_achieved_ratio(tolerance: float) -> None:
    axes = [[1 + 0.05 * i for i in range(n)] for n in (9, 5, 7)]
    expected = [p for p in product(*axes) if abs(macs_ratio(Coefficients(*p)) - 2) <= tolerance]
    found = Grid(ratio="achieved", tolerance=tolerance).points(Scaled(B0))
    assert [(p.alpha, p.beta, p.gamma) for p in found] == [pytest.approx(p) for p in expected]
    assert expected


def test_the_nominal_grid_of_b0_is_never_twice_its_macs() -> None:
    assert min(macs_ratio(p) for p in grid_points()) > 2.1
    points = Grid(ratio="achieved").points(Scaled(B0))
    assert max(abs(macs_ratio(p) - 2) for p in points) <= 0.2
    assert len(points) == 53
    assert len({scale(B0, p, 1).digest for p in points}) == 24


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_a_solved_coefficient_is_the_best_there_is(name: str) -> None:
    others = {"alpha": (1.0, 1.1, 1.1), "beta": (1.2, 1.0, 1.1), "gamma": (1.2, 1.1, 1.0)}[name]
    found = solve(Scaled(B0), Coefficients(*others), name, 1.0, 2.0)
    fixed = [n for n in ("alpha", "beta", "gamma") if n != name]
    assert all(getattr(found, n) == getattr(Coefficients(*others), n) for n in fixed)
    index = ("alpha", "beta", "gamma").index(name)
    every = [Coefficients(*(*others[:index], 1 + i / 1000, *others[index + 1 :])) for i in range(1001)]
    best = min(abs(macs_ratio(p) - 2) for p in every)
    assert abs(macs_ratio(found) - 2) == pytest.approx(best)
    same = [p for p in every if macs_ratio(p) == macs_ratio(found)]
    assert abs(found.macs_ratio - 2) <= min(abs(p.macs_ratio - 2) for p in same) + 1e-3


def test_a_solved_grid() -> None:
    points = Grid(ratio="solved", solve="gamma", gamma=(1.0, 1.5)).points(Scaled(B0))
    pairs = [(p.alpha, p.beta) for p in points]
    assert len(pairs) == len(set(pairs))
    assert all(abs(macs_ratio(p) - 2) <= 0.2 for p in points)
    assert all(1 <= p.gamma <= 1.5 for p in points)
    assert any(round(p.gamma / 0.05, 6) % 1 for p in points)  # not on the grid
    assert set(pairs) < set(product(*Grid()._axes()[:2]))  # with the others no γ ≥ 1 is small enough


def ratios(values: dict[str, float]) -> Any:
    def measure(networks: Sequence[Architecture]) -> dict[str, float]:
        assert len({n.digest for n in networks}) == len(networks)
        return {n.digest: values[n.digest] for n in networks if n.digest in values}

    return measure


def test_points_of_a_measured_ratio() -> None:
    grid = Grid((1.0, 1.2), (1.0, 1.1), (1.0, 1.1), step=0.1, ratio="latency")
    points = [Coefficients(*p) for p in product((1.0, 1.1, 1.2), (1.0, 1.1), (1.0, 1.1))]
    digests = {p: scale(B0, p, 1).digest for p in points}
    known = {digests[points[2]]: 1.85, digests[points[5]]: 2.19, digests[points[7]]: 2.3}
    found = grid.points(Scaled(B0), ratios(known))
    assert found == [p for p in points if digests[p] in (digests[points[2]], digests[points[5]])]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"ratio": "achieved", "tolerance": 0.001},
            r"no point of the grid has an achieved MACs ratio within 0\.001 of 2; the nearest, "
            r"\(1\.35, 1, 1\.05\), has 1\.99207: use a larger tolerance, a smaller step or wider ranges",
        ),
        (
            {"ratio": "solved", "solve": "gamma", "alpha": (1.0, 1.0), "beta": (1.0, 1.0), "gamma": (1.0, 1.1)},
            r"an achieved MACs ratio, with gamma solved in \[1, 1\.1\], within 0\.2 of 2; the nearest, \(1, 1, 1",
        ),
        ({"ratio": "real"}, "ratio: unknown 'real'. Choose one of: nominal, achieved, solved, latency"),
        ({"ratio": "solved", "solve": "delta"}, "solve: unknown 'delta'.* Choose one of: alpha, beta, gamma"),
        ({"ratio": "achieved", "step": 0.003}, r"makes .* combinations; at most 20,000"),
        ({"ratio": "solved", "beta": (0.5, 1.0)}, r"beta: lowest value must be in \[1, 10\], got 0\.5"),
        ({"tolerance": "wide"}, "tolerance must be a finite number, got 'wide'"),
    ],
)
def test_grids_that_are_none(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Grid(**grid).points(Scaled(B0))


def test_no_latency_ratio_is_near() -> None:
    grid = Grid((1.0, 1.1), (1.0, 1.0), (1.0, 1.0), step=0.1, ratio="latency")
    digest = scale(B0, Coefficients(1.1, 1, 1), 1).digest
    with pytest.raises(
        UserError, match=r"a latency ratio within 0\.2 of 2; the nearest, \(1\.1, 1, 1\), has 1\.5: use"
    ):
        grid.points(Scaled(B0), ratios({digest: 1.5}))
    with pytest.raises(UserError, match=r"a latency ratio within 0\.2 of 2: use"):
        grid.points(Scaled(B0), ratios({}))


def test_equal_networks_are_one_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "calls.txt"
    summary = run_grid_search(COARSE, Synthetic(str(log)), ratio="achieved", seeds=2, output=tmp_path / "out")
    points = Grid(ratio="achieved").points(Scaled(COARSE))
    different = {scale(COARSE, p, 1).digest for p in points}
    assert len(summary["points"]) == len(points) > len(different)
    assert len(log.read_text().splitlines()) == 2 * len(different)
    error = capsys.readouterr().err
    assert f"{len(points)} points, {len(different)} different networks: {2 * len(different)} trainings" in error
    first: dict[str, int] = {}
    for rank, row in enumerate(summary["points"], 1):
        assert abs(row["macs_ratio"] - 2) <= 0.2
        assert row["equal_to"] == first.get(row["digest"])
        first.setdefault(row["digest"], rank)
    assert "= 1" in summary_text(summary)


def test_equal_networks_of_a_builder(tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    network = BuiltNetwork(partial(plain, channels=(16, 32, 64)), resolution=40, in_channels=1, num_classes=10)
    summary = run_grid_search(network, Synthetic(str(log)), ratio="achieved", quiet=True, output=tmp_path / "out")
    rows = summary["points"]
    assert all(abs(row["macs_ratio"] - 2) <= 0.2 for row in rows)
    costs = {(row["resolution"], row["params"], row["macs"], row["activations"]) for row in rows}
    assert 1 < len(costs) < len(rows)  # only the builder knows what it rounds, so equal costs are equal networks
    assert len(log.read_text().splitlines()) == len({row["digest"] for row in rows}) == len(costs)


def test_another_ratio_is_another_grid(tmp_path: Path) -> None:
    run_grid_search(B0, Synthetic(), ratio="achieved", tolerance=0.1, quiet=True, output=tmp_path)
    with pytest.raises(UserError, match=r"holds another search \(ratio: 'achieved' → 'nominal'\)"):
        run_grid_search(B0, Synthetic(), tolerance=0.1, quiet=True, output=tmp_path)


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["grid-alpha-beta-gamma", "--config-dir", str(own_folder(tmp_path)), "evaluator=synthetic"]
    words += ["--baseline", "efficientnet_b0", "--ratio", "solved", "--solve", "alpha", "--step", "0.1"]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert all(abs(row["macs_ratio"] - 2) <= 0.2 for row in summary["points"])
    assert main(["grid-alpha-beta-gamma", "evaluator=tabular", "--baseline", "efficientnet_b0"]) == 2
    assert "evaluator.space: refers to an option that this command does not have" in capsys.readouterr().err
    assert main([*words[:-2], "--solve", "delta"]) == 2
    assert "solve: unknown 'delta'" in capsys.readouterr().err
    assert main([*words, "--tolerance", "0.00001"]) == 2
    assert "no point of the grid has an achieved MACs ratio, with alpha solved in [1, 1.4]" in capsys.readouterr().err
