"""What fvcore counts in a network: the independent opinion beside ours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ...space.network_spec import NetworkSpec

#: Its names of what we count: convolutions and matrix products.
PRODUCTS = ("conv", "linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum")
#: Operators that multiply matrices under names that it does not know.
_UNKNOWN_PRODUCT = re.compile(
    r"attention|bilinear|convolution|matmul|tensordot|einsum|::(mv|dot|mm|bmm|addmv|baddbmm)$"
)


@dataclass(frozen=True)
class FvcoreCount:
    """Of one image.

    Args:
        params: elements of the parameters.
        activations: elements in the outputs of convolutions and matrix products.
        operators: multiply-accumulates by operator (``conv``, ``linear``, ``batch_norm``, …).
        parts: multiply-accumulates of convolutions and matrix products by part of the module: its children, in the
            order of the module, and the members of one that is called ``stages``.
        uncounted: operators that it met and does not know, with how often.
    """

    params: int
    activations: int
    operators: Mapping[str, int]
    parts: Mapping[str, int]
    uncounted: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Of convolutions and matrix products."""
        return _of_products(self.operators)

    @property
    def others(self) -> dict[str, int]:
        """Of :attr:`operators` those that cost something and are none of these."""
        return {name: number for name, number in self.operators.items() if number and name not in PRODUCTS}

    @property
    def total(self) -> int:
        """Of everything that it counts."""
        return sum(self.operators.values())

    @property
    def unknown_products(self) -> list[str]:
        """Of :attr:`uncounted` those that multiply matrices."""
        return [name for name in self.uncounted if _UNKNOWN_PRODUCT.search(name)]


def count_by_fvcore(module: nn.Module, network: NetworkSpec) -> FvcoreCount:
    """Count with fvcore, on the CPU; its log and the tracer's warnings are silenced.

    Args:
        module: of the network, on the CPU, in evaluation mode.
        network: whose images it takes.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # fvcore's import and the tracer's own
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, parameter_count  # takes most of a second

        image = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
        flops, outputs = FlopCountAnalysis(module, image), ActivationCountAnalysis(module, image)
        for analysis in (flops, outputs):
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        return FvcoreCount(
            params=parameter_count(module)[""],
            activations=int(outputs.total()),
            operators={name: int(number) for name, number in flops.by_operator().items()},
            parts={name: _of_products(flops.by_operator(name)) for name in part_names(module)},
            uncounted=dict(flops.unsupported_ops()),
        )


def part_names(module: nn.Module) -> list[str]:
    """Of a module's children, in their order, with those of one called ``stages`` in its place."""
    names = []
    for name, child in module.named_children():
        inner = [f"{name}.{number}" for number, _ in child.named_children()] if name == "stages" else []
        names += inner or [name]
    return names


def _of_products(operators: Mapping[str, float]) -> int:
    return int(sum(operators.get(name, 0) for name in PRODUCTS))
