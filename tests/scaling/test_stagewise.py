"""Scaling by what a search's trainings say of each stage."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_csv

from effnas import Architecture, Stage, cost, load_architecture, run_scale, scale
from effnas.scaling.coefficients import PAPER
from effnas.scaling.scale.report import summary_text
from effnas.space.errors import UserError

BASE = Architecture(
    (
        Stage("mbconv", 16, 2),
        Stage("mbconv", 32, 2, stride=2, expand_ratio=3),
        Stage("mbconv", 64, 2, stride=2, expand_ratio=3),
    ),
    name="base",
    stem=16,
    head=128,
    resolution=32,
    num_classes=10,
)
WIDTHS, DEPTHS = (0.75, 1.0, 1.25, 1.5), (1, 2, 3, 4)


def search(
    folder: Path, worth: tuple[tuple[float, float], ...], noise: float, count: int = 80, names: Any = None
) -> Path:
    """A folder of a search whose accuracies are a sum of what the logarithms of widths and depths are worth."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    words = {"channels": "channels", "repeats": "repeats", **(names or {})}
    rows = []
    for number in range(count):
        row: dict[str, Any] = {"number": number, "state": "complete"}
        accuracy = 0.5 + noise * rng.normal()
        for i, (wide, deep) in enumerate(worth):
            width, depth = rng.choice(WIDTHS), int(rng.choice(DEPTHS))
            accuracy += wide * math.log(width) + deep * math.log(depth)
            row |= {f"decision.block{i}_{words['channels']}": width, f"decision.block{i}_{words['repeats']}": depth}
            row |= {f"decision.block{i}_kernel_size": int(rng.choice([3, 5]))}
        rows.append({**row, "accuracy": accuracy, "duplicate_of": ""})
    rows.append({**rows[0], "number": count, "state": "failed", "accuracy": ""})
    rows.append({**rows[0], "number": count + 1, "duplicate_of": "0"})
    write_csv(folder / "trials.csv", rows)
    BASE.save(folder / "baseline.yaml")
    if names:
        (folder / ".hydra").mkdir(exist_ok=True)
        (folder / ".hydra" / "config.yaml").write_text(f"space:\n  names: {names}\n".replace("'", ""))
    return folder


def make(tmp_path: Path, *runs: Path, **options: Any) -> Any:
    options = {"phi": 1, **options}
    return run_scale(rule="stagewise", runs=[str(run) for run in runs], output=tmp_path / "out", **options)


def stages(row: dict[str, Any]) -> list[dict[str, Any]]:
    return list(row["architecture"]["stages"])


LATE = ((0.0, 0.0), (0.0, 0.0), (0.1, 0.1))


@pytest.mark.parametrize("names", [None, {"repeats": "l", "channels": "c"}])
def test_the_stage_that_is_worth_more_grows_more(names: Any, tmp_path: Path) -> None:
    row = make(tmp_path, search(tmp_path / "s", LATE, 0.003, names=names), phi=2)
    even = scale(BASE, PAPER, 2)
    own = stages(row)
    assert own[2]["channels"] > even.stages[2].channels
    assert own[2]["repeats"] >= even.stages[2].repeats
    assert own[0]["channels"] * own[0]["repeats"] < even.stages[0].channels * even.stages[0].repeats
    assert own[1]["channels"] * own[1]["repeats"] < even.stages[1].channels * even.stages[1].repeats
    # a stage gives growth away, and does not shrink
    assert all(stage["channels"] >= old.channels for stage, old in zip(own, BASE.stages, strict=True))
    assert row["macs"] == pytest.approx(cost(even).macs, rel=0.4)  # equal to first order, then rounded
    gain, error = row["stagewise_gain"]
    assert gain > 3 * error
    assert f"{100 * gain:+.2f} points ± {100 * error:.2f} expected at twice the MACs" in summary_text(row)
    assert load_architecture(row["file"]).digest == Architecture.from_dict(row["architecture"]).digest


def test_phi_zero_is_the_baseline(tmp_path: Path) -> None:
    row = make(tmp_path, search(tmp_path / "s", LATE, 0.003), phi=0)
    assert stages(row) == BASE.to_dict()["stages"]


def test_a_family_and_a_budget(tmp_path: Path) -> None:
    run = search(tmp_path / "s", LATE, 0.003)
    rows = make(tmp_path, run, phi=None, family="0..3")
    assert [row["macs"] for row in rows] == sorted({row["macs"] for row in rows})
    row = make(tmp_path, run, phi=None, target_macs=4 * cost(BASE).macs)
    assert 3.2 <= row["macs_ratio"] <= 4


def test_two_searches_of_one_space_count_together(tmp_path: Path) -> None:
    one = search(tmp_path / "a", LATE, 0.003, count=20)
    with pytest.raises(UserError, match="needs at least 30 different networks that were trained in full, got 20"):
        make(tmp_path, one)
    other = search(tmp_path / "b", LATE, 0.003, count=20)
    assert make(tmp_path, one, other)["stagewise_gain"][0] > 0


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_noise_is_declined(noise: float, tmp_path: Path) -> None:
    """All stages are worth the same for their MACs, or nothing: the best of the slopes is luck."""
    run = search(tmp_path / "s", ((0.0, 0.0),) * 3, noise)
    message = r"stagewise declines: .* it expects [+-]\d+\.\d\d points ± \d+\.\d\d at twice the MACs, from 80 networks"
    with pytest.raises(UserError, match=message):
        make(tmp_path, run)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": []}, "rule=stagewise needs the trainings of a search: --from RUN"),
        ({"runs": ["nowhere"], "baseline": BASE}, "nowhere: no folder of effnas search: it has no trials.csv"),
        ({"baseline": "efficientnet_b0"}, "its networks have 3 stages, and the one to scale has 7"),
        ({"rule": "compound"}, "is not an option: .* runs belong to rule=stagewise, not to rule=compound"),
        ({"rule": "stages"}, "rule: unknown 'stages'. .*tinynet, lacs, stagewise"),
        ({"shares": "1,0,0"}, "shares belong to rule=dwr"),
        ({"runs": True}, "True: no folder of effnas search"),
        ({"runs": [{}]}, "no folder of effnas search"),
        ({"runs": [[1]]}, "no folder of effnas search"),
    ],
)
def test_mistakes(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    run = str(search(tmp_path / "s", LATE, 0.003))
    options = {"rule": "stagewise", "runs": [run], "phi": 1, "output": tmp_path / "out", **change}
    if "baseline" not in change and not isinstance(change.get("runs"), str):
        options["baseline"] = BASE
    if "rule" in change:
        options["runs"] = [run] if change["rule"] == "compound" else []
    with pytest.raises(UserError, match=message):
        run_scale(**options)


def test_searches_of_two_spaces(tmp_path: Path) -> None:
    one, other = search(tmp_path / "a", LATE, 0.003), search(tmp_path / "b", LATE[:2], 0.003)
    with pytest.raises(UserError, match="their searches are of different spaces"):
        make(tmp_path, one, other)


def test_a_stage_that_may_be_left_out(tmp_path: Path) -> None:
    run = search(tmp_path / "s", LATE, 0.003)
    text = (run / "trials.csv").read_text().splitlines()
    cells = text[1].split(",")
    cells[text[0].split(",").index("decision.block1_repeats")] = "0"
    (run / "trials.csv").write_text("\n".join([text[0], ",".join(cells), *text[2:]]) + "\n")
    with pytest.raises(UserError, match="none of the stages may be left out"):
        make(tmp_path, run)
