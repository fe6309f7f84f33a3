"""What a grid's trainings tell of the shares of depth, width and resolution, beside the published coefficients."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import run_grid_search
from effnas.evaluate import Evaluation
from effnas.scaling.coefficients import PAPER
from effnas.scaling.grid.choosing import posterior_of
from effnas.scaling.grid.posterior import fit_posterior, published_shares
from effnas.scaling.grid.report import summary_text
from effnas.scaling.grid.response import Array, log_growth, shares
from effnas.space.cost import cost
from effnas.space.network_spec import NetworkSpec
from effnas.space.zoo import load_architecture

B0 = load_architecture("efficientnet_b0")
#: Shares of depth, width and resolution in steps of a twentieth.
FINE = np.array([(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)]) / 20
#: Some networks of a grid, from corner to corner.
SOME = FINE[::7]


def best(posterior: Any) -> Array:
    return np.asarray(FINE[int(np.argmax(posterior.expect(FINE)))])


def fit(accuracies: Array, noise: float | None = 0.005, seeds: int = 3) -> Any:
    return fit_posterior(SOME, accuracies.tolist(), [seeds] * len(SOME), noise, [2.0] * len(SOME))


def test_the_published_shares() -> None:
    assert published_shares() == pytest.approx(shares(log_growth(PAPER)[None])[0])
    assert published_shares() == pytest.approx([0.2796, 0.2924, 0.4288], abs=1e-3)


def test_without_any_training_the_published_shares_are_best() -> None:
    posterior = fit_posterior(np.empty((0, 3)), [], [], None, [])
    assert np.abs(best(posterior) - published_shares()).max() <= 0.05
    assert posterior.ahead(published_shares(), published_shares()) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_equal_accuracies_leave_them_best() -> None:
    assert np.abs(best(fit(np.full(len(SOME), 0.7))) - published_shares()).max() <= 0.1


def test_one_training_of_much_noise_moves_little() -> None:
    accuracies = 0.7 + 0.03 * np.random.default_rng(0).normal(size=len(SOME))
    assert np.abs(best(fit(accuracies, 0.03, 1)) - published_shares()).max() <= 0.25


@pytest.mark.parametrize("dimension", range(3))
def test_clear_evidence_moves_them(dimension: int) -> None:
    posterior = fit(0.6 + 0.1 * SOME[:, dimension])
    assert best(posterior)[dimension] >= 0.8
    mean, deviation = posterior.ahead(best(posterior), published_shares())
    assert mean > 2 * deviation


def test_noise_that_is_not_known_is_averaged_over() -> None:
    clear = 0.6 + 0.1 * SOME[:, 1]
    rough = clear + 0.05 * np.random.default_rng(1).normal(size=len(SOME))
    assert best(fit(clear, None, 1))[1] >= 0.8
    assert fit(rough, None, 1).ahead(SOME[3], published_shares())[1] > fit(clear, None, 1).ahead(SOME[3], SOME[9])[1]


def test_achieved_macs_are_counted() -> None:
    rng = np.random.default_rng(2)
    ratios = rng.uniform(1.6, 2.6, len(SOME))
    accuracies = 0.5 + 0.1 * np.log(ratios)  # whoever has more MACs is better: no evidence on the shares
    posterior = fit_posterior(SOME, accuracies.tolist(), [3] * len(SOME), 0.001, ratios.tolist())
    assert np.abs(best(posterior) - published_shares()).max() <= 0.15


# -- pixels of no image ------------------------------------------------------------------------------------


def kinked(mixture: Array, ratios: Any, knee: float) -> Array:
    """All three are worth the same, but resolution beyond the knee is worth nothing."""
    growth = mixture * np.log(np.asarray(ratios))[:, None]
    return np.asarray(0.5 + 0.05 * (growth[:, :2].sum(axis=1) + np.minimum(growth[:, 2], knee)))


@pytest.mark.parametrize("knee", [0.2, 0.5])
def test_pixels_beyond_the_images_own(knee: float) -> None:
    """Evidence that they are worth nothing speaks of them alone, where it is known from where on they are."""
    mixed = published_shares()
    star, ratios = np.array([*np.eye(3), mixed, *np.eye(3), mixed]), [2.0] * 4 + [4.0] * 4
    accuracies = kinked(star, ratios, knee).tolist()
    plain, aware = (fit_posterior(star, accuracies, [3] * 8, 0.002, ratios, at) for at in (np.inf, knee))
    # the mean of the family is told better by who knows of the knee
    truths = np.mean([kinked(FINE, [2.0**phi] * len(FINE), knee) for phi in (1, 2)], axis=0)
    errors = [np.abs(found.expect(FINE) - truths).mean() for found in (plain, aware)]
    assert errors[1] < 0.9 * errors[0]


@dataclass(frozen=True)
class Wide:
    """Looks at the width of the last stage alone."""

    gain: float = 0.2

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Any = None) -> Evaluation:
        rng = np.random.default_rng([int(architecture.digest[:8], 16), seed])
        width = architecture.stages[-1].channels / B0.stages[-1].channels  # type: ignore[attr-defined]
        return Evaluation(0.5 + self.gain * (width - 1) + 0.005 * rng.normal(), cost(architecture))


def grid(output: Path, gain: float, **options: Any) -> dict[str, Any]:
    options = {"ratio": "achieved", "seeds": 2, "beta": (1.0, 1.4), **options}
    return run_grid_search(B0, Wide(gain), output=output, quiet=True, **options)


def test_the_posterior_chooses(tmp_path: Path) -> None:
    summary = grid(tmp_path, 0.2)
    best_row, posterior = summary["best"], summary["posterior"]
    assert summary["chosen_by"] == "posterior"
    assert {name: best_row[name] for name in ("alpha", "beta", "gamma")} == {
        name: posterior["argmax"][name] for name in ("alpha", "beta", "gamma")
    }
    assert best_row["beta"] >= 1.2
    assert posterior["ahead"] > 2 * posterior["ahead_sd"]
    assert json.loads((tmp_path / "summary.json").read_text())["posterior"] == posterior
    text = summary_text(summary)
    assert "the highest expected accuracy over \u03c6 = 1 and 2" in text
    assert "little evidence" not in text
    point = grid(tmp_path, 0.2, choose="point")  # nothing is trained again for another choice
    assert (point["chosen_by"], point["trials"]) == ("point", summary["trials"])


@dataclass(frozen=True)
class Pictures(Wide):
    """On images of 256 pixels."""

    def find_own_pixels(self) -> int:
        return 256


def test_the_knee_is_where_the_images_end(tmp_path: Path) -> None:
    """B0 has 224 pixels; images of 256 have 2 ln(256 / 224) = .267 of growth in them."""
    summary = run_grid_search(B0, Pictures(0.2), output=tmp_path / "a", quiet=True, ratio="achieved", step=0.1)
    rows = list(summary["points"])
    assert {row["own_pixels"] for row in rows} == {256}
    assert posterior_of(rows).knee == pytest.approx(0.267, abs=0.01)
    assert posterior_of([{**row, "own_pixels": 32} for row in rows]).knee == 0
    assert posterior_of(list(grid(tmp_path / "b", 0.2, step=0.1)["points"])).knee == np.inf


def test_little_evidence_is_said_aloud(tmp_path: Path) -> None:
    summary = grid(tmp_path, 0.0, seeds=1)
    assert "so there is little evidence against the published ones" in summary_text(summary)
