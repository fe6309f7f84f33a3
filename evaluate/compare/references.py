"""What has been published about networks on ImageNet, as data with its sources (``reference_points.csv``)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from ...space.errors import check_choice
from .points import Point
from .reading import add_costs, read_row, read_rows

FILE = Path(__file__).with_name("reference_points.csv")
#: ``imagenet``: the networks that Tan & Le 2019 compare theirs with in Table 2; ``efficientnet``: theirs, there;
#: ``table4``: the four latencies of their Table 4, on their machine.
SETS = ("imagenet", "efficientnet", "table4")


@cache
def published_points(name: str) -> tuple[Point, ...]:
    """The points of one of :data:`SETS`.

    Accuracies and latencies are the paper's. Parameters and MACs are counted where the network is in the zoo, and
    elsewhere the paper's, with its two digits (what it calls FLOPS are MACs).

    Raises:
        UserError: no such set.
    """
    return tuple(add_costs(point) if point.architecture else point for point in printed_points(name))


@cache
def printed_points(name: str) -> tuple[Point, ...]:
    """As :func:`published_points`, with all numbers as the paper prints them."""
    check_choice("references", name, SETS)
    return tuple(
        replace(read_row(row, where, ""), imagenet=True) for row, where in read_rows(FILE) if row["set"] == name
    )
