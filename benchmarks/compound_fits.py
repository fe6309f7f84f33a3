"""Which d, w, r give the compound rows of the EfficientNet paper's Table 3, whose coefficients it does not print?

A triple fits if the network that ``effnas reproduce`` scales by it has MACs that round to the printed ones. Claims
checked: what scaling/reproduce/tables.py says of these rows, that is, how many triples of 1.1, 1.2, .. 2.5 fit, and
which one of two decimals comes nearest to the coefficients of the paper's other compound rows. More pixels never mean
fewer MACs, so that the ends of each row of the grid are found by halving. Two minutes for ResNet-50, else a second.

    python benchmarks/compound_fits.py [mobilenet_v2 resnet50]
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import math
from functools import cache

from effnas.scaling.reproduce.job import find_interval, scale_zoo_network
from effnas.scaling.reproduce.tables import TABLES
from effnas.space.cost import cost

AXIS = [i / 10 for i in range(11, 26)]
#: The paper's compound coefficients for MobileNetV1 and EfficientNet-B0.
PRINTED = (1.4, 1.2, 1.3)
#: Hundredths to either side of them that are tried.
REACH = 6

Triple = tuple[float, float, float]


@cache
def macs(network: str, depth: float, width: float, ratio: float) -> int:
    """Of the network of that name, scaled."""
    return cost(scale_zoo_network(network, depth, width, ratio)).macs


def fits(network: str, low: float, high: float) -> list[Triple]:
    """The triples of the grid whose MACs lie in [low, high)."""
    found: list[Triple] = []
    for depth, width in itertools.product(AXIS, AXIS):
        first, end = (
            bisect.bisect_left(AXIS, limit, key=lambda r: macs(network, depth, width, r)) for limit in (low, high)
        )
        found += [(depth, width, ratio) for ratio in AXIS[first:end]]
    return found


def nearest(network: str, low: float, high: float) -> Triple | None:
    """The nearest to PRINTED, by the logarithms of the coefficients, of those with two decimals whose MACs fit."""
    around = [[round(value + i / 100, 2) for i in range(-REACH, REACH + 1)] for value in PRINTED]
    triples = sorted(
        itertools.product(*around), key=lambda t: sum(math.log(a / b) ** 2 for a, b in zip(t, PRINTED, strict=True))
    )
    return next((t for t in triples if low <= macs(network, *t) < high), None)


def main() -> None:
    """Print both claims for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = {row.network: row for row in TABLES["table3"] if row.origin == "fitted"}
    parser.add_argument("networks", nargs="*", default=list(rows), help=f"of {', '.join(rows)}")
    for network in parser.parse_args().networks:
        low, high = find_interval(rows[network].macs)
        near = nearest(network, low, high)
        print(f"{network}, {rows[network].macs}: nearest to {PRINTED} is {near}", flush=True)
        found = fits(network, low, high)
        print(f"  {len(found)} of {len(AXIS) ** 3} triples on the grid fit: {found}")


if __name__ == "__main__":
    main()
