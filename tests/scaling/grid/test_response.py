"""The response surface of a grid: its fit, its uncertainty, and what a grid search makes of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from scipy.optimize import curve_fit
from synthetic import read_csv

from effnas import Architecture, Coefficients, cost, load_architecture, run_grid_search, scale
from effnas.evaluate.evaluation import Evaluation
from effnas.scaling.coefficients import load_coefficients
from effnas.scaling.grid.points import Grid, Scaled
from effnas.scaling.grid.report import summary_text
from effnas.scaling.grid.response import Surface, fit_surface, log_growth, shares
from effnas.space.errors import UserError

B0 = load_architecture("efficientnet_b0")
#: All shares in steps of a sixth: 28 of them.
MIXTURE = np.array([(i, j, 6 - i - j) for i, j in product(range(7), range(7)) if i + j <= 6]) / 6
TRUE = np.array([0.70, 0.72, 0.68, 0.30, 0.10, 0.20])


def height(mixture: Any, *c: float) -> Any:
    d, w, r = np.asarray(mixture).T
    return c[0] * d + c[1] * w + c[2] * r + c[3] * d * w + c[4] * d * r + c[5] * w * r


def fit(values: Any, seeds: Any = None, noise: float | None = None, ratios: Any = None) -> Surface:
    count = len(values)
    found = fit_surface(
        MIXTURE[:count], values, seeds or [1] * count, noise, [2.0] * count if ratios is None else ratios
    )
    assert isinstance(found, Surface), found
    return found


def test_shares() -> None:
    growth = log_growth(Coefficients(2.0, 2.0, 2.0))
    assert growth == pytest.approx([math.log(2), math.log(4), math.log(4)])
    assert shares(np.array([growth, log_growth(Coefficients(1.5, 1, 1))])) == pytest.approx(
        np.array([[0.2, 0.4, 0.4], [1, 0, 0]])
    )


def test_a_quadratic_is_found_again() -> None:
    surface = fit(height(MIXTURE, *TRUE))
    assert surface.coefficients == pytest.approx(TRUE)
    assert surface.r2 == pytest.approx(1)
    assert surface.sigma < 1e-6
    means, errors = surface.predict(MIXTURE)
    assert means == pytest.approx(height(MIXTURE, *TRUE))
    assert errors.max() < 1e-6
    assert int(np.argmax(means)) == int(np.argmax(height(MIXTURE, *TRUE)))
    assert surface.region(MIXTURE).sum() == surface.not_below(MIXTURE).sum() == 1


@pytest.mark.parametrize("noise", [None, 0.05])
def test_the_fit_is_least_squares(noise: float | None) -> None:
    rng = np.random.default_rng(0)
    seeds = rng.integers(1, 6, len(MIXTURE)).tolist()
    values = height(MIXTURE, *TRUE) + rng.normal(size=len(MIXTURE)) * 0.01 / np.sqrt(seeds)
    surface = fit(
        values, seeds, noise
    )  # a known noise is more than there is: nothing is left for the quadratic to miss
    expected, covariance = curve_fit(
        height, MIXTURE, values, p0=TRUE, sigma=(noise or 1) / np.sqrt(seeds), absolute_sigma=noise is not None
    )
    assert surface.coefficients == pytest.approx(expected, rel=1e-4)
    assert surface.errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-3)
    assert surface.freedom == 22


def test_what_the_quadratic_misses_counts_as_noise() -> None:
    rng = np.random.default_rng(1)
    values = height(MIXTURE, *TRUE) + rng.normal(size=len(MIXTURE)) * 0.05  # of the networks, whatever their seeds
    known, unknown = fit(values, [9] * 28, 0.01), fit(values)
    residuals = values - height(MIXTURE, *unknown.coefficients)
    spread = math.sqrt((residuals**2).sum() / 22)
    assert unknown.sigma == pytest.approx(spread)
    # a mean of 9 seeds has sd 0.01 / 3 of noise, the rest is missed; one training has both
    assert known.sigma == pytest.approx(math.sqrt(spread**2 - 0.01**2 / 9 + 0.01**2), rel=1e-3)
    assert known.errors == pytest.approx(unknown.errors, rel=1e-3)


def test_the_ratio_is_put_right() -> None:
    rng = np.random.default_rng(2)
    ratios = rng.uniform(1.7, 2.5, len(MIXTURE))
    surface = fit(height(MIXTURE, *TRUE) + 0.1 * np.log(ratios / 2), ratios=ratios)
    assert surface.names[-1] == "ratio"
    assert surface.coefficients == pytest.approx([*TRUE, 0.1])
    assert surface.predict(MIXTURE)[0] == pytest.approx(height(MIXTURE, *TRUE))
    assert len(fit(height(MIXTURE, *TRUE), ratios=rng.uniform(1.99, 2.01, len(MIXTURE))).coefficients) == 6


def test_the_region_has_the_maximiser() -> None:
    rng = np.random.default_rng(3)
    truth = height(MIXTURE, *TRUE)
    best = int(np.argmax(truth))
    inside, size = 0, 0.0
    for _ in range(100):
        surface = fit(truth + rng.normal(size=len(truth)) * 0.02)
        region = surface.region(MIXTURE)
        inside += region[best]
        size += region.mean() / 100
        assert region[int(np.argmax(surface.predict(MIXTURE)[0]))]
        assert surface.not_below(MIXTURE)[int(np.argmax(surface.predict(MIXTURE)[0]))]
    assert inside >= 95
    assert 0.1 < size < 0.7


def test_expected_improvement() -> None:
    rng = np.random.default_rng(4)
    surface = fit(height(MIXTURE, *TRUE) + rng.normal(size=len(MIXTURE)) * 0.02)
    best = MIXTURE[int(np.argmax(surface.predict(MIXTURE)[0]))]
    gains = surface.improvement(MIXTURE, best)
    assert gains.min() >= 0
    assert gains[(best == MIXTURE).all(axis=1)] == pytest.approx(0)
    # by hand, for one point: E[max(0, μ + s·t)] with the t distribution of 22 degrees of freedom
    one = MIXTURE[[5]]
    row = surface.rows(one) - surface.rows(best[None])
    mean, error = float((row @ surface.coefficients)[0]), math.sqrt(float((row @ surface.covariance @ row.T)[0, 0]))
    drawn = np.random.default_rng(5).standard_t(22, 200_000) * error + mean
    assert surface.improvement(one, best)[0] == pytest.approx(np.maximum(drawn, 0).mean(), rel=0.2, abs=1e-5)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (MIXTURE[:9], "9 different networks with a result are too few for a response surface: it needs 10"),
        (MIXTURE[MIXTURE[:, 0] == 0], "7 different networks"),
        (np.concatenate([MIXTURE[MIXTURE[:, 0] == 0]] * 2), "do not differ enough in depth, width and resolution"),
    ],
)
def test_no_fit(mixture: Any, message: str) -> None:
    count = len(mixture)
    found = fit_surface(mixture, list(height(mixture, *TRUE)), [1] * count, None, [2.0] * count)
    assert isinstance(found, str)
    assert message in found


# -- in a grid search ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sharp:
    """Resolution is good, within noise that the network and the seed decide."""

    noise: float = 0.0

    def __call__(self, architecture: Architecture, *, seed: int, report: Any) -> Evaluation:
        rng = np.random.default_rng([int(architecture.digest[:8], 16), seed])
        return Evaluation(
            0.5 + 0.2 * (architecture.resolution / 224 - 1) + self.noise * rng.normal(), cost(architecture)
        )


def grid(output: Path, noise: float = 0.0, **options: Any) -> dict[str, Any]:
    options = {"ratio": "achieved", "choose": "surface", **options}
    return run_grid_search(B0, Sharp(noise), output=output, quiet=True, **options)


@pytest.mark.pictures
def test_the_surface_chooses(tmp_path: Path) -> None:
    summary = grid(tmp_path / "surface", 0.005, seeds=2)
    surface, best = summary["surface"], summary["best"]
    assert summary["chosen_by"] == "surface"
    assert surface["fitted"] is True
    assert surface["points"] == len({scale(B0, p, 1).digest for p in Grid(ratio="achieved").points(Scaled(B0))}) == 24
    assert [best[n] for n in ("alpha", "beta", "gamma")] == [surface["argmax"][n] for n in ("alpha", "beta", "gamma")]
    assert best["predicted"] == max(row["predicted"] for row in summary["points"])
    assert best["gamma"] >= 1.25
    assert surface["intervals"]["gamma"][0] > 1
    saved = load_coefficients(str(tmp_path / "surface" / "coefficients.yaml"))
    assert [saved.alpha, saved.beta, saved.gamma] == [best[n] for n in ("alpha", "beta", "gamma")]
    assert 1 <= surface["region"]["networks"] < 24
    assert [best[n] for n in ("alpha", "beta", "gamma")] in surface["region"]["points"]
    for name, (low, high) in surface["intervals"].items():
        inside = [row[name] for row in summary["points"] if row["in_region"]]
        assert (low, high) == (min(inside), max(inside))
    assert surface["coefficients"].keys() == surface["standard_errors"].keys()
    assert surface["noise_sd"] == pytest.approx(0.005, rel=0.4)
    by_network: dict[str, set[float]] = {}
    for row in summary["points"]:
        by_network.setdefault(row["digest"], set()).add(row["predicted"])
    assert all(len(values) == 1 for values in by_network.values())
    rows = read_csv(tmp_path / "surface" / "points.csv")
    assert [float(row["predicted"]) for row in rows] == [row["predicted"] for row in summary["points"]]
    assert json.loads((tmp_path / "surface" / "summary.json").read_text()) == summary
    with Image.open(tmp_path / "surface" / "grid.png") as image:
        left = image.convert("RGB").crop((0, 0, image.width // 2, image.height))
        red = (
            left.getchannel("R").point(lambda v: 255 * (v > 200)),
            left.getchannel("B").point(lambda v: 255 * (v < 90)),
        )
        assert len(left.getcolors(1 << 24) or ()) > 500  # filled contours
        assert ImageChops.multiply(*red).getbbox() is not None  # the star
    text = summary_text(summary)
    assert "predicted ± se" in text
    assert (
        f"coefficients: alpha {best['alpha']:g}, beta {best['beta']:g}, gamma {best['gamma']:g}, the surface's" in text
    )
    assert "95% region of the highest" in text


@pytest.mark.parametrize(
    ("gamma", "hint"), [((1.0, 1.3), "; gamma at the end of its range: try wider ones"), ((1.0, 1.5), "")]
)
def test_a_range_that_ends_too_early(tmp_path: Path, gamma: tuple[float, float], hint: str) -> None:
    summary = grid(tmp_path, gamma=gamma, tolerance=0.15)
    assert summary["grid"]["gamma"] == list(gamma)
    assert summary["best"]["gamma"] >= 1.3
    (line,) = [line for line in summary_text(summary).splitlines() if line.startswith("coefficients:")]
    assert line.partition("highest")[2] == hint


def test_the_point_chooses(tmp_path: Path) -> None:
    summary = grid(tmp_path, 0.05, choose="point")
    assert (summary["chosen_by"], summary["best"]) == ("point", summary["points"][0])
    assert summary["surface"]["argmax"]["digest"] != summary["best"]["digest"]
    assert "the best point" in summary_text(summary)
    saved = load_coefficients(str(tmp_path / "coefficients.yaml"))
    assert [saved.alpha, saved.beta, saved.gamma] == [summary["best"][n] for n in ("alpha", "beta", "gamma")]
    again = grid(tmp_path, 0.05, choose="surface")  # nothing is trained again for another choice
    assert again["chosen_by"] == "surface"
    assert again["trials"] == summary["trials"]


def test_pure_noise_cannot_tell_points_apart(tmp_path: Path) -> None:
    summary = grid(tmp_path, 5.0, seeds=3, max_failures=None)  # such noise leaves the range of accuracies, too
    assert summary["surface"]["region"]["networks"] == summary["surface"]["points"]
    assert "it cannot tell any two apart" in summary_text(summary)


def test_too_few_points_for_a_surface(tmp_path: Path) -> None:
    summary = grid(tmp_path, 0.01, tolerance=0.1)
    assert summary["chosen_by"] == "point"
    text = "9 different networks with a result are too few for a response surface: it needs 10"
    assert summary["surface"] == {"points": 9, "fitted": False, "text": text}
    assert all(row["predicted"] is None for row in summary["points"])
    assert f"no response surface: {text}; the coefficients are the best point's" in summary_text(summary)


def test_a_choice_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"choose: unknown 'mean'.* Choose one of: posterior, surface, point"):
        grid(tmp_path, choose="mean")
