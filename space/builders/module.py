"""What a builder's network is and costs: the module itself, and its parameters, MACs, activations and memory.

Costs are measured on PyTorch's ``meta`` device, where nothing is computed, with torch's ``FlopCounterMode`` and
:mod:`~effnas.space.builders.count`; fvcore cannot trace a module there. They agree with fvcore's counts on the CPU and
with the conventions of ``space/formulas.py``: MACs of convolutions and matrix products, elements of their outputs, peak
memory with BatchNorm folded.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UserError
from ..formulas import Cost
from ..torch_private import is_batch_norm
from .builder import BuilderCall
from .count import Operators
from .live_tensors import LiveTensors
from .table import BUILT

log = logging.getLogger(__name__)

#: Builders whose uncounted operators were told.
_told: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Measured:
    """Costs of one image, and input side over the smallest side of a feature map."""

    cost: Cost
    total_stride: int


def make_module(network: BuilderCall) -> nn.Module:
    """Call the builder, on torch's current default device and with its current random state.

    Raises:
        UserError: it cannot be called so, fails, or returns something other than a module with its weights.
    """
    function, options = _find_function(network)
    where = f"builder {network.code}"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of compiled code: then nothing is known of its keywords
        signature = None
    if signature is not None:
        names = signature.parameters
        open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names.values())
        for name in ("num_classes", "in_channels"):
            if name not in options and (name in names or open_ended):
                options[name] = getattr(network, name)
        try:
            signature.bind(1.0, 1.0, 224, **options)
        except TypeError as error:
            raise UserError(
                f"{where} must be callable as (depth, width, resolution); its signature is {signature}: {error}"
            ) from None
    try:
        module = function(network.depth, network.width, network.resolution, **options)
    except Exception as error:
        raise UserError(f"{where} failed at {network.sizes}: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"{where} must return a torch.nn.Module, got {type(module).__name__}")
    if lazy := [name for name, p in module.named_parameters() if nn.parameter.is_lazy(p)]:
        raise UserError(f"{where} must return a module without lazy layers; lazy are: {', '.join(lazy[:3])}")
    return module


def measure_network(network: BuilderCall) -> Measured:
    """Costs of one image at the network's resolution, without computing anything.

    Raises:
        UserError: as :func:`make_module`, or the module does not accept such images or returns something other than
            (n, num_classes); if the resolution is too small for it, the message says so.
    """
    return _measure(network, network.function)


@lru_cache(maxsize=4096)
def _measure(network: BuilderCall, function: object) -> Measured:
    """``function`` tells a redefined function, as in a notebook, from an earlier one of the same name."""
    where = f"builder {network.code}"
    module = make_on_meta(partial(make_module, network)).eval()
    params = sum(p.numel() for p in module.parameters())
    _fold_batch_norm(module)
    operators = Operators(module.parameters())
    live = LiveTensors()
    side = network.resolution
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as flops, operators, live:
            logits = module(torch.zeros(1, network.in_channels, side, side, device="meta"))
    except Exception as error:
        raise UserError(
            f"{where}: a network of {network.sizes} cannot take an image of {network.in_channels} channels and "
            f"{side} pixels: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (1, network.num_classes):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"{where} must return logits of shape (n, num_classes) = (1, {network.num_classes}) for one image, got "
            f"{got}; give it a parameter num_classes, or set num_classes of the network to what it makes"
        )
    _tell_uncounted(where, operators.uncounted)
    cost = Cost(params, flops.get_total_flops() // 2 + operators.macs, operators.elements, live.peak)
    return Measured(cost, max(1, side // (operators.smallest or side)))


def _tell_uncounted(where: str, names: set[str]) -> None:
    """Warn, once for each builder, of operators whose multiply-accumulates are missing in its costs."""
    new = sorted(name for name in names if (where, name) not in _told)
    _told.update((where, name) for name in new)
    if new:
        log.warning("%s: MACs and activations lack what %s does with weights: it is not counted", where, ", ".join(new))


def make_on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The module that ``make`` makes, without memory for its weights; with it first where it cannot be without.

    Raises:
        UserError: as ``make``.
    """
    with contextlib.suppress(UserError), torch.device("meta"):
        return make()
    with torch.random.fork_rng(devices=[]):
        return make().to("meta")


def find_axes(network: BuilderCall, size: str) -> dict[str, int]:
    """The entries of the ``state_dict`` whose shapes depend on a size, and the first axis where it stands.

    Args:
        network: a builder and its arguments.
        size: ``num_classes`` or ``in_channels``.

    Raises:
        UserError: as :func:`make_module`.
    """
    shapes, others = (
        {name: tuple(tensor.shape) for name, tensor in make_on_meta(partial(make_module, n)).state_dict().items()}
        for n in (network, replace(network, **{size: getattr(network, size) + 1}))
    )
    return {
        name: next(i for i, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b)
        for name, shape in shapes.items()
        if (other := others.get(name)) is not None and other != shape and len(other) == len(shape)
    }


def check_builder(network: BuilderCall, names: Sequence[str] = ("depth", "width", "resolution")) -> None:
    """Refuse a builder that ignores one of these arguments: more of each must cost more.

    Raises:
        UserError: as :func:`measure_network`, or the MACs do not rise; the message names the argument.
    """
    base = measure_network(network).cost.macs
    for name in names:
        for factor in (2, 4, 8):  # two blocks may be one at a depth of 0.5 and at 0.25
            value = factor * getattr(network, name)
            macs = measure_network(replace(network, **{name: value})).cost.macs
            if macs > base:
                break
        else:
            raise UserError(
                f"builder {network.code} ignores {name}: {name} {value:g} costs {macs:,} MACs, {name} "
                f"{getattr(network, name):g} {base:,}; what it returns must grow with depth, width and resolution"
            )


def _find_function(network: BuilderCall) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The builder and its options."""
    if network.function is not None:
        return network.function, network.options
    entry = BUILT[network.code]
    return getattr(import_module(f".{entry.module}", __package__), entry.function), dict(entry.options)


def _fold_batch_norm(module: nn.Module) -> None:
    """BatchNorm costs no memory in inference, being folded into the convolution before it."""
    for child in module.modules():
        if is_batch_norm(child):
            child.__dict__["forward"] = lambda x: x  # its attributes stay, for a module that looks at them
