"""The proxies by name, and the scores of one network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module

from ...space.errors import UserError, check_choice
from ...space.network_spec import NetworkSpec
from ..evaluation import EvaluationError
from .counts import COUNTS, count_network

#: Of ``az_nas``, which is known only among other networks: see :mod:`.reference`.
PARTS = ("az_expressivity", "az_progressivity", "az_trainability", "log_macs")
#: What is measured together: names, and the function that gives them; it is imported when first asked for (torch).
_FAMILIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("synflow",), "synflow.score_synflow"),
    (("naswot",), "naswot.score_naswot"),
    (("zico",), "gradients.score_gradients"),  # two batches, of which the first gives the next two as well
    (("grad_norm", "snip"), "gradients.score_first_batch"),
    (("zen_score",), "zen_score.score_zen"),
    (PARTS[:3], "az_nas.score_az_nas"),
)
#: What can be asked for.
PROXIES = ("synflow", "naswot", "zico", "grad_norm", "snip", "zen_score", "az_nas", *COUNTS)


def check_proxies(where: str, names: object) -> tuple[str, ...]:
    """The names, as a tuple.

    Raises:
        UserError: there are none, one is unknown or is there twice.
    """
    given = (names,) if isinstance(names, str) else names
    if not isinstance(given, Sequence) or not given:
        raise UserError(f"{where} must be one or more of {', '.join(PROXIES)}, got {names!r:.100}")
    for name in given:
        check_choice(where, name, PROXIES)
    if len(set(given)) < len(given):
        raise UserError(f"{where} must differ, got {', '.join(given)}")
    return tuple(given)


def expand_parts(names: Sequence[str]) -> tuple[str, ...]:
    """What is measured for these proxies: ``az_nas`` is its parts."""
    return tuple(dict.fromkeys(part for name in names for part in (PARTS if name == "az_nas" else (name,))))


def score_network(architecture: NetworkSpec, names: Sequence[str]) -> dict[str, float]:
    """The scores of one network, by name; for each, more is better.

    Args:
        architecture: of the network, scored at its own resolution under the conditions of :mod:`.conditions`.
        names: of :data:`PROXIES`, or parts of ``az_nas``, in whose place its parts stand in the result.

    Raises:
        EvaluationError: the network has no such score; the message says why.
        UserError: its builder cannot build it.
    """
    wanted = expand_parts(names)
    counts = tuple(name for name in wanted if name in COUNTS)
    scores = count_network(architecture, counts) if counts else {}
    for family, place in _FAMILIES:
        missing = [name for name in family if name in wanted and name not in scores]
        if not missing:
            continue
        score = _find(place)
        from .conditions import explain_failures  # torch

        with explain_failures(", ".join(missing)):
            scores |= score(architecture)
    for name in wanted:
        if not math.isfinite(scores[name]):
            raise EvaluationError(f"{name}: the score must be finite, got {scores[name]!r}")
    return {name: scores[name] for name in wanted}


def _find(place: str) -> Callable[[NetworkSpec], dict[str, float]]:
    file, _, function = place.partition(".")
    found: Callable[[NetworkSpec], dict[str, float]] = getattr(import_module(f".{file}", __package__), function)
    return found
