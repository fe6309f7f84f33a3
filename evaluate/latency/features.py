"""What a model of latency sees of networks: what they and each of their parts cost, and what each stage is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...space.cost import ArchitectureBatch, CostBatch, cost, cost_batch
from ...space.errors import UserError
from ...space.formulas import walk_costs
from ...space.network_spec import NetworkSpec
from ...space.stage import BLOCKS, EXPANDING_CODES

if TYPE_CHECKING:
    from ...space.architecture import Architecture

Array = NDArray[np.float64]

#: The feature that is the same for all networks of a space.
STAGES = "stages"


def describe_network(network: NetworkSpec) -> dict[str, float]:
    """The features of one network by name.

    Raises:
        UserError: a network of a builder, whose parts are not known.
    """
    if not cost(network).stages:
        raise UserError(f"{network.name or 'the network'}: a model of latency needs the stages of an Architecture")
    architecture: Architecture = network  # type: ignore[assignment]  # what has stages
    batch = ArchitectureBatch.of([architecture])
    return {name: float(values[0]) for name, values in describe_batch(batch, cost_batch(batch)).items()}


def describe_batch(batch: ArchitectureBatch, costs: CostBatch) -> dict[str, Array]:
    """The same of n networks of one number of stages: by name, logarithms of costs and fields, each of shape (n,)."""
    count, depth = batch.block.shape
    found = {STAGES: np.full(count, float(depth))}
    found |= {f"log {name}": np.log(np.maximum(getattr(costs, name), 1)) for name in ("macs", "activations", "params")}
    stages = [tuple(getattr(batch, field)[:, i] for field in batch.STAGE_FIELDS) for i in range(depth)]
    parts = walk_costs(stages, *(getattr(batch, field) for field in batch.GLOBAL_FIELDS))
    for i, (_, _, params, macs, activations, _) in enumerate(parts):
        for name, amount in (("macs", macs), ("activations", activations), ("params", params)):
            found[f"{i} log {name}"] = np.log1p(np.broadcast_to(amount, count).astype(float))
    for i in range(depth):
        block, repeats, kernel = batch.block[:, i], batch.repeats[:, i].astype(float), batch.kernel_size[:, i]
        expand = np.where(np.isin(block, EXPANDING_CODES), batch.expand_ratio[:, i], 1)
        gate = (batch.se_ratio[:, i] > 0).astype(float)
        found |= {f"{i} repeats": repeats, f"{i} kernel": kernel.astype(float), f"{i} se": gate}
        found |= {f"{i} log expand": np.log(expand), f"{i} se blocks": repeats * gate}
        found |= {f"{i} expanded": repeats * expand, f"{i} kernels": repeats * expand * kernel}
        found |= {f"{i} is {kind}": (block == number).astype(float) for number, kind in enumerate(BLOCKS)}
    return found
