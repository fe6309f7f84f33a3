"""Evaluators that are told how fast networks are, so that latency is known before anything is trained."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ...space.errors import UserError
from ...space.network_spec import NetworkSpec
from .laws import KnownLatency
from .loading import load_latency

E = TypeVar("E")


@dataclass(frozen=True)
class KnowsLatency:
    """What every evaluator takes that does not have to measure latency.

    Args:
        latency_model: a ready law's name (``rtx4090``, …) or a file of ``effnas latency fit``; its seconds are the
            evaluation's latency, and a search knows them before training. None: no model.

    Raises:
        UserError: it is neither; there is no such law or file, or the file holds no model.
    """

    latency_model: str | Path | None = field(default=None, kw_only=True)

    def check_latency_model(self, other: str | None = None) -> None:
        """Raise :class:`UserError` unless the model can be read, and is not set beside the setting ``other``."""
        if self.latency_model is None:
            return
        if not isinstance(self.latency_model, str | os.PathLike) or not str(self.latency_model):
            raise UserError(f"evaluator.latency_model must be a law's name, a file or null, got {self.latency_model!r}")
        if other is not None and (value := getattr(self, other)) is not None:
            raise UserError(
                f"evaluator.latency_model={self.latency_model} and evaluator.{other}={value} both say the latency: "
                "leave one of them out"
            )
        self.known_latency  # noqa: B018  # kept by its being read

    @cached_property
    def known_latency(self) -> KnownLatency | None:
        """What says the latency of a network before it is trained; None: nothing does."""
        return None if self.latency_model is None else load_latency(self.latency_model)

    def say_latency(self, architecture: NetworkSpec) -> float | None:
        """Seconds of one network by the model; None without one."""
        return None if self.known_latency is None else self.known_latency(architecture)

    @property
    def latency_files(self) -> tuple[str | Path, ...]:
        """The model's, among the files that an evaluator reads."""
        return () if self.latency_model is None else (self.latency_model,)


def tell_latency(evaluator: E, model: str | Path | None) -> E:
    """The same evaluator with a model of latency; itself where none is given.

    Raises:
        UserError: it takes none or has another one, or there is no such model.
    """
    if model is None:
        return evaluator
    if not isinstance(evaluator, KnowsLatency):
        raise UserError(
            f"latency={model}: evaluator {type(evaluator).__name__} takes no model of latency; give it a method "
            "known_latency(network) instead"
        )
    if evaluator.latency_model not in (None, model):
        raise UserError(f"latency={model} and evaluator.latency_model={evaluator.latency_model}: leave one of them out")
    return replace(evaluator, latency_model=model)


def find_latency(evaluator: object, space: str) -> KnownLatency | None:
    """What an evaluator of networks of a space knows of their latency before it trains them; None: nothing.

    Raises:
        UserError: the model is of another space.
    """
    known: KnownLatency | None = getattr(evaluator, "known_latency", None)
    if known is None:
        return None
    of = getattr(known, "space", None)
    if of is not None and of != space:
        raise UserError(
            f"evaluator.latency_model: {getattr(evaluator, 'latency_model', known)} is of space {of}, and this search "
            f"is in space {space}: measure some of its networks (effnas latency measure --space {space}, then effnas "
            "latency fit)"
        )
    return known
