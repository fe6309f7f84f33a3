"""Latencies of several networks measured in alternation, so that what the machine does meanwhile meets all alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ...space.errors import UserError, check_int
from ...space.network_spec import NetworkSpec
from ..evaluation import EvaluationError
from .profile import profile

#: A network's timed passes in one round take about so many seconds, and are so many at least and at most.
ROUND_SECONDS, LEAST, MOST = 1.0, 3, 30


class NotTimedError(EvaluationError):
    """A network of a round could not be measured, for the reason that the message is.

    Args:
        index: of the network in the round.
        reason: for people.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def time_round(
    networks: Sequence[NetworkSpec],
    passes: Sequence[int],
    *,
    backwards: bool = False,
    warmup: int = 1,
    batch_size: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    timed: Callable[[], None] = lambda: None,
) -> list[float]:
    """Seconds per batch of each network, one measured after the other: the median of its passes.

    Args:
        networks: with random weights (:func:`~effnas.evaluate.machine.profile.profile`).
        passes: timed, of each.
        backwards: begin with the last one.
        warmup: passes before them.
        batch_size, threads, device, precision: as :func:`~effnas.evaluate.machine.profile.profile`.
        timed: called after each network.

    Raises:
        UserError: a number out of range, or no such device.
        NotTimedError: memory runs out for a network.
    """
    seconds = [0.0] * len(networks)
    for i in reversed(range(len(networks))) if backwards else range(len(networks)):
        try:
            seconds[i] = profile(
                networks[i],
                batch_size=batch_size,
                threads=threads,
                device=device,
                precision=precision,
                repeats=passes[i],
                warmup=warmup,
                fvcore=False,
            ).latency
        except EvaluationError as error:
            raise NotTimedError(i, str(error)) from error
        timed()
    return seconds


def paired_latency(
    networks: Sequence[NetworkSpec],
    *,
    rounds: int = 5,
    batch_size: int = 1,
    threads: int | None = 1,
    device: str = "cpu",
    precision: str = "fp32",
    seen: Callable[[int], None] = lambda count: None,
) -> list[list[float]]:
    """Seconds per batch, for each network one value per round: the median of its passes in that round.

    Every round goes through all networks, the odd ones in reverse; one more before them warms up and is not counted.
    Networks are compared by the ratios of their values in the same round.

    Args:
        networks: with random weights (:func:`~effnas.evaluate.machine.profile.profile`).
        rounds: at least 2.
        batch_size: images per pass.
        threads: of the CPU; None: PyTorch's default.
        device: as :func:`~effnas.evaluate.machine.device.find_device`.
        precision: as :func:`~effnas.evaluate.machine.profile.profile`.
        seen: called with the number of finished measurements, of ``(rounds + 1) × networks``.

    Raises:
        UserError: a number out of range, no such device, or a network for which memory runs out.
    """
    check_int("latency_rounds", rounds, 2, 1000)
    passes = [LEAST] * len(networks)
    counts = itertools.count(1)
    found: list[list[float]] = []
    for number in range(rounds + 1):
        try:
            seconds = time_round(
                networks,
                passes,
                backwards=number % 2 == 1,
                batch_size=batch_size,
                threads=threads,
                device=device,
                precision=precision,
                timed=lambda: seen(next(counts)),
            )
        except NotTimedError as error:
            name = networks[error.index].name
            raise UserError(f"latency of {name}: {error}; compare without it, or latency=false") from error
        if number == 0:
            passes = [min(MOST, max(LEAST, round(ROUND_SECONDS / second))) for second in seconds]
        else:
            found.append(seconds)
    return [list(values) for values in zip(*found, strict=True)]
