"""The bytes of tensors that are alive at once while a network runs, on any device, ``meta`` included."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from ..torch_private import OperatorWatch, find_tensors


class LiveTensors(OperatorWatch):
    """Counts the bytes of tensors made inside it that are alive, and keeps the peak.

    Attributes:
        peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def see(self, operator: Any, inputs: Any, result: Any) -> None:
        """As :meth:`~effnas.space.torch_private.OperatorWatch.see`."""
        old = {id(tensor.untyped_storage()) for tensor in find_tensors(inputs)}
        for tensor in find_tensors(result):
            self._add(tensor.untyped_storage(), old)

    def _add(self, storage: torch.UntypedStorage, old: set[int]) -> None:
        key = id(storage)
        if key in self._known or key in old:  # a view, or an operation in place
            return
        self._known.add(key)
        self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._drop, key, storage.nbytes())

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size
