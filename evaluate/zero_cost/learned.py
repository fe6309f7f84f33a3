"""Proxies of thousands of members in milliseconds: learned from a few hundred that were scored.

A score is a smooth function of the decisions, so a few hundred scored members tell those of all others well enough to
help a model of accuracies; counts are exact.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...space.cost import cost_batch
from ...space.errors import UserError
from ...space.space import SearchSpace
from ..surrogate import FOLDS, Surrogate, fit
from .counts import COUNTS, count_batch
from .proxies import expand_parts
from .reference import measure_members

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Members that are scored; Kendall's τ of what is learned from them and the scores of others: see docs/shortcuts.md.
MEMBERS = 256


@dataclass(frozen=True)
class ProxyFeatures:
    """Scores of a space's members, ``az_nas`` as its parts.

    Args:
        space: whose members.
        names: proxies.

    Raises:
        UserError: when first asked, the space has too few members with scores to learn from.
    """

    space: SearchSpace = field(repr=False)
    names: tuple[str, ...]

    def look(self, indices: NDArray[np.int64]) -> Array:
        """Of members by their choice indices (n, decisions): shape (n, k); what is learned is standardised."""
        batch = self.space.batch(indices)
        costs = cost_batch(batch)
        counts = count_batch(batch, costs)
        table = self.describe(indices)
        columns = [
            counts[name] if name in COUNTS else self._learned[name].predict(table)[0]
            for name in expand_parts(self.names)
        ]
        return np.stack(columns, axis=1)

    def describe(self, indices: NDArray[np.int64]) -> Array:
        """What the scores are learned from, (n, decisions) to (n, f): decisions one-hot, and the counts."""
        batch = self.space.batch(indices)
        counts = count_batch(batch, cost_batch(batch))
        sizes = [len(labels) for labels in self.space.choices.values()]
        hot = [np.eye(size)[indices[:, i]] for i, size in enumerate(sizes)]
        return np.hstack([*hot, np.stack([counts[name] for name in COUNTS], axis=1)])

    @cached_property
    def _learned(self) -> dict[str, Surrogate]:
        measured = [name for name in expand_parts(self.names) if name not in COUNTS]
        if not measured:
            return {}
        decisions, reference = measure_members(self.space, measured, MEMBERS)
        if reference.size < 2 * FOLDS:
            raise UserError(
                f"algorithm.features: {2 * FOLDS} or more scored members are needed to learn {', '.join(measured)}, "
                f"but the space {self.space.name} has {reference.size}; the counts need none: {', '.join(COUNTS)}"
            )
        table = self.describe(self.space.indices([self.space.canonical(d) for d in decisions]))
        found = {}
        for name in measured:
            scores = np.array(reference.scores[name])
            if np.ptp(scores) == 0:
                raise UserError(
                    f"algorithm.features: {name} is the same for all networks of {self.space.name}: leave it out"
                )
            found[name] = fit(table, (scores - scores.mean()) / scores.std())
            log.info("%s learned from %d networks: Kendall tau %.3f", name, reference.size, found[name].tau)
        return found
