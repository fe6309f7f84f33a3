"""A grid as a study: its points enqueued, and round by round the finer ones that its results ask for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.study import Study

from ...evaluate.interrupt import Interrupts
from ...search.problem import CONFIRMS, Enqueued
from ...search.record import enqueue_missing, is_done
from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from ..coefficients import Coefficients
from .latency import LatencyRatios
from .points import NAMES, Grid, Measure, Scaled
from .ranking import add_predictions, choose_row, describe_posterior, group_networks, rank_points, surface_of
from .response import Surface, log_growth, shares

#: Study attribute: the points of each round of refinement so far.
ROUNDS = "rounds"
#: New networks of a round.
ROUND = 8
#: The networks whose neighbourhoods are looked at.
CENTERS = 3


def make_grid_problem(scaled: Scaled, seed: int, seeds: int) -> Enqueued:
    """The grid as the search loop sees it: a point and a seed are the parameters of a trial.

    A point's network is the baseline scaled by it at φ = 1.
    """

    def network(params: Mapping[str, Any]) -> NetworkSpec:
        point = Coefficients(*(params[name] for name in NAMES))
        return scaled.network(point) or scaled.make(point)

    return Enqueued(network, {name: FloatDistribution(1, 10) for name in NAMES}, seed, seeds)


class GridPlan:
    """Which points are trained: those of the grid, then those of each round of refinement.

    A round is settled when everything before it is trained, and kept in the study before its first point is enqueued:
    what a kill leaves of it is trained by the next run. Of machines that share the study the one that finds nothing
    running settles it.

    Args:
        problem: of :func:`make_grid_problem`.
        scaled: makes the networks.
        grid: the coarse one.
        rounds: of refinement.
        latency: gives the latency ratios, where the grid holds them; nothing is measured before :meth:`prepare`.
        choose: one of :data:`~effnas.scaling.grid.ranking.CHOICES`.
        confirm: trainings of the chosen point with other seeds, when all else is done.
        quiet: do not tell on standard error how much there is to train.
    """

    def __init__(
        self,
        problem: Enqueued,
        scaled: Scaled,
        grid: Grid,
        rounds: int,
        latency: LatencyRatios | None = None,
        *,
        choose: str = "posterior",
        confirm: int = 0,
        quiet: bool = False,
    ) -> None:
        self._choose, self._confirm = choose, confirm
        self._problem, self._grid, self._scaled = problem, grid, scaled
        self._rounds, self._latency = rounds, latency
        self._coarse = grid.points(scaled) if latency is None else []
        self._told = quiet
        self._settled: list[list[Coefficients]] = []
        #: Whether everything so far was trained when the study was last looked at, and what is left to confirm then.
        self.done, self._left = False, list[dict[str, Any]]()

    @property
    def rounds(self) -> list[Sequence[Coefficients]]:
        """The points of the grid, and those of each round so far."""
        return [self._coarse, *self._settled]

    @property
    def points(self) -> list[Coefficients]:
        """All points so far."""
        return [p for points in self.rounds for p in points]

    @property
    def last(self) -> bool:
        """Whether no further round follows: all are settled, or the latest found nothing new."""
        return len(self._settled) >= self._rounds or (bool(self._settled) and not self._settled[-1])

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do, of what could be done when the study was last looked at."""
        return self.last and not self._left

    @property
    def trainings(self) -> int:
        """All there can be, duplicates of equal networks included."""
        most = len(self._coarse) + ROUND * self._rounds
        return max(most, len(self.points)) * self._problem.seeds + self._confirm

    def announcement(self) -> str:
        """How much there is to train."""
        seeds = self._problem.seeds
        networks = [n for p in self._coarse if (n := self._scaled.network(p)) is not None]
        different = len({network.digest for network in networks})
        text = f"{len(self._coarse)} points, {different} different networks: {different * seeds} trainings"
        text += f" with {seeds} seeds" if seeds > 1 else ""
        if self._rounds:
            most = self._rounds * ROUND * seeds
            rounds = f"{self._rounds} finer round{'s' * (self._rounds > 1)}"
            text += f"; then {rounds} of at most {ROUND} new networks: {most} more at most"
        if self._confirm:
            text += f"; then the chosen point with {self._confirm} other seed{'s' * (self._confirm > 1)}"
        return text

    def look_at(self, study: Study) -> None:
        """Set ``done``: whether every point has its trainings, and nothing waits or runs."""
        self.done, self._left = is_done(study, self._all()), []
        if self.done and self.last and self._confirm:
            rows = self._rank(study)
            if rows and rows[0]["accuracy"] is not None:
                surface, posterior = add_predictions(rows, surface_of(rows)), describe_posterior(rows)
                best, _ = choose_row(rows, surface, posterior, self._choose)
                wanted = self._problem.confirming({name: best[name] for name in NAMES}, self._confirm)
                self._left = [] if is_done(study, wanted) else wanted

    def prepare(self, study: Study, interrupts: Interrupts) -> None:
        """Settle the next round if it is its turn, and enqueue every point and seed that is not there yet.

        Raises:
            UserError: no point of the grid has the latency ratio, or latencies of other settings are in the folder.
            KeyboardInterrupt: a signal came while latencies were measured.
        """
        if self._latency is not None and not self._coarse:
            self._latency.open()
            with interrupts.allowed():
                self._coarse = self._grid.points(self._scaled, self._latency)
        if not self._told:  # when all settings have proved right
            print(self.announcement(), file=sys.stderr, flush=True)
            self._told = True
        stored = study.user_attrs.get(ROUNDS, [])
        self._settled = [[Coefficients(*values) for values in points] for points in stored]
        self.look_at(study)
        if not self.last and self.done:
            with interrupts.allowed():
                found = self._next(study)
            self._settled.append(found)
            rows = [[[getattr(p, name) for name in NAMES] for p in points] for points in self._settled]
            study.set_user_attr(ROUNDS, rows)
        enqueue_missing(study, self._all())
        enqueue_missing(study, self._left, {CONFIRMS: True})

    def _rank(self, study: Study) -> list[dict[str, Any]]:
        return rank_points(study, self._scaled, self.points, {} if self._latency is None else self._latency.known)

    def _next(self, study: Study) -> list[Coefficients]:
        rows = self._rank(study)
        return finer_points(self._grid, self._scaled, rows, surface_of(rows), len(self._settled), self._latency)

    def _all(self) -> list[dict[str, Any]]:
        """The parameters of every trial, seed by seed."""
        return self._problem.trials({name: getattr(p, name) for name in NAMES} for p in self.points)


