"""Random networks of a space and their scores, among which the scores of others get a meaning.

A score has a unit of its own, and one proxy's cannot be compared with another's. A *share* can: the part of the
reference's networks that a network outscores. Between two of their scores it is interpolated, and beyond the outermost
it approaches 0 and 1, so that it keeps the order of the scores. Several proxies are combined by the geometric mean of
their shares, which is AZ-NAS' non-linear ranking (Lee and Ham 2024, section 3.3: Σ log rank/n) for one network at a
time.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from ...space.errors import UserError
from ...space.network_spec import NetworkSpec, hash_plain
from ...space.paths import cache_folder
from ..evaluation import EvaluationError
from ..folder import write_json
from .proxies import PARTS, expand_parts, score_network

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

#: Of the random members.
SEED = 0
#: Draws for each member that is wanted.
PATIENCE = 20
#: Part of the name of a cached file: raised when a proxy changes.
VERSION = 1


class ReferenceSpace(Protocol):
    """What a space must have here."""

    name: str

    @property
    def distributions(self) -> Mapping[str, CategoricalDistribution]:
        """The decisions."""

    def build(self, decisions: Mapping[str, Any]) -> NetworkSpec:
        """The network that they describe."""


@dataclass(frozen=True)
class Reference:
    """Scores of n networks of a space.

    Args:
        scores: by proxy, or part of ``az_nas``, those of the networks in one order.
    """

    scores: Mapping[str, Sequence[float]]

    @cached_property
    def size(self) -> int:
        """How many networks."""
        return len(next(iter(self.scores.values())))

    @cached_property
    def _az_nas(self) -> Array:
        members = [{part: self.scores[part][i] for part in PARTS} for i in range(self.size)]
        return np.array([self._combine(member) for member in members])

    def _combine(self, scores: Mapping[str, float]) -> float:
        """AZ-NAS' aggregate of its parts: the mean logarithm of their shares."""
        return float(np.mean([math.log(find_share(self.scores[part], scores[part])) for part in PARTS]))

    def list_shares(self, scores: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
        """The shares of a network in these proxies, from its scores as :func:`.proxies.score_network` gives them."""
        return {
            name: find_share(self._az_nas, self._combine(scores))
            if name == "az_nas"
            else find_share(self.scores[name], scores[name])
            for name in names
        }

    def find_merit(self, scores: Mapping[str, float], names: Sequence[str]) -> float:
        """The geometric mean of a network's shares, between 0 and 1."""
        shares = self.list_shares(scores, names)
        return math.exp(sum(math.log(share) for share in shares.values()) / len(shares))


def find_share(reference: Sequence[float] | Array, score: float) -> float:
    """The part of the reference's scores that a score exceeds, above 0 and at most 1, ties counting half.

    Linear between two different scores of the reference; beyond them it approaches its limit exponentially, by a factor
    of e for each standard deviation of the reference.
    """
    values, counts = np.unique(np.asarray(reference, np.float64), return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / counts.sum()
    width = float(np.std(np.asarray(reference))) or 1.0
    if score > values[-1]:
        return float(1 - (1 - shares[-1]) * math.exp(-(score - values[-1]) / width))
    if score < values[0]:
        return max(float(shares[0]) * math.exp(-(values[0] - score) / width), 1e-300)
    return float(np.interp(score, values, shares))


def draw_members(space: ReferenceSpace, count: int) -> list[tuple[dict[str, Any], NetworkSpec]]:
    """Different random members, decisions uniform and independent (seed 0): ``count``, or fewer of a small space.

    Raises:
        UserError: none can be built.
    """
    rng = np.random.default_rng(SEED)
    found: dict[str, tuple[dict[str, Any], NetworkSpec]] = {}
    reason = ""
    for _ in range(PATIENCE * count):
        if len(found) >= count:
            break
        decisions = {name: d.choices[int(rng.integers(len(d.choices)))] for name, d in space.distributions.items()}
        try:
            network = space.build(decisions)
        except UserError as error:  # decisions that stand for no network together
            reason = reason or str(error)
            continue
        found.setdefault(network.digest, (decisions, network))
    if not found:
        raise UserError(f"space {space.name}: no random member could be built; the first: {reason}")
    return list(found.values())


def measure_members(space: ReferenceSpace, names: Sequence[str], count: int) -> tuple[list[dict[str, Any]], Reference]:
    """The decisions and scores of random members, from the cache where they were measured before.

    Members without a score are left out.

    Args:
        space: whose members.
        names: proxies.
        count: of the members.

    Raises:
        UserError: none can be built, or none has a score.
    """
    members, parts = draw_members(space, count), expand_parts(names)
    content = {"parts": list(parts), "members": [network.digest for _, network in members], "version": VERSION}
    file = cache_folder() / "zero_cost" / f"{hash_plain(content)}.json"
    rows = _read(file, parts, len(members))
    if rows is None:
        log.info("%s: scoring %s random networks by %s", space.name, len(members), ", ".join(parts))
        rows, reason = [], ""
        for _, network in members:
            try:
                rows.append(list(score_network(network, parts).values()))
            except EvaluationError as error:
                reason = reason or str(error)
                rows.append(None)
        if all(row is None for row in rows):
            raise UserError(f"space {space.name}: none of {len(members)} random networks has a score; {reason}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"rows": rows})
        except OSError as error:
            log.warning("the scores cannot be cached: %s", error)
    scored = [(decisions, row) for (decisions, _), row in zip(members, rows, strict=True) if row is not None]
    scores = {name: [row[i] for _, row in scored] for i, name in enumerate(parts)}
    return [decisions for decisions, _ in scored], Reference(scores)


def _read(file: Path, parts: Sequence[str], count: int) -> list[list[float] | None] | None:
    """What is in a cached file; None where there is none, or something else is in it."""
    try:
        rows = json.loads(file.read_bytes())["rows"]
        found = [None if row is None else [float(value) for value in row] for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    right = all(row is None or (len(row) == len(parts) and all(map(math.isfinite, row))) for row in found)
    return found if right and len(found) == count and any(row is not None for row in found) else None
