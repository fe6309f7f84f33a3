"""A grid that goes on until its choice is decided."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import load_architecture, run_grid_search
from effnas.evaluate import Evaluation
from effnas.scaling.grid.deciding import find_next_trainings, is_decided
from effnas.scaling.grid.report import summary_text
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network_spec import NetworkSpec

B0 = load_architecture("efficientnet_b0")


@dataclass(frozen=True)
class Noisy:
    """Width is worth something, under noise that only the network and the seed decide."""

    gain: float
    noise: float
    log: str = ""

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any = None) -> Evaluation:
        rng = np.random.default_rng([int(architecture.digest[:8], 16), seed])
        width = architecture.stages[-1].channels / B0.stages[-1].channels  # type: ignore[attr-defined]
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{architecture.digest} {seed}\n")
        return Evaluation(0.5 + self.gain * (width - 1) + self.noise * rng.normal(), cost(architecture))


def decide(output: Path, evaluator: Any, **options: Any) -> Any:
    options = {"ratio": "achieved", "seeds": 2, "step": 0.1, "until": "decided", "max_trainings": 50, **options}
    return run_grid_search(B0, evaluator, output=output, quiet=True, **options)


def row(name: str, accuracy: float, sd: float, seeds: int) -> dict[str, Any]:
    ratio = {"macs_ratio": 2.0, "nominal_macs_ratio": 2.0, "equal_to": None}
    return (
        {"digest": name, "accuracy": accuracy, "sd": sd, "seeds": seeds, "alpha": 1.2, "beta": 1.1}
        | ratio
        | {"gamma": 1.15}
    )


def test_the_rule_by_hand() -> None:
    """Means with noise .01: a lead of .03 over two standard errors of .0141 each is decided, one of .02 is not."""
    sure = [row("a", 0.53, 0.01, 2), row("b", 0.50, 0.01, 2)]
    assert is_decided(sure, "point", "a")  # .03 + .001 > 2 · .01 · √(1/2 + 1/2) = .02
    unsure = [row("a", 0.515, 0.01, 2), row("b", 0.50, 0.01, 2)]
    assert not is_decided(unsure, "point", "a")  # .016 < .02
    equal = [row("a", 0.5, 0.0004, 4), row("b", 0.5, 0.0004, 4)]
    assert is_decided(equal, "point", "a")  # nobody would train for the .0006 that b may be ahead
    # of the two that matter, the one with fewer trainings is next; the third is far behind
    three = [row("a", 0.515, 0.01, 4), row("b", 0.51, 0.01, 2), row("c", 0.1, 0.01, 2)]
    assert find_next_trainings(three, "point", "a", 1) == ["b"]
    assert find_next_trainings(three, "point", "a", 2) == ["b", "b"]  # both have four then
    assert find_next_trainings([*three[:1], row("b", 0.51, 0.01, 5)], "point", "a", 1) == ["a"]
    assert find_next_trainings(three, "point", "a", 2, {"b"}) == ["a", "a"]
    assert find_next_trainings(sure, "point", "a", 4) == []


def test_one_training_of_each_tells_nothing_of_the_noise() -> None:
    rows = [row(name, accuracy, 0.0, 1) | {"sd": None} for name, accuracy in (("a", 0.5), ("b", 0.7), ("c", 0.6))]
    assert not is_decided(rows, "point", "b")
    assert find_next_trainings(rows, "point", "b", 2) == ["b", "c"]


@pytest.mark.parametrize("choose", ["posterior", "surface", "point"])
def test_a_clear_truth_is_decided_before_the_budget_is_spent(choose: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    summary = decide(tmp_path / "a", Noisy(0.5, 0.002, str(log)), choose=choose, max_trainings=200)
    until = summary["until"]
    assert until["decided"] is True
    trained = log.read_text().split("\n")[:-1]
    assert until["trainings"] == len(trained) == len({*trained}) < 200
    assert f"decided after {len(trained)} trainings: no other candidate may be better" in summary_text(summary)
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["until"] == until


@pytest.mark.slow
def test_what_cannot_be_told_apart_ends_with_the_budget(tmp_path: Path) -> None:
    log = tmp_path / "log"
    summary = decide(tmp_path / "a", Noisy(0.0, 0.02, str(log)))
    until = summary["until"]
    assert (until["decided"], until["trainings"], until["max_trainings"]) == (False, 50, 50)
    assert len(log.read_text().split("\n")) - 1 == 50
    assert "not decided after 50 of at most 50 trainings: another candidate may be better" in summary_text(summary)
    # the trainings are where they matter, not spread evenly
    seeds = sorted({r["digest"]: r["seeds"] for r in summary["points"]}.values())
    assert seeds[0] <= 3
    assert seeds[-1] >= 8
    # a larger budget goes on from there, in the same folder, and the same grid without a budget keeps what there is
    more = decide(tmp_path / "a", Noisy(0.0, 0.02, str(log)), max_trainings=54)
    assert more["until"]["trainings"] == 54
    assert len(log.read_text().split("\n")) - 1 == 54
    plain = decide(tmp_path / "a", Noisy(0.0, 0.02, str(log)), until="trained", max_trainings=None)
    assert plain["until"] is None
    assert len(log.read_text().split("\n")) - 1 == 54


def test_stopped_in_between(tmp_path: Path) -> None:
    """A budget in two parts chooses the same trainings as one that was never stopped."""
    own = decide(tmp_path / "own", Noisy(0.05, 0.02), until="trained", max_trainings=None)["trials"]
    whole = decide(tmp_path / "whole", Noisy(0.05, 0.02), max_trainings=own + 8)
    assert whole["until"]["trainings"] == own + 8
    decide(tmp_path / "parts", Noisy(0.05, 0.02), max_trainings=own + 4)
    parts = decide(tmp_path / "parts", Noisy(0.05, 0.02), max_trainings=own + 8)
    seeds, again = ([{k: r[k] for k in ("digest", "seeds", "accuracy")} for r in s["points"]] for s in (whole, parts))
    assert seeds == again


def test_a_star_is_decided_too(tmp_path: Path) -> None:
    summary = decide(tmp_path, Noisy(0.3, 0.005), method="star", step=0.05, max_trainings=60)
    assert summary["until"]["trainings"] <= 60


def test_the_chosen_point_is_confirmed_when_it_is_decided(tmp_path: Path) -> None:
    summary = decide(tmp_path, Noisy(0.3, 0.005), confirm=3, max_trainings=70)
    assert len(summary["confirmed_on"]["seeds"]) == 3
    assert summary["until"]["trainings"] <= 70  # the three come on top


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "bored"}, "until: unknown 'bored'. Choose one of: trained, decided"),
        ({"max_trainings": None}, "until=decided needs max_trainings: how many trainings there may be in all"),
        ({"until": "trained"}, "max_trainings applies with until=decided, got max_trainings=50 and until=trained"),
        ({"max_trainings": 0}, "max_trainings must be between 1 and 1000000, got 0"),
        ({"max_trainings": 2.5}, "max_trainings must be a whole number, got 2.5"),
        (
            {"max_trainings": 10},
            r"max_trainings must be at least the \d+ that the points need with these seeds, got 10",
        ),
    ],
)
def test_mistakes(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        decide(tmp_path, Noisy(0.0, 0.01), **options)
    assert not [*tmp_path.iterdir()]  # before anything is written
