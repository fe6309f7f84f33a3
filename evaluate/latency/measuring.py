"""Members of a space measured on this machine, a few at a time, in alternation."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...space.network_spec import NetworkSpec
from ..machine.paired_latency import paired_latency

#: Members that are measured in turn with each other, and written when all are.
TOGETHER = 8


def draw_members(space: Any, count: int, seed: int) -> list[tuple[dict[str, Any], NetworkSpec]]:
    """Different networks, drawn at random: their decisions and themselves; fewer where there are no more."""
    rng, found = np.random.default_rng(seed), dict[str, tuple[dict[str, Any], NetworkSpec]]()
    for _ in range(50 * count):
        decisions = dict(space.sample(rng))
        network = space.build(decisions)
        found.setdefault(network.digest, (decisions, network))
        if len(found) == count:
            break
    return list(found.values())


def measure_members(
    networks: Sequence[NetworkSpec],
    *,
    rounds: int,
    batch_size: int,
    threads: int | None,
    device: str,
    precision: str,
    seen: Callable[[int], None],
) -> Iterator[list[float]]:
    """Seconds per batch of the next few networks: each the median of its rounds, in which all of them take turns.

    Raises:
        UserError: a number out of range, no such device, or memory runs out.
    """
    for first in range(0, len(networks), TOGETHER):
        seconds = paired_latency(
            networks[first : first + TOGETHER],
            rounds=rounds,
            batch_size=batch_size,
            threads=threads,
            device=device,
            precision=precision,
        )
        yield [statistics.median(values) for values in seconds]
        seen(min(first + TOGETHER, len(networks)))
