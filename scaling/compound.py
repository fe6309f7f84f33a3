"""Scaling: one baseline, a rule and one number φ give a network of any size (Tan & Le 2019, section 3.3).

Torch-free for Architectures, so that ``effnas scale`` starts at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..space.built import check_network
from ..space.errors import UserError, check_number
from ..space.multipliers import DIVISOR, check_divisor, round_filters, round_repeats
from ..space.network_spec import N, NetworkSpec, require_network
from ..space.quantity import as_plain
from ..space.zoo import load_architecture
from .coefficients import Coefficients, load_coefficients
from .rules import Compound, Multipliers, Rule

__all__ = ["base_network", "round_filters", "round_repeats", "scale", "scale_by"]

#: What is scaled where nothing is named: by ``effnas scale``, and by what follows a search.
BASELINE, SEARCHED = "efficientnet_b0", "outputs/search/baseline.yaml"
_HIGHEST_DROPOUT = 0.899
#: Architecture's own limit, checked here to say which φ broke it.
_HIGHEST_RESOLUTION = 100_000


def base_network(
    baseline: NetworkSpec | str | Path | None,
    network: object,
    default: str = BASELINE,
    in_channels: int | None = None,
    divisor: int = DIVISOR,
) -> NetworkSpec:
    """The network that a job scales: itself, a file or zoo name, the user's own ``network``, or else the default.

    ``in_channels``: of the images; None: the network's own. ``divisor``: of the widths that it is to be scaled to.

    Raises:
        UserError: it cannot be read, ``network`` is not a network, its builder ignores one of its arguments, or
            rounds its own widths.
    """
    network, found = check_network(network), baseline
    if found is None or isinstance(found, str | os.PathLike):
        place = "" if found is None else str(found)
        found = load_architecture(place or (None if network else default), network)
    require_network("baseline", found)
    found = found if in_channels is None else found.with_(in_channels=in_channels)
    found.check_scalable(divisor=divisor)
    return found


def scale(
    architecture: N, coefficients: Coefficients | str | Path | Sequence[float], phi: float, *, divisor: int = DIVISOR
) -> N:
    """The network with depth × α^φ, width × β^φ and resolution × γ^φ, rounded as the official code does.

    φ is any real number: 0 gives an equal network, negative ones shrink. The dropout rate follows as
    ``dropout · (1 + 1.5·φ/7)``, kept in [0, 0.9); ``drop_path`` stays the rate of the last of the (now more) blocks.
    ``divisor`` is what the widths become multiples of, :data:`~effnas.space.multipliers.TARGET_DIVISORS`.
    ``coefficients`` may be what :func:`~effnas.scaling.coefficients.load_coefficients` reads, too.

    Raises:
        UserError: it is no network, φ is not a number in [−100, 100], the resolution would fall below the total stride
            (no pixel left to see), or the network would grow out of bounds.
    """
    require_network("scale: architecture", architecture)
    return scale_by(architecture, Compound(load_coefficients(coefficients)), phi, divisor=divisor)


def scale_by(architecture: N, rule: Rule, phi: float, *, divisor: int = DIVISOR, depth_rounding: str = "up") -> N:
    """As :func:`scale`, by any rule; ``depth_rounding`` as :func:`multiply_network` takes it.

    The name says the rule, the divisor, unless it is 8, and φ.

    Raises:
        UserError: as :func:`scale`, or the rule is not defined at this φ.
    """
    phi = as_plain(phi)
    check_number("phi", phi, -100, 100)
    check_divisor(divisor)
    multipliers = rule(phi)
    tilt_at = getattr(rule, "tilt_at", None)
    try:
        scaled = multiply_network(
            architecture,
            multipliers,
            divisor=divisor,
            depth_rounding=depth_rounding,
            keep_dropout=phi == 0,
            tilt=None if tilt_at is None else tilt_at(phi),
        )
    except UserError as error:
        by = rule.coefficients if isinstance(rule, Compound) else f"rule {rule.name}"
        raise UserError(f"phi = {phi:g}, {by}: {error}") from None
    middle = ("" if rule.name == "compound" else f"_{rule.name}") + name_divisor(divisor)
    return scaled.with_(name=f"{architecture.name or 'network'}"[:170] + f"{middle}_phi{phi:g}")


def name_divisor(divisor: int) -> str:
    """The part of a network's name that tells its widths' divisor; "" for the usual one."""
    return "" if divisor == DIVISOR else f"_div{divisor}"


def multiply_network(
    architecture: N,
    by: Multipliers,
    *,
    divisor: int = DIVISOR,
    depth_rounding: str = "up",
    keep_dropout: bool = False,
    tilt: Sequence[tuple[float, float]] | None = None,
) -> N:
    """The network with depth, width, resolution and dropout multiplied, and rounded to what a network can have.

    Args:
        architecture: the base.
        by: its multipliers.
        divisor: of the widths; a builder's network rounds its own.
        depth_rounding: of the repeats, "up", as in the official code, or "nearest"; the same is true of it.
        keep_dropout: leave the rate as it is.
        tilt: of each stage, what its width and depth are multiplied by besides; only an Architecture has stages.

    Raises:
        UserError: the resolution would fall below the total stride, or the network would grow out of bounds.
    """
    side = architecture.resolution * by.resolution
    stride = architecture.total_stride
    smallest = min(stride, architecture.resolution)
    if side > _HIGHEST_RESOLUTION or round(side) < smallest:
        raise UserError(
            f"the resolution would be {side:.4g} pixels; it must be between {smallest} "
            f"(the total stride is {stride}) and {_HIGHEST_RESOLUTION:,}"
        )
    dropout = None
    if not keep_dropout and architecture.dropout is not None:
        dropout = min(max(architecture.dropout * by.dropout, 0.0), _HIGHEST_DROPOUT)
    how: dict[str, Any] = {"divisor": divisor, "depth_rounding": depth_rounding}
    if tilt is not None:
        how["tilt"] = tilt
    return architecture.scaled(by.width, by.depth, round(side), dropout, **how)
