"""Plain counts, which a proxy must beat to be worth its time: no weights, no images.

``log_macs`` and ``log_params`` are natural logarithms, ``activations`` the number of elements in the outputs of
convolutions and linear layers, ``depth`` the number of blocks, ``expansion_layers`` Σ expansion · layers over the
stages (a block without expansion counts 1). More counts as better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...space.cost import ArchitectureBatch, CostBatch, cost
from ...space.network_spec import NetworkSpec
from ..evaluation import EvaluationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COUNTS = ("log_macs", "log_params", "depth", "expansion_layers", "activations")
#: Those that need the stages.
_STAGED = ("depth", "expansion_layers")


def count_network(architecture: NetworkSpec, names: tuple[str, ...] = COUNTS) -> dict[str, float]:
    """Of one network, by name.

    Raises:
        EvaluationError: a count needs the stages, and only the network's builder knows its blocks.
        UserError: its builder cannot build it.
    """
    stages: Any = getattr(architecture, "stages", None)
    for name in names:
        if name in _STAGED and stages is None:
            raise EvaluationError(
                f"{name}: only {architecture.maker} knows its blocks; choose log_macs, log_params or activations"
            )
    costs = cost(architecture)
    found: dict[str, float] = {
        "log_macs": math.log(max(costs.macs, 1)),
        "log_params": math.log(max(costs.params, 1)),
        "activations": float(costs.activations),
    }
    if stages is not None:
        found["depth"] = float(sum(stage.repeats for stage in stages))
        found["expansion_layers"] = float(sum(stage.expand_ratio * stage.repeats for stage in stages))
    return {name: found[name] for name in names}


def count_batch(batch: ArchitectureBatch, costs: CostBatch) -> Mapping[str, NDArray[np.float64]]:
    """Of n networks at once, each of shape (n,): the same numbers."""
    import numpy as np

    return {
        "log_macs": np.log(np.maximum(costs.macs, 1)),
        "log_params": np.log(np.maximum(costs.params, 1)),
        "activations": costs.activations.astype(np.float64),
        "depth": batch.repeats.sum(axis=1).astype(np.float64),
        "expansion_layers": (batch.expand_ratio * batch.repeats).sum(axis=1).astype(np.float64),
    }