# -- refinement --------------------------------------------------------------------------------------------


def finer_points(
    grid: Grid,
    scaled: Scaled,
    rows: Sequence[dict[str, Any]],
    surface: Surface | str,
    level: int,
    measure: Measure | None = None,
) -> list[Coefficients]:
    """Points at half the step around the best ones: up to :data:`ROUND` new networks, the most promising first.

    The neighbourhoods, one step to each side, are those of the networks with the highest upper confidence bounds
    (prediction + standard error); the points with the largest expected improvement over the surface's maximum are
    taken. Without a surface they are those nearest to the best mean accuracies.

    Args:
        grid: the coarse one.
        scaled: makes the networks.
        rows: all points so far, best mean accuracy first.
        surface: the response surface of the rows, or why there is none.
        level: rounds before: each halves the step.
        measure: as for :meth:`~effnas.scaling.grid.points.Grid.points`.
    """
    groups, growth = group_networks([row for row in rows if row["accuracy"] is not None])
    if not groups:
        return []
    mixture = shares(growth)
    if isinstance(surface, str):
        order, best = np.arange(len(groups)), growth[0]
    else:
        means, errors = surface.predict(mixture)
        order, best = np.argsort(-(means + errors), kind="stable"), mixture[int(np.argmax(means))]
    step = grid.step / 2**level
    known = {row["digest"] for row in rows}
    found: dict[str, Coefficients] = {}
    for i in order[:CENTERS]:
        for row in groups[i]:
            center = Coefficients(*(row[name] for name in NAMES))
            for p in _around(grid, scaled, center, step, measure):
                network = scaled.network(p)
                if network is not None and network.digest not in known:
                    found.setdefault(network.digest, p)
    points = list(found.values())
    if not points:
        return []
    at = np.array([log_growth(p) for p in points])
    worth = -np.abs(at - best).sum(axis=1) if isinstance(surface, str) else surface.improvement(shares(at), best)
    return [points[i] for i in np.argsort(-worth, kind="stable")[:ROUND]]


def _around(
    grid: Grid, scaled: Scaled, center: Coefficients, step: float, measure: Measure | None
) -> list[Coefficients]:
    """Points of half the step within one step of the center; none where the ratio is held by none."""
    try:
        return grid.near(center, step).points(scaled, measure)
    except UserError:
        return []
