"""The evaluator that scores untrained networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from ...space.cost import cost
from ...space.errors import UserError, check_int
from ...space.network_spec import NetworkSpec
from ...space.space import load_space
from ..evaluation import Evaluation, Report
from ..latency.known import KnowsLatency
from .proxies import check_proxies, score_network
from .reference import Reference, ReferenceSpace, measure_members


@dataclass(frozen=True)
class ZeroCost(KnowsLatency):
    """Scores of untrained networks, as merits: the share of random networks of the space that a network outscores.

    No accuracy: an evaluation has a :attr:`~effnas.evaluate.evaluation.Evaluation.merit` in its place, and the scores
    themselves among its metrics. Conditions are fixed (:mod:`effnas.evaluate.zero_cost.conditions`), so that equal
    networks have equal scores, whatever the search's seed.

    Args:
        space: the space that is searched, its name or its file; its random members are the reference.
        proxies: one or more of :data:`~effnas.evaluate.zero_cost.proxies.PROXIES`; of several the merit is the
            geometric mean of the shares.
        reference: random members that are scored first; the scores are kept in the cache folder.
        latency_model: says the latency of networks (:class:`~effnas.evaluate.latency.known.KnowsLatency`).

    Raises:
        UserError: a setting is wrong; when called, no member of the space has a score.
    """

    space: ReferenceSpace | str = field(repr=False)
    proxies: Sequence[str] | str = ("snip",)
    reference: int = 64
    #: What evaluations have.
    gives: ClassVar[str] = "merit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "proxies", check_proxies("evaluator.proxies", self.proxies))
        check_int("evaluator.reference", self.reference, 2, 100_000)
        self.check_latency_model()
        if not hasattr(self._space, "distributions") or not hasattr(self._space, "build"):
            raise UserError(f"evaluator.space must be a space, its name or its file, got {type(self.space).__name__}")

    @cached_property
    def _space(self) -> ReferenceSpace:
        return load_space(self.space) if isinstance(self.space, str) else self.space

    @property
    def input_files(self) -> tuple[str, ...]:
        """The model of latency, where one is given: :func:`~effnas.evaluate.identity.describe_files`."""
        return tuple(map(str, self.latency_files))

    @cached_property
    def population(self) -> Reference:
        """The scores of the random members.

        Raises:
            UserError: no member can be built, or none has a score.
        """
        return measure_members(self._space, self.proxies, self.reference)[1]

    def prepare(self) -> None:
        """Score the random members, or read their scores.

        Raises:
            UserError: as :attr:`population`.
        """
        self.population  # noqa: B018  # kept by its being read

    def describe(self) -> dict[str, Any]:
        """For the record of a search: what a merit is."""
        names = ", ".join(self.proxies)
        return {
            "merit_is": f"share of {self.population.size} random networks of the space outscored by {names}",
            "note": f"merits rank networks of this space by {names}; nothing was trained, and a merit is no accuracy",
            "exact": True,
            "proxies": list(self.proxies),
            "reference": self.population.size,
        }

    def __call__(self, architecture: NetworkSpec, *, seed: int, report: Report) -> Evaluation:
        """Score one network; ``seed`` changes nothing.

        Raises:
            EvaluationError: the network has no score; the message names the proxy and the reason.
            UserError: as :attr:`population`.
        """
        start = time.perf_counter()
        population = self.population
        scores = score_network(architecture, self.proxies)
        return Evaluation(
            accuracy=None,
            merit=population.find_merit(scores, self.proxies),
            cost=cost(architecture),
            latency=self.say_latency(architecture),
            seconds=time.perf_counter() - start,
            metrics=scores,
        )
