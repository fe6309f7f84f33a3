"""A grid as a study: its points enqueued, and round by round what its results ask for: points, then trainings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.study import Study

from ...evaluate.interrupt import Interrupts
from ...search.problem import CONFIRMS, Enqueued
from ...search.record import enqueue_missing, is_done
from ...space.network_spec import NetworkSpec
from ..coefficients import Coefficients
from .choosing import choose_row, describe_posterior
from .latency import LatencyRatios
from .points import NAMES, Grid, Scaled, read_point
from .ranking import Rows, add_predictions, rank_points, surface_of
from .spending import Spending
from .star import Star

#: The points of the next round, from all rows so far and the number of rounds before.
Follow = Callable[[Rows, int], list[Coefficients]]

#: Study attribute: the points of each round of refinement so far.
ROUNDS = "rounds"
#: Study attribute: digests and seeds of the trainings that were asked for until the choice is decided.
EXTRA = "extra"


def make_grid_problem(scaled: Scaled, seed: int, seeds: int) -> Enqueued:
    """The grid as the search loop sees it: a point and a seed are the parameters of a trial.

    A point's network is the baseline scaled by it at φ = 1.
    """

    def network(params: Mapping[str, Any]) -> NetworkSpec:
        point = read_point(params)
        return scaled.network(point) or scaled.make(point)

    return Enqueued(network, {name: FloatDistribution(1, 10) for name in NAMES}, seed, seeds)


class GridPlan:
    """Which points are trained: those of the grid, then those of each further round, then some of them again.

    A round is settled when everything before it is trained, and kept in the study before its first point is enqueued:
    what a kill leaves of it is trained by the next run. Of machines that share the study the one that finds nothing
    running settles it. The same holds for the trainings that are asked for until the choice is decided.

    Args:
        problem: of :func:`make_grid_problem`.
        scaled: makes the networks.
        grid: the coarse one, or a star.
        rounds: that follow it, of ``size`` new networks at most each.
        follow: says which points they are.
        latency: gives the latency ratios, where the grid holds them; nothing is measured before :meth:`prepare`.
        choose: one of :data:`~effnas.scaling.grid.choosing.CHOICES`.
        spending: what further trainings there may be until the choice is decided; None: there are none.
        confirm: trainings of the chosen point with other seeds, when all else is done.
        own_pixels: the side of the images themselves, where it is known.
        quiet: do not tell on standard error how much there is to train.

    Raises:
        UserError: there are no points, or more trainings of them than may be spent.
    """

    def __init__(
        self,
        problem: Enqueued,
        scaled: Scaled,
        grid: Grid | Star,
        rounds: int,
        size: int,
        follow: Follow,
        latency: LatencyRatios | None = None,
        *,
        choose: str = "posterior",
        spending: Spending | None = None,
        confirm: int = 0,
        own_pixels: int | None = None,
        quiet: bool = False,
    ) -> None:
        self._own_pixels = own_pixels
        self._choose, self._confirm, self._spending = choose, confirm, spending
        self._problem, self._grid, self._scaled = problem, grid, scaled
        self._rounds, self._size, self._follow, self._latency = rounds, size, follow, latency
        self._coarse = grid.points(scaled) if latency is None else []
        self._told = quiet
        self._settled: list[list[Coefficients]] = []
        self._extra, self._more = list[tuple[str, int]](), list[tuple[str, int]]()
        if latency is None:
            self._check_spending()
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
        return self.last and not self._more and not self._left

    @property
    def candidates(self) -> list[Coefficients] | None:
        """The points that may become the coefficients; None: all."""
        return self._grid.candidates(self._scaled, self.points)

    @property
    def trainings(self) -> int:
        """All there can be for now, duplicates of equal networks included."""
        most = len(self._coarse) + self._size * self._rounds
        return max(most, len(self.points)) * self._problem.seeds + len(self._further()) + self._confirm

    def announcement(self) -> str:
        """How much there is to train."""
        seeds, different = self._problem.seeds, self._count_networks()
        text = f"{len(self._coarse)} points, {different} different networks: {different * seeds} trainings"
        text += f" with {seeds} seeds" if seeds > 1 else ""
        text += self._grid.announce_rounds(self._rounds, self._size, seeds)
        if self._spending is not None:
            text += f"; then more, until the choice is decided or there are {self._spending.most} in all"
        if self._confirm:
            text += f"; then the chosen point with {self._confirm} other seed{'s' * (self._confirm > 1)}"
        return text

    def look_at(self, study: Study) -> None:
        """Set ``done``: whether every point has its trainings, and nothing waits or runs."""
        self._extra = [(digest, seed) for digest, seed in study.user_attrs.get(EXTRA, [])]
        self.done, self._left, self._more = is_done(study, self._all()), [], []
        if not (self.done and self.last and (self._confirm or self._spending)):
            return
        rows = self._rank(study)
        if not rows or rows[0]["accuracy"] is None:
            return
        surface, posterior = add_predictions(rows, surface_of(rows)), describe_posterior(rows)
        best, _ = choose_row(rows, surface, posterior, self._choose)
        if self._spending is not None:
            self._more = self._spending.look_at(study, self._scaled, rows, self._choose, best["digest"])
        if self._confirm and not self._more:
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
            self._check_spending()
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
        if self._more:
            self._extra += self._more
            study.set_user_attr(EXTRA, self._extra)
        enqueue_missing(study, self._all())
        enqueue_missing(study, self._left, {CONFIRMS: True})

    def _rank(self, study: Study) -> Rows:
        known = {} if self._latency is None else self._latency.known
        return rank_points(study, self._scaled, self.points, known, self.candidates, self._own_pixels)

    def _next(self, study: Study) -> list[Coefficients]:
        return self._follow(self._rank(study), len(self._settled))

    def _all(self) -> list[dict[str, Any]]:
        """The parameters of every trial, seed by seed, those asked for afterwards last."""
        return self._problem.trials(map(_parameters, self.points)) + self._further()

    def _further(self) -> list[dict[str, Any]]:
        """Points that are one network all get its seeds; the first is trained."""
        points: dict[str, list[Coefficients]] = {}
        for p in self.points if self._extra else ():
            if (network := self._scaled.network(p)) is not None:
                points.setdefault(network.digest, []).append(p)
        return [{**_parameters(p), "seed": seed} for digest, seed in self._extra for p in points.get(digest, ())]

    def _count_networks(self) -> int:
        networks = [n for p in self._coarse if (n := self._scaled.network(p)) is not None]
        return len({network.digest for network in networks})

    def _check_spending(self) -> None:
        if self._spending is not None:
            self._spending.check((self._count_networks() + self._rounds * self._size) * self._problem.seeds)


def _parameters(point: Coefficients) -> dict[str, Any]:
    return {name: getattr(point, name) for name in NAMES}
