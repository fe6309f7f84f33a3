"""What the operators of a network cost while it runs, on any device, ``meta`` included.

torch's ``FlopCounterMode`` counts convolutions, attention and products of matrices; here are the products that it does
not know, and what has weights and is counted by neither.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from ..torch_private import OperatorWatch, find_tensors, is_elementwise

_aten: Any = torch.ops.aten
_PRODUCTS = (_aten.addmm, _aten.mm, _aten.bmm, _aten.baddbmm)
#: Multiply-accumulates by operator: of a matrix and a vector, of two vectors, of batches summed, of ``nn.Bilinear``.
_MACS: dict[str, Callable[..., int]] = {
    "aten.mv": lambda matrix, *_: matrix.numel(),
    "aten.addmv": lambda _, matrix, *__: matrix.numel(),
    "aten.dot": lambda vector, *_: vector.numel(),
    "aten.vdot": lambda vector, *_: vector.numel(),
    "aten.addr": lambda _, column, row: len(column) * len(row),
    "aten.addbmm": lambda _, left, right: left.numel() * right.shape[-1],
    "aten._trilinear": lambda left, weight, right, *_: math.prod(left.shape[:-1]) * weight.numel(),
}
#: Operators with weights that cost nothing here (normalisation, look-ups), or only move or prepare them.
_FREE = re.compile(
    r"(native_|cudnn_|miopen_)?(batch|layer|group|instance|rms)_norm|_?fused_rms_norm|_?embedding|_prelu_kernel|"
    r"_weight_norm|norm$|linalg_(vector|matrix)_norm|_?(log_)?softmax|_?safe_softmax|index|gather|take|select|slice|cat$|"
    r"stack|repeat|tile|roll|flip|rot90|clone|copy|_to_copy|contiguous|_?unsafe_view|unsafe_split|split|chunk|unbind|"
    r"unfold|im2col|col2im|pad|constant_pad|reflection_pad|replication_pad|upsample|_upsample|tril|triu|diag|where|"
    r"masked|scatter|set_|fill|zero|new_|empty|ones|full|rand|bernoulli|dropout|native_dropout|sort|topk|arg|cum|"
    r"max_pool|avg_pool|_adaptive|adaptive|equal|_local_scalar|is_|std|var|detach|lift|alias|_reshape|resize"
)


class Operators(OperatorWatch):
    """Counts what torch's counter does not, and names what nobody counts.

    Args:
        weights: of the network that runs.

    Attributes:
        macs: of the operators that ``FlopCounterMode`` does not know.
        elements: in the outputs of convolutions and products.
        smallest: side of the smallest feature map of a convolution.
        uncounted: names of operators that have weights and are not counted.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.macs = self.elements = self.smallest = 0
        self.uncounted: set[str] = set()
        self._weights: dict[int, weakref.ref[Any]] = {}
        for tensor in weights:
            self._mark(tensor)

    def see(self, operator: Any, inputs: Any, result: Any) -> None:
        """As :meth:`~effnas.space.torch_private.OperatorWatch.see`."""
        if operator is _aten.convolution:
            (image, *_), _ = inputs
            self.elements += result.numel()
            if result.dim() == 4 and image.shape[-1] > 1:  # not squeeze-and-excitation's
                self.smallest = min(self.smallest or result.shape[-1], result.shape[-1])
        elif operator in _PRODUCTS:
            self.elements += result.numel()
        elif (count := _MACS.get(str(operator))) is not None:
            self._count(count(*inputs[0]), result)
        elif operator not in flop_registry:
            self._see_other(operator, find_tensors(inputs), find_tensors(result))

    def _see_other(self, operator: Any, given: list[Tensor], made: list[Tensor]) -> None:
        weighty = [self._is_weight(tensor) for tensor in given]
        if not any(weighty):
            return
        name = operator.__name__
        elementwise = is_elementwise(operator)
        if name in ("mul", "mul_") and made and made[0].numel() > max(tensor.numel() for tensor in given):
            self._count(made[0].numel(), made[0])  # of a column and a row: an outer product
        elif not (elementwise or _FREE.match(name) or all(self._is_weight(tensor) for tensor in made)):
            self.uncounted.add(str(operator))
        if all(weighty):  # a weight that was prepared is one still
            for tensor in made:
                self._mark(tensor)

    def _count(self, macs: int, result: Tensor) -> None:
        self.macs += macs
        self.elements += result.numel()

    def _mark(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._weights[id(storage)] = weakref.ref(storage)

    def _is_weight(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        known = self._weights.get(id(storage))
        return known is not None and known() is storage
