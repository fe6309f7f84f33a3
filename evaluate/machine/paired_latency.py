"""Latencies of several networks measured in alternation, so that what the machine does meanwhile meets all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...space.built import AnyArchitecture
from ...space.errors import UserError, check_int
from ..evaluation import EvaluationError
from .profile import profile

#: A network's timed passes in one round take about so many seconds, and are so many at least and at most.
ROUND_SECONDS, LEAST, MOST = 1.0, 3, 30


def paired_latency(
    networks: Sequence[AnyArchitecture],
    *,
    rounds: int = 5,
    batch_size: int = 1,
    threads: int | None = 1,
    device: str = "cpu",
    seen: Callable[[int], None] = lambda count: None,
) -> list[list[float]]:
    """Seconds a batch, for each network one value a round: the median of its passes in that round.

    Every round goes through all networks, the odd ones in reverse; one more before them warms up and is not counted.
    Networks are compared by the ratios of their values in the same round.

    Args:
        networks: with random weights (:func:`~effnas.evaluate.machine.profile.profile`).
        rounds: at least 2.
        batch_size: images a pass.
        threads: of the CPU; None: as many as torch has.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        seen: told how many measurements, of ``(rounds + 1) × networks``, are done.

    Raises:
        UserError: a number out of range, no such device, or a network for which memory is lacking.
    """
    check_int("latency_rounds", rounds, 2, 1000)
    passes = [LEAST] * len(networks)
    found: list[list[float]] = [[] for _ in networks]
    done = 0
    for number in range(rounds + 1):
        order = range(len(networks))
        for i in order if number % 2 == 0 else reversed(order):
            try:
                measured = profile(
                    networks[i],
                    batch_size=batch_size,
                    threads=threads,
                    device=device,
                    repeats=passes[i],
                    warmup=1,
                    fvcore=False,
                )
            except EvaluationError as error:
                raise UserError(
                    f"latency of {networks[i].name}: {error}; compare without it, or latency=false"
                ) from error
            if number == 0:
                passes[i] = min(MOST, max(LEAST, round(ROUND_SECONDS / measured.latency)))
            else:
                found[i].append(measured.latency)
            done += 1
            seen(done)
    return found
