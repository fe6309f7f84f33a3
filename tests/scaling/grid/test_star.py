"""A star: each dimension alone, then the mixture that the law says is best."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from drawn import Figures, check_laws, told

from effnas import load_architecture, load_coefficients, run_grid_search
from effnas.evaluate import Evaluation, EvaluationError
from effnas.scaling.grid.report import summary_text
from effnas.space.cost import cost
from effnas.space.errors import UserError
from effnas.space.network_spec import NetworkSpec

B0 = load_architecture("efficientnet_b0")
MACS = cost(B0).macs


@dataclass(frozen=True)
class Growth:
    """Accuracy by a law of how much wider, deeper and finer than B0 a network is; each saturates in its own way.

    Args:
        worth: of depth, width and resolution.
        log: file that gets a line for each training.
        broken: pixels at which every training fails.
    """

    worth: tuple[float, float, float] = (0.1, 0.18, 0.12)
    log: str = ""
    broken: int = 0

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any = None) -> Evaluation:
        if architecture.resolution == self.broken:
            raise EvaluationError("broken")
        deep = math.log(sum(s.repeats for s in architecture.stages) / sum(s.repeats for s in B0.stages))  # type: ignore[attr-defined]
        wide = 2 * math.log(architecture.stages[-1].channels / B0.stages[-1].channels)  # type: ignore[attr-defined]
        fine = 2 * math.log(architecture.resolution / B0.resolution)
        parts = (w * (1 - math.exp(-u)) for w, u in zip(self.worth, (deep, wide, fine), strict=True))
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{architecture.digest} {seed}\n")
        # a noise that only the network and the seed decide
        noise = (int(architecture.digest[:8], 16) * 31 + seed * 7919) % 1009 / 1009 - 0.5
        return Evaluation(0.5 + sum(parts) + 0.004 * noise, cost(architecture))


def star(output: Path, evaluator: Any, **options: Any) -> Any:
    options = {"method": "star", "ratio": "achieved", "seeds": 2, **options}
    return run_grid_search(B0, evaluator, output=output, quiet=True, **options)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "points.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ratio", ["nominal", "achieved"])
def test_nine_networks_and_the_mixture_that_they_say_is_best(ratio: str, tmp_path: Path) -> None:
    summary = star(tmp_path, Growth(log=str(tmp_path / "log")), ratio=ratio)
    assert summary["rounds"] == [9, 1]
    trained = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len(trained) == len({*trained}) == 20  # ten networks, two seeds
    points = rows(tmp_path)
    alone = [p for p in points if sorted(float(p[n]) > 1 for n in ("alpha", "beta", "gamma")) == [False, False, True]]
    assert len(alone) == 6
    assert sum(float(p["alpha"]) * float(p["beta"]) * float(p["gamma"]) == 1 for p in points) == 1  # the baseline
    which = "nominal_macs_ratio" if ratio == "nominal" else "macs_ratio"
    for point in points:
        near = abs(float(point[which]) - 2) <= (0.1 if ratio == "nominal" else 0.2)
        assert (point["candidate"] == "True") == near
    # what is written is of twice the cost, and mostly width, which is worth most
    best = summary["best"]
    assert best[which] == pytest.approx(2, abs=0.2)
    assert (best["seeds"], summary["chosen_by"]) == (2, "posterior")
    growth = [math.log(best["alpha"]), 2 * math.log(best["beta"]), 2 * math.log(best["gamma"])]
    assert growth[1] > 0.5 * sum(growth)
    written = load_coefficients(tmp_path / "coefficients.yaml")
    assert (written.alpha, written.beta, written.gamma) == tuple(best[n] for n in ("alpha", "beta", "gamma"))
    text = summary_text(summary)
    assert "a star of 10 points, 10 different networks, 20 trainings" in text
    assert text.index("  1.000") > text.index(f"{best['macs_ratio']:.3f}")  # candidates come first
    assert (tmp_path / "grid.png").is_file()


def test_the_figure_keeps_the_laws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures(monkeypatch)
    star(tmp_path, Growth())
    check_laws(figures.only)
    kinds = {"depth alone (α)", "width alone (β)", "resolution alone (γ)", "mixtures", "the baseline"}
    assert kinds | {"what the law expects", "the coefficients that are written"} <= {*told(figures.only)}


def test_the_published_mixture_is_chosen_where_nothing_speaks_against_it(tmp_path: Path) -> None:
    summary = star(tmp_path, Growth((0.1, 0.1, 0.1)))
    best = summary["best"]
    assert (best["alpha"], best["beta"], best["gamma"]) == pytest.approx((1.2, 1.1, 1.15), abs=0.1)


def test_a_star_that_was_stopped_goes_on(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    whole = star(tmp_path / "whole", Growth(log=log))
    star(tmp_path / "parts", Growth(log=log), seeds=1)
    parts = star(tmp_path / "parts", Growth(log=log))
    assert len((tmp_path / "log").read_text().split("\n")) - 1 <= 2 * 20
    # the mixture was settled by one seed: it stays, and is trained with the second
    assert parts["rounds"] == whole["rounds"]
    assert {row["seeds"] for row in parts["points"]} == {2}


def test_the_best_mean_may_be_chosen_among_the_candidates(tmp_path: Path) -> None:
    summary = star(tmp_path, Growth(), choose="point")
    candidates = [row for row in summary["points"] if row["candidate"]]
    assert summary["best"] == max(candidates, key=lambda row: row["accuracy"])
    assert max(summary["points"], key=lambda row: row["accuracy"])["macs_ratio"] > 3  # four times the cost is better


def test_a_failed_arm_does_not_end_the_star(tmp_path: Path) -> None:
    fine = next(int(p["resolution"]) for p in rows_of(tmp_path) if p["candidate"] and p["gamma"] > 1.35)
    summary = star(tmp_path / "b", Growth(broken=fine))
    assert summary["failed"] == 2
    assert summary["best"]["accuracy"] is not None


def rows_of(tmp_path: Path) -> list[dict[str, Any]]:
    return list(star(tmp_path / "a", Growth())["points"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sun"}, "method: unknown 'sun'. Choose one of: grid, star"),
        ({"alpha": (1, 2)}, "alpha applies with method=grid; method=star grows each dimension alone"),
        ({"step": 0.1}, "step applies with method=grid"),
        ({"solve": "beta"}, "solve applies with method=grid"),
        ({"refine": 1}, "refine applies with method=grid"),
        ({"choose": "surface"}, "choose=surface applies with method=grid; method=star has posterior and point"),
        ({"ratio": "latency"}, "ratio=latency applies with method=grid; a star has nominal, achieved, solved"),
        ({"ratio": "half"}, "ratio: unknown 'half'. Choose one of: nominal, achieved, solved, latency"),
        ({"tolerance": 1e-9}, "no point of the star has an achieved MACs ratio within 1e-09 of 2; the nearest has"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        star(tmp_path, Growth(), **options)


def test_a_star_is_another_grid(tmp_path: Path) -> None:
    star(tmp_path, Growth(), seeds=1)
    with pytest.raises(UserError, match=r"holds another search \(method: .star. → None"):
        star(tmp_path, Growth(), method="grid", seeds=1)
