"""Networks with their accuracy and cost, as points of a figure, and the way back to the network."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...space.built import BuiltNetwork
from ...space.errors import UserError
from ...space.files import read_text
from ...space.network_spec import NetworkSpec
from ...space.paths import is_file
from ...space.weights.weights import read_weights
from ...space.zoo import load_architecture
from ..pretrained import read_pretrained


@dataclass(frozen=True)
class Point:
    """One network.

    Args:
        name: for people.
        family: what it is joined with by a line; empty: it stands alone.
        accuracy: fraction of 1.
        params, macs: of the network, for one image; None: unknown.
        latency: seconds per batch; None: unknown.
        standard_error: of the accuracy, a fraction of 1; None: unknown.
        runs: trainings whose mean it is.
        resolution: of the input in pixels; None: unknown.
        digest: of the architecture, where a run tells it.
        architecture: a zoo name or a file to build it from, where a CSV file says it.
        summary: the file of a run it was read from; empty: none.
        of: what the accuracy was measured on, for people; empty: unknown.
        imagenet: whether the accuracy is of ImageNet's validation images; None: unknown.
        latency_of: how the latency was measured, for people; empty: unknown.
        source: who published it.
    """

    name: str
    family: str
    accuracy: float
    params: int | None = None
    macs: int | None = None
    latency: float | None = None
    standard_error: float | None = None
    runs: int = 1
    resolution: int | None = None
    digest: str = ""
    architecture: str = ""
    summary: str = ""
    of: str = ""
    imagenet: bool | None = None
    latency_of: str = ""
    source: str = ""


def merge_runs(points: Sequence[Point]) -> list[Point]:
    """Runs of one network in one family become one point: the mean, and its standard error over the runs.

    Names that are still not unique in their family get the name of the run's folder.
    """
    groups: dict[tuple[str, ...], list[Point]] = {}
    for i, point in enumerate(points):
        key = (point.family, point.digest, point.of) if point.digest else (str(i),)
        groups.setdefault(key, []).append(point)
    found = [_average(group) for group in groups.values()]
    names = [(point.family, point.name) for point in found]
    return [
        replace(point, name=f"{point.name} ({Path(point.summary).parent.name})")
        if point.summary and names.count((point.family, point.name)) > 1
        else point
        for point in found
    ]


def _average(group: Sequence[Point]) -> Point:
    if len(group) == 1:
        return group[0]
    values = [point.accuracy for point in group]
    latencies = [point.latency for point in group if point.latency is not None]
    return replace(
        group[0],
        accuracy=statistics.fmean(values),
        standard_error=statistics.stdev(values) / math.sqrt(len(values)),
        runs=len(group),
        latency=statistics.median(latencies) if latencies else None,
    )


def find_network(point: Point, own: BuiltNetwork | None = None) -> NetworkSpec:
    """The network that a point stands for: the one that a CSV row names, or that a run was of.

    Args:
        point: of a figure.
        own: a network of the user's own builder; files of its networks need it.

    Raises:
        UserError: it is not said, or is not there any more.
    """
    if point.architecture:
        return load_architecture(point.architecture, own)
    if not point.summary:
        raise UserError("its network is unknown: give the CSV file a column architecture (a zoo name or a file)")
    beside = Path(point.summary).with_name("architecture.yaml")
    if is_file(beside):
        return load_architecture(beside, own)
    found = json.loads(read_text(point.summary, "summary"))
    weights = read_weights(found["weights"], own)
    zoo_name = None if weights.architecture is not None else str(found["architecture"])
    network = read_pretrained(zoo_name, weights, resolution=found["resolution"]).architecture
    return network.with_(num_classes=found["classes"])
