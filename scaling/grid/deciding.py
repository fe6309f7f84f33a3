"""Until the choice is told apart: whether a grid has trainings enough, and where the next ones matter most.

What is known of the accuracies is Gaussian, or a mixture of such: each mean with its noise (``choose=point``), the
response surface (``surface``), or the posterior. A choice is decided when no other candidate can be ahead of it by more
than anyone would train for, at two standard errors. Until then, the next training is the one that narrows the lead over
the closest rival most. For means that is one of the two, the one with fewer trainings, as in top-two algorithms with
transportation costs (Shang et al. 2020, *Fixed-confidence guarantees for Bayesian best-arm identification*); in a
linear model it is the training that tells most of the one contrast (c-optimality), whichever network it is of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .choosing import list_candidates, posterior_of
from .posterior import family_terms, terms
from .ranking import STANDARD_ERRORS, Trained, list_trained, surface_of
from .response import Array

#: By how much a rival may be better and the choice still be a good one: a tenth of a point.
INDIFFERENT = 0.001
#: Trainings that are asked for at once, so that several workers have something to do.
BATCH = 4


@dataclass
class Knowledge:
    """A mixture of Gaussians over p numbers, of which networks' accuracies are linear functions.

    Args:
        weights: of k parts, shape (k,).
        means, covariances: of the numbers, shapes (k, p) and (k, p, p).
        missed: standard deviation of what the function misses of a network, shape (k,).
        noise: of a training, shape (k,).
        measured: the function of each of n networks, shape (n, p).
        worth: the function of what each of m candidates is chosen for, shape (m, p).
        trainings: of each network, shape (n,).
    """

    weights: Array
    means: Array
    covariances: Array
    missed: Array
    noise: Array
    measured: Array
    worth: Array
    trainings: Array

    def find_leads(self, choice: int) -> tuple[Array, Array]:
        """By how much the choice is ahead of each candidate in expectation, and the standard deviations, (m,), (m,)."""
        rows = self.worth[choice] - self.worth
        parts = rows @ self.means.T
        ahead = parts @ self.weights
        inside = np.einsum("mp,kpr,mr->mk", rows, self.covariances, rows)
        return ahead, np.sqrt(np.maximum((inside + (parts - ahead[:, None]) ** 2) @ self.weights, 0.0))

    def find_rival(self, choice: int) -> int | None:
        """The candidate that is least surely not better than the choice by more than indifferent; None: all surely."""
        ahead, spread = self.find_leads(choice)
        room = ahead + INDIFFERENT - STANDARD_ERRORS * spread
        room[choice] = np.inf
        return int(np.argmin(room)) if len(room) > 1 and room.min() < 0 else None

    def find_best_training(self, choice: int, rival: int, allowed: Sequence[bool]) -> int | None:
        """The network whose next training narrows the lead over the rival most; None where no training does."""
        row = self.worth[choice] - self.worth[rival]
        seen, own = self._see()
        reach = np.einsum("p,kpr,nr->nk", row, self.covariances, self.measured)
        gains = (reach**2 * seen / (1 + seen * own)) @ self.weights
        gains[~np.asarray(allowed)] = 0.0
        best = int(np.argmax(gains))
        return best if gains[best] > 0 else None

    def expect_training(self, network: int) -> None:
        """Go on as after one more training of a network that was as expected."""
        seen, own = self._see()
        moved = self.covariances @ self.measured[network]
        scale = seen[network] / (1 + seen[network] * own[network])
        self.covariances = self.covariances - np.einsum("k,kp,kr->kpr", scale, moved, moved)
        self.trainings[network] += 1

    def _see(self) -> tuple[Array, Array]:
        """What one more training adds to the precision of a network's mean, and its variance without, (n, k) both."""
        before, after = (
            self.missed**2 + self.noise**2 / np.maximum(self.trainings + more, 1e-9)[:, None] for more in (0, 1)
        )
        own = np.einsum("np,kpr,nr->nk", self.measured, self.covariances, self.measured)
        return 1 / np.maximum(after, 1e-12) - 1 / np.maximum(before, 1e-12), own


def know(rows: Sequence[dict[str, Any]], choose: str) -> Knowledge | None:
    """What the trainings tell of the candidates by one of :data:`~effnas.scaling.grid.choosing.CHOICES`.

    None: one training of each says nothing of their noise, or nothing has a result.
    """
    found, candidates = list_trained(rows), list_candidates(rows)
    if not candidates.groups or found.noise is None:
        return None
    surface = surface_of(rows) if choose == "surface" else "not asked for"
    trainings = np.array(found.read("seeds"), np.float64)
    one = np.ones(1)
    if choose == "posterior":
        posterior = posterior_of(rows)
        growth = found.mixture * np.log(np.array(found.ratios))[:, None]
        return Knowledge(
            posterior.weights,
            posterior.means,
            posterior.covariances,
            posterior.missed,
            posterior.noise,
            terms(growth, posterior.knee),
            family_terms(candidates.mixture, posterior.knee),
            trainings,
        )
    if not isinstance(surface, str):
        missed = np.sqrt(np.maximum(surface.sigma**2 - found.noise**2, 0.0)) * one
        parts = surface.coefficients[None], surface.covariance[None]
        same = surface.rows(found.mixture)
        return Knowledge(one, *parts, missed, found.noise * one, same, surface.rows(candidates.mixture), trainings)
    means, each = np.array(found.read("accuracy")), np.eye(len(found.groups))
    spread = np.diag(found.noise**2 / trainings)
    places = _places(found, candidates)
    return Knowledge(one, means[None], spread[None], 0 * one, found.noise * one, each, each[places], trainings)


def _places(found: Trained, candidates: Trained) -> list[int]:
    digests = [group[0]["digest"] for group in found.groups]
    return [digests.index(group[0]["digest"]) for group in candidates.groups]


def is_decided(rows: Sequence[dict[str, Any]], choose: str, digest: str) -> bool:
    """Whether no other candidate may be better than this network by more than anyone would train for."""
    knowledge = know(rows, choose)
    return knowledge is not None and knowledge.find_rival(_choice(rows, digest)) is None


def find_next_trainings(
    rows: Sequence[dict[str, Any]], choose: str, digest: str, count: int, closed: Collection[str] = ()
) -> list[str]:
    """The digests of up to ``count`` trainings, one each time it is to be trained; none where the choice is decided.

    Without anything known of the noise these are the networks of the highest means, once each.

    Args:
        rows: as :func:`~effnas.scaling.grid.ranking.rank_points` gives them.
        choose: how the coefficients are chosen.
        digest: of the chosen network.
        count: of trainings at most.
        closed: digests of networks that are not to be trained again.
    """
    groups = list_trained(rows).groups
    digests = [group[0]["digest"] for group in groups]
    allowed = [digest not in closed for digest in digests]
    knowledge = know(rows, choose)
    if knowledge is None:
        order = sorted((i for i, may in enumerate(allowed) if may), key=lambda i: -groups[i][0]["accuracy"])
        return [digests[i] for i in order[:count]]
    found: list[str] = []
    choice = _choice(rows, digest)
    while len(found) < count and (rival := knowledge.find_rival(choice)) is not None:
        best = knowledge.find_best_training(choice, rival, allowed)
        if best is None:
            break
        knowledge.expect_training(best)
        found.append(digests[best])
    return found


def _choice(rows: Sequence[dict[str, Any]], digest: str) -> int:
    return next(i for i, group in enumerate(list_candidates(rows).groups) if group[0]["digest"] == digest)
