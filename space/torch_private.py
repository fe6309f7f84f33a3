"""The fence around torch: the only file that uses its private names, each behind a public function, class or name.

torch offers no public way to see every operator that runs, to update a list of tensors in one kernel, or to ask a CPU
for bf16. Where a release moves one of these names, ``tests/space/test_torch_private.py`` says which.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Releases of torch that all of this was tested with.
TESTED_VERSIONS = ("2.13.0",)

#: As the operators of one tensor, on lists of them: one kernel for all, where a loop would start one for each.
foreach_add, foreach_sub_ = torch._foreach_add, torch._foreach_sub_
foreach_mul_, foreach_sqrt_, foreach_lerp_ = torch._foreach_mul_, torch._foreach_sqrt_, torch._foreach_lerp_
foreach_addcmul_, foreach_addcdiv_ = torch._foreach_addcmul_, torch._foreach_addcdiv_


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that sees every operator that runs in it, on any device, below autograd and autocast."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    def see(self, operator: Any, inputs: Any, result: Any) -> None:
        """One operator has run.

        Args:
            operator: as ``torch.ops.aten`` has it, whatever its overload.
            inputs: its arguments: positional, and by name (None: nothing).
            result: what it returned.
        """
        raise NotImplementedError

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.see(func._overloadpacket, (args, kwargs), result)
        return result


def find_tensors(value: Any) -> list[Tensor]:
    """The tensors in any nesting of lists, tuples and dictionaries."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


@cache
def is_elementwise(operator: Any) -> bool:
    """Whether each element of the result is made of one element of each argument, or sums some up.

    Args:
        operator: as :meth:`OperatorWatch.see` gets it.
    """
    tags = {tag for name in operator.overloads() for tag in getattr(operator, name).tags}
    return not tags.isdisjoint((torch.Tag.pointwise, torch.Tag.reduction))


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it is BatchNorm, of any number of dimensions or of several processes."""
    return isinstance(module, _BatchNorm)


def cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 by itself; False too where torch is too old to say it."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
