"""What networks cost: one, or a million at once from columns of their fields; the conventions are ``formulas``'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .architecture import Architecture
from .formulas import MBCONV, Cost, encode_stage, walk_costs
from .network_spec import NetworkSpec, require_network

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Rows worked on at a time by cost_batch: the temporaries stay in the cache.
CHUNK = 8192


def cost(architecture: NetworkSpec) -> Cost:
    """Parameters, MACs, activations and peak memory of one network, per stage and in total: exact integers.

    A builder's network is built and measured, which needs torch; it has no stages.

    Raises:
        UserError: its builder cannot build it, or it is no network.
    """
    require_network("cost: architecture", architecture)
    return architecture.cost


@dataclass(frozen=True)
class ArchitectureBatch:
    """Columns of n networks of at most S stages, as integer (``se_ratio``: float) arrays.

    ``block`` and ``skip`` hold indices into ``BLOCKS`` and ``SKIPS``; the stage fields have shape (n, S), the others
    (n,) or are one number for all. A network of fewer stages has ``repeats`` 0, stride 1, the last width in the rest.
    """

    block: NDArray[np.int64]
    channels: NDArray[np.int64]
    repeats: NDArray[np.int64]
    kernel_size: NDArray[np.int64]
    stride: NDArray[np.int64]
    expand_ratio: NDArray[np.int64]
    se_ratio: NDArray[np.float64]
    skip: NDArray[np.int64]
    stem: Any
    stem_stride: Any
    head: Any
    resolution: Any
    in_channels: Any
    num_classes: Any

    STAGE_FIELDS = ("block", "channels", "repeats", "kernel_size", "stride", "expand_ratio", "se_ratio", "skip")
    GLOBAL_FIELDS = ("stem", "stem_stride", "head", "resolution", "in_channels", "num_classes")

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> ArchitectureBatch:
        """Pack architectures, of any numbers of stages, into columns."""
        import numpy as np

        depth = max((len(a.stages) for a in architectures), default=1)
        columns: dict[str, list[list[float]]] = {name: [] for name in cls.STAGE_FIELDS}
        for a in architectures:
            rows = [encode_stage(stage) for stage in a.stages]
            last = a.stages[-1].channels
            rows += [(MBCONV, last, 0, 1, 1, 1, 0.0, 0)] * (depth - len(rows))
            for name, column in zip(cls.STAGE_FIELDS, zip(*rows, strict=True), strict=True):
                columns[name].append(list(column))
        arrays: dict[str, Any] = {
            name: np.array(rows, np.float64 if name == "se_ratio" else np.int64).reshape(-1, depth)
            for name, rows in columns.items()
        }
        for name in cls.GLOBAL_FIELDS:
            arrays[name] = np.array([getattr(a, name) for a in architectures], np.int64)
        return cls(**arrays)


@dataclass(frozen=True)
class CostBatch:
    """Costs of n networks: arrays of shape (n,), in the units of :class:`Cost`; no latency unless a model says it."""

    params: NDArray[np.int64]
    macs: NDArray[np.int64]
    activations: NDArray[np.int64]
    peak_memory: NDArray[np.int64]
    latency: NDArray[np.float64] | None = None


def cost_batch(batch: ArchitectureBatch) -> CostBatch:
    """The same formulas over columns: arrays in, arrays out; about a million networks in seconds."""
    import numpy as np

    n, depth = batch.block.shape
    totals = np.zeros((4, n), np.int64)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        stages = [tuple(getattr(batch, f)[rows, i] for f in batch.STAGE_FIELDS) for i in range(depth)]
        scalars = [
            value[rows] if isinstance(value := getattr(batch, f), np.ndarray) and value.ndim else value
            for f in batch.GLOBAL_FIELDS
        ]
        for _, _, params, macs, activations, peak in walk_costs(stages, *scalars):
            totals[0, rows] += params
            totals[1, rows] += macs
            totals[2, rows] += activations
            totals[3, rows] = np.maximum(totals[3, rows], peak)
    return CostBatch(*totals)
