"""Which point the coefficients are taken from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...search.winner.optimism import expect_optimism
from .points import NAMES
from .posterior import FAMILY, Posterior, fit_posterior, published_shares
from .ranking import Trained, is_candidate, list_trained, typical_row
from .response import Surface

#: What the coefficients are taken from. Over five kinds of truth and 10 to 144 trainings the posterior loses least on
#: average, at φ = 1 and more so at φ = 3; the best point most, but for the published ones (benchmarks/grid_choice.py).
CHOICES = ("posterior", "surface", "point")


def list_candidates(rows: Sequence[dict[str, Any]]) -> Trained:
    """The different networks that have a result and may become the coefficients, with the noise of all."""
    found = list_trained(rows)
    keep = [i for i, group in enumerate(found.groups) if is_candidate(group[0])]
    return Trained([found.groups[i] for i in keep], found.growth[keep], found.noise)


def posterior_of(rows: Sequence[dict[str, Any]]) -> Posterior:
    """The posterior after all trainings, those of the baseline included where there are any."""
    found = list_trained(rows)
    same = [row for row in rows if row["accuracy"] is not None and row["nominal_macs_ratio"] == 1][:1]
    # the baseline has not grown: its shares are no numbers, and its growth is 0 whatever they are
    mixture = np.concatenate([found.mixture, np.zeros((len(same), 3))])
    accuracies, seeds = ([*found.read(name), *(row[name] for row in same)] for name in ("accuracy", "seeds"))
    ratios = [*found.ratios, *(1.0 for _ in same)]
    return fit_posterior(mixture, accuracies, seeds, found.noise, ratios, _find_knee(rows))


def _find_knee(rows: Sequence[dict[str, Any]]) -> float:
    """The growth of the resolution at which the pixels are the images' own; infinite where theirs are not known."""
    own = rows[0].get("own_pixels") if rows else None
    return math.inf if own is None else max(0.0, 2 * math.log(own * rows[0]["gamma"] / rows[0]["resolution"]))


def describe_posterior(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The ``posterior`` of ``summary.json``; None where only the baseline itself has a result.

    ``argmax`` is the point of the highest expected accuracy over the family, ``ahead`` by how much it is expected to be
    ahead of the published coefficients' shares, and ``ahead_sd`` the standard deviation of that.
    """
    found = list_candidates(rows)
    if not found.groups:
        return None
    mixture, posterior = found.mixture, posterior_of(rows)
    top = int(np.argmax(posterior.expect(mixture)))
    best = typical_row(found.groups[top], found.growth[top])
    ahead, spread = posterior.ahead(mixture[top], published_shares())
    return {
        "family": list(FAMILY),
        "argmax": {key: best[key] for key in (*NAMES, "digest")},
        "ahead": ahead,
        "ahead_sd": spread,
    }


def choose_row(
    rows: Sequence[dict[str, Any]], surface: Mapping[str, Any], posterior: Mapping[str, Any] | None, choose: str
) -> tuple[dict[str, Any], str]:
    """The row whose coefficients are written, and what it was chosen by: the best point, where there is nothing else.

    ``surface`` and ``posterior`` are those of ``summary.json``.
    """
    wanted = {"posterior": posterior, "surface": surface if surface["fitted"] else None}.get(choose)
    if wanted is None:
        return rows[0], "point"
    at = [wanted["argmax"][name] for name in NAMES]
    return next(row for row in rows if [row[name] for name in NAMES] == at), choose


def expect_selection(rows: Sequence[dict[str, Any]], surface: Surface | str, chosen_by: str) -> float | None:
    """By how much the accuracy of the chosen point is too high in expectation; None: one seed says nothing of noise."""
    found = list_candidates(rows)
    if found.noise is None or not found.groups:
        return None
    errors = [found.noise / math.sqrt(seeds) for seeds in found.read("seeds")]
    smoother = None
    if chosen_by != "point" and not isinstance(surface, str):
        terms = surface.rows(found.mixture)
        smoother = np.asarray(terms @ np.linalg.pinv(terms))
    return expect_optimism(found.read("accuracy"), errors, smoother)
